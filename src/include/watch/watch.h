/*
 * watch.h
 *	  Being told of changes of keys, in a backend.
 *
 * One thread of the process uses this (the event loop).  A Watch is a range of
 * keys, a revision to begin with, and callbacks.  It is told of each version of
 * a key in the range from that revision on, in order, none twice, none left
 * out; or it is told that it has ended, because what it still has to read was
 * compacted or may not be read any more.
 *
 * Callbacks come from watch_turn() only, with the version pinned of which they
 * tell.  They may start and stop watches, end requests and destroy what they
 * belong to.
 *
 * To wait for one thing (a key is deleted): start a watch at the revision after
 * the one at which it was still there, park the request (request_park()), stop
 * the watch and resume the request from `events`.  Stop it, too, when the
 * request goes: mcx_on_reset() on the request's memory.
 */
#ifndef WATCH_WATCH_H
#define WATCH_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/keyrange.h"
#include "mvcc/kvversion.h"
#include "storage/ipc/ring.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"
#include "watch/watchtree.h"

typedef struct Watch Watch;

typedef struct WatchOps
{
	/*
	 * May it be told more now?  If not, it falls behind until watch_go_on() is
	 * called for its owner.  NULL: always.
	 */
	bool		(*may_take) (Watch *watch);

	/*
	 * May it still read its range, on the version that is about to be read?
	 * Asked whenever the auth revision has changed, before anything is told of
	 * a version with that revision.  NULL: it is the server's own.
	 */
	ErrCode		(*authorize) (Watch *watch, const StoreVersion *v);

	/*
	 * n > 0 changes, in order, of one or more whole revisions.  A kv that is a
	 * tombstone is a deletion.  They are good during the call.
	 */
	void		(*events) (Watch *watch, const StoreVersion *v,
						   const KvVersion *const *kvs, size_t n);

	/*
	 * It is over, and stopped already: ERR_COMPACTED (v->compacted_revision),
	 * or what authorize said.
	 */
	void		(*ended) (Watch *watch, const StoreVersion *v, ErrCode error);
} WatchOps;

struct Watch
{
	/* set by the caller before watch_start(); the bytes of range are his */
	const WatchOps *ops;
	void	   *owner;			/* what watch_go_on() means; e.g. the stream */
	KeyRange	range;			/* not empty */
	int64_t		start_revision; /* may lie in the future */

	/* watch/hub.c only */
	WatchItem	item;			/* item.node is NULL: not started */
	Watch	   *prev;			/* all of them */
	Watch	   *next;
	bool		is_behind;		/* has a position of its own */
	bool		is_lost;		/* its start was compacted already */
	bool		is_stalled;		/* may_take said no */
	bool		is_scanning;	/* takes part in the scan under way */
	uint64_t	position;		/* next to read; if behind */
	Watch	   *prev_behind;
	Watch	   *next_behind;
	/* what this scan has found */
	const KvVersion **batch;
	size_t		nbatch;
	size_t		batch_cap;
	uint64_t	batch_position; /* of the first */
	Watch	   *prev_touched;
	Watch	   *next_touched;
};

/*
 * v is pinned, and is the version on which the caller has authorized.  A start
 * revision that is compacted is told by `ended`, in the next turn.
 */
extern void watch_start(Watch *watch, const StoreVersion *v);
/* harmless for one that is not started */
extern void watch_stop(Watch *watch);

static inline bool
watch_is_started(const Watch *watch)
{
	return watch->item.node != NULL;
}

/* all watches with this owner may be told more again */
extern void watch_go_on(const void *owner);

/*
 * Has it been told of everything up to watch_revision()?  That is the revision
 * of the last turn; within a callback, of this one.
 */
extern bool watch_is_synced(const Watch *watch);
extern int64_t watch_revision(void);

/* have a turn soon, whether or not anything changes */
extern void watch_ask_turn(void);

/*
 * Called at the end of each turn, with its version pinned: what is synced has
 * been told of everything in it.  One function for the process; it may do what
 * callbacks may.
 */
extern void watch_set_turn_end(void (*fn) (const StoreVersion *v));

/* ---- for the backend's loop ---- */

/* the loop may not sleep */
extern bool watch_is_due(void);
/* read what is new and tell it; returns at once if nothing is */
extern void watch_turn(void);

/* the request id of completions that are for watch_registered() */
#define WATCH_RING_ID UINT64_MAX
extern void watch_registered(const Completion *done);

/* tests: as in a new process; no watch is started */
extern void watch_forget_all(void);

#endif							/* WATCH_WATCH_H */
