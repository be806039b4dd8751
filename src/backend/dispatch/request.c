/*
 * request.c
 *	  What a handler can do with its request: fail, ask for a right, propose,
 *	  wait for a linearizable point, hash a password.
 *
 * Everything that changes state goes through request_propose(), and there
 * through authorize() first; so no handler can forget it.
 */
#include "server.h"

/* system */
#include <stdarg.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "alarm/alarm.h"
#include "dispatch/dispatch.h"
#include "dispatch/lifecycle.h"
#include "dispatch/limits.h"
#include "dispatch/pending.h"
#include "dispatch/timer.h"
#include "lease/renewal.h"
#include "storage/ipc/control.h"

/* keep the encoding buffer between requests unless it has grown beyond this */
#define ENTRY_KEEP_BYTES (256 * 1024)

/* the entry being encoded; pending_submit_ring() copies it at once */
static Buf	entry;

static ErrCode resolve_identity(Request *req, const StoreVersion *v,
								bool is_use);
static void show_user(Bytes user);
static ReqResult submit_entry(Request *req, const LogOp *op);
static ReqResult await_answer(Request *req);
static ReqResult refuse_no_space(Request *req);
static ReqResult answer_no_space(Request *req, const Completion *done);
static ReqResult take_result(Request *req, const Completion *done);
static PendingHash *hash_create(HashJobKind kind, Bytes password, Bytes phc);
static void hash_destroy(PendingHash *hash);

ReqResult
request_fail(Request *req, ErrCode error)
{
	Assert(error != ERR_NONE);
	/* a failure without a reason must not look like a success */
	req->error = error == ERR_NONE ? ERR_INTERNAL : error;
	req->error_text = NULL;
	req->error_grpc_code = -1;
	return REQ_FAILED;
}

ReqResult
request_fail_text(Request *req, ErrCode error, int grpc_code, const char *fmt,...)
{
	char		text[512];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	request_fail(req, error);
	req->error_text = mcx_strdup(req->mcx, text);
	req->error_grpc_code = grpc_code;
	return REQ_FAILED;
}

ErrCode
request_authorize(Request *req, const StoreVersion *v,
				  const AccessList *access)
{
	ErrCode		error = resolve_identity(req, v, true);

	if (error == ERR_NONE)
		error = authorize(v, &req->identity, access);
	if (error != ERR_NONE)
	{
		counter_add(COUNTER_DENIED, 1);
		return error;
	}
	req->has_right = true;
	if (req->state == REQ_RECEIVED || req->state == REQ_BARRIER)
		request_move(req, REQ_PERMITTED);
	return ERR_NONE;
}

ErrCode
request_recheck(Request *req, const StoreVersion *v, const AccessList *access)
{
	ErrCode		error = resolve_identity(req, v, false);

	/* who is nobody now is asked again each time */
	if (error != ERR_NONE)
		req->identity_until_ms = 0;
	return error != ERR_NONE ? error : authorize(v, &req->identity, access);
}

void
request_be_nobody(Request *req)
{
	Assert(!req->is_identified);
	req->identity = (Identity) {.kind = IDENTITY_NONE};
	req->is_identified = true;
}

ErrCode
request_permit(Request *req, const LogOp *op)
{
	const StoreVersion *v = store_pin();
	AccessList	access;
	ErrCode		error;

	access_init(&access, request_scratch(req));
	access_add_logop(&access, op);
	error = request_authorize(req, v, &access);
	/* not before: both are nobody's business who may not write */
	if (error == ERR_NONE)
		error = alarm_check(v, op);
	if (error == ERR_NONE)
		error = limits_check_quota(v, op);
	store_unpin();
	return error;
}

ReqResult
request_propose(Request *req, LogOp *op, ReqCompletionFn on_completion)
{
	ErrCode		error = request_permit(req, op);

	if (error == ERR_NO_SPACE)
		return refuse_no_space(req);
	if (error != ERR_NONE)
		return request_fail(req, error);
	op->identity = req->identity;
	req->on_read = NULL;
	req->on_completion = on_completion != NULL ? on_completion : take_result;
	return submit_entry(req, op);
}

