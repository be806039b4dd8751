/*
 * write.c
 *	  Changing keys: put, delete range, revoke, and loading at start.
 *
 * A change never touches an existing version: it makes a new one, links the
 * former newest behind it and puts it into the draft's key tree in its place.
 * The former is history and stays reachable, so nothing is retired here;
 * taking history away is compact.c's business.
 *
 * Thread: apply (or the loader before it).
 */
#include "server.h"

/* lib and utils */
#include "lib/pbwire.h"

/* this layer and below */
#include "lease/lease.h"
#include "mvcc/mvcc_internal.h"
#include "mvcc/vlog.h"

/* PutResponse, DeleteRangeResponse */
enum
{
	PUT_PREV_KV = 2,
	DELETE_DELETED = 2,
	DELETE_PREV_KVS = 3
};

static KvVersion *version_create(Bytes key, Bytes value);
static const KvVersion *version_link(StoreVersion *draft, KvVersion *kv);
static void version_stamp(MvccWrite *w, KvVersion *kv);
static void version_announce(const MvccWrite *w, const KvVersion *kv);
static void lease_moves(StoreVersion *draft, const KvVersion *before,
						const KvVersion *kv);
static void delete_key(MvccWrite *w, const KvVersion *before);
static bool lives(const KvVersion *kv);

void
mvcc_write_begin(MvccWrite *w, StoreVersion *draft, const MvccSink *sink,
				 MemContext *scratch)
{
	*w = (MvccWrite) {
		.draft = draft,
		.sink = sink,
		.scratch = scratch,
		.revision = draft->kv_revision + 1,
	};
}

void
mvcc_write_end(MvccWrite *w)
{
	Assert(w->draft->kv_revision == w->revision - 1);
	if (w->next_sub > 0)
		w->draft->kv_revision = w->revision;
}

ErrCode
mvcc_put(MvccWrite *w, const PutOp *op, Buf *out)
{
	ErrCode		error;

	/* as etcd: the lease is looked for first here, the key first in a txn */
	if (op->lease != 0 && !lease_exists(w->draft, op->lease))
		return ERR_LEASE_NOT_FOUND;
	error = mvcc_put_check(w->draft, op);
	if (error == ERR_NONE)
		mvcc_put_checked(w, op, out);
	return error;
}

ErrCode
mvcc_put_check(const StoreVersion *v, const PutOp *op)
{
	if ((op->ignore_value || op->ignore_lease) &&
		mvcc_get(v, op->key, 0) == NULL)
		return ERR_KEY_NOT_FOUND;
	if (op->lease != 0 && !lease_exists(v, op->lease))
		return ERR_LEASE_NOT_FOUND;
	return ERR_NONE;
}

void
mvcc_put_checked(MvccWrite *w, const PutOp *op, Buf *out)
{
	const KvVersion *before = NULL;
	Bytes		value = op->value;
	int64_t		lease = op->lease;
	KvVersion  *kv;

	if (op->ignore_value || op->ignore_lease)
	{
		/*
		 * It was there when the check ran.  Only a delete in the same
		 * transaction could have taken it, which the command station refuses;
		 * then the key begins anew, empty, rather than the member end.
		 */
		before = mvcc_get(w->draft, op->key, 0);
		if (op->ignore_value)
			value = before != NULL ? kvversion_value(before) : BYTES_EMPTY;
		if (op->ignore_lease)
			lease = before != NULL ? before->lease : 0;
	}
	kv = version_create(op->key, value);
	version_stamp(w, kv);
	before = version_link(w->draft, kv);
	if (!lives(before))
		before = NULL;
	kv->create_revision =
		before != NULL ? before->create_revision : w->revision;
	kv->version = before != NULL ? before->version + 1 : 1;
	kv->lease = lease;
	w->draft->live_keys += before == NULL;
	w->counts.puts++;
	w->counts.put_bytes += op->key.len + value.len;
	lease_moves(w->draft, before, kv);
	version_announce(w, kv);
	if (out != NULL && op->prev_kv && before != NULL)
		mvcc_put_kv_field(out, PUT_PREV_KV, before, false);
}

