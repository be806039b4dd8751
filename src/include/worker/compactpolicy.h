/*
 * compactpolicy.h
 *	  When to compact by itself, and up to where.  Pure: no clock, no store.
 *
 * periodic: what is older than the retention goes.  The revision is noted ten
 * times in each period (of an hour, if that is shorter); when the oldest note
 * is as old as the retention, everything up to it is compacted, and then once
 * a period or an hour.
 *
 * revision: so many revisions stay; looked at once an interval.
 *
 * As etcd's, so that the same settings leave the same history.
 */
#ifndef WORKER_COMPACTPOLICY_H
#define WORKER_COMPACTPOLICY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct CompactPolicy
{
	bool		by_revision;
	int64_t		retention;		/* ms, or revisions; 0: never compact */
	int64_t		interval_ms;	/* between looks */
	int64_t		next_ms;		/* the next look; 0: now */
	int64_t		last_revision;	/* compacted up to it by us */

	/* periodic */
	int64_t		base_ms;		/* between compactions */
	int64_t		last_success_ms;
	int64_t    *notes;			/* revisions, the oldest at first_note */
	uint32_t	max_notes;
	uint32_t	nnotes;
	uint32_t	first_note;
} CompactPolicy;

/* interval_ms: for mode revision */
extern void compactpolicy_init(CompactPolicy *policy, bool by_revision,
							   int64_t retention, int64_t interval_ms,
							   int64_t now_ms);
extern void compactpolicy_fini(CompactPolicy *policy);

/*
 * Look: the revision up to which to compact now, or 0.  To be called at
 * policy->next_ms; earlier calls do nothing.
 */
extern int64_t compactpolicy_look(CompactPolicy *policy, int64_t now_ms,
								  int64_t revision);

/* it was done (or somebody else had compacted further) */
extern void compactpolicy_done(CompactPolicy *policy, int64_t now_ms,
							   int64_t revision);

#endif							/* WORKER_COMPACTPOLICY_H */
