/*
 * registry.c
 *	  Who watches what: kept by the raft worker's apply thread.
 *
 * All of it is private memory of that thread: a tree of ranges, on each the
 * backends that watch it, and for each process slot the list of its ranges.
 * A backend that watches too much to keep is taken to watch everything: it is
 * woken for nothing then, but misses nothing.
 *
 * Whoever dies leaves his ranges behind; they are found by the generation of
 * his slot, when he should be woken or once a second, and thrown away.
 *
 * Thread: apply.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "mvcc/vlog.h"
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "watch/registry.h"
#include "watch/watchtree.h"

/* beyond either a backend watches everything */
#define SLOT_MAX_RANGES 100000
#define SLOT_MAX_BYTES ((size_t) 16 * 1024 * 1024)
#define SWEEP_MS 1000
/* so long a compaction waits for watchers that are late */
#define GATE_MS 1000

typedef struct RangeItem
{
	WatchItem	item;			/* first */
	uint32_t	slot;
	struct RangeItem *prev;		/* of the slot */
	struct RangeItem *next;
} RangeItem;

typedef struct SlotRanges
{
	uint64_t	generation;		/* of the owner they belong to */
	RangeItem  *first;
	uint64_t	n;
	size_t		bytes;
	bool		is_all;
	uint64_t	told;			/* notification in which it was told last */
} SlotRanges;

static struct
{
	WatchTree	tree;
	SlotRanges *slots;
	uint32_t	nslots;
	uint64_t	nranges;
	uint64_t	notified;		/* position */
	uint64_t	auth_stamp;
	uint64_t	turn;			/* counts notifications */
	bool		has_told;
	int64_t		swept_ms;
	int64_t		gate_revision;	/* asked for; 0: none */
	int64_t		gate_ms;		/* when it opens anyway */
} registry;

static bool get_op(Cursor *cur, RegistryOpKind *kind, KeyRange *range);
static void follow_generation(uint32_t slot, uint64_t generation);
static void add(uint32_t slot, const KeyRange *range);
static void remove_range(uint32_t slot, const KeyRange *range);
static void take_all(uint32_t slot);
static void drop(RangeItem *item);
static void drop_slot(uint32_t slot);
static bool is_alive(uint32_t slot);
static void tell_item(WatchItem *item, void *arg);
static void tell(uint32_t slot, uint64_t position);
static void tell_everybody(uint64_t position);

/* ---- backends write it, the worker reads it ---- */

void
registry_put_op(Buf *out, RegistryOpKind kind, const KeyRange *range)
{
	buf_put_u8(out, (uint8_t) kind);
	if (kind == REGISTRY_ALL)
		return;
	buf_put_u8(out, (uint8_t) range->kind);
	buf_put_bytes(out, range->begin);
	if (range->kind == KEYRANGE_SPAN)
		buf_put_bytes(out, range->end);
}

static bool
get_op(Cursor *cur, RegistryOpKind *kind, KeyRange *range)
{
	uint8_t		byte;

	*range = (KeyRange) {.kind = KEYRANGE_FROM};
	if (!cursor_get_u8(cur, &byte) || byte < REGISTRY_ADD ||
		byte > REGISTRY_ALL)
		return false;
	*kind = (RegistryOpKind) byte;
	if (*kind == REGISTRY_ALL)
		return true;
	if (!cursor_get_u8(cur, &byte) || byte > KEYRANGE_FROM)
		return false;
	range->kind = (KeyRangeKind) byte;
	if (!cursor_get_bytes(cur, &range->begin))
		return false;
	if (range->kind == KEYRANGE_SPAN && !cursor_get_bytes(cur, &range->end))
		return false;
	return !keyrange_is_empty(range);
}

/* ---- Thread: apply ---- */

void
registry_init(const StoreVersion *v)
{
	registry.nslots = control_sizes()->nslots;
	registry.slots = xcalloc(registry.nslots, sizeof(*registry.slots));
	registry.notified = v->log.end;
	registry.auth_stamp = store_auth_stamp(v);
	atomic_store(&store_raft_status()->watch_notified, v->log.end);
}

void
registry_fini(void)
{
	for (uint32_t i = 0; i < registry.nslots; i++)
		drop_slot(i);
	free(registry.slots);
	memset(&registry, 0, sizeof(registry));
}

bool
registry_take(uint32_t slot, uint64_t generation, Bytes ops)
{
	Cursor		cur = cursor_make(ops);
	RegistryOpKind kind;
	KeyRange	range;

	follow_generation(slot, generation);
	while (cursor_left(&cur) > 0)
	{
		if (!get_op(&cur, &kind, &range))
			return false;
		if (kind == REGISTRY_ADD)
			add(slot, &range);
		else if (kind == REGISTRY_REMOVE)
			remove_range(slot, &range);
		else
			take_all(slot);
	}
	return true;
}

bool
registry_notify(const StoreVersion *v)
{
	uint64_t	position = registry.notified;

	registry.turn++;
	registry.has_told = false;
	if (registry.nranges > 0)
	{
		/* trimmed before it was told: only after a start, when nobody watches */
		if (position < v->log.first)
			position = v->log.first;
		for (; position < v->log.end; position++)
		{
			const KvVersion *kv = vlog_get(&v->log, position);

			if (kv != NULL)
				watchtree_find(&registry.tree, kvversion_key(kv), tell_item,
							   &position);
		}
		if (store_auth_stamp(v) != registry.auth_stamp)
			tell_everybody(v->log.end);
	}
	registry.notified = v->log.end;
	registry.auth_stamp = store_auth_stamp(v);
	atomic_store(&store_raft_status()->watch_notified, v->log.end);
	return registry.has_told;
}

