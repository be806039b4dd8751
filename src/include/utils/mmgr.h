/*
 * mmgr.h
 *	  Memory contexts: memory that belongs to a lifetime.
 *
 * A context is created for a process, a connection, a request or a log entry.
 * Pieces are never freed one by one; the context is reset or destroyed, its
 * children with it, and cleanup callbacks run first (last registered, first
 * run), so that descriptors and handles go the same way as memory.
 *
 * Running out of memory ends the process (FATAL), so no result is NULL.  For
 * that reason nothing may be allocated by a size that a client sent before
 * the size has been checked against a limit.
 *
 * A context belongs to one thread at a time; there are no locks.
 */
#ifndef UTILS_MMGR_H
#define UTILS_MMGR_H

#include <stddef.h>

#include "lib/bytes.h"

typedef struct MemContext MemContext;

/* parent may be NULL; name must be a literal, it shows in statistics */
extern MemContext *mcx_create(MemContext *parent, const char *name);
extern void mcx_reset(MemContext *mcx);
extern void mcx_destroy(MemContext *mcx);

/* 16-byte aligned, contents undefined; size 0 gives a valid pointer */
extern void *mcx_alloc(MemContext *mcx, size_t size);
extern void *mcx_alloc0(MemContext *mcx, size_t size);

/*
 * Grow an array: like realloc() for a piece of old_size bytes.  The old piece
 * stays behind until the context goes, so double what you ask for.
 */
extern void *mcx_grow(MemContext *mcx, void *old, size_t old_size,
					  size_t new_size);
extern void *mcx_memdup(MemContext *mcx, const void *data, size_t len);
extern char *mcx_strdup(MemContext *mcx, const char *s);
extern char *mcx_strndup(MemContext *mcx, const void *data, size_t len);
extern Bytes mcx_bytes_dup(MemContext *mcx, Bytes b);
extern char *mcx_printf(MemContext *mcx, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));

/* call fn(arg) when the context is next reset or destroyed */
extern void mcx_on_reset(MemContext *mcx, void (*fn) (void *arg), void *arg);

/* bytes taken from the system by this context and its children */
extern size_t mcx_total_bytes(const MemContext *mcx);

/*
 * Plain heap for what has no lifetime of its own kind (tables that grow with
 * the process).  Ends the process instead of returning NULL; free with free().
 */
extern void *xmalloc(size_t size);
extern void *xcalloc(size_t n, size_t size);
extern void *xrealloc(void *p, size_t size);

/* overwrite a secret so that the compiler cannot leave it out */
extern void secret_wipe(void *p, size_t len);

/*
 * For a tool: a copy of an argument of the command line; what stands behind the
 * first `from` in the argument itself is overwritten, because everybody on the
 * machine can read that.
 */
extern char *secret_take_argument(char *arg, char from);
/* a string from the heap, or NULL: overwritten, then freed */
extern void secret_free(char *secret);

#endif							/* UTILS_MMGR_H */
