/*
 * mvcc_internal.h
 *	  What the files of backend/mvcc share and nobody else includes.
 */
#ifndef MVCC_MVCC_INTERNAL_H
#define MVCC_MVCC_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/kvop.h"
#include "mvcc/kvversion.h"
#include "mvcc/mvcc.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"

/*
 * No answer is larger: at a little more the doors give up the connection
 * (rpc/grpcstream.c), and until then it would fill memory for nothing.
 */
#define MVCC_MAX_ANSWER_BYTES ((size_t) 255 * 1024 * 1024)

/*
 * What a reader may spend; work counts keys and steps along version chains.
 * A reader that is not asked what time it is (apply) has bounds instead: steps
 * is the same work without what a compaction is about to remove, which some
 * members still have and others do not.
 */
typedef struct ReadBudget
{
	int64_t		deadline_ms;	/* CLOCK_MONOTONIC; 0: none */
	uint32_t	work;			/* since the clock was last looked at */
	uint64_t	max_steps;		/* 0: no bounds */
	uint64_t	max_bytes;
	uint64_t	steps;
	uint64_t	bytes;			/* compared, or to be copied */
} ReadBudget;

/* a walk over the live keys of a range at a revision, in key order */
typedef struct RangeScan
{
	const KeyRange *range;
	int64_t		revision;		/* <= 0: newest */
	int64_t		compacted_revision;
	CowCursor	cursor;
	const CowItem *next;		/* not yet looked at */
	ReadBudget *budget;
	ErrCode		error;			/* why it ended early */
} RangeScan;

extern void mvcc_scan_begin(RangeScan *scan, const StoreVersion *v,
							const KeyRange *range, int64_t revision,
							ReadBudget *budget);
/* the next live version, or NULL at the end or on scan->error */
extern const KvVersion *mvcc_scan_next(RangeScan *scan);
/* ERR_SNAPSHOT_TOO_OLD, ERR_TXN_READS_TOO_MUCH */
extern ErrCode mvcc_budget_check(ReadBudget *budget);

/*
 * The compacted revision as etcd counts, for comparing: -1 in a fresh store.
 * See "compacted revision" in mvcc.h for how it is stored.
 */
static inline int64_t
mvcc_compacted(const StoreVersion *v)
{
	return v->compacted_revision == 0 ? -1 : v->compacted_revision;
}

static inline const KvVersion *
kvversion_from_item(const CowItem *item)
{
	/* the item is the first member */
	return (const KvVersion *) item;
}

/* mvcc_put() in two halves: the first changes nothing, the second cannot fail */
extern ErrCode mvcc_put_check(const StoreVersion *v, const PutOp *op);
extern void mvcc_put_checked(MvccWrite *w, const PutOp *op, Buf *out);

#endif							/* MVCC_MVCC_INTERNAL_H */
