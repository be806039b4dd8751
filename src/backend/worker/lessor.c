/*
 * lessor.c
 *	  The lessor: ends leases whose time is over, and notes how much is left of
 *	  those that live long.
 *
 * It reads deadlines on pinned versions and proposes; the raft worker has the
 * last word on whether a lease may end (lease/lease.h), so a keepalive that
 * comes while a revoke is on its way wins or loses, and never both.
 *
 * Looking.  A deadline only moves away, and no lease is granted for less than
 * the least time to live (1.5 election timeouts, in full seconds).  So a walk
 * over all leases finds every one that can end before the next walk, if that
 * is no later than the least time; in between only those few are looked at,
 * each when its time has come:
 *
 *	walk            walk            walk          every SCAN_MS
 *	  |  due: a, b    |  due: c       |
 *	  '----a------b---'---------c-----'
 *
 * Cost: a walk over 100 000 leases takes 2 ms (measured), in slices, so that no
 * version is pinned for long; nothing at all without leases.
 *
 * Rate.  At most RATE revokes a second as in etcd, and at most OUTSTANDING
 * without an answer, so that many leases that end at one time never fill the
 * log's queue.  Which come first: those with keys, because somebody may wait for
 * those keys to go, and anybody may be granted leases without; among them those
 * whose time was over first.
 *
 * Checkpoints.  What has been left of a lease is lost with this process's
 * machine, and then it has its full time again.  So for a lease that nobody
 * has renewed for lease_checkpoint_interval its rest goes into the log, and
 * when the server stops in order, that of all leases.  A lease that is kept
 * alive is never in such a list: its rest is about its full time.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/errcodes.h"
#include "utils/guc.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "lease/lease.h"
#include "storage/snap/store.h"
#include "worker/auxiliary.h"

/* between walks; less than the least time to live of a lease */
#define SCAN_MS 1000
/* leases looked at under one pin */
#define SLICE 4096
/* revokes a second, and without an answer */
#define RATE 1000
#define OUTSTANDING 256
/* after a revoke that failed */
#define BACK_OFF_MS 1000
/* leases in one entry */
#define CHECKPOINT_LEASES 1000
/* for the last checkpoints when the server stops */
#define LAST_WORD_MS 5000
/* shorter ones begin again: their clients need some seconds to come back */
#define CHECKPOINT_MIN_SEC 10

typedef struct Due
{
	int64_t		deadline_ms;
	int64_t		id;
} Due;

/* the earliest first */
typedef struct DueHeap
{
	Due		   *items;
	size_t		n;
	size_t		cap;
} DueHeap;

/* what can end before the next walk, with keys when it was looked at and without */
static DueHeap due_with_keys;
static DueHeap due_empty;

static int64_t next_scan_ms;
static int64_t next_checkpoint_ms;
static int64_t next_revoke_ms;	/* by the rate */
static int64_t paused_until_ms; /* after a failure */
static uint32_t nrevoking;

static LeaseCheckpoint checkpoints[CHECKPOINT_LEASES];
static uint32_t ncheckpoints;

static int64_t look(void);
static void scan(int64_t now_ms, int64_t horizon_ms);
static bool scan_slice(uint64_t *from, int64_t now_ms, int64_t horizon_ms,
					   bool is_checkpoint);
static int64_t revoke_due(int64_t now_ms);
static DueHeap *next_due(int64_t now_ms);
static bool revoke(int64_t id);
static void on_revoked(void *arg, const Completion *done);
static void note_rest(const LeaseEntry *lease, int64_t now_ms, bool is_last);
static void propose_checkpoint(void);
static void last_word(void);
static void heap_push(DueHeap *heap, Due d);
static void heap_pop(DueHeap *heap);

void
LessorMain(const AuxiliaryStart *start)
{
	auxiliary_begin(start, "lessor");
	next_checkpoint_ms = clock_monotonic_ms() + guc_lease_checkpoint_interval;
	while (auxiliary_wait(look()))
		continue;
	last_word();
	auxiliary_end();
}

