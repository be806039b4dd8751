/*
 * persist.h
 *	  Write-behind: from apply to the tables, and from the tables at start.
 *
 * Apply fills a PersistBatch and hands it over with its applied index; the
 * persist thread writes it in one transaction together with that index, so
 * the tables always stand at an exact index.  Every checkpoint_bytes or
 * checkpoint_interval a checkpoint makes them durable, and the raft log may
 * forget what lies before.
 *
 * The queue is bounded (persist_queue_bytes); when it is full apply waits:
 * memory must not grow because a disk is slow.  An error from Berkeley DB is
 * PANIC: the tables can no longer follow the log in this process, the log is
 * the durable copy, and a restart replays it.
 */
#ifndef STORAGE_BDB_PERSIST_H
#define STORAGE_BDB_PERSIST_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/bdb/tables.h"
#include "storage/snap/store.h"

typedef struct PersistOptions
{
	const TableOps *ops;
	const char *dir;			/* of the environment */
	uint64_t	queue_bytes;
	uint64_t	checkpoint_bytes;
	uint32_t	checkpoint_interval_ms;
	/* Thread: persist.  State up to index is durable in the tables. */
	void		(*on_durable) (void *arg, uint64_t index, uint64_t term);
	/* Thread: persist.  See persist_defragment(); may be NULL. */
	void		(*on_defragmented) (void *arg, uint64_t ticket);
	void	   *arg;
} PersistOptions;

typedef struct PersistMeta
{
	uint64_t	cluster_id;
	uint64_t	member_id;
	uint64_t	applied_index;
	uint64_t	applied_term;
	int64_t		kv_revision;
	int64_t		compacted_revision;
	Buf			configuration;	/* encoded by raft/engine.h; heap */
	uint64_t	configuration_index;
} PersistMeta;

/*
 * Create the environment with its first meta records and authentication off;
 * durable on return.  FATAL if there are tables in dir, or on any failure.
 */
extern void persist_initialise(const TableOps *ops, const char *dir,
							   const PersistMeta *meta);

/*
 * The same, with other records than the first: fill puts them, in transactions
 * of its own, and returns 0 or the code of what failed.
 */
typedef int (*PersistFillFn) (void *arg, const TableOps *ops, TableEnv *env);
extern void persist_initialise_filled(const TableOps *ops, const char *dir,
									  const PersistMeta *meta,
									  PersistFillFn fill, void *arg);

/*
 * Open, recover, load everything into the draft, publish.  FATAL with table,
 * key and what to do if a record or page is not sound: it never widens a
 * right.  *options is copied; what it points to must stay.  meta need not be
 * initialised; the caller frees meta->configuration.
 */
extern void persist_open_and_load(const PersistOptions *options,
								  PersistMeta *meta);
extern void persist_start_thread(void);

/*
 * ---- Thread: apply ----
 * Records are copied.  persist_submit() waits while the queue is full.
 */
extern void persist_put(int table, Bytes key, Bytes value);
extern void persist_remove(int table, Bytes key);
/* end of a batch: all since the last call, at this index */
extern void persist_submit(uint64_t applied_index, uint64_t applied_term,
						   int64_t kv_revision, int64_t compacted_revision);
/* configuration applied at an index (member changes) */
extern void persist_configuration(Bytes encoded, uint64_t index);

/*
 * Give back the space that removed records left in the tables, bit by bit
 * between batches.  Any thread.  Returns a ticket: on_defragmented is told it,
 * or a later one, when that is done and checkpointed.
 */
extern uint64_t persist_defragment(void);

/*
 * Stop: write what was submitted, as far as that takes a few seconds, checkpoint
 * (on_durable is called), close.  What is left out is in the log behind the
 * durable index.  The apply thread has ended.
 */
extern void persist_stop(void);
/* files of the environment on disk; any thread, between open and stop */
extern uint64_t persist_size_bytes(void);

#endif							/* STORAGE_BDB_PERSIST_H */
