/*
 * control.c
 *	  The control area: made by the postmaster, written by everybody.
 *
 *	ControlHeader | ProcSlot[nslots] | subsystem | subsystem | ...
 *
 * One shared anonymous mapping that the postmaster makes before the first
 * fork, so it has the same address everywhere.  Address space is reserved for
 * the worst case; pages appear when they are used.  Subsystems begin on pages
 * of their own.  It is left out of core dumps: the rings hold clients' values.
 *
 * Slots are given away and put right by the postmaster alone, without locks,
 * because a lock could be held by the process that has just been killed.  The
 * generation of a slot is odd while a process owns it and even otherwise:
 *
 *	FREE g=2 --claim--> STARTING g=3 --attach--> HANDSHAKE, IDLE, ACTIVE g=3
 *	 ^                                                |
 *	 '-- pin cleared, rings empty <-- DEAD g=4 <------' process is gone
 *
 * Races that look harmful and are not:
 * - The raft worker may be writing an answer for the dead owner while the slot
 *	 is reaped, or even while its successor runs.  Entries carry the generation
 *	 of the one they are for; see ring.c.
 * - The store's writer may see the pin of a dead process until it is cleared
 *	 here.  That only delays freeing.
 * - Readers of the activity view may see user and peer half written.  The
 *	 strings always end within their arrays, as the last byte is never written.
 */
#include "server.h"

/* system */
#include <sys/mman.h>
#include <unistd.h>

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "storage/snap/store.h"

#define PAGE_BYTES 4096
#define COUNTER_SHARDS 8
#define MAX_SLOTS 65536			/* hash slots pack a slot number in 16 bits */

/*
 * Counters of the processes whose slot has the same number modulo the shards:
 * those that a backend adds to lie together, and few share them.
 */
typedef struct CounterShard
{
	alignas(CACHE_LINE_BYTES) _Atomic uint64_t counters[COUNTER_COUNT];
	_Atomic uint64_t cells[STAT_CELLS];
} CounterShard;

/* written by few processes each: not sharded */
typedef struct Histogram
{
	alignas(CACHE_LINE_BYTES) _Atomic uint64_t counts[HISTOGRAM_MAX_BUCKETS + 1];
	_Atomic uint64_t sum_us;
} Histogram;

typedef struct ControlHeader
{
	_Atomic uint64_t reload_generation; /* written by the postmaster */
	Histogram	histograms[HISTOGRAM_COUNT];
	CounterShard shards[COUNTER_SHARDS];
} ControlHeader;

/* what subsystemlist.h names; their headers may lie above this layer */
#define SUBSYSTEM(symbol, size_fn, init_fn, reap_fn) \
	extern size_t size_fn(const ControlSizes *); \
	extern void init_fn(void *, const ControlSizes *); \
	extern void reap_fn(int);
#include "storage/ipc/subsystemlist.h"
#undef SUBSYSTEM

static const struct
{
	size_t		(*size) (const ControlSizes *sizes);
	void		(*init) (void *memory, const ControlSizes *sizes);
	void		(*reap) (int slot);
} subsystems[SUBSYSTEM_COUNT] = {
#define SUBSYSTEM(symbol, size_fn, init_fn, reap_fn) \
	{size_fn, init_fn, reap_fn},
#include "storage/ipc/subsystemlist.h"
#undef SUBSYSTEM
};

static const struct
{
	const char *name;
	const char *help;
} counter_texts[COUNTER_COUNT] = {
#define COUNTER(symbol, name, help) {name, help},
#include "storage/ipc/counterlist.h"
#undef COUNTER
};

static const HistogramInfo histogram_infos[HISTOGRAM_COUNT] = {
#define HISTOGRAM(symbol, name, first_us, buckets, help) \
	{name, help, first_us, buckets},
#include "storage/ipc/histogramlist.h"
#undef HISTOGRAM
};

#define HISTOGRAM(symbol, name, first_us, buckets, help) \
	static_assert(buckets <= HISTOGRAM_MAX_BUCKETS, "too many buckets in " name);
#include "storage/ipc/histogramlist.h"
#undef HISTOGRAM

/* set in the postmaster before the first fork, inherited by the children */
static ControlSizes area_sizes;
static uint8_t *area;
static size_t area_bytes;
static ControlHeader *header;
static ProcSlot *slots;
static void *subsystem_memory[SUBSYSTEM_COUNT];

/* postmaster: where to look first for a free slot */
static uint32_t claim_hint;

/* set by control_attach_slot() */
static int	own_slot = -1;

static size_t lay_out(const ControlSizes *sizes,
					  size_t offsets[SUBSYSTEM_COUNT]);
static CounterShard *own_shard(void);
static size_t slots_offset(void);
static void blank_slot(ProcSlot *slot);
static StorePinWord *pin_word(uint32_t i);
static void set_text(char *field, size_t size, const char *text);

