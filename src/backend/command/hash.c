/*
 * hash.c
 *	  Hash and HashKV: one number for a whole state.
 *
 * All versions have to be looked at, which may take seconds.  So the version
 * is held, and a slice of it is done in each turn of the event loop; the other
 * requests of the connection go on in between, on newer versions.
 *
 * HashKV(revision) is over the versions of keys up to that revision that count
 * after the last compaction; it is the same on all members with the same
 * compacted revision, after a restart, and after a restore.  Hash is over
 * roles, users, auth state and leases as well.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"

/* this layer and below */
#include "command/command.h"
#include "dispatch/dispatch.h"
#include "mvcc/mvcc.h"
#include "snapshot/walk.h"

/* about half a millisecond */
#define SLICE_RECORDS 1000
#define SLICE_BYTES ((size_t) 512 * 1024)

enum
{
	RESPONSE_HASH = 2,
	RESPONSE_COMPACT_REVISION = 3,
	RESPONSE_HASH_REVISION = 4
};

typedef struct HashState
{
	StoreHold	hold;
	SnapshotWalk walk;
	uint32_t	hash;
	bool		keys_only;
} HashState;

static ReqResult hash_begin(Request *req, int64_t revision, bool keys_only);
static ErrCode check_revision(const StoreVersion *v, int64_t revision);
static ReqResult hash_slice(Request *req);
static ReqResult hash_done(Request *req);
static void hash_end(void *arg);

ReqResult
command_hash(Request *req)
{
	return hash_begin(req, 0, false);
}

ReqResult
command_hash_kv(Request *req)
{
	const Etcdserverpb__HashKVRequest *message = req->message;

	return hash_begin(req, message->revision, true);
}

static ReqResult
hash_begin(Request *req, int64_t revision, bool keys_only)
{
	HashState  *state = mcx_alloc0(req->mcx, sizeof(*state));
	const StoreVersion *v = store_hold(&state->hold);
	AccessList	access;
	ErrCode		error;

	mcx_on_reset(req->mcx, hash_end, state);
	access_init(&access, req->mcx);
	access_add(&access, NEED_ADMIN);
	error = request_authorize(req, v, &access);
	if (error == ERR_NONE)
		error = check_revision(v, revision);
	if (error != ERR_NONE)
		return request_fail(req, error);
	state->keys_only = keys_only;
	snapshot_walk_begin(&state->walk, v, revision == 0 ? v->kv_revision :
						revision, keys_only);
	req->handler_state = state;
	req->header_revision = v->kv_revision;
	return hash_slice(req);
}

/* as etcd: the compacted revision itself cannot be hashed any more */
static ErrCode
check_revision(const StoreVersion *v, int64_t revision)
{
	if (revision > v->kv_revision)
		return ERR_FUTURE_REV;
	if (revision > 0 && revision <= v->compacted_revision)
		return ERR_COMPACTED;
	return ERR_NONE;
}

static ReqResult
hash_slice(Request *req)
{
	HashState  *state = req->handler_state;
	SnapRecord	record;
	size_t		bytes = 0;

	for (uint32_t n = 0; n < SLICE_RECORDS && bytes < SLICE_BYTES; n++)
	{
		if (!snapshot_walk_next(&state->walk, &record))
			return hash_done(req);
		state->hash = snapshot_hash_add(state->hash, &record);
		bytes += record.value.len;
	}
	return request_wait_until(req, 0, hash_slice);
}

static ReqResult
hash_done(Request *req)
{
	const HashState *state = req->handler_state;
	const StoreVersion *v = state->hold.version;
	Buf		   *out = &req->body;

	pbwire_put_uint(out, RESPONSE_HASH, state->hash);
	if (state->keys_only)
	{
		/* never compacted is -1 to clients */
		pbwire_put_int(out, RESPONSE_COMPACT_REVISION,
					   v->compacted_revision == 0 ? -1 : v->compacted_revision);
		pbwire_put_int(out, RESPONSE_HASH_REVISION, state->walk.revision);
	}
	return REQ_DONE;
}

static void
hash_end(void *arg)
{
	HashState  *state = arg;

	snapshot_walk_end(&state->walk);
	store_release(&state->hold);
}
