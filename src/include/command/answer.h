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

/* when a range has to end: the client's deadline or the snapshot's age */
extern int64_t answer_deadline_ms(const Request *req);

#endif							/* COMMAND_ANSWER_H */
