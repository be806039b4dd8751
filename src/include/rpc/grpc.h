/*
 * grpc.h
 *	  The gRPC door: HTTP/2 on one connection.
 *
 * Bytes in, bytes out, no sockets here: the backend's loop moves the bytes
 * (so that a session can be tested and fuzzed from a buffer).
 */
#ifndef RPC_GRPC_H
#define RPC_GRPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/http.h"
#include "lib/bytes.h"
#include "utils/errcodes.h"
#include "utils/mmgr.h"

typedef struct GrpcSession GrpcSession;

typedef struct GrpcOptions
{
	Bytes		common_name;	/* of the verified certificate */
	/* not ERR_NONE: answer every request with this (too many connections) */
	ErrCode		refuse_with;
	/* who answers what is no gRPC call; NULL: it is refused */
	const HttpHandlerOps *http;
	/* only the handler wants to know */
	bool		is_tls;
	bool		has_certificate;
} GrpcOptions;

/* requests live in mcx and may outlive the session; the session has its own */
extern GrpcSession *grpc_session_create(MemContext *mcx,
										const GrpcOptions *options);
extern void grpc_session_destroy(GrpcSession *session);

/* feed received bytes; false: the session is over, flush and close */
extern bool grpc_session_receive(GrpcSession *session, Bytes data);

/*
 * The next bytes to send (empty: nothing now); good until the next pull,
 * whatever else is called in between.
 */
extern Bytes grpc_session_pull(GrpcSession *session);
extern bool grpc_session_wants_output(const GrpcSession *session);

/* nothing more will come or go: close */
extern bool grpc_session_is_over(const GrpcSession *session);

/* GOAWAY now; is_over() once the running streams are answered */
extern void grpc_session_shutdown(GrpcSession *session);

/* next keepalive or deadline (CLOCK_MONOTONIC ms, -1: none), and do it */
extern int64_t grpc_session_next_timer_ms(const GrpcSession *session);
extern void grpc_session_on_timer(GrpcSession *session, int64_t now_ms);

/* has a request of this connection been answered without error? */
extern bool grpc_session_has_succeeded(const GrpcSession *session);

extern uint32_t grpc_session_streams(const GrpcSession *session);

#endif							/* RPC_GRPC_H */
