/*
 * http.h
 *	  The HTTP/1.1 door: one connection, one request after the other.
 *
 * Bytes in, bytes out, no sockets here: the backend's loop moves the bytes, as
 * for rpc/grpc.h.
 */
#ifndef GATEWAY_HTTP_H
#define GATEWAY_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/http.h"
#include "lib/bytes.h"
#include "utils/mmgr.h"

typedef struct HttpSession HttpSession;

/* do these bytes, the first of a connection, begin a request? */
extern bool http_starts_here(Bytes data);

/*
 * requests live in mcx and may outlive the session; the session has its own.
 * What conn borrows is copied.
 */
extern HttpSession *http_session_create(MemContext *mcx, const HttpConn *conn,
										const HttpHandlerOps *handler);
extern void http_session_destroy(HttpSession *session);

/* feed received bytes; false: the session wants no more, flush and close */
extern bool http_session_receive(HttpSession *session, Bytes data);
/* a client who sends ahead waits while this is false */
extern bool http_session_wants_input(const HttpSession *session);

/* the next bytes to send (empty: nothing now); good until the next pull */
extern Bytes http_session_pull(HttpSession *session);

/* nothing more will come or go: close */
extern bool http_session_is_over(const HttpSession *session);

/* answer what runs, take nothing new */
extern void http_session_shutdown(HttpSession *session);

/* the next time limit (CLOCK_MONOTONIC ms, -1: none), and look at them */
extern int64_t http_session_next_timer_ms(const HttpSession *session);
extern void http_session_on_timer(HttpSession *session, int64_t now_ms);

/* has a request of this connection been answered without error? */
extern bool http_session_has_succeeded(const HttpSession *session);

/* requests that run: 0 or 1 */
extern uint32_t http_session_streams(const HttpSession *session);

#endif							/* GATEWAY_HTTP_H */
