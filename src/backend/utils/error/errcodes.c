/*
 * errcodes.c
 *	  The error table, made from errlist.h.
 */
#include "server.h"

/* lib and utils */
#include "utils/errcodes.h"

static const ErrInfo err_table[ERR_COUNT] = {
	[ERR_NONE] = {"ERR_NONE", 0, 200, "00000", ""},
#define ERR(symbol, grpc, http, sqlstate, text) \
	[symbol] = {#symbol, grpc, http, sqlstate, text},
#include "utils/errlist.h"
#undef ERR
};

const ErrInfo *
err_info(ErrCode code)
{
	if ((unsigned) code >= ERR_COUNT)
		code = ERR_INTERNAL;
	return &err_table[code];
}
