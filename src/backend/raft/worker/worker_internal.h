/*
 * worker_internal.h
 *	  What the threads of the raft worker say to each other.
 *
 *	consensus --entries--> log        written and synced, then lent no more
 *	consensus --entries--> apply      when committed; apply frees them
 *	log, apply, persist --wake--> consensus
 *
 * An entry has one owner at a time: consensus from proposal to commit (the
 * log thread only reads it, and an entry cannot be committed before that has
 * been synced), apply from then on.
 */
#ifndef WORKER_INTERNAL_H
#define WORKER_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "apply/apply.h"
#include "lib/buf.h"
#include "raft/engine.h"
#include "raft/log.h"

typedef struct RaftEntry
{
	struct RaftEntry *next;		/* in the apply thread's queue */
	LogEntry	log;			/* data lies in bytes[] */

	/* whom to answer */
	bool		has_waiter;
	uint32_t	slot;
	uint64_t	generation;
	uint64_t	request_id;

	uint8_t		bytes[];
} RaftEntry;

extern RaftEntry *entry_create(Bytes data);

/* what an entry counts for in the bounds on memory */
static inline uint64_t
entry_bytes(const RaftEntry *entry)
{
	return sizeof(*entry) + entry->log.data.len;
}

/* ---- consensus.c ---- */

typedef struct ConsensusStart
{
	EngineStart engine;			/* borrowed for the call */
	const char *log_dir;		/* of the vote file */
	int			death_fd;		/* -1: none */
	/* entries after engine.applied_index, in order; taken over */
	RaftEntry **replay;
	uint32_t	nreplay;
} ConsensusStart;

extern void consensus_init(const ConsensusStart *start);
/* until SIGTERM came and everything proposed is applied */
extern void consensus_run(void);

/* Any thread: look again at what the other threads have done. */
extern void consensus_wake(void);
/* Thread: persist. */
extern void consensus_durable(uint64_t index, uint64_t term);

/* ---- logthread.c; called by consensus ---- */

extern void logthread_start(RaftLog *log);
/* entries must stay until they are reported persisted */
extern void logthread_append(RaftEntry *const *entries, uint32_t n);
extern void logthread_trim(uint64_t first_kept);
/* newest entry that is on disk; false if there is nothing new */
extern bool logthread_take_persisted(uint64_t *index, uint64_t *term);
extern void logthread_stop(void);	/* finishes what is queued */

/* ---- applythread.c; called by consensus ---- */

extern void applythread_start(ApplyState *apply, uint64_t applied_index);
/* a list in order, all committed; taken over */
extern void applythread_submit(RaftEntry *first, RaftEntry *last);
/* what a backend watches (SUBMIT_WATCH); copied, and answered */
extern void applythread_watch(uint32_t slot, uint64_t generation,
							  uint64_t request_id, Bytes ops);
/* published up to here */
extern uint64_t applythread_applied(void);
/* entries and bytes that are proposed and not yet applied */
extern void applythread_note_proposed(const RaftEntry *entry);
extern uint64_t applythread_pending_entries(void);
extern uint64_t applythread_pending_bytes(void);
/* give free memory of store and heap back to the system, soon */
extern void applythread_trim(void);
/* wake consensus after each batch, or not */
extern void applythread_want_wakeups(bool on);
/* a configuration that has been applied since the last call */
extern bool applythread_take_configuration(uint64_t *index, Buf *out);
extern void applythread_stop(void); /* finishes what is queued */

/* ---- publish.c ---- */

/*
 * The entry that makes the version say of this member what the settings say,
 * or NULL if it does already.  The caller has pinned the version.
 */
extern RaftEntry *publish_entry(const StoreVersion *v, uint64_t member_id);

/* for ApplyPersist: to storage/bdb/persist.h */
extern const ApplyPersist applythread_persist;

#endif							/* WORKER_INTERNAL_H */
