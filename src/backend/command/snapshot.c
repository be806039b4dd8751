/*
 * snapshot.c
 *	  Maintenance.Snapshot: the state as a file, streamed.
 *
 *	MEASURE   walk all of it once: clients are told how much remains
 *	SEND      walk it again, block by block, as the client takes them
 *	then the SHA-256 of all that was sent
 *
 * Both walks are of one held version and make the same bytes.  Memory is a
 * block, and what the door holds for the client: when that is enough, sending
 * stops until there is room again.
 *
 * While the version is held nothing that it needs can be given back, so a
 * client must not hold it for ever: after snapshot_max_age he must have taken
 * snapshot_min_rate bytes for each further second, or the stream ends.  A large
 * snapshot gets the time it needs that way, and one who stops reading does not.
 */
#include "server.h"

/* libraries */
#include <openssl/evp.h>

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"

/* this layer and below */
#include "command/answer.h"
#include "command/command.h"
#include "dispatch/dispatch.h"
#include "snapshot/walk.h"

/* as etcd's */
#define CHUNK_BYTES ((size_t) 32 * 1024)
/* done in one turn of the loop */
#define SLICE_BYTES ((size_t) 512 * 1024)
#define SLICE_RECORDS 1000
/* between looks whether the client takes enough */
#define WATCH_MS 500

enum
{
	RESPONSE_REMAINING_BYTES = 2,
	RESPONSE_BLOB = 3,
	RESPONSE_VERSION = 4
};

typedef struct SendState
{
	StoreHold	hold;
	SnapshotWalk walk;
	SnapMeta	meta;
	SnapWriter	writer;
	Buf			made;			/* bytes of the file, not yet sent; heap */
	size_t		made_sent;		/* so many of them are */
	bool		is_complete;	/* all but the hash is made */
	uint64_t	total_bytes;	/* of the file without the hash */
	uint64_t	sent_bytes;
	int64_t		began_ms;
	EVP_MD_CTX *sha;
} SendState;

static ReqResult measure_slice(Request *req);
static ReqResult send_begin(Request *req);
static ReqResult send_slice(Request *req);
static ReqResult send_wait(Request *req);
static void file_begin(SendState *state);
static void file_make(SendState *state, uint32_t max_records);
static bool send_chunks(Request *req);
static bool send_blob(Request *req, Bytes blob, uint64_t remaining);
static ReqResult send_hash(Request *req);
static bool is_too_slow(const Request *req);
static void snapshot_end(void *arg);

/* No linearizable point: a member without a leader can be backed up, too. */
ReqResult
command_snapshot(Request *req)
{
	SendState  *state = mcx_alloc0(req->mcx, sizeof(*state));
	const StoreVersion *v = store_hold(&state->hold);
	const RaftStatus *status = store_raft_status();
	AccessList	access;
	ErrCode		error;

	buf_init(&state->made, NULL);
	mcx_on_reset(req->mcx, snapshot_end, state);
	req->handler_state = state;
	access_init(&access, req->mcx);
	access_add(&access, NEED_ADMIN);
	error = request_authorize(req, v, &access);
	if (error != ERR_NONE)
		return request_fail(req, error);
	state->sha = EVP_MD_CTX_new();
	if (state->sha == NULL ||
		EVP_DigestInit_ex(state->sha, EVP_sha256(), NULL) != 1)
		return request_fail(req, ERR_INTERNAL);
	state->meta = (SnapMeta) {
		.cluster_id = atomic_load(&status->cluster_id),
		.member_id = atomic_load(&status->member_id),
		.created_ms = clock_realtime_ms(),
		.revision = v->kv_revision,
		.compacted_revision = v->compacted_revision,
		.applied_index = v->applied_index,
		.applied_term = v->applied_term,
	};
	elog_info("snapshot at revision %" PRId64 " begins", v->kv_revision);
	file_begin(state);
	return measure_slice(req);
}

static ReqResult
measure_slice(Request *req)
{
	SendState  *state = req->handler_state;

	for (size_t done = 0; done < SLICE_BYTES && !state->is_complete;)
	{
		file_make(state, SLICE_RECORDS / 4);
		done += state->made.len;
		state->total_bytes += state->made.len;
		state->made.len = 0;
	}
	if (!state->is_complete)
		return request_wait_until(req, 0, measure_slice);
	return send_begin(req);
}

static ReqResult
send_begin(Request *req)
{
	SendState  *state = req->handler_state;

	file_begin(state);
	state->began_ms = clock_monotonic_ms();
	req->on_writable = send_slice;
	return send_slice(req);
}

