/*
 * apply.h
 *	  Carries out committed log entries, in order, by one thread.
 *
 * apply_batch_begin / apply_entry ... / apply_batch_end: the entries of a
 * batch go into one draft, which is published once at the end; only then may
 * their results be answered.  The same entries give the same state on every
 * member: apply looks at nothing but the entry and the draft (no clock, no
 * randomness, no settings that may differ).
 */
#ifndef APPLY_APPLY_H
#define APPLY_APPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/bytes.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"

typedef struct ApplyResult
{
	ErrCode		error;
	int64_t		revision;		/* for the response header */
	int64_t		count;			/* deleted keys; txn: 1 if succeeded */
	/* the response's fields but for the header; store_alloc()ed, or NULL */
	void	   *body;
	size_t		body_len;
} ApplyResult;

/*
 * Where changes go on their way to Berkeley DB.  Records are copied by the
 * callee.  table: see storage/bdb/tables.h.  value.data == NULL: delete.
 */
typedef struct ApplyPersist
{
	void		(*put) (void *arg, int table, Bytes key, Bytes value);
	void		(*remove) (void *arg, int table, Bytes key);
	void	   *arg;
} ApplyPersist;

typedef struct ApplyState ApplyState;

/*
 * After loading, before the first batch.  Entries up to replay_index were in
 * the log at start: they make no tokens.  Starts the removal after the last
 * compaction again, which a crash may have cut short.
 */
extern ApplyState *apply_create(const ApplyPersist *persist,
								uint64_t replay_index);
extern void apply_destroy(ApplyState *apply);

extern void apply_batch_begin(ApplyState *apply);

/*
 * Apply one entry.  data empty: a barrier, only the index moves.  want_result
 * false: nobody waits here, no body is made.  PANIC on an entry that cannot be
 * decoded.
 *
 * Every index has to be given, in order; entries that are the raft engine's
 * own (configurations) as barriers.  An index that the draft has already is
 * skipped: a replay may begin before what the tables hold.  PANIC on a gap.
 */
extern void apply_entry(ApplyState *apply, uint64_t index, uint64_t term,
						Bytes data, bool want_result, ApplyResult *result);

/* publish; afterwards results may be answered */
extern void apply_batch_end(ApplyState *apply);

/*
 * Background removal after compaction, a short step; between batches, with a
 * pause of some milliseconds to let batches through.  Publishes by itself;
 * hand its rows to the persist thread as those of one batch.  True if more is
 * left (perhaps only waiting for readers).
 */
extern bool apply_idle_step(ApplyState *apply);

#endif							/* APPLY_APPLY_H */
