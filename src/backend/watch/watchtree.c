/*
 * watchtree.c
 *	  Interval tree in private memory: which ranges hold this key?
 *
 * A treap: a search tree by range, a heap by random priority, so that it is
 * balanced whatever ranges clients choose.  Each node points to the range in
 * its subtree that reaches farthest; a subtree whose farthest range ends before
 * the key is not entered.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "watch/watchtree.h"

static int	range_compare(const KeyRange *a, const KeyRange *b);
static int	end_compare(const KeyRange *a, const KeyRange *b);
static WatchNode *node_create(WatchTree *tree, const KeyRange *range);
static void node_update(WatchNode *node);
static WatchNode *node_insert(WatchNode *root, WatchNode *node);
static WatchNode *node_delete(WatchNode *root, const WatchNode *node);
static void split(WatchNode *root, const KeyRange *range, WatchNode **left,
				  WatchNode **right);
static WatchNode *merge(WatchNode *left, WatchNode *right);
static void find(const WatchNode *node, Bytes key, WatchTreeFn fn, void *arg);
static const char *check(const WatchNode *node, const KeyRange **before,
						 uint64_t *n);

bool
watchtree_add(WatchTree *tree, const KeyRange *range, WatchItem *item)
{
	WatchNode  *node = watchtree_lookup(tree, range);
	bool		is_new = node == NULL;

	Assert(!keyrange_is_empty(range));
	if (is_new)
	{
		node = node_create(tree, range);
		tree->root = node_insert(tree->root, node);
		tree->nnodes++;
	}
	item->node = node;
	item->prev = NULL;
	item->next = node->first;
	if (node->first != NULL)
		node->first->prev = item;
	node->first = item;
	return is_new;
}

bool
watchtree_remove(WatchTree *tree, WatchItem *item)
{
	WatchNode  *node = item->node;

	if (item->prev != NULL)
		item->prev->next = item->next;
	else
		node->first = item->next;
	if (item->next != NULL)
		item->next->prev = item->prev;
	*item = (WatchItem) {0};
	if (node->first != NULL)
		return false;
	tree->root = node_delete(tree->root, node);
	tree->nnodes--;
	free(node);
	return true;
}

WatchNode *
watchtree_lookup(const WatchTree *tree, const KeyRange *range)
{
	WatchNode  *node = tree->root;

	while (node != NULL)
	{
		int			cmp = range_compare(range, &node->range);

		if (cmp == 0)
			return node;
		node = cmp < 0 ? node->left : node->right;
	}
	return NULL;
}

void
watchtree_find(const WatchTree *tree, Bytes key, WatchTreeFn fn, void *arg)
{
	find(tree->root, key, fn, arg);
}

const char *
watchtree_check(const WatchTree *tree)
{
	const KeyRange *before = NULL;
	uint64_t	n = 0;
	const char *fault = check(tree->root, &before, &n);

	if (fault == NULL && n != tree->nnodes)
		return "the number of nodes is wrong";
	return fault;
}

/* ---- ranges ---- */

static int
range_compare(const KeyRange *a, const KeyRange *b)
{
	int			cmp = bytes_compare(a->begin, b->begin);

	if (cmp != 0)
		return cmp;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return a->kind == KEYRANGE_SPAN ? bytes_compare(a->end, b->end) : 0;
}

/* Which reaches farther?  A point k ends right behind k. */
static int
end_compare(const KeyRange *a, const KeyRange *b)
{
	if (a->kind == KEYRANGE_FROM || b->kind == KEYRANGE_FROM)
		return (a->kind == KEYRANGE_FROM) - (b->kind == KEYRANGE_FROM);
	if (a->kind == b->kind)
		return a->kind == KEYRANGE_POINT ? bytes_compare(a->begin, b->begin) :
			bytes_compare(a->end, b->end);
	if (a->kind == KEYRANGE_SPAN)
		return bytes_compare(a->end, b->begin) > 0 ? 1 : -1;
	return -end_compare(b, a);
}

/* ---- nodes ---- */

