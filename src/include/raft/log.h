/*
 * log.h
 *	  The raft log on disk: pre-zeroed, recycled segments, one write and one
 *	  fdatasync per batch.
 *
 * The format is drawn in raft/log.c.  All functions but log_load() and those
 * that say otherwise are called by the log thread only.
 */
#ifndef RAFT_LOG_H
#define RAFT_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/bytes.h"

typedef struct LogEntry
{
	uint64_t	index;
	uint64_t	term;
	uint8_t		type;			/* engine.h: ENTRY_* */
	Bytes		data;
} LogEntry;

typedef struct RaftLog RaftLog;

/* The system calls, so that tests can make the nth one fail. */
typedef struct LogIo
{
	int			(*open) (const char *path, int flags, int mode);
	int64_t		(*pwrite) (int fd, const void *data, size_t n, int64_t offset);
	int			(*fdatasync) (int fd);
	int			(*rename) (const char *from, const char *to);
	int			(*fsync_dir) (const char *path);
} LogIo;

extern const LogIo log_io_system;

typedef struct LogOptions
{
	const char *dir;
	uint64_t	segment_bytes;
	const LogIo *io;			/* NULL: log_io_system */
	uint64_t	cluster_id;		/* stands in each segment's header */
} LogOptions;

/* new empty log whose first entry will be first_index */
extern bool log_create(const LogOptions *options, uint64_t first_index,
					   char *error, size_t error_size);

/*
 * Open and read.  fn is called for each sound entry in order (data borrows,
 * good during the call).  A torn tail is cut and reported by a warning;
 * damage that is followed by sound records is not a tail: returns NULL with
 * an explanation in error.  min_index: entries up to it are in the tables;
 * a log that ends before it is damaged.
 */
extern RaftLog *log_load(const LogOptions *options, uint64_t min_index,
						 void (*fn) (void *arg, const LogEntry *entry),
						 void *arg, char *error, size_t error_size);
extern void log_close(RaftLog *log);

/*
 * Append and sync.  entries[0].index may be at or below the last one: what
 * stood from there on is truncated by writing over it.  Returns 0 or errno;
 * after an error the log must not be used again (the caller PANICs: after a
 * failed sync nobody knows what is on disk).
 */
extern int	log_append(RaftLog *log, const LogEntry *entries, uint32_t n);

/* segments that only hold entries below first_kept become spares */
extern int	log_trim(RaftLog *log, uint64_t first_kept);

/*
 * Keep at least one zeroed spare ready; called when the thread is idle.  One
 * call writes a part only, so that an append never waits for long: EAGAIN
 * means call again.  0: there is a spare.  ENOSPC and EDQUOT: there is no
 * room for one; the log is as good as before, and fails when it needs it.
 */
extern int	log_prepare_spare(RaftLog *log);

extern uint64_t log_first_index(const RaftLog *log);
extern uint64_t log_last_index(const RaftLog *log);

/* ---- term and vote: a small double-slot file; synced on return ---- */

/* make the file; fails if there is one */
extern int	vote_create(const char *dir, uint64_t term, uint64_t voted_for);
/* a missing file is an error: a member must not forget how it voted */
extern bool vote_load(const char *dir, uint64_t *term, uint64_t *voted_for,
					  char *error, size_t error_size);
extern int	vote_store(const char *dir, uint64_t term, uint64_t voted_for);

#endif							/* RAFT_LOG_H */
