/*
 * websocket.h
 *	  A connection that has become a WebSocket (RFC 6455): handshake, messages
 *	  both ways, and its end.
 *
 * The framing of http.c for such a connection, as httpbody.h is for a body.
 */
#ifndef GATEWAY_WEBSOCKET_H
#define GATEWAY_WEBSOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/httphead.h"
#include "lib/buf.h"
#include "utils/mmgr.h"

/* RFC 6455 7.4.1 */
#define WEBSOCKET_NORMAL 1000
#define WEBSOCKET_GOING_AWAY 1001
#define WEBSOCKET_INTERNAL_ERROR 1011

typedef struct WebSocket WebSocket;

typedef enum WebSocketState
{
	WEBSOCKET_OPEN,
	WEBSOCKET_ENDED,			/* the client's Close has come, ours is due */
	WEBSOCKET_CLOSING,			/* ours has gone, the client's is due */
	WEBSOCKET_OVER,				/* both, or it was waited for long enough */
	WEBSOCKET_FAILED			/* the client broke a rule, and was told which */
} WebSocketState;

/*
 * If the request asks for a WebSocket, mark it so (is_websocket), and make its
 * subprotocol "Bearer, TOKEN" the field "authorization".  0: good, or none;
 * else the HTTP status to refuse it with, and why (a literal).
 */
extern int	websocket_check_head(HttpHead1 *head, const char **why);

/*
 * Answer 101 to a request that was marked.  Appends all that is to be sent to
 * out, which must outlive the WebSocket; head need not.
 */
extern WebSocket *websocket_create(MemContext *mcx, const HttpHead1 *head,
								   Buf *out);
extern void websocket_destroy(WebSocket *ws);

extern WebSocketState websocket_state(const WebSocket *ws);

/*
 * Read on.  False: nothing more without more input, or before output has gone.
 * True: look at the state, and at piece: the next part of what the client's
 * messages say one after the other; may be empty, good until the next call.
 */
extern bool websocket_next(WebSocket *ws, Cursor *input, Bytes *piece);

/* one text message; a line end at its end is not part of it */
extern void websocket_send(WebSocket *ws, Bytes text);
/* no more messages from us; to a client who has closed with the code he gave */
extern void websocket_close(WebSocket *ws, unsigned code);

/* something has come from the client */
extern void websocket_heard(WebSocket *ws);
/* what was appended to out before is on its way */
extern void websocket_flushed(WebSocket *ws);

/*
 * CLOCK_MONOTONIC ms, -1: none.  is_held: output waits for the client, or input
 * for the handler, so that he is not late with what we do not read; how long
 * output may wait is a matter of client_send_timeout.
 */
extern int64_t websocket_next_timer_ms(const WebSocket *ws, bool is_held);
extern void websocket_on_timer(WebSocket *ws, bool is_held, int64_t now_ms);

#endif							/* GATEWAY_WEBSOCKET_H */
