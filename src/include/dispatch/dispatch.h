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
 * Streams.  dispatch_open() runs the handler of a bidi stream, which has no
 * message yet; a server stream gets its one message with dispatch_request().
 * Each of these may answer, and so destroy, the request before it returns.
 *
 * dispatch_message() decodes the next message of a bidi stream and calls
 * on_message; only while dispatch_takes_messages() says yes.  It says no while
 * the stream waits for the log, or has too much to send; ops->ready tells when
 * that is over, or dispatch_writable() has been called.  What comes meanwhile
 * stays with the door, which closes the client's window.
 *
 * dispatch_half_close(): the client sends nothing more; after the last message.
 * dispatch_writable(): the backlog has fallen below half of
 * REQUEST_BACKLOG_BYTES after it was above that.
 */
extern void dispatch_open(Request *req);
extern bool dispatch_takes_messages(Request *req);
extern void dispatch_message(Request *req, Bytes message);
extern void dispatch_half_close(Request *req);
extern void dispatch_writable(Request *req);

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

/*
 * The raft worker does not keep up with this connection: read nothing more
 * from it.  What had been read already is kept until there is room; an answer
 * or an expiry ends it, dispatch_on_completions() or dispatch_expire().
 */
extern bool dispatch_is_congested(void);

/*
 * Does the client wait for something that he may have and that takes as long
 * as it takes: a lock, an election, events?
 */
extern bool dispatch_is_awaited(void);

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
 * entry; then looks at alarms, quota (which raises one) and size.  on_completion is called with the result,
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
/* the same, never at once: does the raft worker answer? */
extern ReqResult request_ask_worker(Request *req, ReqReadFn on_read);

/*
 * Renew a lease: asks for the right (WRITE on all that hangs on it), then
 * through the ring, without a log entry.  on_completion gets the granted
 * seconds in count (lease/renewal.h); ERR_AUTH_OLD_REVISION: rights or keys
 * have changed meanwhile, call this again.
 */
extern ReqResult request_renew_lease(Request *req, int64_t id,
									 ReqCompletionFn on_completion);

/* ---- for the handlers of streams ---- */

/*
 * The stream may be open, whoever asks: what goes over it is judged message by
 * message (request_authorize()).
 */
extern void request_permit_stream(Request *req);

/*
 * One message of the answer: header (req->header_revision) and fields.  Never
 * blocks; the fields are copied, the Buf is empty afterwards and may be used
 * again.  Only a request that is permitted sends.
 */
extern void request_send(Request *req, Buf *fields);

/*
 * Is there room?  A handler that is told no stops sending until on_writable;
 * a few small messages more do no harm.
 */
extern bool request_may_send(const Request *req);

/*
 * The header as the first field of what stands in out: for responses that have
 * it further inside (RPC_FLAG_NO_HEADER in the list).
 */
extern void request_put_header(const Request *req, Buf *out);

/* ends the stream with OK; to be returned */
extern ReqResult request_end(Request *req);

/*
 * Memory of one step: for a stream it is reset when the next message comes, so
 * that one which runs for days does not grow; otherwise the request's own.
 */
extern MemContext *request_scratch(Request *req);

/*
 * Forget who asks: the next request_authorize() looks at token and certificate
 * again.  For streams, which outlive tokens.
 */
extern void request_identify_again(Request *req);

/*
 * May it still?  For a stream that goes on: like request_authorize(), but does
 * not count as a use of the token, and moves no state.  Looks at token and
 * certificate only if request_identify_again() was called; then
 * req->identity_until_ms says when to do that again at the latest.
 */
extern ErrCode request_recheck(Request *req, const StoreVersion *v,
							   const AccessList *access);

/*
 * Wait for something that dispatch knows nothing of (a watched key); also for
 * unary requests, and without a timeout but the client's.  To be returned.
 * Whoever parked it calls request_resume() with what a continuation would
 * have returned; the request may be gone afterwards.  When the request is
 * cancelled meanwhile, a callback on its context (mcx_on_reset) tells.
 * request_resume() may be called for a stream that is not parked, too: its
 * handler ends it, or fails, from a callback that dispatch does not know.
 */
extern ReqResult request_park(Request *req);
extern void request_resume(Request *req, ReqResult result);

/*
 * Hash or verify on the hashing thread.  Only for a request that is PERMITTED
 * (nobody gets CPU time for nothing); password and phc are copied.
 */
extern ReqResult request_hash(Request *req, HashJobKind kind, Bytes password,
							  Bytes phc, ReqHashFn on_hash);

/*
 * Ask the raft worker for something that is no log operation (storage/ipc/
 * ring.h says what).  Only for a request that is PERMITTED.
 */
extern ReqResult request_submit(Request *req, SubmitKind kind,
								ReqCompletionFn on_completion);

/*
 * Go on at this moment (CLOCK_MONOTONIC ms), at once if it has passed, but not
 * before the other requests of the connection had their turn: for work that is
 * done in slices, and for what nobody tells of.  One at a time, a later call
 * replaces it.  Only for a request that is PERMITTED.  When the client's
 * deadline comes first the request fails.
 */
extern ReqResult request_wait_until(Request *req, int64_t at_ms,
									ReqTimerFn on_timer);

#endif							/* DISPATCH_DISPATCH_H */
