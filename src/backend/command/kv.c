/*
 * kv.c
 *	  Range, Put, DeleteRange, Txn, Compact.
 *
 * Three steps each: is the request's shape right, may the caller do it, do it.
 * What reads is answered here from a pinned version, after a linearizable
 * point unless the client asked for less; what writes becomes a log operation
 * (request_propose asks for the right, then looks at quota and size).
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/guc.h"

/* this layer and below */
#include "command/answer.h"
#include "command/command.h"
#include "command/kvrequest.h"
#include "dispatch/dispatch.h"
#include "mvcc/mvcc.h"
#include "storage/ipc/control.h"

/* between looks whether a compaction's removal is through */
#define REMOVAL_POLL_MS 5

static ReqResult compact_applied(Request *req, const Completion *done);
static ReqResult compact_look(Request *req);
static ReqResult range_at_point(Request *req);
static ErrCode range_answer(Request *req, const StoreVersion *v);
static ReqResult txn_at_point(Request *req);
static ErrCode txn_answer(Request *req, const StoreVersion *v);
static ReqResult read_kvop(Request *req, AnswerFn answer);
static ReqResult txn_propose(Request *req, const TxnOp *txn);

ReqResult
command_range(Request *req)
{
	KvOp	   *op = mcx_alloc0(req->mcx, sizeof(*op));
	ErrCode		error = kvrequest_range(req->message, &op->range);

	if (error != ERR_NONE)
		return request_fail(req, error);
	op->kind = KVOP_RANGE;
	req->handler_state = op;
	if (op->range.serializable)
		return range_at_point(req);
	return request_read_barrier(req, range_at_point);
}

ReqResult
command_put(Request *req)
{
	LogOp		op = {.kind = LOGOP_PUT};
	ErrCode		error = kvrequest_put(req->message, &op.put);

	if (error != ERR_NONE)
		return request_fail(req, error);
	return request_propose(req, &op, NULL);
}

ReqResult
command_delete_range(Request *req)
{
	LogOp		op = {.kind = LOGOP_DELETE};
	ErrCode		error = kvrequest_delete(req->message, &op.delete);

	if (error != ERR_NONE)
		return request_fail(req, error);
	return request_propose(req, &op, NULL);
}

ReqResult
command_txn(Request *req)
{
	KvOp	   *op = mcx_alloc0(req->mcx, sizeof(*op));
	ErrCode		error = kvrequest_txn(req->message, (uint64_t) guc_max_txn_ops,
									  req->mcx, &op->txn);

	if (error == ERR_NONE)
		error = kvrequest_check_duplicates(&op->txn);
	if (error != ERR_NONE)
		return request_fail(req, error);
	if (!mvcc_txn_is_readonly(&op->txn))
		return txn_propose(req, &op->txn);
	op->kind = KVOP_TXN;
	req->handler_state = op;
	if (mvcc_txn_is_serializable(&op->txn))
		return txn_at_point(req);
	return request_read_barrier(req, txn_at_point);
}

/*
 * Old versions are unreadable when the operation is applied.  `physical` asks
 * for the answer to wait until their memory and rows are gone as well.
 */
ReqResult
command_compact(Request *req)
{
	const Etcdserverpb__CompactionRequest *message = req->message;
	LogOp		op = {
		.kind = LOGOP_COMPACT,
		.compact_revision = message->revision,
	};

	return request_propose(req, &op, message->physical ? compact_applied : NULL);
}

static ReqResult
compact_applied(Request *req, const Completion *done)
{
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	req->header_revision = done->revision;
	return compact_look(req);
}

/* Nobody tells of the removal; a look every few milliseconds costs nothing. */
static ReqResult
compact_look(Request *req)
{
	const Etcdserverpb__CompactionRequest *message = req->message;
	int64_t		revision = message->revision > 0 ? message->revision : 1;

	if (atomic_load(&store_raft_status()->removed_revision) >= revision)
		return REQ_DONE;
	return request_wait_until(req, clock_monotonic_ms() + REMOVAL_POLL_MS,
							  compact_look);
}

static ReqResult
range_at_point(Request *req)
{
	return read_kvop(req, range_answer);
}

static ErrCode
range_answer(Request *req, const StoreVersion *v)
{
	const KvOp *op = req->handler_state;

	counter_add(COUNTER_RANGES, 1);
	return mvcc_range(v, &op->range, answer_deadline_ms(req), req->mcx,
					  &req->body);
}

static ReqResult
txn_at_point(Request *req)
{
	return read_kvop(req, txn_answer);
}

static ErrCode
txn_answer(Request *req, const StoreVersion *v)
{
	const KvOp *op = req->handler_state;
	MvccCounts	counts = {0};
	ErrCode		error = mvcc_txn_readonly(v, &op->txn, answer_deadline_ms(req),
										  req->mcx, &req->body, &counts);

	counter_add(COUNTER_TXNS, 1);
	counter_add(COUNTER_RANGES, counts.ranges);
	return error;
}

/* The operation that is checked is the one that is executed. */
static ReqResult
read_kvop(Request *req, AnswerFn answer)
{
	AccessList	access;

	access_init(&access, req->mcx);
	access_add_kvop(&access, req->handler_state);
	return answer_pinned(req, &access, answer);
}

static ReqResult
txn_propose(Request *req, const TxnOp *txn)
{
	LogOp		op = {.kind = LOGOP_TXN,.txn = *txn};

	return request_propose(req, &op, NULL);
}
