/*
 * mvcc.h
 *	  The key-value state: reading it at a revision, and changing it.
 *
 * Reading works on any StoreVersion that the caller has pinned (or on the
 * draft, in apply).  Answers are written as protobuf straight into a Buf: the
 * fields of RangeResponse, PutResponse ... without their header, which the
 * caller puts in front (protobuf allows fields in any order of writing).
 *
 * Rules: etcd-auth-semantics.md E1 to E5.
 *
 * Compacted revision.  StoreVersion.compacted_revision is 0 in a store that
 * was never compacted, which counts as etcd's -1, so that zeroed memory and
 * the first record in the tables mean the right thing.  etcd allows Compact(0)
 * once on such a store; it is remembered as 1.  Nothing lies at or below
 * revision 1, so reads and watches cannot tell; only a Compact(1) after a
 * Compact(0) is refused where etcd takes it.
 */
#ifndef MVCC_MVCC_H
#define MVCC_MVCC_H

#include <stdbool.h>
#include <stdint.h>

#include "common/kvop.h"
#include "lib/buf.h"
#include "mvcc/kvversion.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"

/* ---- reading ---- */

/*
 * The version of a key at a revision (<= 0: newest), or NULL if it did not
 * exist or was deleted then, or if the revision is compacted.
 */
extern const KvVersion *mvcc_get(const StoreVersion *v, Bytes key,
								 int64_t revision);

/*
 * Execute a range.  Writes kvs, more, count (fields 2 to 4 of RangeResponse).
 * deadline_ms (CLOCK_MONOTONIC, 0 = none) is looked at every few hundred
 * keys: past it the range ends with ERR_SNAPSHOT_TOO_OLD.  Returns
 * ERR_COMPACTED or ERR_FUTURE_REV for a revision that cannot be read.
 * scratch: sort and filter arrays.
 */
extern ErrCode mvcc_range(const StoreVersion *v, const RangeOp *op,
						  int64_t deadline_ms, MemContext *scratch, Buf *out);

/*
 * A range in parts, in key order, for who cannot answer it at once.  Writes the
 * live keys from part->next on (empty at the beginning), at most max_keys of
 * them, as `kvs` to out (NULL: counts only); afterwards part->nkeys is their
 * number, and part->is_last says whether the range is through, else next is
 * where to go on.  The same version must be given each time; the caller has
 * looked at the revision.
 */
typedef struct RangePart
{
	Buf			next;			/* heap; the caller frees it */
	uint64_t	nkeys;
	bool		is_last;
} RangePart;

extern ErrCode mvcc_range_part(const StoreVersion *v, const RangeOp *op,
							   RangePart *part, uint64_t max_keys,
							   int64_t deadline_ms, Buf *out);

/* One KeyValue message as field `field` (kvs, prev_kv ...). */
extern void mvcc_put_kv_field(Buf *out, unsigned field, const KvVersion *kv,
							  bool keys_only);

/* all compares of a level hold on v; what etcd calls applyCompares */
extern bool mvcc_compares_hold(const StoreVersion *v, const TxnOp *txn);

/* What an entry or a transaction has carried out, for whoever counts. */
typedef struct MvccCounts
{
	uint64_t	puts;
	uint64_t	put_bytes;		/* keys and values */
	uint64_t	deletes;		/* operations, whatever they hit */
	uint64_t	ranges;
} MvccCounts;

/*
 * Evaluate a transaction that has only ranges in both branches, on a pinned
 * version (no log entry).  Writes succeeded and responses.
 */
extern ErrCode mvcc_txn_readonly(const StoreVersion *v, const TxnOp *txn,
								 int64_t deadline_ms, MemContext *scratch,
								 Buf *out, MvccCounts *counts);

/* true if no branch holds a put, a delete or a nested txn (E4) */
extern bool mvcc_txn_is_readonly(const TxnOp *txn);
/* true if at least one op exists and every range in it is serializable */
extern bool mvcc_txn_is_serializable(const TxnOp *txn);

/* ---- changing (Thread: apply) ---- */

/* Told about each version that came to be, for Berkeley DB and watchers. */
typedef struct MvccSink
{
	void		(*on_version) (void *arg, const KvVersion *kv);
	void	   *arg;
} MvccSink;

typedef struct MvccWrite
{
	StoreVersion *draft;
	const MvccSink *sink;
	MemContext *scratch;		/* per entry */
	int64_t		revision;		/* of this entry: draft->kv_revision + 1 */
	uint32_t	next_sub;		/* 0: nothing changed so far */
	MvccCounts	counts;
} MvccWrite;

/*
 * Begin and end one entry's changes.  End moves draft->kv_revision if
 * anything changed.  Permissions have been checked by the caller.
 */
extern void mvcc_write_begin(MvccWrite *w, StoreVersion *draft,
							 const MvccSink *sink, MemContext *scratch);
extern void mvcc_write_end(MvccWrite *w);

/*
 * Write the message's fields except the header; nothing changes on error.
 * out NULL: nobody waits for the answer, none is written.
 */
extern ErrCode mvcc_put(MvccWrite *w, const PutOp *op, Buf *out);
extern ErrCode mvcc_delete_range(MvccWrite *w, const DeleteOp *op,
								 int64_t *deleted, Buf *out);
/*
 * Delete all keys that hang on a lease, which must exist, in key order, and
 * take out the lease.  Returns how many keys.
 */
extern int64_t mvcc_revoke_lease(MvccWrite *w, int64_t id);
/* *succeeded says which branch ran; all checks precede the first change */
extern ErrCode mvcc_txn(MvccWrite *w, const TxnOp *op, bool *succeeded,
						Buf *out);

/*
 * Set the compacted revision: reads below it fail from the next publish on.
 * ERR_COMPACTED if revision <= compacted (a fresh store counts as -1),
 * ERR_FUTURE_REV if revision > current.
 */
extern ErrCode mvcc_compact_begin(StoreVersion *draft, int64_t revision);

/*
 * Remove what the last compaction made unreachable, in one call at most
 * max_keys of keys looked at and versions removed together, between batches.
 * First the version log is trimmed (draft->log.kept_revision moves).
 * on_removed is told each removed version (for Berkeley DB); all of one call
 * must reach the disk in one transaction, and calls in order.  Returns true
 * when nothing is left to do.  Waits by itself (returns false, does nothing)
 * until readers of older versions have gone.
 *
 * The draft may have changed: publish it, also if false was returned.  A step
 * that does nothing because it waits leaves the draft as it was.
 */
extern bool mvcc_compact_step(StoreVersion *draft, uint32_t max_keys,
							  const MvccSink *on_removed);

/* the removal goes on only after this draft has been published */
extern bool mvcc_compact_awaits_publish(const StoreVersion *draft);

/*
 * May history before this revision be taken away?  Asked before each removal
 * begins, until it says yes, so that watchers who are a little late need not be
 * cancelled.  NULL: always.  It must say yes in the end.
 */
extern void mvcc_compact_set_gate(bool (*is_open) (int64_t revision));

/*
 * Forget a pass under way (of another store, in tests) and begin a full one if
 * the draft was ever compacted: a crash may have cut the last one short.
 * After loading, before anybody reads; apply_create() does it.
 */
extern void mvcc_compact_resume(StoreVersion *draft);

/* ---- loading (before the first publish) ---- */

/* Versions must come in revision order.  Copies key and value. */
extern void mvcc_load_version(StoreVersion *draft, Bytes key, Bytes value,
							  int64_t mod_revision, uint32_t sub_revision,
							  int64_t create_revision, int64_t version,
							  int64_t lease);

#endif							/* MVCC_MVCC_H */
