/*
 * errcodes.h
 *	  The error table: one symbol, its gRPC code, HTTP status, SQLSTATE, text.
 */
#ifndef UTILS_ERRCODES_H
#define UTILS_ERRCODES_H

typedef enum ErrCode
{
	ERR_NONE = 0,
#define ERR(symbol, grpc, http, sqlstate, text) symbol,
#include "utils/errlist.h"
#undef ERR
	ERR_COUNT
} ErrCode;

typedef struct ErrInfo
{
	const char *symbol;
	int			grpc_code;
	int			http_status;
	const char *sqlstate;
	const char *text;
} ErrInfo;

/* Never NULL; a number outside the table is answered as ERR_INTERNAL. */
extern const ErrInfo *err_info(ErrCode code);

#endif							/* UTILS_ERRCODES_H */
