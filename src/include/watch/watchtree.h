/*
 * watchtree.h
 *	  Interval tree in private memory: which ranges hold this key?
 *
 * A treap over distinct ranges, ordered by (begin, kind, end), each node
 * knowing the range below it that reaches farthest.  Many items may hang on
 * one range.  The apply thread keeps one of (range -> backend), each backend
 * one of (range -> watch).
 */
#ifndef WATCH_WATCHTREE_H
#define WATCH_WATCHTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/keyrange.h"

typedef struct WatchNode WatchNode;

/* member of what is put into a tree */
typedef struct WatchItem
{
	WatchNode  *node;			/* NULL: in no tree */
	struct WatchItem *prev;		/* of the same range */
	struct WatchItem *next;
} WatchItem;

struct WatchNode
{
	KeyRange	range;			/* the tree's own copy */
	WatchItem  *first;

	/* of the tree's owner; 0 in a new node */
	uint64_t	tag;

	/* watchtree.c only */
	uint64_t	priority;
	WatchNode  *left;
	WatchNode  *right;
	const WatchNode *farthest;	/* in this subtree */
};

/* all zero is an empty tree */
typedef struct WatchTree
{
	WatchNode  *root;
	uint64_t	nnodes;
	uint64_t	random;
} WatchTree;

typedef void (*WatchTreeFn) (WatchItem *item, void *arg);

/*
 * The range is copied; it must not be empty.  Returns true if it is new in the
 * tree.
 */
extern bool watchtree_add(WatchTree *tree, const KeyRange *range,
						  WatchItem *item);

/* true if its range has left the tree with it */
extern bool watchtree_remove(WatchTree *tree, WatchItem *item);

/* the node of exactly this range, or NULL */
extern WatchNode *watchtree_lookup(const WatchTree *tree,
								   const KeyRange *range);

/* call fn for each item whose range holds the key; fn may not change the tree */
extern void watchtree_find(const WatchTree *tree, Bytes key, WatchTreeFn fn,
						   void *arg);

/* order, heap, farthest; NULL if sound, else what is wrong */
extern const char *watchtree_check(const WatchTree *tree);

/* bytes that a range takes in a tree */
static inline size_t
watchtree_range_bytes(const KeyRange *range)
{
	return sizeof(WatchNode) + range->begin.len + range->end.len;
}

#endif							/* WATCH_WATCHTREE_H */