static WatchNode *
node_create(WatchTree *tree, const KeyRange *range)
{
	WatchNode  *node = xmalloc(watchtree_range_bytes(range));
	uint8_t    *bytes = (uint8_t *) (node + 1);

	*node = (WatchNode) {.range = {.kind = range->kind}};
	if (range->begin.len > 0)
		memcpy(bytes, range->begin.data, range->begin.len);
	if (range->end.len > 0)
		memcpy(bytes + range->begin.len, range->end.data, range->end.len);
	node->range.begin = bytes_make(bytes, range->begin.len);
	node->range.end = bytes_make(bytes + range->begin.len, range->end.len);
	/* xorshift; clients cannot see it, so it need not be better */
	if (tree->random == 0)
		tree->random = (uint64_t) clock_monotonic_ms() ^ (uintptr_t) node;
	tree->random ^= tree->random << 13;
	tree->random ^= tree->random >> 7;
	tree->random ^= tree->random << 17;
	node->priority = tree->random;
	node->farthest = node;
	return node;
}

static void
node_update(WatchNode *node)
{
	node->farthest = node;
	if (node->left != NULL &&
		end_compare(&node->left->farthest->range, &node->farthest->range) > 0)
		node->farthest = node->left->farthest;
	if (node->right != NULL &&
		end_compare(&node->right->farthest->range, &node->farthest->range) > 0)
		node->farthest = node->right->farthest;
}

static WatchNode *
node_insert(WatchNode *root, WatchNode *node)
{
	if (root == NULL)
		return node;
	if (node->priority > root->priority)
	{
		split(root, &node->range, &node->left, &node->right);
		node_update(node);
		return node;
	}
	if (range_compare(&node->range, &root->range) < 0)
		root->left = node_insert(root->left, node);
	else
		root->right = node_insert(root->right, node);
	node_update(root);
	return root;
}

static WatchNode *
node_delete(WatchNode *root, const WatchNode *node)
{
	if (root == node)
		return merge(root->left, root->right);
	if (range_compare(&node->range, &root->range) < 0)
		root->left = node_delete(root->left, node);
	else
		root->right = node_delete(root->right, node);
	node_update(root);
	return root;
}

/* into what stands before range, and what stands behind it */
static void
split(WatchNode *root, const KeyRange *range, WatchNode **left,
	  WatchNode **right)
{
	if (root == NULL)
		*left = *right = NULL;
	else if (range_compare(range, &root->range) < 0)
	{
		split(root->left, range, left, &root->left);
		node_update(root);
		*right = root;
	}
	else
	{
		split(root->right, range, &root->right, right);
		node_update(root);
		*left = root;
	}
}

static WatchNode *
merge(WatchNode *left, WatchNode *right)
{
	if (left == NULL || right == NULL)
		return left == NULL ? right : left;
	if (left->priority > right->priority)
	{
		left->right = merge(left->right, right);
		node_update(left);
		return left;
	}
	right->left = merge(left, right->left);
	node_update(right);
	return right;
}

/* ---- questions ---- */

static void
find(const WatchNode *node, Bytes key, WatchTreeFn fn, void *arg)
{
	while (node != NULL && !keyrange_is_past(&node->farthest->range, key))
	{
		find(node->left, key, fn, arg);
		if (bytes_compare(node->range.begin, key) > 0)
			return;
		if (!keyrange_is_past(&node->range, key))
			for (WatchItem *item = node->first; item != NULL; item = item->next)
				fn(item, arg);
		node = node->right;
	}
}

/* in order; before: the range that came last */
static const char *
check(const WatchNode *node, const KeyRange **before, uint64_t *n)
{
	const char *fault;
	WatchNode	again;

	if (node == NULL)
		return NULL;
	fault = check(node->left, before, n);
	if (fault != NULL)
		return fault;
	if (*before != NULL && range_compare(*before, &node->range) >= 0)
		return "ranges are out of order";
	*before = &node->range;
	(*n)++;
	if (node->first == NULL)
		return "a range has no item";
	if ((node->left != NULL && node->left->priority > node->priority) ||
		(node->right != NULL && node->right->priority > node->priority))
		return "priorities are no heap";
	again = *node;
	node_update(&again);
	if (end_compare(&again.farthest->range, &node->farthest->range) != 0)
		return "the farthest range is wrong";
	return check(node->right, before, n);
}