ReqResult
request_read_barrier(Request *req, ReqReadFn on_read)
{
	if (atomic_load(&store_raft_status()->reads_are_local))
		return on_read(req);
	return request_ask_worker(req, on_read);
}

ReqResult
request_ask_worker(Request *req, ReqReadFn on_read)
{
	req->on_completion = NULL;
	req->on_read = on_read;
	pending_submit_ring(req, SUBMIT_READ, BYTES_EMPTY);
	/* a permitted one asks again, on the version that it reads */
	request_move(req, req->state == REQ_RECEIVED ? REQ_BARRIER : REQ_WAITING);
	return REQ_PENDING;
}

ReqResult
request_renew_lease(Request *req, int64_t id, ReqCompletionFn on_completion)
{
	const StoreVersion *v = store_pin();
	LeaseRenewal renewal = lease_renewal_make(v, id);
	AccessList	access;
	ErrCode		error;

	access_init(&access, request_scratch(req));
	access_add(&access, NEED_IDENTITY);
	access_add_lease(&access, NEED_LEASE_WRITE, id);
	error = request_authorize(req, v, &access);
	store_unpin();
	if (error != ERR_NONE)
		return request_fail(req, error);
	entry.len = 0;
	lease_renewal_encode(&renewal, &entry);
	req->on_read = NULL;
	req->on_completion = on_completion;
	pending_submit_ring(req, SUBMIT_LEASE_RENEW, buf_bytes(&entry));
	return await_answer(req);
}

ReqResult
request_hash(Request *req, HashJobKind kind, Bytes password, Bytes phc,
			 ReqHashFn on_hash)
{
	PendingHash *hash;
	ErrCode		error;

	if (req->state != REQ_PERMITTED && req->state != REQ_WAITING)
	{
		elog_error("a password would have been hashed without permission in %s",
				   req->rpc->method);
		return request_fail(req, ERR_INTERNAL);
	}
	hash = hash_create(kind, password, phc);
	req->on_completion = NULL;
	req->on_read = NULL;
	req->on_hash = on_hash;
	error = pending_submit_hash(req, hash);
	if (error != ERR_NONE)
	{
		hash_destroy(hash);
		return request_fail(req, error);
	}
	request_move(req, REQ_WAITING);
	return REQ_PENDING;
}

ReqResult
request_submit(Request *req, SubmitKind kind,
			   ReqCompletionFn on_completion)
{
	if (req->state != REQ_PERMITTED && req->state != REQ_WAITING)
	{
		elog_error("%s would have asked the worker without permission",
				   req->rpc->method);
		return request_fail(req, ERR_INTERNAL);
	}
	req->on_read = NULL;
	req->on_completion = on_completion;
	pending_submit_ring(req, kind, BYTES_EMPTY);
	return await_answer(req);
}

ReqResult
request_wait_until(Request *req, int64_t at_ms, ReqTimerFn on_timer)
{
	Assert(req->state == REQ_PERMITTED || req->state == REQ_WAITING);
	timer_set(req, at_ms, on_timer);
	request_move(req, REQ_WAITING);
	return REQ_PENDING;
}

/*
 * The identity may borrow its name from a version that is unpinned before the
 * request ends, so the name is copied.
 */
static ErrCode
resolve_identity(Request *req, const StoreVersion *v, bool is_use)
{
	MemContext *mcx = req->mcx;
	ErrCode		error;

	if (req->is_identified)
		return ERR_NONE;
	if (request_is_stream(req))
	{
		if (req->identity_mcx == NULL)
			req->identity_mcx = mcx_create(req->mcx, "identity");
		mcx_reset(req->identity_mcx);
		mcx = req->identity_mcx;
	}
	if (is_use)
		error = identity_resolve(v, &req->credentials, mcx, &req->identity);
	else
		error = identity_check(v, &req->credentials, mcx, &req->identity,
							   &req->identity_until_ms);
	if (error != ERR_NONE)
		return error;
	req->identity.user = mcx_bytes_dup(mcx, req->identity.user);
	req->is_identified = true;
	show_user(req->identity.user);
	return ERR_NONE;
}

