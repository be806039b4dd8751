/*
 * walk.c
 *	  All records of a version in order; and the hash of them.
 *
 * Versions are read from the newest down, and no further than the first at or
 * below the compacted revision of the version that is walked: what lies behind
 * may be freed at any moment (mvcc/compact.c), what lies before it stays while
 * the version is held.
 */
#include "server.h"

/* libraries */
#include <isa-l/crc.h>

/* this layer and below */
#include "auth/authstate.h"
#include "lease/lease.h"
#include "mvcc/mvcc.h"
#include "snapshot/walk.h"

static bool stage_next(SnapshotWalk *walk, SnapRecord *record);
static bool item_next(SnapshotWalk *walk, const CowTree *tree,
					  const CowItem **item);
static bool put_auth(SnapshotWalk *walk, const char *name,
					 SnapRecord *record);
static bool put_role(SnapshotWalk *walk, SnapRecord *record);
static bool put_user(SnapshotWalk *walk, SnapRecord *record);
static bool put_lease(SnapshotWalk *walk, SnapRecord *record);
static bool put_version(SnapshotWalk *walk, SnapRecord *record);
static const KvVersion *first_version(const SnapshotWalk *walk,
									  const KvVersion *kv);
static const KvVersion *next_version(const SnapshotWalk *walk,
									 const KvVersion *kv);
static const KvVersion *if_counted(const SnapshotWalk *walk,
								   const KvVersion *kv);
static void record_done(SnapshotWalk *walk, SnapTable table, Bytes key,
						SnapRecord *record);

void
snapshot_walk_begin(SnapshotWalk *walk, const StoreVersion *v,
					int64_t revision, bool keys_only)
{
	*walk = (SnapshotWalk) {
		.v = v,
		.revision = revision,
		.stage = keys_only ? WALK_KEYS : WALK_AUTH_ENABLED,
	};
	buf_init(&walk->record, NULL);
}

void
snapshot_walk_end(SnapshotWalk *walk)
{
	buf_free(&walk->record);
}

bool
snapshot_walk_next(SnapshotWalk *walk, SnapRecord *record)
{
	while (walk->stage != WALK_DONE)
	{
		walk->record.len = 0;
		if (stage_next(walk, record))
			return true;
		walk->stage++;
		walk->is_begun = false;
	}
	return false;
}

uint32_t
snapshot_hash_add(uint32_t hash, const SnapRecord *record)
{
	uint8_t		head[9] = {(uint8_t) record->table};
	uint32_t	crc = ~hash;

	for (int i = 0; i < 4; i++)
	{
		head[1 + i] = (uint8_t) (record->key.len >> (8 * i));
		head[5 + i] = (uint8_t) (record->value.len >> (8 * i));
	}
	/* records are below 2 GB; the library reads only */
	crc = crc32_iscsi(head, sizeof(head), crc);
	crc = crc32_iscsi((uint8_t *) (uintptr_t) record->key.data,
					  (int) record->key.len, crc);
	crc = crc32_iscsi((uint8_t *) (uintptr_t) record->value.data,
					  (int) record->value.len, crc);
	return ~crc;
}

/* false: the stage is through */
static bool
stage_next(SnapshotWalk *walk, SnapRecord *record)
{
	switch (walk->stage)
	{
		case WALK_AUTH_ENABLED:
			buf_put_u8(&walk->record, walk->v->auth_enabled ? 1 : 0);
			return put_auth(walk, "authEnabled", record);
		case WALK_AUTH_REVISION:
			buf_put_u64be(&walk->record, walk->v->auth_revision);
			return put_auth(walk, "authRevision", record);
		case WALK_ROLES:
			return put_role(walk, record);
		case WALK_USERS:
			return put_user(walk, record);
		case WALK_LEASES:
			return put_lease(walk, record);
		case WALK_KEYS:
			return put_version(walk, record);
		case WALK_DONE:
			break;
	}
	return false;
}

static bool
item_next(SnapshotWalk *walk, const CowTree *tree, const CowItem **item)
{
	if (walk->is_begun)
		*item = cowtree_next(&walk->cursor);
	else
		*item = cowtree_seek(tree, &walk->cursor, BYTES_EMPTY);
	walk->is_begun = true;
	return *item != NULL;
}

/* one record a stage, so the second time it is through */
static bool
put_auth(SnapshotWalk *walk, const char *name, SnapRecord *record)
{
	if (walk->is_begun)
		return false;
	walk->is_begun = true;
	record_done(walk, SNAP_AUTH, bytes_from_cstr(name), record);
	return true;
}

static bool
put_role(SnapshotWalk *walk, SnapRecord *record)
{
	const CowItem *item;

	if (!item_next(walk, &walk->v->roles, &item))
		return false;
	role_encode(container_of(item, RoleEntry, item), &walk->record);
	record_done(walk, SNAP_ROLES, cowitem_key(item), record);
	return true;
}

static bool
put_user(SnapshotWalk *walk, SnapRecord *record)
{
	const CowItem *item;

	if (!item_next(walk, &walk->v->users, &item))
		return false;
	user_encode(container_of(item, UserEntry, item), &walk->record);
	record_done(walk, SNAP_USERS, cowitem_key(item), record);
	return true;
}

static bool
put_lease(SnapshotWalk *walk, SnapRecord *record)
{
	const CowItem *item;

	if (!item_next(walk, &walk->v->leases, &item))
		return false;
	lease_encode(lease_from_item(item), &walk->record);
	record_done(walk, SNAP_LEASES, cowitem_key(item), record);
	return true;
}

static bool
put_version(SnapshotWalk *walk, SnapRecord *record)
{
	const KvVersion *kv = walk->kv;
	const CowItem *item;

	while (kv == NULL)
	{
		if (!item_next(walk, &walk->v->keys, &item))
			return false;
		kv = first_version(walk, container_of(item, KvVersion, item));
	}
	walk->kv = next_version(walk, kv);
	kvrecord_key(kv->mod_revision, kv->sub_revision, walk->key);
	kvrecord_encode(kv, &walk->record);
	record_done(walk, SNAP_KEYS, bytes_make(walk->key, sizeof(walk->key)),
				record);
	return true;
}

static const KvVersion *
first_version(const SnapshotWalk *walk, const KvVersion *kv)
{
	while (kv != NULL && kv->mod_revision > walk->revision)
		kv = kvversion_prev(kv);
	return if_counted(walk, kv);
}

static const KvVersion *
next_version(const SnapshotWalk *walk, const KvVersion *kv)
{
	/* the first at or below the compacted revision is the last that counts */
	if (kv->mod_revision <= walk->v->compacted_revision)
		return NULL;
	return if_counted(walk, kvversion_prev(kv));
}

/* a deletion that is compacted is no more than a key that never was */
static const KvVersion *
if_counted(const SnapshotWalk *walk, const KvVersion *kv)
{
	if (kv != NULL && kv->mod_revision <= walk->v->compacted_revision &&
		kvversion_is_tombstone(kv))
		return NULL;
	return kv;
}

static void
record_done(SnapshotWalk *walk, SnapTable table, Bytes key, SnapRecord *record)
{
	*record = (SnapRecord) {
		.table = table,
		.key = key,
		.value = buf_bytes(&walk->record),
	};
}
