/*
 * rangestream.c
 *	  KV.RangeStream: a range, answered in parts.
 *
 *	SEND    chunks of keys, as the client takes them
 *	COUNT   what is behind the limit, a part each turn
 *	then the last message: header, more, count
 *
 * All parts are read from one held version.  The first has 10 keys, and each
 * following one twice as many, or half, so that messages come near to
 * max_request_bytes (as etcd 3.7 does).  Like a snapshot it ends when the
 * client takes too little for too long, because what is held cannot be given
 * back meanwhile.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/clock.h"
#include "utils/guc.h"

/* this layer and below */
#include "command/answer.h"
#include "command/command.h"
#include "command/kvrequest.h"
#include "dispatch/dispatch.h"
#include "mvcc/mvcc.h"
#include "storage/ipc/control.h"

#define FIRST_KEYS 10
#define MAX_KEYS 10000
/* done in one turn of the loop */
#define SLICE_BYTES ((size_t) 512 * 1024)
#define SLICE_COUNT 10000
/* between looks whether the client takes enough */
#define LOOK_MS 500

enum
{
	STREAM_RANGE_RESPONSE = 1,
	RANGE_MORE = 3,
	RANGE_COUNT = 4
};

typedef struct RangeStream
{
	RangeOp		op;
	StoreHold	hold;
	RangePart	part;
	Buf			chunk;			/* fields of a RangeResponse; heap */
	uint64_t	chunk_keys;		/* so many in the next one */
	uint64_t	left;			/* keys that may still be sent */
	uint64_t	count;
	bool		is_over;		/* the limit: only counting is left */
	uint64_t	sent_bytes;
	int64_t		began_ms;
} RangeStream;

static ReqResult range_begin(Request *req);
static ReqResult range_slice(Request *req);
static ErrCode read_chunk(RangeStream *state);
static ErrCode count_rest(RangeStream *state);
static void send_chunk(Request *req);
static ReqResult send_last(Request *req);
static ReqResult wait_for_room(Request *req);
static void range_end(void *arg);

ReqResult
command_range_stream(Request *req)
{
	RangeStream *state = mcx_alloc0(req->mcx, sizeof(*state));
	RangeOp    *op = &state->op;
	ErrCode		error = kvrequest_range(req->message, op);

	if (error != ERR_NONE)
		return request_fail(req, error);
	if (op->sort_order == SORT_DESCEND || op->sort_target != SORT_BY_KEY)
		return request_fail_text(req, ERR_UNIMPLEMENTED, -1,
								 "RangeStream does not support custom sort orders");
	if (op->min_mod_revision != 0 || op->max_mod_revision != 0 ||
		op->min_create_revision != 0 || op->max_create_revision != 0)
		return request_fail_text(req, ERR_UNIMPLEMENTED, -1,
								 "RangeStream does not support revision filters");
	buf_init(&state->chunk, NULL);
	buf_init(&state->part.next, NULL);
	mcx_on_reset(req->mcx, range_end, state);
	req->handler_state = state;
	if (op->serializable)
		return range_begin(req);
	return request_read_barrier(req, range_begin);
}

/* Right and data are of the same version. */
static ReqResult
range_begin(Request *req)
{
	RangeStream *state = req->handler_state;
	const StoreVersion *v = store_hold(&state->hold);
	KvOp		op = {.kind = KVOP_RANGE,.range = state->op};
	AccessList	access;
	ErrCode		error;

	access_init(&access, req->mcx);
	access_add_kvop(&access, &op);
	error = request_authorize(req, v, &access);
	if (error == ERR_NONE && state->op.revision > v->kv_revision)
		error = ERR_FUTURE_REV;
	if (error == ERR_NONE && state->op.revision > 0 &&
		state->op.revision < v->compacted_revision)
		error = ERR_COMPACTED;
	if (error != ERR_NONE)
		return request_fail(req, error);
	counter_add(COUNTER_RANGES, 1);
	req->header_revision = v->kv_revision;
	req->on_writable = range_slice;
	state->began_ms = clock_monotonic_ms();
	state->chunk_keys = FIRST_KEYS;
	state->left = state->op.limit > 0 ? (uint64_t) state->op.limit : UINT64_MAX;
	state->is_over = state->op.count_only;
	return range_slice(req);
}

