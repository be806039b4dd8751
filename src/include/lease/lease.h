/*
 * lease.h
 *	  Leases: which there are, what hangs on them, when their time is over.
 *
 * A lease is an item of StoreVersion.leases under its id (eight bytes,
 * big-endian), immutable like everything in a version.  What hangs on it is
 * part of it: the newest versions of the keys that were put with it, so that a
 * reader of one version sees keys, leases and rights of one moment, and a
 * lease is revoked or shown at the cost of its own keys.
 *
 *	leases tree --> LeaseEntry --> keys: none | one KvVersion | tree of them
 *	                    |
 *	                    '--> LeaseClock, shared by all versions of the entry
 *
 * The clock is no part of the replicated state: each member has its own, and
 * only the leader's counts.  It is one atomic word, so a keepalive changes no
 * version and needs no log entry:
 *
 *	granted -> deadline D --renew (D > now)--> deadline D' > D
 *	               |
 *	               '--expire (D <= now)--> over: nobody can renew any more;
 *	                                       the revoke goes into the log
 *
 * Both steps are compare-and-swap in the raft worker, so a keepalive that was
 * answered is never followed by the end of the lease before its new deadline.
 *
 * Why the item that hangs on a lease may be the KvVersion itself: a lease
 * holds the newest version of a live key and nothing else, and compaction
 * frees no version as long as a reader is pinned that could see it as the
 * newest (mvcc/compact.c).
 *
 * Rules and errors: etcd-auth-semantics.md E7.
 */
#ifndef LEASE_LEASE_H
#define LEASE_LEASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "mvcc/kvversion.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"

/* etcd's bound; seconds */
#define LEASE_MAX_TTL_SEC INT64_C(9000000000)

/* what a lease counts for in StoreVersion.live_bytes */
#define LEASE_LIVE_BYTES 256

/* a deadline that nothing can move any more: the lease is being revoked */
#define LEASE_OVER INT64_MIN

typedef struct LeaseClock
{
	/* atomic: written in the raft worker by compare-and-swap, read by all */
	_Atomic int64_t deadline_ms;	/* CLOCK_MONOTONIC, or LEASE_OVER */
} LeaseClock;

typedef struct LeaseEntry
{
	CowItem		item;			/* id, u64 big-endian */
	int64_t		id;
	int64_t		granted_sec;
	int64_t		remaining_sec;	/* by the last checkpoint; 0: granted_sec */
	uint64_t	changed;		/* number of the draft that made this entry */
	LeaseClock *clock;
	const KvVersion *only;		/* the one key, while the tree is empty */
	CowTree		keys;			/* items are KvVersion */
	uint8_t		key[sizeof(uint64_t)];
} LeaseEntry;

/* ---- looking ---- */

/* NULL: there is none */
extern const LeaseEntry *lease_find(const StoreVersion *v, int64_t id);
extern bool lease_exists(const StoreVersion *v, int64_t id);

static inline const LeaseEntry *
lease_from_item(const CowItem *item)
{
	/* the item is the first member */
	return (const LeaseEntry *) item;
}

/* ms until its time is over, 0 when it is */
extern int64_t lease_remaining_ms(const LeaseEntry *lease, int64_t now_ms);

extern uint64_t lease_nkeys(const LeaseEntry *lease);

/* a walk over what hangs on it, in key order */
typedef struct LeaseKeyCursor
{
	const LeaseEntry *lease;
	CowCursor	cursor;
} LeaseKeyCursor;

/* the first with key >= key, or NULL */
extern const KvVersion *lease_keys_seek(const LeaseEntry *lease,
										LeaseKeyCursor *cursor, Bytes key);
extern const KvVersion *lease_keys_next(LeaseKeyCursor *cursor);

/* ---- the clock (raft worker, any thread that pins or applies) ---- */

/*
 * Full time again.  Returns the granted seconds; 0 when its time is over;
 * LEASE_NEEDS_LOG when a checkpoint has cut its time, so that the renewal has
 * to go through the log (LOGOP_LEASE_RENEW), or a restart would go back to it.
 */
#define LEASE_NEEDS_LOG (-1)
extern int64_t lease_renew(const LeaseEntry *lease, int64_t now_ms);

/*
 * Is its time over?  Then nobody can renew it from here on, and it may be
 * revoked.
 */
extern bool lease_expire(const LeaseEntry *lease, int64_t now_ms);

/*
 * This member begins to lead, or has just started: every lease has all the
 * time that is known to be left of it.
 */
extern void lease_promote(const StoreVersion *v, int64_t now_ms);

/* ---- changing (Thread: apply) ---- */

/* ERR_LEASE_EXIST, ERR_LEASE_TTL_TOO_LARGE, or ERR_NONE */
extern ErrCode lease_grant(StoreVersion *draft, int64_t id, int64_t ttl_sec);

/*
 * Take out the lease; whoever calls has deleted its keys (or detached them).
 * It must be there.
 */
extern void lease_remove(StoreVersion *draft, int64_t id);

/* how much is left after a restart; 0: all.  False: there is no such lease. */
extern bool lease_set_remaining(StoreVersion *draft, int64_t id,
								int64_t remaining_sec);

/*
 * kv hangs on kv->lease from now on, instead of an earlier version of its key
 * if that did.  False: there is no such lease.
 */
extern bool lease_attach(StoreVersion *draft, const KvVersion *kv);

/* the key does not hang on the lease any more; harmless if it did not */
extern void lease_detach(StoreVersion *draft, int64_t id, Bytes key);

/* ---- table "lease": id u64be -> record ---- */

#define LEASE_KEY_BYTES sizeof(uint64_t)
extern void lease_key(int64_t id, uint8_t key[LEASE_KEY_BYTES]);
extern void lease_encode(const LeaseEntry *lease, Buf *out);

typedef struct LeaseRecord
{
	int64_t		id;
	int64_t		granted_sec;
	int64_t		remaining_sec;
} LeaseRecord;

/* false for what lease_key() and lease_encode() cannot have written */
extern bool lease_decode(Bytes key, Bytes record, LeaseRecord *lease);

/* put into the draft, without keys; false if not sound, or there already */
extern bool lease_load(StoreVersion *draft, Bytes key, Bytes record);

/*
 * All keys are loaded: hang them on their leases.  NULL, or a version whose
 * lease does not exist.
 */
extern const KvVersion *lease_load_keys(StoreVersion *draft);

#endif							/* LEASE_LEASE_H */
