/*
 * session.h
 *	  What a connection speaks, chosen by its first bytes.
 *
 *	"PRI * HTTP/2.0..."     gRPC, and over the same HTTP/2 JSON (rpc/)
 *	a method of HTTP/1.1    JSON and the plain pages (gateway/)
 *
 * The loop of a backend moves bytes and looks at the clock; the contract of
 * each function is that of its namesakes in rpc/grpc.h and gateway/http.h.
 */
#ifndef POSTMASTER_SESSION_H
#define POSTMASTER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/http.h"
#include "lib/bytes.h"
#include "utils/mmgr.h"

typedef struct Session Session;

typedef enum SessionProtocol
{
	PROTOCOL_UNDECIDED,			/* more bytes will tell */
	PROTOCOL_HTTP2,
	PROTOCOL_HTTP1,
	PROTOCOL_UNKNOWN
} SessionProtocol;

/*
 * By what has come so far; alpn is what TLS has agreed on, or empty, and binds
 * the client: who asked for one protocol does not get to speak the other.
 */
extern SessionProtocol session_sniff(Bytes first, const char *alpn,
									 bool is_for_metrics);

extern Session *session_create(MemContext *mcx, SessionProtocol protocol,
							   const HttpConn *conn);
extern void session_destroy(Session *session);
extern bool session_receive(Session *session, Bytes data);
extern bool session_wants_input(const Session *session);
extern Bytes session_pull(Session *session);
extern bool session_is_over(const Session *session);
extern void session_shutdown(Session *session);
extern int64_t session_next_timer_ms(const Session *session);
extern void session_on_timer(Session *session, int64_t now_ms);
extern bool session_has_succeeded(const Session *session);
extern uint32_t session_streams(const Session *session);

#endif							/* POSTMASTER_SESSION_H */