bool
registry_gate(int64_t revision)
{
	const VersionLog *log = &store_draft()->log;
	uint64_t	position = vlog_seek(log, revision);
	int64_t		now_ms = clock_monotonic_ms();
	bool		is_open = true;

	if (revision != registry.gate_revision)
	{
		registry.gate_revision = revision;
		registry.gate_ms = now_ms + GATE_MS;
		/* those whose keys are quiet have not looked for long */
		registry.turn++;
		tell_everybody(log->end);
		ring_flush_completions();
	}
	for (uint32_t i = 0; i < registry.nslots && is_open; i++)
		is_open = registry.slots[i].n == 0 || !is_alive(i) ||
			atomic_load(&control_slot((int) i)->watch_read) >= position;
	return is_open || now_ms >= registry.gate_ms;
}

void
registry_sweep(void)
{
	int64_t		now_ms;

	if (registry.nranges == 0)
		return;
	now_ms = clock_monotonic_ms();
	if (now_ms < registry.swept_ms + SWEEP_MS)
		return;
	registry.swept_ms = now_ms;
	for (uint32_t i = 0; i < registry.nslots; i++)
		if (registry.slots[i].n > 0 && !is_alive(i))
			drop_slot(i);
}

uint64_t
registry_count(void)
{
	return registry.nranges;
}

const char *
registry_check(void)
{
	return watchtree_check(&registry.tree);
}

/* ---- ranges of a slot ---- */

static void
follow_generation(uint32_t slot, uint64_t generation)
{
	Assert(slot < registry.nslots);
	if (registry.slots[slot].generation == generation)
		return;
	drop_slot(slot);
	registry.slots[slot].generation = generation;
}

static void
add(uint32_t slot, const KeyRange *range)
{
	SlotRanges *ranges = &registry.slots[slot];
	size_t		bytes = sizeof(RangeItem) + watchtree_range_bytes(range);
	RangeItem  *item;

	if (ranges->is_all)
		return;
	if (ranges->n >= SLOT_MAX_RANGES || ranges->bytes + bytes > SLOT_MAX_BYTES)
	{
		take_all(slot);
		return;
	}
	item = xcalloc(1, sizeof(*item));
	item->slot = slot;
	(void) watchtree_add(&registry.tree, range, &item->item);
	item->next = ranges->first;
	if (ranges->first != NULL)
		ranges->first->prev = item;
	ranges->first = item;
	ranges->n++;
	ranges->bytes += bytes;
	registry.nranges++;
	atomic_store(&store_raft_status()->watch_ranges, registry.nranges);
}

static void
remove_range(uint32_t slot, const KeyRange *range)
{
	WatchNode  *node = watchtree_lookup(&registry.tree, range);

	if (node == NULL || registry.slots[slot].is_all)
		return;
	for (WatchItem *item = node->first; item != NULL; item = item->next)
	{
		if (((RangeItem *) item)->slot == slot)
		{
			drop((RangeItem *) item);
			return;
		}
	}
}

static void
take_all(uint32_t slot)
{
	KeyRange	all = {.kind = KEYRANGE_FROM};
	uint64_t	generation = registry.slots[slot].generation;

	if (registry.slots[slot].is_all)
		return;
	drop_slot(slot);
	registry.slots[slot].generation = generation;
	add(slot, &all);
	registry.slots[slot].is_all = true;
}

static void
drop(RangeItem *item)
{
	SlotRanges *ranges = &registry.slots[item->slot];

	if (item->prev != NULL)
		item->prev->next = item->next;
	else
		ranges->first = item->next;
	if (item->next != NULL)
		item->next->prev = item->prev;
	ranges->n--;
	ranges->bytes -= sizeof(RangeItem) +
		watchtree_range_bytes(&item->item.node->range);
	registry.nranges--;
	atomic_store(&store_raft_status()->watch_ranges, registry.nranges);
	(void) watchtree_remove(&registry.tree, &item->item);
	free(item);
}

static void
drop_slot(uint32_t slot)
{
	SlotRanges *ranges = &registry.slots[slot];

	while (ranges->first != NULL)
		drop(ranges->first);
	*ranges = (SlotRanges) {0};
}

static bool
is_alive(uint32_t slot)
{
	return atomic_load(&control_slot((int) slot)->generation) ==
		registry.slots[slot].generation;
}

/* ---- telling ---- */

static void
tell_item(WatchItem *item, void *arg)
{
	tell(((RangeItem *) item)->slot, *(const uint64_t *) arg);
}

/* Once in a notification: the first position is the one that counts. */
static void
tell(uint32_t slot, uint64_t position)
{
	ProcSlot   *proc = control_slot((int) slot);
	uint64_t	nothing = 0;

	if (registry.slots[slot].told == registry.turn)
		return;
	registry.slots[slot].told = registry.turn;
	/* a successor would be woken for nothing; the sweep forgets the dead one */
	if (!is_alive(slot))
		return;
	/* one that has not taken what was said before is about to look anyway */
	if (atomic_compare_exchange_strong(&proc->watch_from, &nothing,
									   position + 1))
	{
		ring_notify(slot);
		registry.has_told = true;
	}
}

static void
tell_everybody(uint64_t position)
{
	for (uint32_t i = 0; i < registry.nslots; i++)
		if (registry.slots[i].n > 0)
			tell(i, position);
}
