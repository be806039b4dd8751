/*
 * httphead.h
 *	  The head of an HTTP/1.x request: from bytes to fields, or a refusal.
 */
#ifndef GATEWAY_HTTPHEAD_H
#define GATEWAY_HTTPHEAD_H

#include <stdbool.h>

#include "comm/http.h"
#include "lib/bytes.h"
#include "utils/mmgr.h"

typedef struct HttpHead1
{
	HttpHead	head;
	bool		is_http10;
	bool		is_chunked;
	bool		wants_close;	/* Connection: close, or HTTP/1.0 */
	bool		expects_continue;
} HttpHead1;

/*
 * Length of the head at the beginning of data, its empty line included; 0 if
 * it has not ended yet.  *from: where to go on looking, 0 at first.
 */
extern size_t httphead_length(Bytes data, size_t *from);

/*
 * Parse exactly one head.  0: good; else the HTTP status to refuse it with,
 * and why (a literal).  Copies into mcx what it keeps.
 */
extern int	httphead_parse(Bytes data, MemContext *mcx, HttpHead1 *head,
						   const char **why);

#endif							/* GATEWAY_HTTPHEAD_H */
