/*
 * answer.c
 *	  Answering from one pinned version.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/guc.h"

/* this layer and below */
#include "command/answer.h"
#include "dispatch/dispatch.h"

ReqResult
answer_pinned(Request *req, const AccessList *access, AnswerFn answer)
{
	const StoreVersion *v = store_pin();
	ErrCode		error = request_authorize(req, v, access);

	if (error == ERR_NONE)
	{
		req->header_revision = v->kv_revision;
		error = answer(req, v);
	}
	store_unpin();
	return error == ERR_NONE ? REQ_DONE : request_fail(req, error);
}

ReqResult
answer_pinned_need(Request *req, AccessNeed need, Bytes name, AnswerFn answer)
{
	AccessList	access;

	access_init(&access, req->mcx);
	if (need == NEED_SELF_OR_ADMIN || need == NEED_ROLE_OR_ADMIN)
		access_add_name(&access, need, name);
	else
		access_add(&access, need);
	return answer_pinned(req, &access, answer);
}

ErrCode
answer_check_need(Request *req, AccessNeed need)
{
	const StoreVersion *v = store_pin();
	AccessList	access;
	ErrCode		error;

	access_init(&access, req->mcx);
	access_add(&access, need);
	error = request_authorize(req, v, &access);
	store_unpin();
	return error;
}

int64_t
answer_deadline_ms(const Request *req)
{
	int64_t		deadline = clock_coarse_ms() + guc_snapshot_max_age;

	if (req->deadline_ms > 0 && req->deadline_ms < deadline)
		return req->deadline_ms;
	return deadline;
}

bool
answer_is_too_slow(const Request *req, int64_t began_ms, uint64_t sent_bytes,
				   uint64_t *taken)
{
	int64_t		due_ms = clock_monotonic_ms() - began_ms - guc_snapshot_max_age;
	uint64_t	backlog = req->ops->backlog(req);

	*taken = sent_bytes > backlog ? sent_bytes - backlog : 0;
	return due_ms > 0 &&
		(double) *taken < (double) due_ms / 1000 * (double) guc_snapshot_min_rate;
}
