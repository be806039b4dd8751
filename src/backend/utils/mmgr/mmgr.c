/*
 * mmgr.c
 *	  Memory contexts over malloc blocks.
 *
 * A context is a list of blocks.  Small pieces are cut from the newest block;
 * a piece of more than a quarter of a block gets a block of its own, put
 * second in the list so that the open block stays open.  On reset the first
 * block is kept, because a context that was used once is used again.
 */
#include "server.h"

/* system */
#include <stdarg.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/mmgr.h"

#define BLOCK_MIN_BYTES 1024
#define BLOCK_MAX_BYTES (256 * 1024)
#define PIECE_ALIGN 16

typedef struct Block
{
	struct Block *next;
	size_t		size;			/* of data[] */
	size_t		used;
	alignas(PIECE_ALIGN) uint8_t data[];
} Block;

typedef struct Cleanup
{
	struct Cleanup *next;
	void		(*fn) (void *arg);
	void	   *arg;
} Cleanup;

struct MemContext
{
	MemContext *parent;
	MemContext *first_child;
	MemContext *next_sibling;
	MemContext *prev_sibling;
	const char *name;
	Block	   *blocks;			/* the first one is open */
	size_t		next_block_bytes;
	Cleanup    *cleanups;
};

static Block *block_create(size_t size);
static void run_cleanups(MemContext *mcx);
static void unlink_from_parent(MemContext *mcx);

MemContext *
mcx_create(MemContext *parent, const char *name)
{
	MemContext *mcx = xcalloc(1, sizeof(*mcx));

	mcx->name = name;
	mcx->next_block_bytes = BLOCK_MIN_BYTES;
	mcx->parent = parent;
	if (parent != NULL)
	{
		mcx->next_sibling = parent->first_child;
		if (parent->first_child != NULL)
			parent->first_child->prev_sibling = mcx;
		parent->first_child = mcx;
	}
	return mcx;
}

void
mcx_reset(MemContext *mcx)
{
	Block	   *keep = NULL;

	while (mcx->first_child != NULL)
		mcx_destroy(mcx->first_child);
	run_cleanups(mcx);
	while (mcx->blocks != NULL)
	{
		Block	   *block = mcx->blocks;

		mcx->blocks = block->next;
		if (keep == NULL && block->size <= BLOCK_MAX_BYTES)
		{
			keep = block;
			continue;
		}
		free(block);
	}
	if (keep != NULL)
	{
		keep->next = NULL;
		keep->used = 0;
		mcx->blocks = keep;
	}
}

void
mcx_destroy(MemContext *mcx)
{
	if (mcx == NULL)
		return;
	mcx_reset(mcx);
	free(mcx->blocks);
	unlink_from_parent(mcx);
	free(mcx);
}

void *
mcx_alloc(MemContext *mcx, size_t size)
{
	size_t		need = align_up(size == 0 ? 1 : size, PIECE_ALIGN);
	Block	   *open = mcx->blocks;
	void	   *piece;

	if (unlikely(need < size))
		elog_fatal("memory request of %zu bytes is too large", size);
	if (likely(open != NULL && open->size - open->used >= need))
	{
		piece = open->data + open->used;
		open->used += need;
		return piece;
	}
	if (need > mcx->next_block_bytes / 4)
	{
		Block	   *own = block_create(need);

		own->used = need;
		if (open == NULL)
			mcx->blocks = own;
		else
		{
			own->next = open->next;
			open->next = own;
		}
		return own->data;
	}
	open = block_create(mcx->next_block_bytes);
	open->next = mcx->blocks;
	mcx->blocks = open;
	if (mcx->next_block_bytes < BLOCK_MAX_BYTES)
		mcx->next_block_bytes *= 2;
	open->used = need;
	return open->data;
}

void *
mcx_alloc0(MemContext *mcx, size_t size)
{
	return memset(mcx_alloc(mcx, size), 0, size);
}

void *
mcx_grow(MemContext *mcx, void *old, size_t old_size, size_t new_size)
{
	void	   *piece = mcx_alloc(mcx, new_size);

	Assert(new_size >= old_size);
	if (old_size > 0)
		memcpy(piece, old, old_size);
	return piece;
}