/* Into the process slot, for the activity view; nearly always unchanged. */
static void
show_user(Bytes user)
{
	static char shown[SLOT_USER_BYTES];
	char		name[SLOT_USER_BYTES] = {0};

	if (user.len > 0)
		memcpy(name, user.data, size_min(user.len, sizeof(name) - 1));
	if (control_self() == NULL || memcmp(name, shown, sizeof(name)) == 0)
		return;
	memcpy(shown, name, sizeof(name));
	control_set_user(name);
}

static ReqResult
submit_entry(Request *req, const LogOp *op)
{
	bool		fits;

	entry.len = 0;
	logop_encode(op, &entry);
	fits = entry.len <= (uint64_t) guc_max_request_bytes;
	if (fits)
		pending_submit_ring(req, SUBMIT_LOGOP, buf_bytes(&entry));
	if (entry.cap > ENTRY_KEEP_BYTES)
		buf_free(&entry);
	return fits ? await_answer(req) : request_fail(req, ERR_REQUEST_TOO_LARGE);
}

/* the raft worker has been asked */
static ReqResult
await_answer(Request *req)
{
	request_move(req, REQ_WAITING);
	return REQ_PENDING;
}

/*
 * The first who finds the quota reached raises the alarm, and is answered when
 * it is on; he was allowed to write, or he would not have got here.
 */
static ReqResult
refuse_no_space(Request *req)
{
	LogOp		op = {
		.kind = LOGOP_QUOTA_REACHED,
		.identity = req->identity,
		.alarm.member_id = atomic_load(&store_raft_status()->member_id),
	};
	bool		is_on = alarm_is_on(store_pin(), ALARM_NO_SPACE);

	store_unpin();
	if (is_on)
		return request_fail(req, ERR_NO_SPACE);
	elog_write(LOG_LEVEL_WARNING, NULL, "Compact and delete keys, then clear "
			   "the alarm, or raise quota_backend_bytes.",
			   "the quota on stored bytes is reached: raising alarm NOSPACE");
	req->on_completion = answer_no_space;
	return submit_entry(req, &op);
}

/* whatever became of the alarm */
static ReqResult
answer_no_space(Request *req, const Completion *done)
{
	return request_fail(req, ERR_NO_SPACE);
}

/* What most operations do with their result: pass it on. */
static ReqResult
take_result(Request *req, const Completion *done)
{
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	req->header_revision = done->revision;
	buf_append(&req->body, done->body, done->body_len);
	return REQ_DONE;
}

static PendingHash *
hash_create(HashJobKind kind, Bytes password, Bytes phc)
{
	PendingHash *hash = xcalloc(1, sizeof(*hash));
	HashJob    *job = &hash->job;

	job->kind = kind;
	job->password = xmalloc(password.len + 1);
	if (password.len > 0)
		memcpy(job->password, password.data, password.len);
	job->password[password.len] = '\0';
	job->password_len = password.len;
	job->cost = (PasswordCost) {
		.memory_kib = (uint32_t) guc_argon2_memory,
		.iterations = (uint32_t) guc_argon2_iterations,
		.parallelism = (uint32_t) guc_argon2_parallelism,
	};
	/* one that does not fit is none of ours: nobody can match it */
	if (phc.len > 0 && phc.len < sizeof(job->phc))
		memcpy(job->phc, phc.data, phc.len);
	return hash;
}

/* For a job that was never queued; the pool wipes the others. */
static void
hash_destroy(PendingHash *hash)
{
	secret_wipe(hash->job.password, hash->job.password_len);
	free(hash->job.password);
	secret_wipe(hash, sizeof(*hash));
	free(hash);
}
