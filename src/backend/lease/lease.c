/*
 * lease.c
 *	  Leases as part of the versions: granting, attaching, removing, loading.
 *
 * Most leases hold one key (a service instance, a lock), so the first stands
 * in the entry itself and a tree is made for the second: a leaf is 1 KB, and
 * there may be 100 000 leases.
 *
 * An entry made in the running draft is changed in place, any other is copied
 * and the old one retired.  The clock is shared by the copies and retired with
 * the last of them.
 *
 * Thread: apply (or the loader before it), but for what only looks.
 */
#include "server.h"

/* system */
#include <endian.h>

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/clock.h"

/* this layer and below */
#include "lease/lease.h"
#include "storage/bdb/tables.h"

static LeaseEntry *entry_create(int64_t id, int64_t granted_sec,
								int64_t remaining_sec);
static LeaseEntry *entry_writable(StoreVersion *draft, int64_t id);
static const KvVersion *version_of(const CowItem *item);
static bool get_seconds(Cursor *cur, int64_t *sec);

/* ---- looking ---- */

const LeaseEntry *
lease_find(const StoreVersion *v, int64_t id)
{
	uint8_t		key[LEASE_KEY_BYTES];
	const CowItem *item;

	lease_key(id, key);
	item = cowtree_get(&v->leases, bytes_make(key, sizeof(key)));
	return item == NULL ? NULL : lease_from_item(item);
}

bool
lease_exists(const StoreVersion *v, int64_t id)
{
	return lease_find(v, id) != NULL;
}

uint64_t
lease_nkeys(const LeaseEntry *lease)
{
	return lease->only != NULL ? 1 : lease->keys.nitems;
}

const KvVersion *
lease_keys_seek(const LeaseEntry *lease, LeaseKeyCursor *cursor, Bytes key)
{
	cursor->lease = lease;
	if (lease->only == NULL)
		return version_of(cowtree_seek(&lease->keys, &cursor->cursor, key));
	if (bytes_compare(kvversion_key(lease->only), key) >= 0)
		return lease->only;
	return NULL;
}

const KvVersion *
lease_keys_next(LeaseKeyCursor *cursor)
{
	if (cursor->lease->only != NULL)
		return NULL;
	return version_of(cowtree_next(&cursor->cursor));
}

/* ---- changing ---- */

ErrCode
lease_grant(StoreVersion *draft, int64_t id, int64_t ttl_sec)
{
	/* the backend has refused it already; a record could not be read again */
	if (ttl_sec < 1 || ttl_sec > LEASE_MAX_TTL_SEC)
		return ERR_LEASE_TTL_TOO_LARGE;
	if (lease_exists(draft, id))
		return ERR_LEASE_EXIST;
	cowtree_put(&draft->leases, &entry_create(id, ttl_sec, 0)->item);
	draft->live_bytes += LEASE_LIVE_BYTES;
	return ERR_NONE;
}

void
lease_remove(StoreVersion *draft, int64_t id)
{
	uint8_t		key[LEASE_KEY_BYTES];
	const CowItem *item;
	LeaseEntry *lease;

	lease_key(id, key);
	item = cowtree_delete(&draft->leases, bytes_make(key, sizeof(key)));
	Assert(item != NULL);
	if (item == NULL)
		return;
	lease = (LeaseEntry *) lease_from_item(item);
	/* retires the nodes; older versions have the same ones in their entries */
	if (lease->keys.nitems > 0)
	{
		CowTree		keys = lease->keys;

		cowtree_drop(&keys);
	}
	store_retire(lease->clock, sizeof(*lease->clock));
	store_retire(lease, sizeof(*lease));
	draft->live_bytes -= LEASE_LIVE_BYTES;
}

bool
lease_set_remaining(StoreVersion *draft, int64_t id, int64_t remaining_sec)
{
	LeaseEntry *lease = entry_writable(draft, id);

	if (lease == NULL)
		return false;
	/* never more than was granted, whoever says so */
	lease->remaining_sec = remaining_sec < 0 ||
		remaining_sec >= lease->granted_sec ? 0 : remaining_sec;
	return true;
}

bool
lease_attach(StoreVersion *draft, const KvVersion *kv)
{
	LeaseEntry *lease = entry_writable(draft, kv->lease);

	if (lease == NULL)
		return false;
	if (lease->keys.nitems == 0 &&
		(lease->only == NULL || bytes_equal(kvversion_key(lease->only),
											kvversion_key(kv))))
	{
		lease->only = kv;
		return true;
	}
	if (lease->only != NULL)
		cowtree_put(&lease->keys, &lease->only->item);
	lease->only = NULL;
	cowtree_put(&lease->keys, &kv->item);
	return true;
}

