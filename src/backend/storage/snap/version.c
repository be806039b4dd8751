/*
 * version.c
 *	  Which version readers see, and when its memory may be used again.
 *
 *	writer                               reader
 *	------                               ------
 *	build the draft                      e = epoch
 *	root = draft          (seq_cst)      own pin word = e       (seq_cst)
 *	epoch = epoch + 1     (seq_cst)      v = root               (seq_cst)
 *	look at all pin words (seq_cst)      ... read v ...
 *	free what is older than all          own pin word = 0       (release)
 *
 * What was retired while epoch was E is out of reach of whoever pinned a later
 * epoch: the root had been replaced before the epoch moved.  A reader whose
 * pin word the writer did not see yet stores it after the writer looked, so it
 * loads the root after that, too, and gets the new one; that it then holds an
 * old epoch costs memory for a while and nothing else.
 *
 * Retired pieces stand in a queue in the private heap of the writer, oldest
 * first.  Those of the open draft carry the current epoch, and so wait for the
 * publish at least.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "storage/snap/store.h"
#include "storage/snap/store_private.h"

typedef struct Retired
{
	const void *p;
	size_t		size;
	uint64_t	epoch;			/* readers of this one or older may see it */
} Retired;

#define RETIRED_PER_BLOCK 1024

typedef struct RetiredBlock
{
	struct RetiredBlock *next;
	uint32_t	head;			/* the oldest is pieces[head] */
	uint32_t	tail;
	Retired		pieces[RETIRED_PER_BLOCK];
} RetiredBlock;

/* ---- of every process ---- */
static StorePinWord *own_pin_word;
static uint32_t pin_depth;
static const StoreVersion *pinned_version;

/* what is held over turns of the event loop */
static StorePinWord *own_hold_word;
static StoreHold *holds;

static StorePinWord *(*pin_word_get) (uint32_t i);
static uint32_t npin_words;

/* ---- of the writer ---- */
static StoreVersion *draft;
static const StoreVersion *published;
static RetiredBlock *oldest_block;
static RetiredBlock *newest_block;
static RetiredBlock *spare_block;
static size_t retired_bytes;

/* the first piece that the open draft retired; NULL block: none so far */
static RetiredBlock *draft_block;
static uint32_t draft_index;

static void show_oldest_hold(void);
static uint64_t oldest_pinned_epoch(void);
static void free_before(uint64_t epoch);
static void show_usage(void);
static void retired_push(const void *p, size_t size);
static const Retired *retired_oldest(void);
static void retired_pop(void);

/* ---- readers ---- */

void
store_set_pin_words(StorePinWord *(*get) (uint32_t i), uint32_t n)
{
	pin_word_get = get;
	npin_words = get == NULL ? 0 : n;
}

void
store_set_own_pin_word(StorePinWord *word)
{
	own_pin_word = word;
	pin_depth = 0;
	pinned_version = NULL;
}

const StoreVersion *
store_pin(void)
{
	uint64_t	epoch;

	if (pin_depth > 0)
	{
		pin_depth++;
		return pinned_version;
	}
	/* what nobody can see pinned would be freed under the reader */
	if (unlikely(own_pin_word == NULL))
		elog_fatal("the store cannot be read: this process has no slot");

	/* first, so that whoever sees the epoch finds its age, too */
	atomic_store_explicit(&own_pin_word->since_ms, clock_coarse_ms(),
						  memory_order_relaxed);
	epoch = atomic_load(&store_header->epoch);
	atomic_store(&own_pin_word->epoch, epoch);
	pinned_version = atomic_load(&store_header->root);
	pin_depth = 1;
	(void) INJECTION_POINT("store-pinned");
	return pinned_version;
}

void
store_unpin(void)
{
	Assert(pin_depth > 0);
	if (--pin_depth > 0)
		return;
	pinned_version = NULL;
	atomic_store_explicit(&own_pin_word->epoch, 0, memory_order_release);
}

/* ---- readers that take long ---- */

void
store_set_own_hold_word(StorePinWord *word)
{
	own_hold_word = word;
	holds = NULL;
}

/*
 * The word is set while the pin still protects the version, and the writer
 * looks at the pin word first: if it finds that one empty, it finds this one
 * set.
 */
const StoreVersion *
store_hold(StoreHold *hold)
{
	hold->version = store_pin();
	hold->epoch = atomic_load(&own_pin_word->epoch);
	if (unlikely(own_hold_word == NULL))
		elog_fatal("the store cannot be held: this process has no slot");
	hold->next = holds;
	holds = hold;
	show_oldest_hold();
	store_unpin();
	return hold->version;
}

void
store_release(StoreHold *hold)
{
	StoreHold **link = &holds;

	if (hold->version == NULL)
		return;
	while (*link != hold)
		link = &(*link)->next;
	*link = hold->next;
	hold->version = NULL;
	show_oldest_hold();
}

/* Later holds are safe under an earlier epoch, too. */
static void
show_oldest_hold(void)
{
	uint64_t	oldest = 0;

	for (const StoreHold *hold = holds; hold != NULL; hold = hold->next)
	{
		if (oldest == 0 || hold->epoch < oldest)
			oldest = hold->epoch;
	}
	if (oldest == atomic_load(&own_hold_word->epoch))
		return;
	atomic_store_explicit(&own_hold_word->since_ms, clock_monotonic_ms(),
						  memory_order_relaxed);
	atomic_store(&own_hold_word->epoch, oldest);
}