/* Do what is due; returns for how long there is nothing more. */
static int64_t
look(void)
{
	int64_t		now_ms = clock_monotonic_ms();
	int64_t		next_ms;

	if (!auxiliary_is_leader())
	{
		due_with_keys.n = due_empty.n = 0;
		next_scan_ms = 0;
		return SCAN_MS;
	}
	if (now_ms >= next_scan_ms)
	{
		next_scan_ms = now_ms + SCAN_MS;
		scan(now_ms, next_scan_ms);
	}
	next_ms = revoke_due(clock_monotonic_ms());
	if (next_ms > next_scan_ms)
		next_ms = next_scan_ms;
	now_ms = clock_monotonic_ms();
	return next_ms <= now_ms ? 0 : next_ms - now_ms;
}

/* ---- looking ---- */

/* Find what can end up to the horizon, and what is due for a checkpoint. */
static void
scan(int64_t now_ms, int64_t horizon_ms)
{
	bool		is_checkpoint = now_ms >= next_checkpoint_ms;
	uint64_t	from = 0;

	due_with_keys.n = due_empty.n = 0;
	while (scan_slice(&from, now_ms, horizon_ms, is_checkpoint))
		continue;
	if (!is_checkpoint)
		return;
	propose_checkpoint();
	next_checkpoint_ms = now_ms + guc_lease_checkpoint_interval;
}

/* Some leases from a number on; false when there are no more. */
static bool
scan_slice(uint64_t *from, int64_t now_ms, int64_t horizon_ms,
		   bool is_checkpoint)
{
	const StoreVersion *v = store_pin();
	uint8_t		key[LEASE_KEY_BYTES];
	CowCursor	cursor;
	const CowItem *item;
	uint32_t	n = 0;

	lease_key((int64_t) *from, key);
	for (item = cowtree_seek(&v->leases, &cursor,
							 bytes_make(key, sizeof(key)));
		 item != NULL && n < SLICE; item = cowtree_next(&cursor), n++)
	{
		const LeaseEntry *lease = lease_from_item(item);
		int64_t		deadline_ms = atomic_load(&lease->clock->deadline_ms);

		/* its revoke is on its way, or has failed and must be tried again */
		if (deadline_ms == LEASE_OVER && nrevoking > 0)
			continue;
		if (deadline_ms <= horizon_ms)
			heap_push(lease_nkeys(lease) > 0 ? &due_with_keys : &due_empty,
					  (Due) {.deadline_ms = deadline_ms,.id = lease->id});
		else if (is_checkpoint)
			note_rest(lease, now_ms, false);
	}
	if (item != NULL)
		*from = (uint64_t) lease_from_item(item)->id;
	store_unpin();
	return item != NULL;
}

/* ---- revoking ---- */

/* Propose what is over, as fast as we may; returns when to come back. */
static int64_t
revoke_due(int64_t now_ms)
{
	DueHeap    *heap;

	while ((heap = next_due(now_ms)) != NULL)
	{
		if (now_ms < paused_until_ms)
			return paused_until_ms;
		if (heap->items[0].deadline_ms > now_ms)
			return heap->items[0].deadline_ms;
		/* an answer wakes us */
		if (nrevoking >= OUTSTANDING)
			return INT64_MAX;
		if (now_ms < next_revoke_ms)
			return next_revoke_ms;
		if (!revoke(heap->items[0].id))
			return now_ms + 1;
		heap_pop(heap);
	}
	return INT64_MAX;
}

/* Where the next to be revoked stands; if none is over, the first that will be. */
static DueHeap *
next_due(int64_t now_ms)
{
	if (due_empty.n == 0)
		return due_with_keys.n > 0 ? &due_with_keys : NULL;
	if (due_with_keys.n == 0)
		return &due_empty;
	if (due_with_keys.items[0].deadline_ms <= now_ms ||
		due_with_keys.items[0].deadline_ms <= due_empty.items[0].deadline_ms)
		return &due_with_keys;
	return &due_empty;
}

/* False if there is no room for it now. */
static bool
revoke(int64_t id)
{
	static uint32_t in_this_ms;
	const LeaseEntry *lease = lease_find(store_pin(), id);
	int64_t		now_ms = clock_monotonic_ms();
	LogOp		op = {.kind = LOGOP_LEASE_REVOKE,.lease.id = id};
	bool		is_over = lease != NULL &&
		atomic_load(&lease->clock->deadline_ms) <= now_ms;

	store_unpin();
	/* revoked by somebody, or renewed: the next walk finds it again */
	if (!is_over)
		return true;
	(void) INJECTION_POINT("lessor-before-revoke");
	if (!auxiliary_propose(&op, on_revoked, NULL))
		return false;
	(void) INJECTION_POINT("lessor-proposed");
	nrevoking++;
	/* small shares, so that a timer of 10 ms does not make 100 a second of it */
	if (++in_this_ms == RATE / 100)
	{
		in_this_ms = 0;
		next_revoke_ms = (next_revoke_ms > now_ms - 1000 / 100 ?
						  next_revoke_ms : now_ms) + 1000 / 100;
	}
	return true;
}

