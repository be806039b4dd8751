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

/* never returns; slot is the worker's own process slot */
extern void RaftWorkerMain(int slot) __attribute__((noreturn));

/*
 * In a data directory that is empty: write cluster and member ids (from
 * initial_cluster, as etcd computes them), the first configuration, empty
 * log and tables.  FATAL with an explanation on failure; leaves nothing half
 * made (a marker file is written last).  Called by claviger and clav_ctl init.
 */
extern void raft_initialise_data_dir(const char *data_dir);

/* the marker was found and its format is ours; else false and why */
extern bool raft_data_dir_is_initialised(const char *data_dir, bool *is_empty,
										 char *error, uint32_t error_size);

#endif							/* RAFT_WORKER_H */
