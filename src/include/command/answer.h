/*
 * answer.h
 *	  Answering from one pinned version: for the handlers that only look.
 */
#ifndef COMMAND_ANSWER_H
#define COMMAND_ANSWER_H

#include "dispatch/request.h"
#include "storage/snap/store.h"

/* Write the response's fields to req->body; the version is pinned. */
typedef ErrCode (*AnswerFn) (Request *req, const StoreVersion *v);

/*
 * Pin, ask for the right, answer, unpin: right and data are of one moment.
 * The header gets the revision of that version.
 */
extern ReqResult answer_pinned(Request *req, const AccessList *access,
							   AnswerFn answer);

/* the same with one need; name only for the needs that take one */
extern ReqResult answer_pinned_need(Request *req, AccessNeed need, Bytes name,
									AnswerFn answer);

/* May the caller, now?  For what is not answered from the version itself. */
extern ErrCode answer_check_need(Request *req, AccessNeed need);

/* when a range has to end: the client's deadline or the snapshot's age */
extern int64_t answer_deadline_ms(const Request *req);

/*
 * Has a client that is sent an answer in pieces taken too little of it?  Once
 * guc_snapshot_max_age is over, counted from began_ms (clock_monotonic_ms()),
 * it must keep up guc_snapshot_min_rate, or it holds old versions for ever.
 * taken: how much of sent_bytes has left this process.
 */
extern bool answer_is_too_slow(const Request *req, int64_t began_ms,
							   uint64_t sent_bytes, uint64_t *taken);

#endif							/* COMMAND_ANSWER_H */
