/*
 * slab.h
 *	  Allocator for a range of memory whose bookkeeping lies elsewhere.
 *
 * The memory given out is shared and mostly cold; only one process allocates
 * in it.  So nothing of the allocator is kept there: free lists, bitmaps and
 * page table live in the private heap of the one who allocates.
 *
 * Memory comes in extents of 2 MB (a huge page).  Before an extent is used
 * the owner's commit() makes sure that it is backed; when it is wholly free
 * again, and enough others are, release() gives it back to the kernel.
 *
 * Not safe for more than one thread.
 */
#ifndef STORAGE_SNAP_SLAB_H
#define STORAGE_SNAP_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLAB_EXTENT_BYTES ((size_t) 2 * 1024 * 1024)
#define SLAB_PAGE_BYTES ((size_t) 4096)

/* greatest size that shares a run of pages with others of its class */
#define SLAB_SMALL_MAX_BYTES ((size_t) 32 * 1024)

/* wholly free extents that stay backed, so that a busy writer has them */
#define SLAB_KEEP_EXTENTS 32

typedef struct SlabOps
{
	/*
	 * Back the extent at this offset; false: there is no memory.  is_fresh:
	 * it was never used before (else it was released since).
	 */
	bool		(*commit) (void *arg, size_t offset, bool is_fresh);

	/* Give its memory back; false: it could not be done, it stays backed. */
	bool		(*release) (void *arg, size_t offset);
} SlabOps;

typedef struct Slab Slab;

typedef struct SlabUsage
{
	size_t		used_bytes;		/* in pieces given out, rounded to their class */
	size_t		run_bytes;		/* in runs of pages that hold such pieces */
	size_t		backed_bytes;	/* in extents that are backed */
	size_t		free_extents;	/* backed and wholly free */
} SlabUsage;

/*
 * base and bytes are multiples of the extent size (base: as an address, too,
 * if huge pages are wanted).  ops may be NULL: all is backed for good.
 */
extern Slab *slab_create(void *base, size_t bytes, const SlabOps *ops,
						 void *arg);
extern void slab_destroy(Slab *slab);

/* 16-byte aligned; NULL when the range is used up or commit() failed */
extern void *slab_alloc(Slab *slab, size_t size);

/*
 * size as given to slab_alloc().  Returns NULL, or what is wrong with the
 * pointer (a literal): not from here, another size, already free.  Then
 * nothing was changed.
 */
extern const char *slab_free(Slab *slab, void *p, size_t size);

/* release all extents that are wholly free; how many bytes that gave back */
extern size_t slab_trim(Slab *slab);

/* the size that a piece of this size really takes */
extern size_t slab_rounded_bytes(size_t size);

extern SlabUsage slab_usage(const Slab *slab);
extern size_t slab_total_bytes(const Slab *slab);

/* tests: overwrite what is freed, so that a late reader shows itself */
extern void slab_set_wipe_freed(Slab *slab, bool on);

/* tests: walk all bookkeeping; NULL if sound, else what is wrong */
extern const char *slab_check(const Slab *slab);

#endif							/* STORAGE_SNAP_SLAB_H */
