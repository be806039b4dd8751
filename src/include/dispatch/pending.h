/*
 * pending.h
 *	  The requests that wait for the raft worker or the hashing thread.
 *
 * For dispatch's own files.  A request is in the table while, and only while,
 * it has a ring id or a hash job; whoever takes it out goes on with it or
 * destroys it.  What comes back for a request that is no longer here (timed
 * out, cancelled) finds nothing and is thrown away.
 */
#ifndef DISPATCH_PENDING_H
#define DISPATCH_PENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "dispatch/request.h"

/*
 * A job and whose it is.  On the heap, because the hashing thread may still
 * have it when the request is gone; then req is NULL.
 */
typedef struct PendingHash
{
	HashJob		job;
	Request    *req;
} PendingHash;

extern void pending_init(void);

/*
 * Queue a record for the worker; the payload is copied.  While the ring has no
 * room for it, it waits behind those that came before it.
 */
extern void pending_submit_ring(Request *req, SubmitKind kind, Bytes payload);

/* Try again with those that wait for room; after answers, and after expiry. */
extern void pending_send_unsent(void);
/* in the records that wait for room */
extern size_t pending_unsent_bytes(void);

/* Queue the job; on an error it stays with the caller. */
extern ErrCode pending_submit_hash(Request *req, PendingHash *hash);

extern bool pending_has(const Request *req);

/* Take out; harmless if it is not in. */
extern void pending_forget(Request *req);
/* The same, while nothing has come back: a proposal has failed, as etcd counts. */
extern void pending_give_up(Request *req);

/* by ring id, NULL if nobody waits for it any more */
extern Request *pending_find(uint64_t ring_id);

/* any one request whose time is over, or NULL */
extern Request *pending_find_expired(int64_t now_ms);

/* no request expires before this (-1: none waits); may be too early */
extern int64_t pending_next_expiry_ms(void);

extern uint32_t pending_count(void);

#endif							/* DISPATCH_PENDING_H */
