/*
 * worker.h
 *	  The raft worker process: the only writer of store, log and tables.
 *
 * Threads: consensus (the process's main thread: engine, rings, timers), log
 * (write + fdatasync), apply (store memory, publish, answers), persist
 * (Berkeley DB).  See src/backend/raft/README for who hands what to whom.
 */
#ifndef RAFT_WORKER_H
#define RAFT_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/bdb/persist.h"

/*
 * In the child, before RaftWorkerMain(): a descriptor whose end of file means
 * that the postmaster is gone.  (Handed down, because raft/ may not look up.)
 */
extern void raft_worker_set_death_fd(int fd);

/* never returns; slot is the worker's own process slot */
extern void RaftWorkerMain(int slot) __attribute__((noreturn));

/*
 * Check that the directory belongs to us and to nobody else, and take the
 * lock that keeps a second server out; it is held until the last process that
 * inherited it ends.  FATAL with an explanation.
 */
extern void raft_lock_data_dir(const char *data_dir);

/*
 * In a data directory that is empty: write cluster and member ids (from
 * initial_cluster, as etcd computes them), the first configuration, empty
 * log and tables.  FATAL with an explanation on failure; leaves nothing half
 * made (a marker file is written last).  Called by claviger and clav_ctl init.
 */
extern void raft_initialise_data_dir(const char *data_dir);

/*
 * The same with the state of a snapshot (clav_restore): revisions, and records
 * that fill() puts.  A directory in which this was cut short is never taken for
 * an empty one: no server starts in it.
 */
typedef struct RaftFirstState
{
	int64_t		kv_revision;
	int64_t		compacted_revision;
	PersistFillFn fill;
	void	   *arg;
} RaftFirstState;

extern void raft_restore_data_dir(const char *data_dir,
								  const RaftFirstState *first);

/*
 * The marker was found and its format is ours; else false and why.  is_empty:
 * it may be initialised (there is nothing in it, or only what an initialisation
 * that was cut short had left).
 */
extern bool raft_data_dir_is_initialised(const char *data_dir, bool *is_empty,
										 char *error, uint32_t error_size);

/*
 * The ids that etcd computes from the same settings.  urls: separated by
 * commas, in any order.
 */
extern uint64_t raft_member_id(const char *peer_urls, const char *token);
extern uint64_t raft_cluster_id(const uint64_t *member_ids, uint32_t n);

#endif							/* RAFT_WORKER_H */