ErrCode
mvcc_delete_range(MvccWrite *w, const DeleteOp *op, int64_t *deleted, Buf *out)
{
	ReadBudget	unlimited = {0};
	RangeScan	scan;
	const KvVersion *kv;
	const KvVersion **victims = NULL;
	size_t		n = 0;
	size_t		cap = 0;

	w->counts.deletes++;
	/* first the list: a cursor does not survive changes to its tree */
	mvcc_scan_begin(&scan, w->draft, &op->range, 0, &unlimited);
	while ((kv = mvcc_scan_next(&scan)) != NULL)
	{
		if (n == cap)
		{
			cap = cap == 0 ? 16 : cap * 2;
			victims = mcx_grow(w->scratch, victims, n * sizeof(*victims),
							   cap * sizeof(*victims));
		}
		victims[n++] = kv;
	}
	for (size_t i = 0; i < n; i++)
	{
		if (victims[i]->lease != 0)
			lease_detach(w->draft, victims[i]->lease,
						 kvversion_key(victims[i]));
		delete_key(w, victims[i]);
	}

	*deleted = (int64_t) n;
	if (out == NULL)
		return ERR_NONE;
	pbwire_put_int(out, DELETE_DELETED, *deleted);
	for (size_t i = 0; op->prev_kv && i < n; i++)
		mvcc_put_kv_field(out, DELETE_PREV_KVS, victims[i], false);
	return ERR_NONE;
}

int64_t
mvcc_revoke_lease(MvccWrite *w, int64_t id)
{
	const LeaseEntry *lease = lease_find(w->draft, id);
	LeaseKeyCursor cursor;
	const KvVersion *kv;
	int64_t		n = 0;

	/* the walk is over the lease's own keys, which stay until it goes */
	for (kv = lease_keys_seek(lease, &cursor, BYTES_EMPTY); kv != NULL;
		 kv = lease_keys_next(&cursor))
	{
		delete_key(w, kv);
		n++;
	}
	lease_remove(w->draft, id);
	return n;
}

void
mvcc_load_version(StoreVersion *draft, Bytes key, Bytes value,
				  int64_t mod_revision, uint32_t sub_revision,
				  int64_t create_revision, int64_t version, int64_t lease)
{
	KvVersion  *kv = version_create(key, value);
	const KvVersion *before;

	kv->mod_revision = mod_revision;
	kv->sub_revision = sub_revision;
	kv->create_revision = create_revision;
	kv->version = version;
	kv->lease = lease;
	before = version_link(draft, kv);
	draft->live_keys += lives(kv);
	draft->live_keys -= lives(before);
	vlog_append(&draft->log, kv);
	if (draft->kv_revision < mod_revision)
		draft->kv_revision = mod_revision;
}

/* ---- one version ---- */

static KvVersion *
version_create(Bytes key, Bytes value)
{
	KvVersion  *kv = store_alloc(sizeof(*kv) + key.len + value.len);

	/* the decoder and the loader let nothing longer through */
	Assert(key.len <= UINT32_MAX && value.len <= UINT32_MAX);
	memset(kv, 0, sizeof(*kv));
	kv->item.key_len = (uint32_t) key.len;
	kv->item.key_offset = offsetof(KvVersion, bytes);
	kv->value_len = (uint32_t) value.len;
	if (key.len > 0)
		memcpy(kv->bytes, key.data, key.len);
	if (value.len > 0)
		memcpy(kv->bytes + key.len, value.data, value.len);
	return kv;
}

/*
 * Make it the newest of its key; returns the former newest.  One descent: the
 * fields that depend on the former are filled in afterwards, which nobody
 * can see, since the draft is ours alone.
 */
static const KvVersion *
version_link(StoreVersion *draft, KvVersion *kv)
{
	const CowItem *former = cowtree_put(&draft->keys, &kv->item);
	const KvVersion *before =
		former != NULL ? kvversion_from_item(former) : NULL;

	atomic_init(&kv->prev, before);
	draft->live_bytes += kvversion_size(kv);
	return before;
}

static void
version_stamp(MvccWrite *w, KvVersion *kv)
{
	kv->mod_revision = w->revision;
	kv->sub_revision = w->next_sub++;
}

static void
version_announce(const MvccWrite *w, const KvVersion *kv)
{
	vlog_append(&w->draft->log, kv);
	if (w->sink != NULL && w->sink->on_version != NULL)
		w->sink->on_version(w->sink->arg, kv);
}

/* before: what lived under the key, or NULL; a put replaces the attachment */
static void
lease_moves(StoreVersion *draft, const KvVersion *before, const KvVersion *kv)
{
	if (before != NULL && before->lease != 0 && before->lease != kv->lease)
		lease_detach(draft, before->lease, kvversion_key(kv));
	/* that it exists was checked before anything changed */
	if (kv->lease != 0)
		(void) lease_attach(draft, kv);
}

/* whoever calls takes it off its lease */
static void
delete_key(MvccWrite *w, const KvVersion *before)
{
	KvVersion  *tombstone = version_create(kvversion_key(before), BYTES_EMPTY);

	version_stamp(w, tombstone);
	version_link(w->draft, tombstone);
	w->draft->live_keys--;
	version_announce(w, tombstone);
}

static bool
lives(const KvVersion *kv)
{
	return kv != NULL && !kvversion_is_tombstone(kv);
}
