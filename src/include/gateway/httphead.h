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
	bool		wants_upgrade;	/* Connection: upgrade */
	bool		names_websocket;	/* Upgrade: websocket */
	/* by websocket_check_head() */
	Bytes		websocket_key;
	bool		has_bearer;		/* a token came as its subprotocol */
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

/* of the characters that a name may have (RFC 9110 5.6.2) */
extern bool httphead_is_token(Bytes name);
/* without blanks around it */
extern Bytes httphead_trim(Bytes text);

#endif							/* GATEWAY_HTTPHEAD_H */
