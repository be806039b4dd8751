/*
 * hub.c
 *	  A backend's watches: reads the version log and tells them of it.
 *
 * A turn, with one version pinned:
 *
 *	rights     if who may do what may have changed, ask for every watch
 *	follow     read what is new for those that have read everything before
 *	catch up   read on for those that are behind, a bounded part
 *
 * Both readings are scan(): it goes through a part of the log, finds for each
 * version the watches that concern it (an interval tree), notes it with them,
 * and flush() tells them at the end, or earlier when much has gathered.  A
 * watch that may not take more keeps the position of what it was not told and
 * is behind; so is a new one until it has read its past.  Those that are not
 * behind share one position (synced), so that a quiet watch costs nothing.
 *
 * Where following begins.  `woken` is the first version that concerns us,
 * `notified` how far the worker has told everybody (watch/registry.h).  If we
 * were woken, nothing between our position and woken concerns us; if not,
 * nothing before notified does.  What lies behind that is read, so that after
 * a turn everything of the pinned version has been told, and watch_revision()
 * is exact.  notified is loaded before the word is taken, and the version
 * pinned after: what the worker tells in between sets the word again.
 *
 * A registration takes a moment: until the worker has confirmed it, a watch is
 * behind and is not read for.
 *
 * Rights and order.  A turn tells of the pinned version V after authorize() has
 * said yes on V, or on an older one with the same auth revision.  Keys and
 * rights are published together: a change of revision R is not in any version
 * before the one that brought it, so whoever is told of R had the right in a
 * version that has R, or a later one.  After a revocation no version has the
 * old rights, so nothing later is told.
 *
 * Callbacks may stop any watch.  So they are called from lists that
 * watch_stop() takes watches out of, and no other pointer to a watch is kept
 * across a call.
 */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "mvcc/vlog.h"
#include "storage/ipc/control.h"
#include "watch/registry.h"
#include "watch/watch.h"

/* versions read in one turn, for those that are behind */
#define CATCH_UP_VERSIONS 20000
/* more than this to follow at once, and all are behind */
#define FOLLOW_VERSIONS 100000
/* noted with watches, then they are told */
#define BATCH_BYTES ((size_t) 1024 * 1024)
#define BATCH_EVENT_BYTES 64
/* registrations sent in one record (RING_PAYLOAD_SLACK), and records that wait */
#define RECORD_BYTES ((size_t) 48 * 1024)
#define RECORDS_MAX 64

typedef struct OpsRecord
{
	struct OpsRecord *next;
	Buf			ops;			/* heap */
	uint64_t	last_op;
} OpsRecord;

static struct
{
	WatchTree	tree;
	Watch	   *first;			/* all */
	Watch	   *first_behind;
	Watch	   *last_behind;
	Watch	   *first_touched;	/* noted something in this scan */
	bool		is_following;	/* else a scan is for those behind */
	uint32_t	nscanning;		/* how many of them it is still for */
	Watch	   *cursor;			/* of a walk over all; see watch_stop() */
	void		(*turn_end) (const StoreVersion *v);
	MemContext *scratch;		/* batches of a scan */
	size_t		batch_bytes;

	uint64_t	synced;			/* read up to here, but for those behind */
	int64_t		revision;		/* of the last turn's version */
	uint64_t	auth_stamp;		/* for which all have been asked */
	bool		is_due;

	/*
	 * Registration: records that are not yet sent.  A range is registered when
	 * confirmed has reached the number of the operation that added it
	 * (WatchNode.tag), or that of the one that added everything.
	 */
	OpsRecord  *first_record;
	OpsRecord  *last_record;
	uint32_t	nrecords;
	uint64_t	next_op;		/* number of the next; from 1 */
	uint64_t	sent;			/* of the last one in the ring */
	uint64_t	confirmed;
	uint64_t	all_op;			/* of REGISTRY_ALL; 0: none */
	bool		is_sending;
} hub = {.next_op = 1};