/* Make and send, until the turn is over or the client has enough for now. */
static ReqResult
send_slice(Request *req)
{
	SendState  *state = req->handler_state;
	uint64_t	until = state->sent_bytes + SLICE_BYTES;

	if (is_too_slow(req))
		return request_fail(req, ERR_SNAPSHOT_TOO_OLD);
	while (request_may_send(req))
	{
		if (state->sent_bytes >= until)
			return request_wait_until(req, 0, send_slice);
		if (!state->is_complete &&
			state->made.len - state->made_sent < CHUNK_BYTES)
			file_make(state, SLICE_RECORDS / 4);
		if (!send_chunks(req))
			return request_fail(req, ERR_INTERNAL);
		if (state->is_complete && state->made_sent == state->made.len)
			return send_hash(req);
	}
	return send_wait(req);
}

/* on_writable goes on; the timer sees to it that this does not last */
static ReqResult
send_wait(Request *req)
{
	return request_wait_until(req, clock_monotonic_ms() + WATCH_MS, send_slice);
}

static void
file_begin(SendState *state)
{
	snapshot_walk_end(&state->walk);
	snapshot_walk_begin(&state->walk, state->hold.version,
						state->meta.revision, false);
	buf_free(&state->writer.block);
	state->made.len = 0;
	state->made_sent = 0;
	state->is_complete = false;
	snapwriter_begin(&state->writer, &state->meta, NULL, &state->made);
}

/* the next bytes of the file, behind those that are there */
static void
file_make(SendState *state, uint32_t max_records)
{
	SnapRecord	record;

	/* what is sent makes room at the front */
	memmove(state->made.data, state->made.data + state->made_sent,
			state->made.len - state->made_sent);
	state->made.len -= state->made_sent;
	state->made_sent = 0;
	while (max_records-- > 0 && state->made.len < SLICE_BYTES / 2)
	{
		if (snapshot_walk_next(&state->walk, &record))
			snapwriter_add(&state->writer, &record, &state->made);
		else
		{
			snapwriter_end(&state->writer, &state->made);
			state->is_complete = true;
			return;
		}
	}
}

/* whole chunks of what is made, or the rest when that is all */
static bool
send_chunks(Request *req)
{
	SendState  *state = req->handler_state;

	while (request_may_send(req))
	{
		size_t		left = state->made.len - state->made_sent;
		size_t		n = size_min(left, CHUNK_BYTES);
		Bytes		blob = bytes_make(state->made.data + state->made_sent, n);

		if (n == 0 || (n < CHUNK_BYTES && !state->is_complete))
			return true;
		(void) INJECTION_POINT("snapshot-chunk");
		state->sent_bytes += n;
		state->made_sent += n;
		if (state->sent_bytes > state->total_bytes ||
			EVP_DigestUpdate(state->sha, blob.data, blob.len) != 1 ||
			!send_blob(req, blob, state->total_bytes - state->sent_bytes))
			return false;
	}
	return true;
}

static bool
send_blob(Request *req, Bytes blob, uint64_t remaining)
{
	Buf			fields;

	buf_init(&fields, NULL);
	pbwire_put_uint(&fields, RESPONSE_REMAINING_BYTES, remaining);
	pbwire_put_bytes(&fields, RESPONSE_BLOB, blob);
	pbwire_put_bytes(&fields, RESPONSE_VERSION,
					 BYTES_LITERAL(ETCD_CLUSTER_VERSION));
	request_send(req, &fields);
	buf_free(&fields);
	return req->error == ERR_NONE;
}

static ReqResult
send_hash(Request *req)
{
	SendState  *state = req->handler_state;
	uint8_t		hash[SNAPFILE_HASH_BYTES];
	unsigned	n = 0;

	if (EVP_DigestFinal_ex(state->sha, hash, &n) != 1 || n != sizeof(hash))
		return request_fail(req, ERR_INTERNAL);
	if (!send_blob(req, bytes_make(hash, sizeof(hash)), 0))
		return REQ_FAILED;
	elog_info("snapshot at revision %" PRId64 ": %" PRIu64 " bytes sent",
			  state->meta.revision, state->sent_bytes);
	return request_end(req);
}

static bool
is_too_slow(const Request *req)
{
	const SendState *state = req->handler_state;
	uint64_t	taken;

	if (!answer_is_too_slow(req, state->began_ms, state->sent_bytes, &taken))
		return false;
	elog_warning("snapshot at revision %" PRId64 " ended: the client took %"
				 PRIu64 " of %" PRIu64 " bytes in %" PRId64 " ms",
				 state->meta.revision, taken, state->total_bytes,
				 clock_monotonic_ms() - state->began_ms);
	return true;
}

static void
snapshot_end(void *arg)
{
	SendState  *state = arg;

	EVP_MD_CTX_free(state->sha);
	buf_free(&state->made);
	buf_free(&state->writer.block);
	snapshot_walk_end(&state->walk);
	store_release(&state->hold);
}
