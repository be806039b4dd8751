/*
 * vlog.h
 *	  The version log: all versions in the order in which they came to be.
 *
 * What watchers read.  Each KvVersion stands in it once, under a position that
 * counts up from the start of the process and never changes; so a reader who
 * knows how far he has read goes on there in any later version.
 *
 *	directory --> | chunk | chunk | chunk | ...     grows, replaced when full
 *	                 |
 *	                 v
 *	              | KvVersion * x 510 |             first revision in front
 *
 *	positions:    ... trimmed | first ........ end | being written ...
 *
 * The log is part of a StoreVersion: first, end and the directory are that
 * version's.  A chunk, and a directory with room, are shared by versions: the
 * writer fills slots at and behind `end` of every published version, where no
 * reader looks.  So an append costs one store, and nothing is copied.
 *
 * Compaction trims it (vlog_trim()); entries of kept_revision and later are
 * there, earlier ones are not.  For a reader of a pinned version that is the
 * only rule: what is at or behind `first` may be read, and so may the version
 * before it (kvversion_prev()) if the entry's revision is above kept_revision.
 *
 * Not on disk: rebuilt from the table of versions at start.
 */
#ifndef MVCC_VLOG_H
#define MVCC_VLOG_H

#include <stdint.h>

#include "mvcc/kvversion.h"
#include "storage/snap/store.h"

/* ---- readers, on a pinned version ---- */

/* the first position of this revision or later; end if there is none */
extern uint64_t vlog_seek(const VersionLog *log, int64_t revision);

/*
 * The version at a position in [first, end).  NULL: a deletion at the compacted
 * revision itself, which is removed with it.
 */
extern const KvVersion *vlog_get(const VersionLog *log, uint64_t position);

/* the version that this one replaced; NULL if none, or no longer readable */
extern const KvVersion *vlog_previous(const VersionLog *log,
									  const KvVersion *kv);

/* ---- the writer (Thread: apply, or the loader) ---- */

/* in the order of (mod_revision, sub_revision) */
extern void vlog_append(VersionLog *log, const KvVersion *kv);

/* drop what is older than this revision */
extern void vlog_trim(VersionLog *log, int64_t revision);

/* a version that is about to be retired, if it is still in the log */
extern void vlog_forget(VersionLog *log, const KvVersion *kv);

/* tests: NULL if sound, else what is wrong */
extern const char *vlog_check(const VersionLog *log);

#endif							/* MVCC_VLOG_H */