static void follow(const StoreVersion *v, uint64_t woken, uint64_t notified);
static void catch_up(const StoreVersion *v);
static bool catch_up_from(const StoreVersion *v, Watch *leader,
						  uint64_t *budget);
static void check_rights(const StoreVersion *v);
static void scan(const StoreVersion *v, uint64_t from, uint64_t to);
static void note(WatchItem *item, void *arg);
static void flush(const StoreVersion *v);
static void tell(Watch *watch, const StoreVersion *v);
static void end(Watch *watch, const StoreVersion *v, ErrCode error);
static bool is_eligible(Watch *watch);
static void fall_behind(Watch *watch, uint64_t position);
static void leave_behind(Watch *watch);
static void all_fall_behind(uint64_t position);
static void untouch(Watch *watch);
static void tell_how_far(void);
static bool is_registered(const WatchNode *node);
static void add_op(RegistryOpKind kind, const KeyRange *range);
static void open_record(void);
static void send_ops(void);

typedef struct ScanAt
{
	uint64_t	position;
	const KvVersion *kv;
} ScanAt;

void
watch_start(Watch *watch, const StoreVersion *v)
{
	Assert(!watch_is_started(watch));
	if (hub.scratch == NULL)
		hub.scratch = mcx_create(NULL, "watch scan");
	if (watchtree_add(&hub.tree, &watch->range, &watch->item))
	{
		watch->item.node->tag = hub.next_op;
		add_op(REGISTRY_ADD, &watch->range);
	}
	watch->prev = NULL;
	watch->next = hub.first;
	if (hub.first != NULL)
		hub.first->prev = watch;
	hub.first = watch;
	watch->is_stalled = watch->is_scanning = false;
	watch->batch = NULL;
	watch->nbatch = watch->batch_cap = 0;
	watch->prev_touched = watch->next_touched = NULL;
	watch->is_behind = false;
	/* what is still there of it is for those who are merely late */
	watch->is_lost = watch->start_revision < v->compacted_revision;
	fall_behind(watch, vlog_seek(&v->log, watch->start_revision));
	/* its range may be registered already, so that no answer brings a turn */
	hub.is_due = true;
	(void) INJECTION_POINT("watch-registered");
	send_ops();
}

void
watch_stop(Watch *watch)
{
	KeyRange	range = watch->range;

	if (!watch_is_started(watch))
		return;
	untouch(watch);
	leave_behind(watch);
	if (hub.cursor == watch)
		hub.cursor = watch->next;
	if (watch->prev != NULL)
		watch->prev->next = watch->next;
	else
		hub.first = watch->next;
	if (watch->next != NULL)
		watch->next->prev = watch->prev;
	if (watchtree_remove(&hub.tree, &watch->item))
		add_op(REGISTRY_REMOVE, &range);
}

void
watch_go_on(const void *owner)
{
	for (Watch *watch = hub.first_behind; watch != NULL;
		 watch = watch->next_behind)
	{
		if (watch->owner != owner || !watch->is_stalled)
			continue;
		watch->is_stalled = false;
		hub.is_due = true;
	}
}

bool
watch_is_synced(const Watch *watch)
{
	return watch_is_started(watch) && !watch->is_behind;
}

int64_t
watch_revision(void)
{
	return hub.revision;
}

void
watch_ask_turn(void)
{
	hub.is_due = true;
}

void
watch_set_turn_end(void (*fn) (const StoreVersion *v))
{
	hub.turn_end = fn;
}

bool
watch_is_due(void)
{
	return hub.is_due || atomic_load(&control_self()->watch_from) != 0;
}

