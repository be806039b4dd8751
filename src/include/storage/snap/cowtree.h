/*
 * cowtree.h
 *	  Copy-on-write B+tree over items in store memory.
 *
 * One tree type serves keys, leases, users, roles and the exact permissions
 * of a role.  A leaf holds pointers to items; every item begins with a CowItem
 * that says where its key is, so the tree owns no item and copies none.
 *
 * A CowTree is a value: {root, count, height}.  Copying the struct keeps the
 * old version; the writer works on the copy in the draft version.  Nodes made
 * for the running draft (node stamp == draft number) are changed in place, so
 * a batch copies each path once; all others are copied and the old node is
 * retired (store_retire()).
 *
 * Thread: functions that take a pointer to a non-const tree are for the apply
 * thread of the raft worker (or the loader before it).  Readers hold a pin.
 */
#ifndef STORAGE_SNAP_COWTREE_H
#define STORAGE_SNAP_COWTREE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/bytes.h"

/* first member of everything that stands in a tree */
typedef struct CowItem
{
	uint32_t	key_len;
	uint32_t	key_offset;		/* from the start of the item */
} CowItem;

typedef struct CowNode CowNode;

typedef struct CowTree
{
	const CowNode *root;		/* NULL: empty */
	uint64_t	nitems;
	uint32_t	height;
} CowTree;

#define COWTREE_MAX_HEIGHT 16

/* a position; valid as long as the version it was made on is pinned */
typedef struct CowCursor
{
	uint32_t	depth;			/* 0: no current item */
	struct
	{
		const CowNode *node;
		uint32_t	slot;
	}			path[COWTREE_MAX_HEIGHT];
} CowCursor;

static inline Bytes
cowitem_key(const CowItem *item)
{
	return bytes_make((const uint8_t *) item + item->key_offset, item->key_len);
}

/* the item with exactly this key, or NULL */
extern const CowItem *cowtree_get(const CowTree *tree, Bytes key);

/*
 * Put an item under its own key.  Returns the item that stood there before
 * (the caller retires it if it is no longer needed), or NULL.  item->key must
 * not change afterwards.
 */
extern const CowItem *cowtree_put(CowTree *tree, const CowItem *item);

/* take out; returns the item, or NULL if there was none */
extern const CowItem *cowtree_delete(CowTree *tree, Bytes key);

/*
 * Position on the first item with key >= key (_seek), or on the last with
 * key <= key (_seek_back); returns it, or NULL if there is none.
 */
extern const CowItem *cowtree_seek(const CowTree *tree, CowCursor *cursor,
								   Bytes key);
extern const CowItem *cowtree_seek_back(const CowTree *tree, CowCursor *cursor,
										Bytes key);
/* the next or previous item, or NULL at the end */
extern const CowItem *cowtree_next(CowCursor *cursor);
extern const CowItem *cowtree_prev(CowCursor *cursor);

/* retire all nodes (not the items); the tree is empty afterwards */
extern void cowtree_drop(CowTree *tree);

/*
 * For tests and clav_check: order, fill and height of the whole tree.
 * Returns NULL if sound, else what is wrong (a literal).
 */
extern const char *cowtree_check(const CowTree *tree);

#endif							/* STORAGE_SNAP_COWTREE_H */
