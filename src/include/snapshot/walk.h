/*
 * walk.h
 *	  All records of a version, one after the other, in an order that depends
 *	  on nothing but what is in it.
 *
 * For snapshots and hashes.  The version must stay held while the walk goes on
 * (store_hold()).  Auth state, roles, users and leases first, each by its key;
 * then the keys in their order, each with its versions from the newest down.
 * Of the versions at or below the compacted revision only the newest of a key
 * that lived counts, whether the removal has been there or not; so members that
 * have removed more or less walk the same.
 */
#ifndef SNAPSHOT_WALK_H
#define SNAPSHOT_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/snapfile.h"
#include "lib/buf.h"
#include "mvcc/kvversion.h"
#include "storage/bdb/kvrecord.h"
#include "storage/snap/store.h"

typedef enum WalkStage
{
	WALK_AUTH_ENABLED,
	WALK_AUTH_REVISION,
	WALK_ROLES,
	WALK_USERS,
	WALK_LEASES,
	WALK_KEYS,
	WALK_DONE
} WalkStage;

typedef struct SnapshotWalk
{
	const StoreVersion *v;
	int64_t		revision;		/* no versions of keys above it */
	WalkStage	stage;
	bool		is_begun;		/* the stage has its cursor */
	CowCursor	cursor;
	const CowItem *item;		/* the next of the stage's tree */
	const KvVersion *kv;		/* the next of a key's versions, or NULL */
	Buf			record;			/* value of the last record; heap */
	uint8_t		key[KVRECORD_KEY_BYTES];
} SnapshotWalk;

/* keys_only: the keys alone, with their versions up to the revision */
extern void snapshot_walk_begin(SnapshotWalk *walk, const StoreVersion *v,
								int64_t revision, bool keys_only);
/* false at the end; what the record borrows is good until the next call */
extern bool snapshot_walk_next(SnapshotWalk *walk, SnapRecord *record);
extern void snapshot_walk_end(SnapshotWalk *walk);

/* CRC32C over what walks by; begin with 0 */
extern uint32_t snapshot_hash_add(uint32_t hash, const SnapRecord *record);

#endif							/* SNAPSHOT_WALK_H */
