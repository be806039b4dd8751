/*
 * dispatch.h
 *	  Which operation, who asks and may they, which limits.
 *
 * Used in a backend only, by its one event-loop thread.
 */
#ifndef DISPATCH_DISPATCH_H
#define DISPATCH_DISPATCH_H

#include "dispatch/request.h"

/* ---- for the doors ---- */

/* once per backend, after ring_attach_backend(); starts the hashing pool */
extern void dispatch_init(void);

extern const RpcInfo *rpc_info(RpcId id);
/* by service and method name; NULL if not in the table */
extern const RpcInfo *rpc_find(Bytes service, Bytes method);
extern bool rpc_service_exists(Bytes service);

/* a request in its own memory context, child of parent */
extern Request *request_create(MemContext *parent, const RpcInfo *rpc,
							   const RequestOps *ops, void *door);
extern void request_destroy(Request *req);

/*
 * Decode the message and run the handler.  ops->finished may be called before
 * this returns.
 */
extern void dispatch_request(Request *req, Bytes message);

/*
 * The client has gone or reset the stream: nobody will be told.  Destroys the
 * request; what it had in the ring or with the hashing thread is thrown away
 * when it comes back (a proposal that was on its way may still be applied).
 */
extern void dispatch_cancel(Request *req);

/* descriptors to poll, and what to call when they are readable */
extern int	dispatch_completion_fd(void);
extern void dispatch_on_completions(void);
extern int	dispatch_hash_fd(void);
extern void dispatch_on_hashes(void);

/* when the next request times out (CLOCK_MONOTONIC ms; -1: none), and do it */
extern int64_t dispatch_next_expiry_ms(void);
extern void dispatch_expire(int64_t now_ms);

/* requests that are outstanding; 0 before a graceful end */
extern uint32_t dispatch_outstanding(void);

/* ---- for the handlers (command/) ---- */

extern ReqResult request_fail(Request *req, ErrCode error);
/* with a text of its own; grpc_code -1 keeps the table's code */
extern ReqResult request_fail_text(Request *req, ErrCode error, int grpc_code,
								   const char *fmt,...)
			__attribute__((format(printf, 4, 5)));

/*
 * Resolve the identity (once) and ask authorize() on a version the caller has
 * pinned.  On ERR_NONE the request is PERMITTED.
 */
extern ErrCode request_authorize(Request *req, const StoreVersion *v,
								 const AccessList *access);

/*
 * The request asks as nobody: token and certificate are not looked at.  For
 * what is open to everybody and must not fail because of an old token
 * (Authenticate, health).  Before the first request_authorize().
 */
extern void request_be_nobody(Request *req);

/*
 * The same for a log operation, on the current version; and is there room for
 * it?  request_propose() asks by itself: this is for what has to be known
 * before the operation is complete (a password must not be hashed for a
 * caller without the right).
 */
extern ErrCode request_permit(Request *req, const LogOp *op);

/*
 * Encode and propose; op->identity is filled in from the request.  Authorizes
 * on the current version first (access_add_logop), so a refusal costs no log
 * entry; then checks quota and size.  on_completion is called with the result,
 * errors too; the default one (NULL) takes error, revision and body from the
 * completion.
 */
extern ReqResult request_propose(Request *req, LogOp *op,
								 ReqCompletionFn on_completion);

/*
 * Get a linearizable point; calls on_read at once if reads are local.  An
 * error of the barrier fails the request without calling it.
 */
extern ReqResult request_read_barrier(Request *req, ReqReadFn on_read);

/*
 * Hash or verify on the hashing thread.  Only for a request that is PERMITTED
 * (nobody gets CPU time for nothing); password and phc are copied.
 */
extern ReqResult request_hash(Request *req, HashJobKind kind, Bytes password,
							  Bytes phc, ReqHashFn on_hash);

#endif							/* DISPATCH_DISPATCH_H */