/* ---- the writer ---- */

StoreVersion *
store_draft(void)
{
	return draft;
}

void
store_publish(void)
{
	const StoreVersion *old = published;

	published = draft;
	atomic_store(&store_header->root, published);
	(void) INJECTION_POINT("store-root-replaced");
	/* the first one lies in the header */
	if (old != &store_header->first)
		retired_push(old, sizeof(*old));
	draft_block = NULL;
	/* only now: pieces of this draft keep the epoch that has just ended */
	atomic_fetch_add(&store_header->epoch, 1);

	draft = store_alloc(sizeof(*draft));
	*draft = *published;
	draft->number++;
}

void
store_retire(const void *p, size_t size)
{
	if (p == NULL)
		return;
	retired_push(p, size);
	if (draft_block == NULL)
	{
		draft_block = newest_block;
		draft_index = newest_block->tail - 1;
	}
}

size_t
store_reclaim(void)
{
	const Retired *piece = retired_oldest();

	/* nothing, or nothing that was published: spare the look at all slots */
	if (piece != NULL && piece->epoch != atomic_load(&store_header->epoch))
		free_before(oldest_pinned_epoch());
	show_usage();
	return retired_bytes;
}

size_t
store_bytes_retired(void)
{
	return retired_bytes;
}

uint64_t
store_epoch_mark(void)
{
	uint64_t	mark = atomic_fetch_add(&store_header->epoch, 1);

	/*
	 * Readers that pin from now on carry the new epoch and still see what the
	 * open draft has retired: those pieces move on with it.
	 */
	for (RetiredBlock *block = draft_block; block != NULL; block = block->next)
	{
		uint32_t	first = block == draft_block ? draft_index : block->head;

		for (uint32_t i = first; i < block->tail; i++)
			block->pieces[i].epoch = mark + 1;
	}
	return mark;
}

bool
store_epoch_passed(uint64_t mark)
{
	return oldest_pinned_epoch() > mark;
}

/* ---- shared with store.c ---- */

void
store_open_draft(void)
{
	published = &store_header->first;
	draft = store_alloc(sizeof(*draft));
	*draft = *published;
	draft->number++;
}

void
store_forget_versions(void)
{
	while (oldest_block != NULL)
	{
		RetiredBlock *next = oldest_block->next;

		free(oldest_block);
		oldest_block = next;
	}
	free(spare_block);
	newest_block = draft_block = spare_block = NULL;
	retired_bytes = 0;
	draft = NULL;
	published = NULL;
	pin_depth = 0;
	pinned_version = NULL;
}

static void
free_before(uint64_t epoch)
{
	for (uint32_t n = 0; n < STORE_RECLAIM_MAX; n++)
	{
		const Retired *piece = retired_oldest();

		if (piece == NULL || piece->epoch >= epoch)
			break;
		retired_bytes -= piece->size;
		store_free((void *) piece->p, piece->size);
		retired_pop();
	}
}

/* for the metrics */
static void
show_usage(void)
{
	RaftStatus *status = &store_header->raft_status;

	atomic_store_explicit(&status->store_used_bytes, store_bytes_used(),
						  memory_order_relaxed);
	atomic_store_explicit(&status->store_retired_bytes, retired_bytes,
						  memory_order_relaxed);
}

/* ---- pins ---- */

/* the current epoch if nobody is pinned */
static uint64_t
oldest_pinned_epoch(void)
{
	uint64_t	oldest = atomic_load(&store_header->epoch);

	for (uint32_t i = 0; i < npin_words; i++)
	{
		uint64_t	epoch = atomic_load(&pin_word_get(i)->epoch);

		if (epoch != 0 && epoch < oldest)
			oldest = epoch;
	}
	return oldest;
}

/* ---- the queue of retired pieces ---- */

static void
retired_push(const void *p, size_t size)
{
	RetiredBlock *block = newest_block;

	if (block == NULL || block->tail == RETIRED_PER_BLOCK)
	{
		block = spare_block != NULL ? spare_block : xmalloc(sizeof(*block));
		spare_block = NULL;
		block->next = NULL;
		block->head = block->tail = 0;
		if (newest_block != NULL)
			newest_block->next = block;
		else
			oldest_block = block;
		newest_block = block;
	}
	block->pieces[block->tail++] = (Retired) {
		.p = p,
		.size = size,
		.epoch = atomic_load_explicit(&store_header->epoch,
									  memory_order_relaxed),
	};
	retired_bytes += size;
}

static const Retired *
retired_oldest(void)
{
	if (oldest_block == NULL || oldest_block->head == oldest_block->tail)
		return NULL;
	return &oldest_block->pieces[oldest_block->head];
}

static void
retired_pop(void)
{
	RetiredBlock *block = oldest_block;

	if (++block->head < RETIRED_PER_BLOCK)
		return;
	oldest_block = block->next;
	if (oldest_block == NULL)
		newest_block = NULL;
	if (spare_block == NULL)
		spare_block = block;
	else
		free(block);
}