void
watch_turn(void)
{
	uint64_t	notified = atomic_load(&store_raft_status()->watch_notified);
	uint64_t	woken = 0;
	const StoreVersion *v;

	/* what could not be sent when the ring was full */
	send_ops();
	if (!watch_is_due())
		return;
	woken = atomic_exchange(&control_self()->watch_from, 0);
	hub.is_due = false;
	if (hub.first == NULL && hub.turn_end == NULL)
		return;
	v = store_pin();
	hub.revision = v->kv_revision;
	check_rights(v);
	(void) INJECTION_POINT("watch-pinned");
	follow(v, woken, notified);
	catch_up(v);
	if (hub.turn_end != NULL)
		hub.turn_end(v);
	store_unpin();
	mcx_reset(hub.scratch);
	tell_how_far();
	send_ops();
}

void
watch_registered(const Completion *done)
{
	/* only nonsense is refused, and we would wait for ever */
	if (done->error != ERR_NONE)
		elog_fatal("the raft worker does not take what this backend watches");
	hub.confirmed = hub.sent;
	hub.is_sending = false;
	hub.is_due = true;
	send_ops();
}

void
watch_forget_all(void)
{
	Assert(hub.first == NULL);
	while (hub.first_record != NULL)
	{
		OpsRecord  *record = hub.first_record;

		hub.first_record = record->next;
		buf_free(&record->ops);
		free(record);
	}
	mcx_destroy(hub.scratch);
	memset(&hub, 0, sizeof(hub));
	hub.next_op = 1;
}

/* ---- a turn ---- */

static void
check_rights(const StoreVersion *v)
{
	if (store_auth_stamp(v) == hub.auth_stamp)
		return;
	hub.auth_stamp = store_auth_stamp(v);
	for (hub.cursor = hub.first; hub.cursor != NULL;)
	{
		Watch	   *watch = hub.cursor;
		ErrCode		error = ERR_NONE;

		hub.cursor = watch->next;
		if (watch->ops->authorize != NULL)
			error = watch->ops->authorize(watch, v);
		if (error != ERR_NONE)
			end(watch, v, error);
	}
}

static void
follow(const StoreVersion *v, uint64_t woken, uint64_t notified)
{
	uint64_t	from = woken != 0 ? woken - 1 : notified;

	if (from < hub.synced)
		from = hub.synced;
	if (from > v->log.end)
		from = v->log.end;
	hub.synced = v->log.end;
	/* trimmed although we were told, or simply very much */
	if (from < v->log.first || v->log.end - from > FOLLOW_VERSIONS)
		all_fall_behind(from);
	else
	{
		hub.is_following = true;
		scan(v, from, v->log.end);
		hub.is_following = false;
	}
}

/* Those that may go on, one after the other, and with each all near it. */
static void
catch_up(const StoreVersion *v)
{
	uint64_t	budget = CATCH_UP_VERSIONS;
	Watch	   *leader;

	for (;;)
	{
		for (leader = hub.first_behind; leader != NULL;
			 leader = leader->next_behind)
			if (is_eligible(leader))
				break;
		if (leader == NULL)
			return;
		if (!catch_up_from(v, leader, &budget))
		{
			hub.is_due = true;
			return;
		}
	}
}

/* False when the budget is spent. */
static bool
catch_up_from(const StoreVersion *v, Watch *leader, uint64_t *budget)
{
	uint64_t	from;
	uint64_t	to = v->log.end;
	Watch	   *next;

	/* what was trimmed is before its start */
	if (leader->position < v->log.first &&
		leader->start_revision >= v->log.kept_revision)
		leader->position = v->log.first;
	from = leader->position;
	if (leader->is_lost || from < v->log.first)
	{
		end(leader, v, ERR_COMPACTED);
		return true;
	}
	if (to - from > *budget)
	{
		/* whole revisions */
		to = from + *budget;
		while (to > from && to < v->log.end && vlog_get(&v->log, to) != NULL &&
			   vlog_get(&v->log, to - 1) != NULL &&
			   vlog_get(&v->log, to)->mod_revision ==
			   vlog_get(&v->log, to - 1)->mod_revision)
			to++;
	}
	*budget -= to - from < *budget ? to - from : *budget;
	Assert(hub.nscanning == 0);
	for (Watch *w = hub.first_behind; w != NULL; w = w->next_behind)
	{
		w->is_scanning = w->position >= from && w->position <= to &&
			!w->is_lost && is_eligible(w);
		hub.nscanning += w->is_scanning;
	}
	scan(v, from, to);
	/* no callback is called from here on */
	for (Watch *w = hub.first_behind; w != NULL; w = next)
	{
		next = w->next_behind;
		if (!w->is_scanning)
			continue;
		leave_behind(w);
		/* to the end of the list: the others have their turn first */
		if (to < v->log.end)
			fall_behind(w, to);
	}
	return *budget > 0;
}

