/*
 * lifecycle.h
 *	  How a request moves from state to state: for dispatch's own files.
 */
#ifndef DISPATCH_LIFECYCLE_H
#define DISPATCH_LIFECYCLE_H

#include "dispatch/request.h"

/* Go to the next state; asserts that the transition exists. */
extern void request_move(Request *req, ReqState next);

/*
 * Take what a handler or continuation returned; unless PENDING the request is
 * answered, and may be gone when this returns.
 */
extern void request_settle(Request *req, ReqResult result);

extern ErrCode request_check_preconditions(const Request *req);

/* how an RPC without a handler, and a message that is none, are answered */
extern ReqResult request_fail_unknown_method(Request *req);
extern ReqResult request_fail_unmarshalling(Request *req, const char *why);

/* stream.c: streams that asked for a leader are ended when there is none */
extern void stream_guard(Request *req);
extern void stream_unguard(Request *req);
extern int64_t stream_next_check_ms(void);
extern void stream_check_leader(int64_t now_ms);

/* it has reached dispatch: clock, counter, activity view */
extern void request_begin(Request *req);

static inline bool
request_is_stream(const Request *req)
{
	return req->rpc->kind != RPC_UNARY;
}

#endif							/* DISPATCH_LIFECYCLE_H */
