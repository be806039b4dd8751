/*
 * store.h
 *	  The store: shared memory that one process writes and all others read.
 *
 * A memfd of reserved virtual size, mapped by the postmaster before any fork,
 * so that it has the same address everywhere and plain pointers hold.  The
 * postmaster and all backends map it through an O_RDONLY descriptor (mprotect
 * cannot make that writable) and close the descriptor; only the raft worker
 * maps it read-write over the same addresses.
 *
 * The state of the world is one StoreVersion, immutable once published.  The
 * writer builds the next one (the draft) beside it and publishes with one
 * pointer.  A reader pins: it writes the current epoch into its own process
 * slot, loads the root, reads, unpins.  What the writer retires is freed when
 * no slot can see it any more.
 *
 * Order that makes this safe: a reader stores its epoch (seq_cst) before it
 * loads the root; the writer stores the root before it looks at the slots
 * (seq_cst).  A reader that stored an old epoch late only delays freeing.
 */
#ifndef STORAGE_SNAP_STORE_H
#define STORAGE_SNAP_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/snap/cowtree.h"

/* ---- the published state ---- */

/* all versions in order, for watchers; see mvcc/vlog.h */
typedef struct VersionLog
{
	struct VlogDirectory *directory;	/* NULL: nothing was ever in it */
	uint64_t	first;			/* positions [first, end) may be read */
	uint64_t	end;
	int64_t		kept_revision;	/* entries of this one and later are there */
} VersionLog;

typedef struct StoreVersion
{
	uint64_t	number;			/* draft counter; also the stamp of new nodes */

	/* key-value state: items are KvVersion (mvcc/kvversion.h) */
	CowTree		keys;
	int64_t		kv_revision;	/* 1 in a fresh store */
	int64_t		compacted_revision; /* 0: never compacted; see mvcc.h */
	VersionLog	log;

	/* auth state: UserEntry, RoleEntry (auth/authstate.h) */
	CowTree		users;
	CowTree		roles;
	uint64_t	auth_revision;	/* 1 in a fresh store */
	bool		auth_enabled;

	/* LeaseEntry (lease/lease.h), AlarmEntry, MemberEntry (member/member.h) */
	CowTree		leases;
	CowTree		alarms;
	CowTree		members;

	uint64_t	applied_index;
	uint64_t	applied_term;
	uint64_t	live_bytes;		/* keys, values and headers that are reachable */
	uint64_t	live_keys;		/* not counting deleted ones */
} StoreVersion;

/*
 * Changes whenever it may have changed who may do what: enabling auth does not
 * move the auth revision, disabling it does.
 */
static inline uint64_t
store_auth_stamp(const StoreVersion *v)
{
	return v->auth_enabled ? v->auth_revision : 0;
}

/*
 * What the raft worker tells everybody about itself; in store memory, so
 * read-only elsewhere.  Each field is an atomic of its own: a reader may see
 * a new term with the old leader for a moment, which every client of a
 * replicated service must bear anyway.
 */
typedef struct RaftStatus
{
	_Atomic uint64_t cluster_id;	/* set before the first backend, then fixed */
	_Atomic uint64_t member_id;
	_Atomic uint64_t term;
	_Atomic uint64_t leader_id; /* 0: none known */
	_Atomic uint64_t commit_index;
	_Atomic uint64_t last_index;
	_Atomic uint64_t db_size_bytes; /* Berkeley DB files on disk */
	/* store_bytes_used(), store_bytes_retired() as of the last store_reclaim() */
	_Atomic uint64_t store_used_bytes;
	_Atomic uint64_t store_retired_bytes;
	_Atomic int64_t removed_revision;	/* what compaction up to here made
										 * unreachable is gone */
	/* positions before this one in the version log: watchers have been told */
	_Atomic uint64_t watch_notified;
	_Atomic uint64_t watch_ranges;	/* registered by backends */
	_Atomic uint64_t defragmented;	/* ticket of the last that is done */
	_Atomic bool is_learner;

	/*
	 * True while this member is leader, the only voter, and has applied an
	 * entry of its term: nothing can be acknowledged that is not published, so
	 * a read of the published version is linearizable without a ticket.
	 */
	_Atomic bool reads_are_local;

	/* loaded, replayed, leader known once: backends may serve */
	_Atomic bool is_ready;
} RaftStatus;

/* ---- life cycle (postmaster) ---- */

/*
 * Create the memfd, map it read-only at a kernel-chosen address.  Returns
 * false with errno set.  reserve_bytes is rounded up to 2 MB.
 */