bool
control_create(const ControlSizes *sizes)
{
	size_t		offsets[SUBSYSTEM_COUNT];
	size_t		bytes;

	Assert(area == NULL);
	if (sizes->nslots == 0 || sizes->nslots > MAX_SLOTS)
	{
		errno = EINVAL;
		return false;
	}
	bytes = lay_out(sizes, offsets);
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
	{
		area = NULL;
		return false;
	}
	/* advice: a kernel that does not take it only dumps more */
	(void) madvise(area, bytes, MADV_DONTDUMP);
	area_bytes = bytes;
	area_sizes = *sizes;
	header = (ControlHeader *) area;
	slots = (ProcSlot *) (area + slots_offset());
	for (int i = 0; i < SUBSYSTEM_COUNT; i++)
	{
		subsystem_memory[i] = area + offsets[i];
		subsystems[i].init(subsystem_memory[i], &area_sizes);
	}
	claim_hint = 0;
	store_set_pin_words(pin_word, 2 * sizes->nslots);
	return true;
}

void
control_destroy(void)
{
	if (area == NULL)
		return;
	store_set_pin_words(pin_word, 0);
	munmap(area, area_bytes);
	area = NULL;
	header = NULL;
	slots = NULL;
	memset(subsystem_memory, 0, sizeof(subsystem_memory));
	own_slot = -1;
}

const ControlSizes *
control_sizes(void)
{
	return &area_sizes;
}

/* ---- slots, in the postmaster ---- */

int
control_claim_slot(void)
{
	/* begins after the slot given away last: late readers of views find it */
	for (uint32_t n = 0; n < area_sizes.nslots; n++)
	{
		uint32_t	i = (claim_hint + n) % area_sizes.nslots;
		ProcSlot   *slot = &slots[i];

		if (atomic_load(&slot->state) != SLOT_FREE)
			continue;
		blank_slot(slot);
		slot->started_ms = clock_realtime_ms();
		atomic_fetch_add(&slot->generation, 1);
		atomic_store(&slot->state, SLOT_STARTING);
		claim_hint = (i + 1) % area_sizes.nslots;
		return (int) i;
	}
	return -1;
}

void
control_mark_internal(int slot)
{
	atomic_store(&control_slot(slot)->is_internal, true);
}

void
control_reap_slot(int slot_number)
{
	ProcSlot   *slot = control_slot(slot_number);

	Assert(atomic_load(&slot->generation) % 2 == 1);

	/*
	 * The generation goes first: from here on nobody acts for the old owner,
	 * and who had begun to finds out when he looks again.
	 */
	atomic_fetch_add(&slot->generation, 1);
	atomic_store(&slot->state, SLOT_DEAD);
	atomic_store(&slot->pin.epoch, 0);
	atomic_store(&slot->hold.epoch, 0);
	for (int i = 0; i < SUBSYSTEM_COUNT; i++)
		subsystems[i].reap(slot_number);
	blank_slot(slot);
	atomic_store(&slot->state, SLOT_FREE);
}

void
control_release_slot_memory(int slot)
{
	ring_release_memory(slot);
}

/* subsystemlist.h: for those who own nothing by slot */
void
control_reap_nothing(int slot)
{
}

/* ---- slots, in their owners ---- */

void
control_attach_slot(int slot_number)
{
	ProcSlot   *slot = control_slot(slot_number);

	own_slot = slot_number;
	atomic_store(&slot->pid, (int32_t) getpid());
	store_set_own_pin_word(&slot->pin);
	store_set_own_hold_word(&slot->hold);
	/* the raft worker may have spoken to the owner before us */
	atomic_store(&slot->watch_from, 0);
	atomic_store(&slot->state, SLOT_HANDSHAKE);
}

int
control_own_slot(void)
{
	return own_slot;
}

ProcSlot *
control_slot(int slot)
{
	Assert(slot >= 0 && (uint32_t) slot < area_sizes.nslots);
	return &slots[slot];
}

ProcSlot *
control_self(void)
{
	return own_slot < 0 ? NULL : &slots[own_slot];
}

void
control_set_user(const char *user)
{
	if (own_slot >= 0)
		set_text(slots[own_slot].user, SLOT_USER_BYTES, user);
}

void
control_set_peer(const char *peer)
{
	if (own_slot >= 0)
		set_text(slots[own_slot].peer, SLOT_PEER_BYTES, peer);
}

void
control_note_watches(int change)
{
	_Atomic uint32_t *n;

	if (own_slot < 0)
		return;
	n = &slots[own_slot].nwatches;
	/* nobody else writes it */
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) +
						  (uint32_t) change, memory_order_relaxed);
}

/* ---- reload, counters, subsystems ---- */

uint64_t
control_reload_generation(void)
{
	return header == NULL ? 0 : atomic_load(&header->reload_generation);
}

void
control_bump_reload_generation(void)
{
	atomic_fetch_add(&header->reload_generation, 1);
}

void
counter_add(CounterId id, uint64_t n)
{
	/* tools and unit tests run without the area */
	if (header == NULL)
		return;
	/* nothing is ordered by a counter */
	atomic_fetch_add_explicit(&own_shard()->counters[id], n,
							  memory_order_relaxed);
}