void *
mcx_memdup(MemContext *mcx, const void *data, size_t len)
{
	void	   *copy = mcx_alloc(mcx, len);

	if (len > 0)
		memcpy(copy, data, len);
	return copy;
}

char *
mcx_strdup(MemContext *mcx, const char *s)
{
	return mcx_strndup(mcx, s, strlen(s));
}

char *
mcx_strndup(MemContext *mcx, const void *data, size_t len)
{
	char	   *copy = mcx_alloc(mcx, len + 1);

	if (len > 0)
		memcpy(copy, data, len);
	copy[len] = '\0';
	return copy;
}

Bytes
mcx_bytes_dup(MemContext *mcx, Bytes b)
{
	return bytes_make(mcx_memdup(mcx, b.data, b.len), b.len);
}

char *
mcx_printf(MemContext *mcx, const char *fmt,...)
{
	va_list		args;
	int			len;
	char	   *text;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0)
		return mcx_strdup(mcx, fmt);
	text = mcx_alloc(mcx, (size_t) len + 1);
	va_start(args, fmt);
	vsnprintf(text, (size_t) len + 1, fmt, args);
	va_end(args);
	return text;
}

void
mcx_on_reset(MemContext *mcx, void (*fn) (void *arg), void *arg)
{
	Cleanup    *cleanup = mcx_alloc(mcx, sizeof(*cleanup));

	cleanup->fn = fn;
	cleanup->arg = arg;
	cleanup->next = mcx->cleanups;
	mcx->cleanups = cleanup;
}

size_t
mcx_total_bytes(const MemContext *mcx)
{
	size_t		total = sizeof(*mcx);

	for (const Block *block = mcx->blocks; block != NULL; block = block->next)
		total += sizeof(*block) + block->size;
	for (const MemContext *child = mcx->first_child; child != NULL;
		 child = child->next_sibling)
		total += mcx_total_bytes(child);
	return total;
}

void *
xmalloc(size_t size)
{
	void	   *p = malloc(size == 0 ? 1 : size);

	if (unlikely(p == NULL))
		elog_fatal("out of memory: cannot get %zu bytes", size);
	return p;
}

void *
xcalloc(size_t n, size_t size)
{
	void	   *p = calloc(n == 0 ? 1 : n, size == 0 ? 1 : size);

	if (unlikely(p == NULL))
		elog_fatal("out of memory: cannot get %zu times %zu bytes", n, size);
	return p;
}

void *
xrealloc(void *old, size_t size)
{
	void	   *p = realloc(old, size == 0 ? 1 : size);

	if (unlikely(p == NULL))
		elog_fatal("out of memory: cannot get %zu bytes", size);
	return p;
}

void
secret_wipe(void *p, size_t len)
{
	explicit_bzero(p, len);
}

char *
secret_take_argument(char *arg, char from)
{
	size_t		len = strlen(arg);
	char	   *copy = xmalloc(len + 1);
	char	   *secret = strchr(arg, from);

	memcpy(copy, arg, len + 1);
	if (secret != NULL)
		secret_wipe(secret + 1, strlen(secret + 1));
	return copy;
}

void
secret_free(char *secret)
{
	if (secret != NULL)
		secret_wipe(secret, strlen(secret));
	free(secret);
}

static Block *
block_create(size_t size)
{
	Block	   *block = xmalloc(sizeof(*block) + size);

	block->next = NULL;
	block->size = size;
	block->used = 0;
	return block;
}

static void
run_cleanups(MemContext *mcx)
{
	while (mcx->cleanups != NULL)
	{
		Cleanup    *cleanup = mcx->cleanups;

		mcx->cleanups = cleanup->next;
		cleanup->fn(cleanup->arg);
	}
}

static void
unlink_from_parent(MemContext *mcx)
{
	if (mcx->parent == NULL)
		return;
	if (mcx->prev_sibling != NULL)
		mcx->prev_sibling->next_sibling = mcx->next_sibling;
	else
		mcx->parent->first_child = mcx->next_sibling;
	if (mcx->next_sibling != NULL)
		mcx->next_sibling->prev_sibling = mcx->prev_sibling;
}