static ReqResult
range_slice(Request *req)
{
	RangeStream *state = req->handler_state;
	size_t		bytes = 0;
	uint64_t	taken;
	ErrCode		error;

	if (answer_is_too_slow(req, state->began_ms, state->sent_bytes, &taken))
		return request_fail(req, ERR_SNAPSHOT_TOO_OLD);
	while (!state->is_over && bytes < SLICE_BYTES)
	{
		if (!request_may_send(req))
			return wait_for_room(req);
		error = read_chunk(state);
		if (error != ERR_NONE)
			return request_fail(req, error);
		if (state->part.is_last)
			return send_last(req);
		bytes += state->chunk.len;
		send_chunk(req);
	}
	if (!state->is_over)
		return request_wait_until(req, 0, range_slice);
	error = count_rest(state);
	if (error != ERR_NONE)
		return request_fail(req, error);
	if (!state->part.is_last)
		return request_wait_until(req, 0, range_slice);
	return send_last(req);
}

/* the next keys, and how many there shall be the next time */
static ErrCode
read_chunk(RangeStream *state)
{
	uint64_t	n = state->chunk_keys < state->left ? state->chunk_keys :
		state->left;
	size_t		wanted = (size_t) guc_max_request_bytes;
	ErrCode		error;

	state->chunk.len = 0;
	error = mvcc_range_part(state->hold.version, &state->op, &state->part, n,
							clock_monotonic_ms() + guc_snapshot_max_age,
							&state->chunk);
	if (error != ERR_NONE)
		return error;
	state->count += state->part.nkeys;
	state->left -= state->part.nkeys;
	state->is_over = state->left == 0;
	if (state->chunk.len < wanted / 2 && state->chunk_keys < MAX_KEYS)
		state->chunk_keys *= 2;
	else if (state->chunk.len > wanted && state->chunk_keys > 1)
		state->chunk_keys /= 2;
	return ERR_NONE;
}

static ErrCode
count_rest(RangeStream *state)
{
	ErrCode		error = mvcc_range_part(state->hold.version, &state->op,
										&state->part, SLICE_COUNT,
										clock_monotonic_ms() +
										guc_snapshot_max_age, NULL);

	state->count += state->part.nkeys;
	return error;
}

static void
send_chunk(Request *req)
{
	RangeStream *state = req->handler_state;
	Buf			fields;

	buf_init(&fields, NULL);
	pbwire_put_bytes_always(&fields, STREAM_RANGE_RESPONSE,
							buf_bytes(&state->chunk));
	state->chunk.len = 0;
	state->sent_bytes += fields.len;
	request_send(req, &fields);
	buf_free(&fields);
}

/* what is left of the keys, and what only the last message has */
static ReqResult
send_last(Request *req)
{
	RangeStream *state = req->handler_state;
	uint64_t	nshown = (uint64_t) state->op.limit;

	request_put_header(req, &state->chunk);
	if (!state->op.count_only && state->op.limit > 0 && state->count > nshown)
		pbwire_put_uint(&state->chunk, RANGE_MORE, 1);
	pbwire_put_uint(&state->chunk, RANGE_COUNT, state->count);
	send_chunk(req);
	return request_end(req);
}

static ReqResult
wait_for_room(Request *req)
{
	return request_wait_until(req, clock_monotonic_ms() + LOOK_MS, range_slice);
}

static void
range_end(void *arg)
{
	RangeStream *state = arg;

	store_release(&state->hold);
	buf_free(&state->chunk);
	buf_free(&state->part.next);
}