extern bool store_create(size_t reserve_bytes);

/*
 * In the raft worker, right after fork: map read-write over the same
 * addresses, close the descriptor, start the populate thread unless
 * store_use_populate_thread(false) was called (tests).  FATAL on failure.
 */
extern void store_attach_writer(void);
extern void store_use_populate_thread(bool on);

/* in the postmaster, right after forking the raft worker */
extern void store_close_writer_fd(void);

/* unmap; for the restart after a crash, when no child is left */
extern void store_destroy(void);

extern RaftStatus *store_raft_status(void); /* const use outside the worker */
extern size_t store_reserved_bytes(void);
extern const void *store_base(void);

/* ---- readers ---- */

/*
 * The words that hold pinned epochs, one per process slot; set once at start
 * by storage/ipc.  pin_word(i) may be any address in shared memory.
 */
typedef struct StorePinWord
{
	/* atomic: written by the owner of the slot, read by the writer; 0 = none */
	_Atomic uint64_t epoch;
	_Atomic int64_t since_ms;	/* CLOCK_MONOTONIC; for snapshot_max_age */
} StorePinWord;

extern void store_set_pin_words(StorePinWord *(*get) (uint32_t i), uint32_t n);
/* which of them is ours, before the first pin in this process */
extern void store_set_own_pin_word(StorePinWord *word);

/*
 * Pin and return the current version; nests (inner pins return the same
 * version).  Only one thread of a process pins.
 */
extern const StoreVersion *store_pin(void);
extern void store_unpin(void);

/*
 * A version that is read bit by bit over many turns of the event loop, while
 * other requests of the process pin newer ones in between.  The holds of a
 * process share one word, which has the epoch of the oldest; it must come
 * behind the process's pin word in the order in which the writer looks at them,
 * because a hold takes over from a pin.  Store words are looked at without a lock, so
 * only the thread that pins may hold and release.
 */
typedef struct StoreHold
{
	const StoreVersion *version;	/* NULL: not held */
	uint64_t	epoch;
	struct StoreHold *next;
} StoreHold;

extern void store_set_own_hold_word(StorePinWord *word);
extern const StoreVersion *store_hold(StoreHold *hold);
/* harmless if it is not held */
extern void store_release(StoreHold *hold);

/* ---- the writer (apply thread, or the loader before it) ---- */

/* the draft: a copy of the published version that may be changed */
extern StoreVersion *store_draft(void);

/* make the draft the current version and open the next draft */
extern void store_publish(void);

/*
 * 16-byte aligned store memory.  Ends the worker (PANIC) when the reserved
 * size is used up; callers check store_bytes_free() against the quota first.
 */
extern void *store_alloc(size_t size);

/* free at once what was never published, or that no reader can reach */
extern void store_free(void *p, size_t size);

/* free when every reader that may still see it has moved on */
extern void store_retire(const void *p, size_t size);

/*
 * Free what has become unreachable, at most STORE_RECLAIM_MAX pieces in one
 * call, so that a reader who let go of much does not stop the apply thread.
 * Returns the bytes still waiting (those of the open draft among them).
 */
#define STORE_RECLAIM_MAX 65536
extern size_t store_reclaim(void);

/* bytes that wait to be reclaimed; costs nothing to ask */
extern size_t store_bytes_retired(void);

/*
 * An epoch that has passed once store_epoch_passed() says so: every reader
 * that was pinned when it was taken has moved on.  For cutting version chains
 * in place (mvcc/compact.c).  Take it after the publish that made the thing
 * unnecessary: who pins after the mark sees the version published then, which
 * is not the open draft.  It passes without a further publish.
 */
extern uint64_t store_epoch_mark(void);
extern bool store_epoch_passed(uint64_t mark);

/* give all memory back to the system that holds nothing; how much that was */
extern size_t store_trim(void);

/*
 * Bytes in pieces given out (rounded up to what they take, retired ones
 * included), and bytes that can still be had for certain.  When the machine
 * has no more memory the second counts only what the store holds already.
 */
extern size_t store_bytes_used(void);
extern size_t store_bytes_free(void);

/* ---- tests ---- */

/* overwrite what is freed, so that a reader who comes too late shows */
extern void store_set_wipe_freed(bool on);
/* the allocator's bookkeeping: NULL if sound, else what is wrong */
extern const char *store_check(void);

#endif							/* STORAGE_SNAP_STORE_H */