/* ---- reading ---- */

static void
scan(const StoreVersion *v, uint64_t from, uint64_t to)
{
	ScanAt		at;
	int64_t		revision = 0;

	for (at.position = from; at.position < to; at.position++)
	{
		/* all may take no more */
		if (!hub.is_following && hub.nscanning == 0)
			break;
		at.kv = vlog_get(&v->log, at.position);
		if (at.kv == NULL)
			continue;
		/* between revisions only: one is told as a whole */
		if (at.kv->mod_revision != revision && hub.batch_bytes > BATCH_BYTES)
			flush(v);
		revision = at.kv->mod_revision;
		watchtree_find(&hub.tree, kvversion_key(at.kv), note, &at);
	}
	flush(v);
}

static void
note(WatchItem *item, void *arg)
{
	Watch	   *watch = (Watch *) ((char *) item - offsetof(Watch, item));
	const ScanAt *at = arg;

	if (hub.is_following == watch->is_behind)
		return;
	if (watch->is_behind &&
		(!watch->is_scanning || at->position < watch->position))
		return;
	if (at->kv->mod_revision < watch->start_revision)
		return;
	if (watch->nbatch == 0)
	{
		watch->batch_position = at->position;
		watch->prev_touched = NULL;
		watch->next_touched = hub.first_touched;
		if (hub.first_touched != NULL)
			hub.first_touched->prev_touched = watch;
		hub.first_touched = watch;
	}
	if (watch->nbatch == watch->batch_cap)
	{
		size_t		cap = watch->batch_cap == 0 ? 4 : 2 * watch->batch_cap;

		watch->batch = mcx_grow(hub.scratch, watch->batch,
								watch->nbatch * sizeof(*watch->batch),
								cap * sizeof(*watch->batch));
		watch->batch_cap = cap;
	}
	watch->batch[watch->nbatch++] = at->kv;
	hub.batch_bytes += BATCH_EVENT_BYTES + at->kv->item.key_len +
		at->kv->value_len;
}

static void
flush(const StoreVersion *v)
{
	while (hub.first_touched != NULL)
		tell(hub.first_touched, v);
	hub.batch_bytes = 0;
	mcx_reset(hub.scratch);
}

static void
tell(Watch *watch, const StoreVersion *v)
{
	const KvVersion **batch = watch->batch;
	size_t		n = watch->nbatch;

	untouch(watch);
	if (watch->ops->may_take == NULL || watch->ops->may_take(watch))
	{
		watch->ops->events(watch, v, batch, n);
		(void) INJECTION_POINT("watch-told");
		return;
	}
	leave_behind(watch);
	fall_behind(watch, watch->batch_position);
	watch->is_stalled = true;
}

static void
end(Watch *watch, const StoreVersion *v, ErrCode error)
{
	watch_stop(watch);
	watch->ops->ended(watch, v, error);
}

/* ---- who stands where ---- */

/* behind, registered, and able to take something? */
static bool
is_eligible(Watch *watch)
{
	if (watch->is_stalled || !is_registered(watch->item.node))
		return false;
	if (watch->ops->may_take == NULL || watch->ops->may_take(watch))
		return true;
	watch->is_stalled = true;
	return false;
}

