/*
 * http.h
 *	  The two halves of an HTTP exchange, so that neither knows the other.
 *
 * A carrier moves one request and its answer over a connection: the HTTP/1.1
 * session of gateway/, or a stream of HTTP/2 in rpc/.  A handler says what the
 * answer is: gateway/exchange.c.  Both are in one process and one thread.
 *
 *	carrier                        handler
 *	head is complete ------------> begin
 *	a piece of the body ---------> body      (as often as there are pieces)
 *	the body is complete --------> end_of_body
 *	         respond <------------
 *	         write   <------------           (as often as it likes)
 *	         end     <------------
 *	the loop comes round --------> turn
 *	it is over, or gone ---------> destroy
 *
 * The handler may answer from within any of these calls, or later.  After
 * end() it does not touch the carrier again, but may be given more of the
 * body.  destroy() comes exactly once, never from within a call of the
 * carrier's; before end() it means that nobody waits any more.
 */
#ifndef COMM_HTTP_H
#define COMM_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/bytes.h"
#include "utils/errcodes.h"
#include "utils/mmgr.h"

/* of a request, whichever way it came */
#define HTTP_MAX_HEAD_BYTES 65536
#define HTTP_MAX_FIELDS 256

typedef struct HttpField
{
	Bytes		name;			/* in lower case */
	Bytes		value;			/* without blanks around it */
} HttpField;

/* what the carrier has checked: sound, and once where once is allowed */
typedef struct HttpHead
{
	Bytes		method;
	Bytes		target;			/* begins with '/', or is "*" */
	Bytes		host;			/* as sent, with its port; empty: not sent */
	HttpField  *fields;			/* without Host and what frames the body */
	uint32_t	nfields;
	int64_t		body_bytes;		/* -1: not known before its end */
	/*
	 * The request would go on as a WebSocket: answered with 101 it does, and
	 * each write() is one message.  What its messages say is the body, which
	 * has no end as long as the client listens.
	 */
	bool		is_websocket;
} HttpHead;

/* of the connection; set once */
typedef struct HttpConn
{
	Bytes		common_name;	/* of the verified certificate */
	bool		is_tls;
	bool		has_certificate;	/* the client showed one, and it was good */
	bool		is_for_metrics; /* a listener of listen_metrics_urls */
	/* not ERR_NONE: answer every request with this */
	ErrCode		refuse_with;
} HttpConn;

typedef struct HttpCarrier HttpCarrier;

typedef struct HttpCarrierOps
{
	/*
	 * Status and fields, once; they are copied.  body_bytes -1: not known.
	 * To a request that would be a WebSocket status may be 101, without fields.
	 * What describes the framing of the body is the carrier's own matter.
	 */
	void		(*respond) (HttpCarrier *carrier, int status,
							const HttpField *fields, uint32_t nfields,
							int64_t body_bytes);
	/* some of the body; copied, never refused */
	void		(*write) (HttpCarrier *carrier, Bytes data);
	void		(*end) (HttpCarrier *carrier);
	/* give up in the middle: the client must not take it for complete */
	void		(*abort) (HttpCarrier *carrier);
	/* bytes that were written and that the socket has not taken */
	size_t		(*backlog) (const HttpCarrier *carrier);
	/* call turn() soon; does not do so by itself */
	void		(*wake) (HttpCarrier *carrier);
} HttpCarrierOps;

struct HttpCarrier
{
	const HttpCarrierOps *ops;
	const HttpConn *conn;
	MemContext *mcx;			/* for exchanges: outlives the carrier */
};

typedef struct HttpExchange HttpExchange;

typedef struct HttpHandlerOps
{
	/*
	 * head and all in it are good until destroy().  The exchange must be
	 * known to the carrier before it is answered: so this only makes it, and
	 * start() follows.
	 */
	HttpExchange *(*create) (HttpCarrier *carrier, const HttpHead *head);
	void		(*start) (HttpExchange *exchange);
	/* is a piece of the body welcome?  If not, it stays with the carrier */
	bool		(*wants_body) (const HttpExchange *exchange);
	void		(*body) (HttpExchange *exchange, Bytes data);
	void		(*end_of_body) (HttpExchange *exchange);
	/* the client may have taken something, or wake() was called */
	void		(*turn) (HttpExchange *exchange);
	/* the server stops: what would go on for ever ends now */
	void		(*stop) (HttpExchange *exchange);
	/* CLOCK_MONOTONIC ms, -1: none */
	int64_t		(*next_timer_ms) (const HttpExchange *exchange);
	void		(*on_timer) (HttpExchange *exchange, int64_t now_ms);
	/* bytes of the body it holds */
	size_t		(*held_bytes) (const HttpExchange *exchange);
	void		(*destroy) (HttpExchange *exchange);
} HttpHandlerOps;

#endif							/* COMM_HTTP_H */