uint64_t
counter_get(CounterId id)
{
	uint64_t	sum = 0;

	for (int i = 0; header != NULL && i < COUNTER_SHARDS; i++)
		sum += atomic_load_explicit(&header->shards[i].counters[id],
									memory_order_relaxed);
	return sum;
}

void
stat_add(uint32_t cell, uint64_t n)
{
	Assert(cell < STAT_CELLS);
	if (header == NULL)
		return;
	atomic_fetch_add_explicit(&own_shard()->cells[cell], n,
							  memory_order_relaxed);
}

uint64_t
stat_get(uint32_t cell)
{
	uint64_t	sum = 0;

	Assert(cell < STAT_CELLS);
	for (int i = 0; header != NULL && i < COUNTER_SHARDS; i++)
		sum += atomic_load_explicit(&header->shards[i].cells[cell],
									memory_order_relaxed);
	return sum;
}

void
histogram_observe(HistogramId id, int64_t us)
{
	const HistogramInfo *info = &histogram_infos[id];
	uint64_t	time_us = us < 0 ? 0 : (uint64_t) us;
	uint32_t	bucket = histogram_bucket(info->first_us, info->nbuckets,
										  time_us);

	if (header == NULL)
		return;
	atomic_fetch_add_explicit(&header->histograms[id].counts[bucket], 1,
							  memory_order_relaxed);
	atomic_fetch_add_explicit(&header->histograms[id].sum_us, time_us,
							  memory_order_relaxed);
}

/*
 * The sum may be of a moment before or after the counts: what comes in while
 * this reads is in one and not in the other.
 */
void
histogram_get(HistogramId id, HistogramValues *values)
{
	*values = (HistogramValues) {.sum_us = 0};
	if (header == NULL)
		return;
	for (uint32_t i = 0; i <= histogram_infos[id].nbuckets; i++)
		values->counts[i] =
			atomic_load_explicit(&header->histograms[id].counts[i],
								 memory_order_relaxed);
	values->sum_us = atomic_load_explicit(&header->histograms[id].sum_us,
										  memory_order_relaxed);
}

const HistogramInfo *
histogram_info(HistogramId id)
{
	return &histogram_infos[id];
}

/* the first whose bound is not below; nbuckets: none */
uint32_t
histogram_bucket(uint64_t first_us, uint32_t nbuckets, uint64_t us)
{
	uint32_t	bucket = 0;

	while (bucket < nbuckets && us > first_us << bucket)
		bucket++;
	return bucket;
}

const char *
counter_name(CounterId id)
{
	return counter_texts[id].name;
}

const char *
counter_help(CounterId id)
{
	return counter_texts[id].help;
}

void *
control_subsystem(SubsystemId id)
{
	return subsystem_memory[id];
}

/* ---- static ---- */

static CounterShard *
own_shard(void)
{
	return &header->shards[own_slot < 0 ? 0 : own_slot % COUNTER_SHARDS];
}

/* Where each subsystem begins; returns the size of the whole area. */
static size_t
lay_out(const ControlSizes *sizes, size_t offsets[SUBSYSTEM_COUNT])
{
	size_t		bytes = slots_offset() + sizes->nslots * sizeof(ProcSlot);

	for (int i = 0; i < SUBSYSTEM_COUNT; i++)
	{
		bytes = align_up(bytes, PAGE_BYTES);
		offsets[i] = bytes;
		bytes += subsystems[i].size(sizes);
	}
	return align_up(bytes, PAGE_BYTES);
}

static size_t
slots_offset(void)
{
	return align_up(sizeof(ControlHeader), PAGE_BYTES);
}

/* what the activity view shows of a slot; the generation stays */
static void
blank_slot(ProcSlot *slot)
{
	atomic_store(&slot->pid, 0);
	atomic_store(&slot->pin.epoch, 0);
	atomic_store(&slot->pin.since_ms, 0);
	atomic_store(&slot->hold.epoch, 0);
	atomic_store(&slot->hold.since_ms, 0);
	atomic_store(&slot->completions_armed, 0);
	atomic_store(&slot->watch_from, 0);
	atomic_store(&slot->watch_read, 0);
	atomic_store(&slot->nstreams, 0);
	atomic_store(&slot->nwatches, 0);
	atomic_store(&slot->current_rpc, 0);
	atomic_store(&slot->wait, 0);
	atomic_store(&slot->is_internal, false);
	slot->started_ms = 0;
	memset(slot->user, 0, sizeof(slot->user));
	memset(slot->peer, 0, sizeof(slot->peer));
}

/*
 * A slot's pin before its hold, as store_hold() wants it; next to each other,
 * for they lie in one cache line and are looked at for all slots.
 */
static StorePinWord *
pin_word(uint32_t i)
{
	ProcSlot   *slot = &slots[i / 2];

	return i % 2 == 0 ? &slot->pin : &slot->hold;
}

/* cut, rest blanked; the last byte of the field is never written */
static void
set_text(char *field, size_t size, const char *text)
{
	size_t		len = text == NULL ? 0 : strnlen(text, size - 1);

	if (len > 0)
		memcpy(field, text, len);
	memset(field + len, 0, size - 1 - len);
}