/* at the end of the list */
static void
fall_behind(Watch *watch, uint64_t position)
{
	watch->position = position;
	watch->is_stalled = false;
	watch->is_behind = true;
	watch->next_behind = NULL;
	watch->prev_behind = hub.last_behind;
	if (hub.last_behind != NULL)
		hub.last_behind->next_behind = watch;
	else
		hub.first_behind = watch;
	hub.last_behind = watch;
}

/* harmless for one that is not behind */
static void
leave_behind(Watch *watch)
{
	if (!watch->is_behind)
		return;
	if (watch->prev_behind != NULL)
		watch->prev_behind->next_behind = watch->next_behind;
	else
		hub.first_behind = watch->next_behind;
	if (watch->next_behind != NULL)
		watch->next_behind->prev_behind = watch->prev_behind;
	else
		hub.last_behind = watch->prev_behind;
	watch->is_behind = false;
	hub.nscanning -= watch->is_scanning;
	watch->is_scanning = false;
}

static void
all_fall_behind(uint64_t position)
{
	for (Watch *watch = hub.first; watch != NULL; watch = watch->next)
		if (!watch->is_behind)
			fall_behind(watch, position);
	hub.is_due = true;
}

static void
untouch(Watch *watch)
{
	if (watch->nbatch == 0)
		return;
	if (watch->prev_touched != NULL)
		watch->prev_touched->next_touched = watch->next_touched;
	else
		hub.first_touched = watch->next_touched;
	if (watch->next_touched != NULL)
		watch->next_touched->prev_touched = watch->prev_touched;
	watch->batch = NULL;
	watch->nbatch = watch->batch_cap = 0;
}

/* for the gate before a compaction's removal */
static void
tell_how_far(void)
{
	uint64_t	position = hub.synced;

	for (Watch *watch = hub.first_behind; watch != NULL;
		 watch = watch->next_behind)
		if (watch->position < position)
			position = watch->position;
	atomic_store(&control_self()->watch_read, position);
}

/* ---- registration ---- */

static bool
is_registered(const WatchNode *node)
{
	return hub.confirmed >= (hub.all_op != 0 ? hub.all_op : node->tag);
}

static void
add_op(RegistryOpKind kind, const KeyRange *range)
{
	hub.next_op++;
	if (hub.all_op != 0)
		return;
	if (hub.nrecords > RECORDS_MAX ||
		range->begin.len + range->end.len > RECORD_BYTES / 2)
	{
		/* whatever has not been sent yet is part of it */
		hub.all_op = hub.next_op - 1;
		kind = REGISTRY_ALL;
	}
	if (hub.last_record == NULL || hub.last_record->ops.len > RECORD_BYTES / 2)
		open_record();
	registry_put_op(&hub.last_record->ops, kind, range);
	hub.last_record->last_op = hub.next_op - 1;
}

static void
open_record(void)
{
	OpsRecord  *record = xcalloc(1, sizeof(*record));

	if (hub.last_record != NULL)
		hub.last_record->next = record;
	else
		hub.first_record = record;
	hub.last_record = record;
	hub.nrecords++;
}

/*
 * One record at a time; it is closed when it is sent.  Without room in the
 * ring it is tried again in the next turn, which an answer brings.
 */
static void
send_ops(void)
{
	OpsRecord  *record = hub.first_record;

	if (hub.is_sending || record == NULL ||
		!ring_submit(SUBMIT_WATCH, WATCH_RING_ID, buf_bytes(&record->ops)))
		return;
	(void) INJECTION_POINT("watch-submitted");
	hub.is_sending = true;
	hub.sent = record->last_op;
	hub.first_record = record->next;
	if (hub.first_record == NULL)
		hub.last_record = NULL;
	hub.nrecords--;
	buf_free(&record->ops);
	free(record);
}