static void
on_revoked(void *arg, const Completion *done)
{
	nrevoking--;
	/* it had been renewed, or somebody was faster */
	if (done->error == ERR_NONE || done->error == ERR_LEASE_EXIST ||
		done->error == ERR_LEASE_NOT_FOUND)
		return;
	elog_debug("a lease could not be revoked: %s", err_info(done->error)->text);
	paused_until_ms = clock_monotonic_ms() + BACK_OFF_MS;
}

/* ---- checkpoints ---- */

/*
 * Only whose rest differs from what a restart would take, and at the end of
 * the server of all of them.  Rounded up: no lease ends before its time.
 */
static void
note_rest(const LeaseEntry *lease, int64_t now_ms, bool is_last)
{
	int64_t		rest_ms = lease_remaining_ms(lease, now_ms);
	int64_t		rest_sec = rest_ms > 0 ? (rest_ms + 999) / 1000 : 1;
	int64_t		known_sec = lease->remaining_sec > 0 ? lease->remaining_sec :
		lease->granted_sec;
	int64_t		worth_sec = is_last ? 1 : guc_lease_checkpoint_interval / 1000;

	if (lease->granted_sec < CHECKPOINT_MIN_SEC ||
		known_sec - rest_sec < worth_sec)
		return;
	checkpoints[ncheckpoints++] = (LeaseCheckpoint) {
		.id = lease->id,
		.remaining_sec = rest_sec,
	};
	if (ncheckpoints == CHECKPOINT_LEASES)
		propose_checkpoint();
}

/* If there is no room, the next one is as good. */
static void
propose_checkpoint(void)
{
	LogOp		op = {
		.kind = LOGOP_LEASE_CHECKPOINT,
		.checkpoint = {.n = ncheckpoints,.leases = checkpoints},
	};

	if (ncheckpoints > 0 && auxiliary_propose(&op, NULL, NULL))
		(void) INJECTION_POINT("lessor-checkpointed");
	ncheckpoints = 0;
}

/* The server stops in order: no client is left, nobody renews any more. */
static void
last_word(void)
{
	int64_t		now_ms = clock_monotonic_ms();
	const StoreVersion *v;
	CowCursor	cursor;
	const CowItem *item;

	if (!auxiliary_is_leader())
		return;
	v = store_pin();
	for (item = cowtree_seek(&v->leases, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
		note_rest(lease_from_item(item), now_ms, true);
	store_unpin();
	propose_checkpoint();
	if (!auxiliary_wait_outstanding(LAST_WORD_MS))
		elog_warning("stops without having noted how much is left of leases");
}

/* ---- the heap ---- */

static void
heap_push(DueHeap *heap, Due d)
{
	size_t		at = heap->n;
	Due		   *items;

	if (heap->n == heap->cap)
	{
		heap->cap = heap->cap == 0 ? 256 : heap->cap * 2;
		heap->items = xrealloc(heap->items, heap->cap * sizeof(Due));
	}
	items = heap->items;
	heap->n++;
	for (; at > 0 && items[(at - 1) / 2].deadline_ms > d.deadline_ms;
		 at = (at - 1) / 2)
		items[at] = items[(at - 1) / 2];
	items[at] = d;
}

static void
heap_pop(DueHeap *heap)
{
	Due		   *items = heap->items;
	Due			last = items[--heap->n];
	size_t		at = 0;

	for (;;)
	{
		size_t		child = 2 * at + 1;

		if (child >= heap->n)
			break;
		if (child + 1 < heap->n &&
			items[child + 1].deadline_ms < items[child].deadline_ms)
			child++;
		if (items[child].deadline_ms >= last.deadline_ms)
			break;
		items[at] = items[child];
		at = child;
	}
	items[at] = last;
}
