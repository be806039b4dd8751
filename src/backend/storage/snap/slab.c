/*
 * slab.c
 *	  Size classes over runs of pages over extents.
 *
 *	range	|ext 0   |ext 1   |ext 2   | ... |high          total|
 *	pages	|rrrrrrrr|rr..LLLL|LL......|     | never used so far |
 *	              r: chunk of one size class     L: large piece   .: free run
 *
 * A small piece (up to 32 KB) comes from a chunk: a run of pages cut into
 * pieces of one class.  Which are free is a bitmap of at most 64 words with
 * one summary word above it, so that finding one is two bit scans.  Classes
 * go in steps of 16 bytes up to 128 and in eighths of a power of two above:
 * no piece above 128 bytes wastes more than 12.5 %.
 *
 * A large piece is a run of its own.  Free runs are kept in lists by length
 * and are joined with their neighbours when freed.  One PageEntry per 4 KB
 * page knows what the page belongs to; that finds the chunk of a pointer, the
 * neighbours of a run, and a pointer that was never ours or is free already.
 *
 * Memory above `high` has never been used; it is taken by whole extents, and
 * only when no free run fits.
 */
#include "server.h"

/* system */
#include <sys/mman.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "storage/snap/slab.h"

/*
 * Freed pieces are poisoned for the process that allocates.  Its shadow memory
 * is private: readers that were forked before it see no poison.
 */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define poison_piece(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define unpoison_piece(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define poison_piece(p, n) ((void) 0)
#define unpoison_piece(p, n) ((void) 0)
#endif

#define PAGES_PER_EXTENT ((uint32_t) (SLAB_EXTENT_BYTES / SLAB_PAGE_BYTES))

#define STEP_BYTES 16			/* of the small classes, and the alignment */
#define STEP_MAX_BYTES 128
#define NSTEPS (STEP_MAX_BYTES / STEP_BYTES)
#define EIGHTHS 8				/* classes per power of two above that */
#define NCLASSES (NSTEPS + EIGHTHS * 8) /* 128 bytes to 32 KB: 8 doublings */

#define CHUNK_MIN_PAGES 16
#define CHUNK_MIN_PIECES 16

/* free runs: one list per length up to 64 pages, then four per doubling */
#define EXACT_BUCKETS 64
#define BUCKETS_PER_DOUBLING 4
#define NBUCKETS (EXACT_BUCKETS + BUCKETS_PER_DOUBLING * 26)
#define BUCKET_WORDS ((NBUCKETS + 63) / 64)

/* runs of a list that may be too short are looked at up to this many */
#define BUCKET_SCAN 32

#define WIPE_BYTE 0xdd

typedef enum PageKind
{
	PAGE_UNUSED,				/* above high, or page of another's extent */
	PAGE_FREE,					/* first or last of a free run, or inside one */
	PAGE_LARGE,					/* first of a large piece */
	PAGE_LARGE_REST,
	PAGE_CHUNK
} PageKind;

/* a run of pages cut into pieces of one class */
typedef struct Chunk
{
	struct Chunk *next;			/* list of chunks of the class with a free piece */
	struct Chunk *prev;
	uint32_t	first_page;
	uint32_t	class;
	uint32_t	npieces;
	uint32_t	nfree;
	uint64_t	summary;		/* bit i: free_bits[i] is not 0 */
	uint64_t	free_bits[];
} Chunk;

typedef struct PageEntry
{
	union
	{
		Chunk	   *chunk;		/* PAGE_CHUNK */
		struct
		{
			uint32_t	next;	/* PAGE_FREE, first: list; 0 = none ... */
			uint32_t	prev;	/* ... so page numbers count from 1 here */
		}			link;
	};
	uint32_t	npages;			/* first and last of a free run, first of a large */
	uint32_t	kind;			/* PageKind */
} PageEntry;

typedef struct ExtentEntry
{
	uint16_t	used_pages;
	bool		is_backed;
	bool		was_used;
} ExtentEntry;

struct Slab
{
	uint8_t    *base;
	uint32_t	total_pages;
	uint32_t	high;			/* pages from here on were never used */
	const SlabOps *ops;
	void	   *ops_arg;
	bool		wipe_freed;

	PageEntry  *pages;			/* total_pages; touched as far as used */
	ExtentEntry *extents;
	Chunk	   *partial[NCLASSES];
	uint32_t	bucket[NBUCKETS];	/* first page + 1 of the first run, 0 = none */
	uint64_t	bucket_bits[BUCKET_WORDS];

	size_t		used_bytes;
	size_t		run_pages;
	size_t		backed_extents;
	size_t		free_extents;	/* backed and wholly free */
};

static uint32_t class_of(size_t size);
static size_t class_bytes(uint32_t class);
static uint32_t class_pages(uint32_t class);
static void *small_alloc(Slab *slab, uint32_t class);
static const char *small_free(Slab *slab, uint8_t *p, size_t size);
static void *large_alloc(Slab *slab, size_t size);
static const char *large_free(Slab *slab, uint8_t *p, size_t size);
static Chunk *chunk_create(Slab *slab, uint32_t class);
static void chunk_destroy(Slab *slab, Chunk *chunk);
static void chunk_link(Slab *slab, Chunk *chunk);
static void chunk_unlink(Slab *slab, Chunk *chunk);
static bool run_alloc(Slab *slab, uint32_t npages, uint32_t *first);
static void run_free(Slab *slab, uint32_t first, uint32_t npages);
static bool run_find(Slab *slab, uint32_t npages, uint32_t *first);
static bool run_find_in_bucket(Slab *slab, uint32_t bucket, uint32_t npages,
							   uint32_t nlook, uint32_t *first);
static bool grow(Slab *slab, uint32_t npages);
static void free_run_add(Slab *slab, uint32_t first, uint32_t npages);
static void free_run_remove(Slab *slab, uint32_t first);
static bool extents_take(Slab *slab, uint32_t first, uint32_t npages);
static void extents_give(Slab *slab, uint32_t first, uint32_t npages);
static bool extent_release(Slab *slab, uint32_t ext);
static bool extent_commit(Slab *slab, uint32_t ext);
static void *table_map(size_t bytes);

Slab *
slab_create(void *base, size_t bytes, const SlabOps *ops, void *arg)
{
	Slab	   *slab = xcalloc(1, sizeof(*slab));

	Assert(bytes % SLAB_EXTENT_BYTES == 0);
	/* page numbers plus one must fit 32 bits: 16 TB */
	if (bytes / SLAB_PAGE_BYTES >= UINT32_MAX - PAGES_PER_EXTENT)
		elog_fatal("a store of %zu bytes is too large", bytes);
	slab->base = base;
	slab->total_pages = (uint32_t) (bytes / SLAB_PAGE_BYTES);
	slab->ops = ops;
	slab->ops_arg = arg;
	slab->pages = table_map((size_t) slab->total_pages * sizeof(PageEntry));
	slab->extents = table_map(bytes / SLAB_EXTENT_BYTES * sizeof(ExtentEntry));
	return slab;
}

void
slab_destroy(Slab *slab)
{
	if (slab == NULL)
		return;
	for (uint32_t page = 0; page < slab->high; page++)
	{
		PageEntry  *entry = &slab->pages[page];

		if (entry->kind == PAGE_CHUNK && entry->chunk->first_page == page)
		{
			uint32_t	npages = class_pages(entry->chunk->class);

			free(entry->chunk);
			page += npages - 1;
		}
	}
	unpoison_piece(slab->base, (size_t) slab->high * SLAB_PAGE_BYTES);
	munmap(slab->pages, (size_t) slab->total_pages * sizeof(PageEntry));
	munmap(slab->extents,
		   slab->total_pages / PAGES_PER_EXTENT * sizeof(ExtentEntry));
	free(slab);
}

void *
slab_alloc(Slab *slab, size_t size)
{
	void	   *p;

	if (likely(size <= SLAB_SMALL_MAX_BYTES))
		p = small_alloc(slab, class_of(size));
	else
		p = large_alloc(slab, size);
	if (p != NULL)
		unpoison_piece(p, size);
	return p;
}

const char *
slab_free(Slab *slab, void *p, size_t size)
{
	uint8_t    *piece = p;

	if (unlikely(piece < slab->base ||
				 piece >= slab->base + (size_t) slab->high * SLAB_PAGE_BYTES))
		return "pointer is outside the store";
	if (likely(size <= SLAB_SMALL_MAX_BYTES))
		return small_free(slab, piece, size);
	return large_free(slab, piece, size);
}

size_t
slab_rounded_bytes(size_t size)
{
	if (size <= SLAB_SMALL_MAX_BYTES)
		return class_bytes(class_of(size));
	return align_up(size, SLAB_PAGE_BYTES);
}

SlabUsage
slab_usage(const Slab *slab)
{
	return (SlabUsage) {
		.used_bytes = slab->used_bytes,
		.run_bytes = slab->run_pages * SLAB_PAGE_BYTES,
		.backed_bytes = slab->backed_extents * SLAB_EXTENT_BYTES,
		.free_extents = slab->free_extents,
	};
}

size_t
slab_trim(Slab *slab)
{
	size_t		before = slab->backed_extents;

	for (uint32_t ext = 0; ext < slab->high / PAGES_PER_EXTENT; ext++)
	{
		if (slab->extents[ext].is_backed && slab->extents[ext].used_pages == 0 &&
			!extent_release(slab, ext))
			break;
	}
	return (before - slab->backed_extents) * SLAB_EXTENT_BYTES;
}

size_t
slab_total_bytes(const Slab *slab)
{
	return (size_t) slab->total_pages * SLAB_PAGE_BYTES;
}

void
slab_set_wipe_freed(Slab *slab, bool on)
{
	slab->wipe_freed = on;
}

/* ---- size classes ---- */

static uint32_t
floor_log2(uint32_t n)
{
	return 31 - (uint32_t) __builtin_clz(n);
}

static uint32_t
class_of(size_t size)
{
	uint32_t	n;
	uint32_t	log2;

	if (size <= STEP_MAX_BYTES)
		return size == 0 ? 0 : (uint32_t) (size - 1) / STEP_BYTES;
	n = (uint32_t) size - 1;
	log2 = floor_log2(n);
	return NSTEPS + (log2 - 7) * EIGHTHS + ((n >> (log2 - 3)) & (EIGHTHS - 1));
}

static size_t
class_bytes(uint32_t class)
{
	uint32_t	log2;

	if (class < NSTEPS)
		return (size_t) (class + 1) * STEP_BYTES;
	class -= NSTEPS;
	log2 = 7 + class / EIGHTHS;
	return ((size_t) 1 << log2) +
		((size_t) (class % EIGHTHS + 1) << (log2 - 3));
}

static uint32_t
class_pages(uint32_t class)
{
	size_t		bytes = class_bytes(class) * CHUNK_MIN_PIECES;
	uint32_t	npages = (uint32_t) ((bytes + SLAB_PAGE_BYTES - 1) /
									 SLAB_PAGE_BYTES);

	return npages < CHUNK_MIN_PAGES ? CHUNK_MIN_PAGES : npages;
}

/* ---- small pieces ---- */

static void *
small_alloc(Slab *slab, uint32_t class)
{
	Chunk	   *chunk = slab->partial[class];
	uint32_t	word;
	uint32_t	bit;
	size_t		bytes = class_bytes(class);

	if (unlikely(chunk == NULL))
	{
		chunk = chunk_create(slab, class);
		if (chunk == NULL)
			return NULL;
	}
	word = (uint32_t) __builtin_ctzll(chunk->summary);
	bit = (uint32_t) __builtin_ctzll(chunk->free_bits[word]);
	chunk->free_bits[word] &= chunk->free_bits[word] - 1;
	if (chunk->free_bits[word] == 0)
		chunk->summary &= ~((uint64_t) 1 << word);
	if (--chunk->nfree == 0)
		chunk_unlink(slab, chunk);
	slab->used_bytes += bytes;
	return slab->base + (size_t) chunk->first_page * SLAB_PAGE_BYTES +
		(word * 64 + bit) * bytes;
}

static const char *
small_free(Slab *slab, uint8_t *p, size_t size)
{
	size_t		offset = (size_t) (p - slab->base);
	PageEntry  *entry = &slab->pages[offset / SLAB_PAGE_BYTES];
	uint32_t	class = class_of(size);
	uint32_t	bytes = (uint32_t) class_bytes(class);
	Chunk	   *chunk;
	uint32_t	within;
	uint32_t	index;
	uint64_t	mask;

	if (unlikely(entry->kind != PAGE_CHUNK))
		return "no small piece is there";
	chunk = entry->chunk;
	if (unlikely(chunk->class != class))
		return "piece has another size";
	within = (uint32_t) (offset - (size_t) chunk->first_page * SLAB_PAGE_BYTES);
	index = within / bytes;
	if (unlikely(index * bytes != within || index >= chunk->npieces))
		return "pointer is not the start of a piece";
	mask = (uint64_t) 1 << (index % 64);
	if (unlikely((chunk->free_bits[index / 64] & mask) != 0))
		return "piece is free already";

	if (slab->wipe_freed)
	{
		unpoison_piece(p, bytes);
		memset(p, WIPE_BYTE, bytes);
	}
	poison_piece(p, bytes);
	chunk->free_bits[index / 64] |= mask;
	chunk->summary |= (uint64_t) 1 << (index / 64);
	slab->used_bytes -= bytes;
	if (chunk->nfree++ == 0)
		chunk_link(slab, chunk);
	/* one empty chunk stays, so that the next piece does not cost a chunk */
	if (chunk->nfree == chunk->npieces &&
		(chunk->next != NULL || chunk->prev != NULL))
	{
		chunk_unlink(slab, chunk);
		chunk_destroy(slab, chunk);
	}
	return NULL;
}

/* a new chunk, all free and in the list of its class; NULL: no memory */
static Chunk *
chunk_create(Slab *slab, uint32_t class)
{
	uint32_t	npages = class_pages(class);
	uint32_t	npieces = (uint32_t) (npages * SLAB_PAGE_BYTES /
									  class_bytes(class));
	uint32_t	nwords = (npieces + 63) / 64;
	uint32_t	first;
	Chunk	   *chunk;

	Assert(nwords <= 64);
	if (!run_alloc(slab, npages, &first))
		return NULL;
	chunk = xcalloc(1, sizeof(*chunk) + nwords * sizeof(uint64_t));
	chunk->first_page = first;
	chunk->class = class;
	chunk->npieces = npieces;
	chunk->nfree = npieces;
	for (uint32_t i = 0; i < nwords; i++)
	{
		uint32_t	left = npieces - i * 64;

		chunk->free_bits[i] = left >= 64 ? UINT64_MAX :
			((uint64_t) 1 << left) - 1;
		chunk->summary |= (uint64_t) 1 << i;
	}
	for (uint32_t i = 0; i < npages; i++)
		slab->pages[first + i] = (PageEntry) {.chunk = chunk,
											  .kind = PAGE_CHUNK};
	poison_piece(slab->base + (size_t) first * SLAB_PAGE_BYTES,
				 npages * SLAB_PAGE_BYTES);
	chunk_link(slab, chunk);
	return chunk;
}

static void
chunk_destroy(Slab *slab, Chunk *chunk)
{
	run_free(slab, chunk->first_page, class_pages(chunk->class));
	free(chunk);
}

static void
chunk_link(Slab *slab, Chunk *chunk)
{
	Chunk	  **head = &slab->partial[chunk->class];

	chunk->prev = NULL;
	chunk->next = *head;
	if (*head != NULL)
		(*head)->prev = chunk;
	*head = chunk;
}

static void
chunk_unlink(Slab *slab, Chunk *chunk)
{
	if (chunk->prev != NULL)
		chunk->prev->next = chunk->next;
	else
		slab->partial[chunk->class] = chunk->next;
	if (chunk->next != NULL)
		chunk->next->prev = chunk->prev;
	chunk->next = chunk->prev = NULL;
}

/* ---- large pieces ---- */

static void *
large_alloc(Slab *slab, size_t size)
{
	size_t		npages = align_up(size, SLAB_PAGE_BYTES) / SLAB_PAGE_BYTES;
	uint32_t	first;

	/* align_up() of a size near SIZE_MAX is 0 */
	if (size > slab_total_bytes(slab) || npages > slab->total_pages)
		return NULL;
	if (!run_alloc(slab, (uint32_t) npages, &first))
		return NULL;
	for (uint32_t i = 0; i < npages; i++)
		slab->pages[first + i] = (PageEntry) {.kind = PAGE_LARGE_REST};
	slab->pages[first].kind = PAGE_LARGE;
	slab->pages[first].npages = (uint32_t) npages;
	slab->used_bytes += npages * SLAB_PAGE_BYTES;
	return slab->base + (size_t) first * SLAB_PAGE_BYTES;
}

static const char *
large_free(Slab *slab, uint8_t *p, size_t size)
{
	size_t		offset = (size_t) (p - slab->base);
	uint32_t	first = (uint32_t) (offset / SLAB_PAGE_BYTES);
	size_t		bytes = align_up(size, SLAB_PAGE_BYTES);

	if (offset % SLAB_PAGE_BYTES != 0 || slab->pages[first].kind != PAGE_LARGE)
		return "no large piece starts there";
	if (bytes / SLAB_PAGE_BYTES != slab->pages[first].npages)
		return "piece has another size";
	if (slab->wipe_freed)
	{
		unpoison_piece(p, bytes);
		memset(p, WIPE_BYTE, bytes);
	}
	poison_piece(p, bytes);
	slab->used_bytes -= bytes;
	run_free(slab, first, (uint32_t) (bytes / SLAB_PAGE_BYTES));
	return NULL;
}

/* ---- runs of pages ---- */

/* The caller sets the page entries. */
static bool
run_alloc(Slab *slab, uint32_t npages, uint32_t *first)
{
	uint32_t	found;
	uint32_t	length;

	if (!run_find(slab, npages, &found))
		return false;
	if (!extents_take(slab, found, npages))
		return false;
	length = slab->pages[found].npages;
	free_run_remove(slab, found);
	if (length > npages)
		free_run_add(slab, found + npages, length - npages);
	slab->run_pages += npages;
	*first = found;
	return true;
}

static void
run_free(Slab *slab, uint32_t first, uint32_t npages)
{
	uint32_t	freed_first = first;
	uint32_t	freed_pages = npages;

	slab->run_pages -= npages;
	/* inside a free run, too, a page must say that it is free */
	for (uint32_t i = 0; i < npages; i++)
		slab->pages[first + i] = (PageEntry) {.kind = PAGE_FREE};
	if (first > 0 && slab->pages[first - 1].kind == PAGE_FREE)
	{
		uint32_t	before = slab->pages[first - 1].npages;

		free_run_remove(slab, first - before);
		first -= before;
		npages += before;
	}
	if (first + npages < slab->high &&
		slab->pages[first + npages].kind == PAGE_FREE)
	{
		uint32_t	after = slab->pages[first + npages].npages;

		free_run_remove(slab, first + npages);
		npages += after;
	}
	free_run_add(slab, first, npages);
	extents_give(slab, freed_first, freed_pages);
}

static uint32_t
bucket_of(uint32_t npages)
{
	uint32_t	log2;

	if (npages <= EXACT_BUCKETS)
		return npages - 1;
	log2 = floor_log2(npages);
	return EXACT_BUCKETS + (log2 - 6) * BUCKETS_PER_DOUBLING +
		((npages >> (log2 - 2)) & (BUCKETS_PER_DOUBLING - 1));
}

/* the first list at or after this one that holds a run; NBUCKETS: none */
static uint32_t
bucket_next(const Slab *slab, uint32_t bucket)
{
	uint32_t	word = bucket / 64;
	uint64_t	bits;

	if (bucket >= NBUCKETS)
		return NBUCKETS;
	bits = slab->bucket_bits[word] & (UINT64_MAX << (bucket % 64));
	while (bits == 0)
	{
		if (++word == BUCKET_WORDS)
			return NBUCKETS;
		bits = slab->bucket_bits[word];
	}
	return word * 64 + (uint32_t) __builtin_ctzll(bits);
}

/*
 * Find a free run of at least npages; grows if there is none.  It stays in its
 * list.
 */
static bool
run_find(Slab *slab, uint32_t npages, uint32_t *first)
{
	uint32_t	own = bucket_of(npages);
	uint32_t	bucket;
	bool		grown;

	if (run_find_in_bucket(slab, own, npages, BUCKET_SCAN, first))
		return true;
	/* whatever stands in a higher list is long enough */
	bucket = bucket_next(slab, own + 1);
	if (bucket < NBUCKETS)
		return run_find_in_bucket(slab, bucket, npages, 1, first);
	/*
	 * The new run may share the list with many that are too short, or be so
	 * long that it stands in a higher one.
	 */
	grown = grow(slab, npages);
	if (run_find_in_bucket(slab, own, npages, UINT32_MAX, first))
		return true;
	bucket = bucket_next(slab, own + 1);
	return grown && bucket < NBUCKETS &&
		run_find_in_bucket(slab, bucket, npages, 1, first);
}

static bool
run_find_in_bucket(Slab *slab, uint32_t bucket, uint32_t npages,
				   uint32_t nlook, uint32_t *first)
{
	for (uint32_t at = slab->bucket[bucket]; at != 0 && nlook > 0; nlook--)
	{
		PageEntry  *entry = &slab->pages[at - 1];

		if (entry->npages >= npages)
		{
			*first = at - 1;
			return true;
		}
		at = entry->link.next;
	}
	return false;
}

/*
 * Move the high mark up by whole extents until the free run that ends there
 * holds npages.
 */
static bool
grow(Slab *slab, uint32_t npages)
{
	uint32_t	start = slab->high;
	uint32_t	before = 0;
	uint64_t	new_high;

	if (start > 0 && slab->pages[start - 1].kind == PAGE_FREE)
		before = slab->pages[start - 1].npages;
	new_high = align_up((uint64_t) start - before + npages, PAGES_PER_EXTENT);
	if (new_high > slab->total_pages)
		return false;
	for (uint32_t page = start; page < new_high; page++)
		slab->pages[page].kind = PAGE_FREE;
	slab->high = (uint32_t) new_high;
	if (before > 0)
		free_run_remove(slab, start - before);
	free_run_add(slab, start - before, (uint32_t) new_high - start + before);
	return true;
}

/* Enter a run of which all pages say PAGE_FREE. */
static void
free_run_add(Slab *slab, uint32_t first, uint32_t npages)
{
	uint32_t	bucket = bucket_of(npages);
	uint32_t	head = slab->bucket[bucket];

	slab->pages[first + npages - 1].npages = npages;
	slab->pages[first].npages = npages;
	slab->pages[first].link.next = head;
	slab->pages[first].link.prev = 0;
	if (head != 0)
		slab->pages[head - 1].link.prev = first + 1;
	slab->bucket[bucket] = first + 1;
	slab->bucket_bits[bucket / 64] |= (uint64_t) 1 << (bucket % 64);
}

static void
free_run_remove(Slab *slab, uint32_t first)
{
	PageEntry  *entry = &slab->pages[first];
	uint32_t	bucket = bucket_of(entry->npages);

	Assert(entry->kind == PAGE_FREE);
	if (entry->link.next != 0)
		slab->pages[entry->link.next - 1].link.prev = entry->link.prev;
	if (entry->link.prev != 0)
		slab->pages[entry->link.prev - 1].link.next = entry->link.next;
	else
		slab->bucket[bucket] = entry->link.next;
	if (slab->bucket[bucket] == 0)
		slab->bucket_bits[bucket / 64] &= ~((uint64_t) 1 << (bucket % 64));
}

/* ---- extents ---- */

/* pages of the run that lie in this extent */
static uint32_t
pages_in_extent(uint32_t ext, uint32_t first, uint32_t npages)
{
	uint32_t	ext_first = ext * PAGES_PER_EXTENT;
	uint32_t	from = first > ext_first ? first : ext_first;
	uint32_t	to = (uint32_t) size_min((size_t) first + npages,
										 (size_t) ext_first + PAGES_PER_EXTENT);

	return to - from;
}

/* Back all extents of a run, then count its pages as used; all or nothing. */
static bool
extents_take(Slab *slab, uint32_t first, uint32_t npages)
{
	uint32_t	first_ext = first / PAGES_PER_EXTENT;
	uint32_t	last_ext = (first + npages - 1) / PAGES_PER_EXTENT;

	for (uint32_t ext = first_ext; ext <= last_ext; ext++)
	{
		if (!slab->extents[ext].is_backed && !extent_commit(slab, ext))
			return false;
	}
	for (uint32_t ext = first_ext; ext <= last_ext; ext++)
	{
		ExtentEntry *entry = &slab->extents[ext];

		if (entry->used_pages == 0)
			slab->free_extents--;
		entry->used_pages += (uint16_t) pages_in_extent(ext, first, npages);
		Assert(entry->used_pages <= PAGES_PER_EXTENT);
	}
	return true;
}

static void
extents_give(Slab *slab, uint32_t first, uint32_t npages)
{
	uint32_t	last_ext = (first + npages - 1) / PAGES_PER_EXTENT;

	for (uint32_t ext = first / PAGES_PER_EXTENT; ext <= last_ext; ext++)
	{
		ExtentEntry *entry = &slab->extents[ext];

		entry->used_pages -= (uint16_t) pages_in_extent(ext, first, npages);
		if (entry->used_pages > 0)
			continue;
		slab->free_extents++;
		if (slab->free_extents > SLAB_KEEP_EXTENTS)
			(void) extent_release(slab, ext);
	}
}

static bool
extent_release(Slab *slab, uint32_t ext)
{
	ExtentEntry *entry = &slab->extents[ext];

	if (slab->ops == NULL ||
		!slab->ops->release(slab->ops_arg, ext * SLAB_EXTENT_BYTES))
		return false;
	entry->is_backed = false;
	slab->free_extents--;
	slab->backed_extents--;
	return true;
}

static bool
extent_commit(Slab *slab, uint32_t ext)
{
	ExtentEntry *entry = &slab->extents[ext];

	if (slab->ops != NULL &&
		!slab->ops->commit(slab->ops_arg, ext * SLAB_EXTENT_BYTES,
						   !entry->was_used))
		return false;
	entry->is_backed = true;
	entry->was_used = true;
	slab->backed_extents++;
	slab->free_extents++;
	return true;
}

/* zeroed, reserved, and touched only as far as it is used */
static void *
table_map(size_t bytes)
{
	void	   *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
							 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (table == MAP_FAILED)
		elog_fatal("out of memory: cannot map %zu bytes for the page table "
				   "of the store: %s", bytes, strerror(errno));
	return table;
}

/* ---- checking ---- */

typedef struct CheckSums
{
	size_t		used_bytes;
	size_t		run_pages;
	size_t		free_runs;
} CheckSums;

static const char *
check_chunk(const Slab *slab, uint32_t page, CheckSums *sums)
{
	const Chunk *chunk = slab->pages[page].chunk;
	uint32_t	nfree = 0;

	if (chunk->first_page != page)
		return "chunk begins at another page";
	for (uint32_t i = 0; i < class_pages(chunk->class); i++)
	{
		if (slab->pages[page + i].kind != PAGE_CHUNK ||
			slab->pages[page + i].chunk != chunk)
			return "page of a chunk belongs to another";
	}
	for (uint32_t i = 0; i < (chunk->npieces + 63) / 64; i++)
	{
		nfree += (uint32_t) __builtin_popcountll(chunk->free_bits[i]);
		if ((chunk->free_bits[i] != 0) != ((chunk->summary >> i & 1) != 0))
			return "summary of a chunk is wrong";
	}
	if (nfree != chunk->nfree)
		return "free count of a chunk is wrong";
	if (nfree > 0 && chunk->prev == NULL &&
		slab->partial[chunk->class] != chunk)
		return "chunk with free pieces is in no list";
	sums->run_pages += class_pages(chunk->class);
	sums->used_bytes += (chunk->npieces - nfree) * class_bytes(chunk->class);
	return NULL;
}

static const char *
check_pages(const Slab *slab, CheckSums *sums)
{
	uint32_t	page = 0;
	bool		after_free = false;

	while (page < slab->high)
	{
		const PageEntry *entry = &slab->pages[page];
		const char *fault = NULL;
		uint32_t	npages = entry->npages;

		switch (entry->kind)
		{
			case PAGE_CHUNK:
				fault = check_chunk(slab, page, sums);
				npages = class_pages(entry->chunk->class);
				break;
			case PAGE_LARGE:
				sums->run_pages += npages;
				sums->used_bytes += npages * SLAB_PAGE_BYTES;
				break;
			case PAGE_FREE:
				if (after_free)
					fault = "two free runs were not joined";
				else if (slab->pages[page + npages - 1].npages != npages)
					fault = "ends of a free run differ";
				sums->free_runs++;
				break;
			default:
				fault = "page that starts no run";
		}
		if (fault != NULL)
			return fault;
		after_free = entry->kind == PAGE_FREE;
		page += npages;
	}
	return page == slab->high ? NULL : "a run passes the high mark";
}

const char *
slab_check(const Slab *slab)
{
	CheckSums	sums = {0};
	const char *fault = check_pages(slab, &sums);
	size_t		listed = 0;
	size_t		backed = 0;
	size_t		wholly_free = 0;
	size_t		used_pages = 0;

	if (fault != NULL)
		return fault;
	for (uint32_t i = 0; i < NBUCKETS; i++)
		for (uint32_t at = slab->bucket[i]; at != 0;
			 at = slab->pages[at - 1].link.next)
		{
			if (bucket_of(slab->pages[at - 1].npages) != i)
				return "free run is in the wrong list";
			listed++;
		}
	for (uint32_t ext = 0; ext < slab->high / PAGES_PER_EXTENT; ext++)
	{
		const ExtentEntry *entry = &slab->extents[ext];

		if (entry->used_pages > 0 && !entry->is_backed)
			return "extent is used but not backed";
		used_pages += entry->used_pages;
		backed += entry->is_backed;
		wholly_free += entry->is_backed && entry->used_pages == 0;
	}
	if (listed != sums.free_runs)
		return "free runs are missing from the lists";
	if (sums.run_pages != slab->run_pages || used_pages != slab->run_pages)
		return "count of used pages is wrong";
	if (sums.used_bytes != slab->used_bytes)
		return "count of used bytes is wrong";
	if (backed != slab->backed_extents || wholly_free != slab->free_extents)
		return "count of extents is wrong";
	return NULL;
}