void
lease_detach(StoreVersion *draft, int64_t id, Bytes key)
{
	LeaseEntry *lease = entry_writable(draft, id);

	if (lease == NULL)
		return;
	if (lease->only == NULL)
		cowtree_delete(&lease->keys, key);
	else if (bytes_equal(kvversion_key(lease->only), key))
		lease->only = NULL;
}

/* ---- table "lease" ---- */

void
lease_key(int64_t id, uint8_t key[LEASE_KEY_BYTES])
{
	uint64_t	be = htobe64((uint64_t) id);

	memcpy(key, &be, sizeof(be));
}

void
lease_encode(const LeaseEntry *lease, Buf *out)
{
	buf_put_u8(out, TABLES_RECORD_VERSION);
	buf_put_varint(out, (uint64_t) lease->granted_sec);
	buf_put_varint(out, (uint64_t) lease->remaining_sec);
}

bool
lease_decode(Bytes key, Bytes record, LeaseRecord *lease)
{
	Cursor		key_cur = cursor_make(key);
	Cursor		cur = cursor_make(record);
	uint8_t		version;
	uint64_t	id;

	if (key.len != LEASE_KEY_BYTES || !cursor_get_u64be(&key_cur, &id) ||
		!cursor_get_u8(&cur, &version) || version != TABLES_RECORD_VERSION ||
		!get_seconds(&cur, &lease->granted_sec) ||
		!get_seconds(&cur, &lease->remaining_sec))
		return false;
	lease->id = (int64_t) id;
	return cursor_left(&cur) == 0 && id != 0 && lease->granted_sec >= 1 &&
		lease->remaining_sec < lease->granted_sec;
}

bool
lease_load(StoreVersion *draft, Bytes key, Bytes record)
{
	LeaseRecord lease;

	if (!lease_decode(key, record, &lease) || lease_exists(draft, lease.id))
		return false;
	cowtree_put(&draft->leases,
				&entry_create(lease.id, lease.granted_sec,
							  lease.remaining_sec)->item);
	draft->live_bytes += LEASE_LIVE_BYTES;
	return true;
}

const KvVersion *
lease_load_keys(StoreVersion *draft)
{
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&draft->keys, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		const KvVersion *kv = version_of(item);

		if (kv->lease != 0 && !kvversion_is_tombstone(kv) &&
			!lease_attach(draft, kv))
			return kv;
	}
	return NULL;
}

/* ---- static ---- */

/* its time begins now */
static LeaseEntry *
entry_create(int64_t id, int64_t granted_sec, int64_t remaining_sec)
{
	LeaseEntry *lease = store_alloc(sizeof(*lease));
	LeaseClock *clock = store_alloc(sizeof(*clock));
	int64_t		left_sec = remaining_sec > 0 ? remaining_sec : granted_sec;

	*lease = (LeaseEntry) {
		.item.key_len = LEASE_KEY_BYTES,
		.item.key_offset = offsetof(LeaseEntry, key),
		.id = id,
		.granted_sec = granted_sec,
		.remaining_sec = remaining_sec,
		.changed = store_draft()->number,
		.clock = clock,
	};
	lease_key(id, lease->key);
	atomic_init(&clock->deadline_ms, clock_monotonic_ms() + left_sec * 1000);
	return lease;
}

/* the draft's own copy; NULL: there is no such lease */
static LeaseEntry *
entry_writable(StoreVersion *draft, int64_t id)
{
	const LeaseEntry *lease = lease_find(draft, id);
	LeaseEntry *copy;

	if (lease == NULL || lease->changed == draft->number)
		return (LeaseEntry *) lease;
	copy = store_alloc(sizeof(*copy));
	*copy = *lease;
	copy->changed = draft->number;
	cowtree_put(&draft->leases, &copy->item);
	store_retire(lease, sizeof(*lease));
	return copy;
}

static const KvVersion *
version_of(const CowItem *item)
{
	return (const KvVersion *) item;
}

/* in its shortest form only */
static bool
get_seconds(Cursor *cur, int64_t *sec)
{
	const uint8_t *start = cur->pos;
	uint64_t	v;

	if (!cursor_get_varint(cur, &v) || v > (uint64_t) LEASE_MAX_TTL_SEC ||
		(size_t) (cur->pos - start) != pbwire_varint_size(v))
		return false;
	*sec = (int64_t) v;
	return true;
}
