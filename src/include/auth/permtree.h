/*
 * permtree.h
 *	  Copy-on-write interval tree: which keys a set of grants reaches.
 *
 * A balanced binary tree in store memory, ordered by (key, range_end), each
 * node augmented with the greatest end below it.  An insert or delete copies
 * one path: O(log n).  The question it answers is: how far does what begins at
 * or before p reach?
 */
#ifndef AUTH_PERMTREE_H
#define AUTH_PERMTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/keyrange.h"

typedef struct PermNode PermNode;

typedef struct PermTree
{
	const PermNode *root;
	uint64_t	nnodes;
} PermTree;

/* how far grants reach: nowhere, up to (not including) end, or without end */
typedef struct PermReach
{
	enum
	{
		REACH_NOTHING,
		REACH_END,
		REACH_OPEN
	}			kind;
	Bytes		end;			/* REACH_END; point grant k ends at k + 0x00 */
	bool		end_plus_zero;	/* true: the end is `end` followed by 0x00 */
} PermReach;

/*
 * Thread: apply.  The tree copies the range's bytes.  A range is in the tree at
 * most once; inserting it again changes nothing, deleting what is not there
 * returns false.  Empty ranges must not be inserted.
 */
extern void permtree_insert(PermTree *tree, const KeyRange *range);
extern bool permtree_delete(PermTree *tree, const KeyRange *range);
extern void permtree_drop(PermTree *tree);

/* Thread: apply.  A new tree of ranges sorted by (key, range_end), in O(n). */
extern void permtree_build(PermTree *tree, const KeyRange *ranges, size_t n);

/* the greatest end among intervals that begin at or before key */
extern PermReach permtree_reach(const PermTree *tree, Bytes key,
								bool key_plus_zero);

/*
 * Does the union of several trees cover the range without a gap?  Intervals
 * that touch add up, a grant of the key k reaches to k + 0x00.  An empty range
 * (begin not before end) is covered by one interval that spans both its ends
 * only, as in etcd (etcd-auth-semantics.md A6).
 */
extern bool permtree_union_covers(const PermTree *const *trees, uint32_t n,
								  const KeyRange *range);

/* order, balance, augmentation; NULL if sound, else what is wrong */
extern const char *permtree_check(const PermTree *tree);

#endif							/* AUTH_PERMTREE_H */
