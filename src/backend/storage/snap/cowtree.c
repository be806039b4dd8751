/*
 * cowtree.c
 *	  Copy-on-write B+tree with key heads.
 *
 *	inner, 1 KB                            leaf, 1 KB
 *	+-----------------------------------+  +--------------------------------+
 *	| stamp | n | skip                  |  | stamp | n | skip               |
 *	| heads    h0    h1    ...  h(n-1)  |  | heads  h0   h1   ...  h(n-1)   |
 *	| seps     s0    s1    ...  s(n-1)  |  | items  i0   i1   ...  i(n-1)   |
 *	| children c0   c1   c2  ...  cn    |  +---------+----+-----------------+
 *	+------------|----------------------+            |    |
 *	             v                                   v    v
 *	       s0 <= keys < s1                        CowItem ... key ...
 *
 * A head is 8 bytes of the key as a big-endian number, so that one compare of
 * integers beside each other decides most comparisons.  Keys of one range
 * mostly begin alike ("/registry/pods/..."), and heads taken from the start
 * would all be equal.  So they are taken behind `skip` bytes, which are those
 * that the two separators around the node have in common: whatever belongs
 * between the two has them, too, a key that is only looked for included, and
 * nothing need be compared to know it.  At the left and right edge of the tree
 * there is no second separator, and skip is 0.  A node's skip may be smaller
 * than what its separators would allow, never greater.
 *
 * Separators.  Each is a piece of store memory of its own, as short as will
 * still part the two leaves.  It belongs to the current version of the inner
 * node that points to it, and moves with the entry when nodes are split,
 * joined or levelled; copies of a node share it.  It is retired when it leaves
 * the current version, and the epochs keep it for older ones.
 *
 * Fill.  A full node is split on the way down, into halves, or, at the right
 * edge when appending, into a full one and one entry; so keys that come in
 * order fill the nodes.  After a deletion a node with less than a quarter is
 * joined with a neighbour or, if both would fill more than three quarters,
 * levelled with it.  So every node has at least a quarter but for the root
 * and the right edge, where it is one item in a leaf and two children in an
 * inner node.
 */
#include "server.h"

/* system */
#include <endian.h>

/* this layer and below */
#include "storage/snap/cowtree.h"
#include "storage/snap/store.h"

#define NODE_BYTES 1024
#define LEAF_MAX 63				/* items */
#define INNER_MAX 41			/* separators; one child more */

/* less than this after a deletion, and the neighbour is asked */
#define LEAF_MIN (LEAF_MAX / 4)
#define INNER_MIN (INNER_MAX / 4)

/* joined nodes hold at most this, so that the next put does not split them */
#define LEAF_JOIN_MAX (LEAF_MAX * 3 / 4)
#define INNER_JOIN_MAX (INNER_MAX * 3 / 4)

#define NEXT_PREFETCH 4

typedef struct Separator
{
	uint32_t	len;
	uint8_t		bytes[];
} Separator;

struct CowNode
{
	uint64_t	stamp;			/* number of the draft that made it */
	uint32_t	skip;			/* heads begin behind this many bytes */
	uint16_t	n;				/* items or separators */
	bool		is_leaf;
};

typedef struct Leaf
{
	CowNode		node;
	uint64_t	heads[LEAF_MAX];
	const CowItem *items[LEAF_MAX];
} Leaf;

typedef struct Inner
{
	CowNode		node;
	uint64_t	heads[INNER_MAX];
	const Separator *seps[INNER_MAX];
	CowNode    *children[INNER_MAX + 1];
} Inner;

static_assert(sizeof(Leaf) <= NODE_BYTES && sizeof(Inner) <= NODE_BYTES,
			  "a node fits its size class");
static_assert(offsetof(Leaf, heads) == sizeof(CowNode) &&
			  offsetof(Inner, heads) == sizeof(CowNode),
			  "heads follow the node in both kinds");

/* the separators around a node; NULL at the edge of the tree */
typedef struct Fences
{
	const Separator *low;		/* <= every key */
	const Separator *high;		/* > every key */
} Fences;

static const Leaf *leaf_of(const CowNode *node);
static const Inner *inner_of(const CowNode *node);
static uint64_t key_head(Bytes key, uint32_t skip);
static uint32_t inner_find(const CowNode *node, Bytes key);
static uint32_t leaf_find(const CowNode *node, Bytes key, bool *is_equal);
static const CowNode *descend(const CowTree *tree, CowCursor *cursor, Bytes key);
static const CowItem *step_forward(CowCursor *cursor);
static const CowItem *step_back(CowCursor *cursor);
static CowNode *node_create(bool is_leaf, uint32_t skip);
static CowNode *node_writable(CowNode *node);
static void node_discard(CowNode *node);
static CowNode *child_writable(Inner *parent, uint32_t at);
static Fences child_fences(const Inner *parent, uint32_t at, Fences around);
static bool needs_split(const CowNode *node, Bytes key, bool is_right_edge,
						bool *is_append);
static void child_split(Inner *parent, uint32_t at, Fences around,
						bool is_append);
static void child_refill(Inner *parent, uint32_t at, Fences around);
static void leaf_insert(Leaf *leaf, uint32_t at, const CowItem *item);
static const CowItem *leaf_remove(Leaf *leaf, uint32_t at);
static const CowItem *delete_below(CowNode *node, Fences fences, Bytes key);
static void drop_below(CowNode *node);

/* ---- reading ---- */

const CowItem *
cowtree_get(const CowTree *tree, Bytes key)
{
	const CowNode *node = descend(tree, NULL, key);
	bool		is_equal;
	uint32_t	at;

	if (node == NULL)
		return NULL;
	at = leaf_find(node, key, &is_equal);
	return is_equal ? leaf_of(node)->items[at] : NULL;
}

const CowItem *
cowtree_seek(const CowTree *tree, CowCursor *cursor, Bytes key)
{
	const CowNode *node = descend(tree, cursor, key);
	bool		is_equal;
	uint32_t	at;

	if (node == NULL)
		return NULL;
	at = leaf_find(node, key, &is_equal);
	cursor->path[cursor->depth - 1].slot = at;
	if (at < node->n)
		return leaf_of(node)->items[at];
	return step_forward(cursor);
}

const CowItem *
cowtree_seek_back(const CowTree *tree, CowCursor *cursor, Bytes key)
{
	const CowNode *node = descend(tree, cursor, key);
	bool		is_equal;
	uint32_t	at;

	if (node == NULL)
		return NULL;
	at = leaf_find(node, key, &is_equal);
	cursor->path[cursor->depth - 1].slot = at;
	if (is_equal)
		return leaf_of(node)->items[at];
	return cowtree_prev(cursor);
}

const CowItem *
cowtree_next(CowCursor *cursor)
{
	const CowNode *node;
	uint32_t	at;

	if (cursor->depth == 0)
		return NULL;
	node = cursor->path[cursor->depth - 1].node;
	at = ++cursor->path[cursor->depth - 1].slot;
	if (likely(at < node->n))
	{
		/* whoever walks reads the items, too */
		if (at + NEXT_PREFETCH < node->n)
			__builtin_prefetch(leaf_of(node)->items[at + NEXT_PREFETCH]);
		return leaf_of(node)->items[at];
	}
	return step_forward(cursor);
}

const CowItem *
cowtree_prev(CowCursor *cursor)
{
	const CowNode *node;

	if (cursor->depth == 0)
		return NULL;
	node = cursor->path[cursor->depth - 1].node;
	if (likely(cursor->path[cursor->depth - 1].slot > 0))
		return leaf_of(node)->items[--cursor->path[cursor->depth - 1].slot];
	return step_back(cursor);
}

/* ---- changing ---- */

const CowItem *
cowtree_put(CowTree *tree, const CowItem *item)
{
	Bytes		key = cowitem_key(item);
	Fences		fences = {NULL, NULL};
	const CowItem *old = NULL;
	CowNode    *node;
	bool		is_equal;
	bool		is_append;
	uint32_t	at;

	if (tree->root == NULL)
	{
		tree->root = node_create(true, 0);
		tree->height = 1;
	}
	node = node_writable((CowNode *) tree->root);
	tree->root = node;
	if (needs_split(node, key, true, &is_append))
	{
		Inner	   *root = (Inner *) node_create(false, 0);

		root->children[0] = node;
		child_split(root, 0, fences, is_append);
		node = &root->node;
		tree->root = node;
		tree->height++;
	}
	while (!node->is_leaf)
	{
		Inner	   *parent = (Inner *) node;

		at = inner_find(node, key);
		node = child_writable(parent, at);
		if (needs_split(node, key, at == parent->node.n && fences.high == NULL,
						&is_append))
		{
			child_split(parent, at, fences, is_append);
			at = inner_find(&parent->node, key);
			node = parent->children[at];
		}
		fences = child_fences(parent, at, fences);
	}
	at = leaf_find(node, key, &is_equal);
	if (is_equal)
	{
		old = leaf_of(node)->items[at];
		((Leaf *) node)->items[at] = item;
		return old;
	}
	leaf_insert((Leaf *) node, at, item);
	tree->nitems++;
	return NULL;
}

const CowItem *
cowtree_delete(CowTree *tree, Bytes key)
{
	const CowItem *old;
	CowNode    *root;

	/* what is not there must not copy the path */
	if (cowtree_get(tree, key) == NULL)
		return NULL;
	root = node_writable((CowNode *) tree->root);
	old = delete_below(root, (Fences) {NULL, NULL}, key);
	tree->nitems--;
	while (root != NULL && root->n == 0)
	{
		CowNode    *only = root->is_leaf ? NULL : ((Inner *) root)->children[0];

		node_discard(root);
		root = only;
		tree->height--;
	}
	tree->root = root;
	return old;
}

void
cowtree_drop(CowTree *tree)
{
	if (tree->root != NULL)
		drop_below((CowNode *) tree->root);
	*tree = (CowTree) {0};
}

/* ---- comparing ---- */

static const Leaf *
leaf_of(const CowNode *node)
{
	Assert(node->is_leaf);
	return (const Leaf *) node;
}

static const Inner *
inner_of(const CowNode *node)
{
	Assert(!node->is_leaf);
	return (const Inner *) node;
}

static Bytes
sep_key(const Separator *sep)
{
	return bytes_make(sep->bytes, sep->len);
}

/* 8 bytes behind skip; a key that ends before is filled up with zeros */
static uint64_t
key_head(Bytes key, uint32_t skip)
{
	uint64_t	head = 0;

	Assert(key.len >= skip);
	if (likely(key.len - skip >= sizeof(head)))
		memcpy(&head, key.data + skip, sizeof(head));
	else if (key.len > skip)
		memcpy(&head, key.data + skip, key.len - skip);
	return be64toh(head);
}

/* keys that are known to be equal in their first skip bytes */
static int
compare_behind(Bytes a, Bytes b, uint32_t skip)
{
	return bytes_compare(bytes_make(a.data + skip, a.len - skip),
						 bytes_make(b.data + skip, b.len - skip));
}

static uint32_t
common_prefix(Bytes a, Bytes b)
{
	size_t		n = size_min(a.len, b.len);
	size_t		i = 0;

	while (i < n && a.data[i] == b.data[i])
		i++;
	return (uint32_t) i;
}

/*
 * How many of n sorted heads are smaller than this one.  Written so that the
 * compiler chooses without a branch, which could not be guessed.
 */
static uint32_t
heads_below(const uint64_t *heads, uint32_t n, uint64_t head)
{
	const uint64_t *from = heads;

	if (n == 0)
		return 0;
	while (n > 1)
	{
		uint32_t	half = n / 2;

		from = from[half - 1] < head ? from + half : from;
		n -= half;
	}
	return (uint32_t) (from - heads) + (*from < head);
}

/* the child that a key belongs to: the number of separators <= key */
static uint32_t
inner_find(const CowNode *node, Bytes key)
{
	const Inner *inner = inner_of(node);
	uint64_t	head = key_head(key, node->skip);
	uint32_t	low = heads_below(inner->heads, node->n, head);
	uint32_t	high = low;

	/* equal heads decide nothing */
	while (high < node->n && inner->heads[high] == head)
		high++;
	while (low < high)
	{
		uint32_t	mid = (low + high) / 2;

		if (compare_behind(sep_key(inner->seps[mid]), key, node->skip) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* the first item with key >= key; n if there is none */
static uint32_t
leaf_find(const CowNode *node, Bytes key, bool *is_equal)
{
	const Leaf *leaf = leaf_of(node);
	uint64_t	head = key_head(key, node->skip);
	uint32_t	low = heads_below(leaf->heads, node->n, head);
	uint32_t	high = low;

	*is_equal = false;
	/* the key of an item with a large header is one line further on */
	if (low < node->n)
		__builtin_prefetch((const uint8_t *) leaf->items[low] +
						   CACHE_LINE_BYTES);
	while (high < node->n && leaf->heads[high] == head)
		high++;
	while (low < high)
	{
		uint32_t	mid = (low + high) / 2;
		int			c = compare_behind(cowitem_key(leaf->items[mid]), key,
									   node->skip);

		if (c == 0)
		{
			*is_equal = true;
			return mid;
		}
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* ---- walking ---- */

/*
 * A cold node costs one wait for memory instead of one per step of the search
 * if all its lines are asked for at once.
 */
static void
prefetch_node(const CowNode *node)
{
	for (uint32_t i = 0; i < NODE_BYTES; i += CACHE_LINE_BYTES)
		__builtin_prefetch((const uint8_t *) node + i);
}

/*
 * Go down to the leaf where a key belongs; NULL in an empty tree.  Notes the
 * way in cursor (if not NULL), but for the slot in the leaf.
 */
static const CowNode *
descend(const CowTree *tree, CowCursor *cursor, Bytes key)
{
	const CowNode *node = tree->root;
	uint32_t	depth = 0;

	if (node != NULL)
	{
		while (!node->is_leaf)
		{
			uint32_t	at = inner_find(node, key);

			if (cursor != NULL)
			{
				cursor->path[depth].node = node;
				cursor->path[depth].slot = at;
			}
			depth++;
			node = inner_of(node)->children[at];
			prefetch_node(node);
		}
		if (cursor != NULL)
			cursor->path[depth].node = node;
		depth++;
	}
	Assert(depth == tree->height && depth <= COWTREE_MAX_HEIGHT);
	if (cursor != NULL)
		cursor->depth = depth;
	return node;
}

/* from behind the last item of a leaf to the first of the next one */
static const CowItem *
step_forward(CowCursor *cursor)
{
	uint32_t	leaf_at = cursor->depth - 1;
	uint32_t	at = leaf_at;

	do
	{
		if (at == 0)
		{
			cursor->depth = 0;
			return NULL;
		}
		at--;
	} while (cursor->path[at].slot == cursor->path[at].node->n);
	cursor->path[at].slot++;
	for (; at < leaf_at; at++)
	{
		const Inner *inner = inner_of(cursor->path[at].node);

		cursor->path[at + 1].node = inner->children[cursor->path[at].slot];
		cursor->path[at + 1].slot = 0;
	}
	return leaf_of(cursor->path[leaf_at].node)->items[0];
}

/* from the first item of a leaf to the last of the one before */
static const CowItem *
step_back(CowCursor *cursor)
{
	uint32_t	leaf_at = cursor->depth - 1;
	uint32_t	at = leaf_at;
	const CowNode *leaf;

	do
	{
		if (at == 0)
		{
			cursor->depth = 0;
			return NULL;
		}
		at--;
	} while (cursor->path[at].slot == 0);
	cursor->path[at].slot--;
	for (; at < leaf_at; at++)
	{
		const Inner *inner = inner_of(cursor->path[at].node);
		const CowNode *child = inner->children[cursor->path[at].slot];

		cursor->path[at + 1].node = child;
		cursor->path[at + 1].slot = child->n;
	}
	leaf = cursor->path[leaf_at].node;
	return leaf_of(leaf)->items[--cursor->path[leaf_at].slot];
}

/* ---- nodes ---- */

static CowNode *
node_create(bool is_leaf, uint32_t skip)
{
	CowNode    *node = store_alloc(NODE_BYTES);

	node->stamp = store_draft()->number;
	node->skip = skip;
	node->n = 0;
	node->is_leaf = is_leaf;
	return node;
}

/* The node itself if this draft made it, else a copy that replaces it. */
static CowNode *
node_writable(CowNode *node)
{
	uint64_t	number = store_draft()->number;
	CowNode    *copy;

	if (node->stamp == number)
		return node;
	copy = store_alloc(NODE_BYTES);
	memcpy(copy, node, NODE_BYTES);
	copy->stamp = number;
	store_retire(node, NODE_BYTES);
	return copy;
}

/* It has left the draft; what this draft made was never published. */
static void
node_discard(CowNode *node)
{
	if (node->stamp == store_draft()->number)
		store_free(node, NODE_BYTES);
	else
		store_retire(node, NODE_BYTES);
}

static CowNode *
child_writable(Inner *parent, uint32_t at)
{
	prefetch_node(parent->children[at]);
	parent->children[at] = node_writable(parent->children[at]);
	return parent->children[at];
}

/* ---- separators ---- */

/* the shortest key that is above `below` and not above `from` */
static const Separator *
sep_create(Bytes below, Bytes from)
{
	uint32_t	len = common_prefix(below, from) + 1;
	Separator  *sep = store_alloc(sizeof(*sep) + len);

	Assert(bytes_compare(below, from) < 0);
	sep->len = len;
	memcpy(sep->bytes, from.data, len);
	return sep;
}

/* It has left the current version; copies of its node may still have it. */
static void
sep_retire(const Separator *sep)
{
	store_retire(sep, sizeof(*sep) + sep->len);
}

static Fences
child_fences(const Inner *parent, uint32_t at, Fences around)
{
	return (Fences) {
		.low = at > 0 ? parent->seps[at - 1] : around.low,
		.high = at < parent->node.n ? parent->seps[at] : around.high,
	};
}

static uint32_t
fences_skip(Fences fences)
{
	if (fences.low == NULL || fences.high == NULL)
		return 0;
	return common_prefix(sep_key(fences.low), sep_key(fences.high));
}

/* ---- filling ---- */

static void
leaf_insert(Leaf *leaf, uint32_t at, const CowItem *item)
{
	uint32_t	behind = leaf->node.n - at;

	Assert(leaf->node.n < LEAF_MAX);
	memmove(&leaf->heads[at + 1], &leaf->heads[at],
			behind * sizeof(leaf->heads[0]));
	memmove(&leaf->items[at + 1], &leaf->items[at],
			behind * sizeof(leaf->items[0]));
	leaf->heads[at] = key_head(cowitem_key(item), leaf->node.skip);
	leaf->items[at] = item;
	leaf->node.n++;
}

static const CowItem *
leaf_remove(Leaf *leaf, uint32_t at)
{
	const CowItem *item = leaf->items[at];
	uint32_t	behind = --leaf->node.n - at;

	memmove(&leaf->heads[at], &leaf->heads[at + 1],
			behind * sizeof(leaf->heads[0]));
	memmove(&leaf->items[at], &leaf->items[at + 1],
			behind * sizeof(leaf->items[0]));
	return item;
}

/* a separator, and the child to its right */
static void
inner_insert(Inner *inner, uint32_t at, const Separator *sep, CowNode *child)
{
	uint32_t	behind = inner->node.n - at;

	Assert(inner->node.n < INNER_MAX);
	memmove(&inner->heads[at + 1], &inner->heads[at],
			behind * sizeof(inner->heads[0]));
	memmove(&inner->seps[at + 1], &inner->seps[at],
			behind * sizeof(inner->seps[0]));
	memmove(&inner->children[at + 2], &inner->children[at + 1],
			behind * sizeof(inner->children[0]));
	inner->heads[at] = key_head(sep_key(sep), inner->node.skip);
	inner->seps[at] = sep;
	inner->children[at + 1] = child;
	inner->node.n++;
}

/* the separator and the child to its right; neither is freed */
static void
inner_remove(Inner *inner, uint32_t at)
{
	uint32_t	behind = --inner->node.n - at;

	memmove(&inner->heads[at], &inner->heads[at + 1],
			behind * sizeof(inner->heads[0]));
	memmove(&inner->seps[at], &inner->seps[at + 1],
			behind * sizeof(inner->seps[0]));
	memmove(&inner->children[at + 1], &inner->children[at + 2],
			behind * sizeof(inner->children[0]));
}

/* put another separator in the place of one */
static void
inner_set_sep(Inner *inner, uint32_t at, const Separator *sep)
{
	inner->heads[at] = key_head(sep_key(sep), inner->node.skip);
	inner->seps[at] = sep;
}

static void
leaf_fill(Leaf *leaf, const CowItem *const *items, uint32_t n, uint32_t skip)
{
	/* the keys are cold: let the fetches overlap */
	for (uint32_t i = 0; i < n; i++)
	{
		__builtin_prefetch(items[i]);
		__builtin_prefetch((const uint8_t *) items[i] + CACHE_LINE_BYTES);
	}
	leaf->node.skip = skip;
	leaf->node.n = (uint16_t) n;
	for (uint32_t i = 0; i < n; i++)
	{
		leaf->heads[i] = key_head(cowitem_key(items[i]), skip);
		leaf->items[i] = items[i];
	}
}

/* n separators and n + 1 children */
static void
inner_fill(Inner *inner, const Separator *const *seps, CowNode *const *children,
		   uint32_t n, uint32_t skip)
{
	inner->node.skip = skip;
	inner->node.n = (uint16_t) n;
	for (uint32_t i = 0; i < n; i++)
	{
		inner->heads[i] = key_head(sep_key(seps[i]), skip);
		inner->seps[i] = seps[i];
	}
	for (uint32_t i = 0; i <= n; i++)
		inner->children[i] = children[i];
}

/* Cut off the end; what stays gets better heads if the fences allow. */
static void
leaf_cut(Leaf *leaf, uint32_t n, uint32_t skip)
{
	leaf->node.n = (uint16_t) n;
	if (skip == leaf->node.skip)
		return;
	leaf->node.skip = skip;
	for (uint32_t i = 0; i < n; i++)
		leaf->heads[i] = key_head(cowitem_key(leaf->items[i]), skip);
}

static void
inner_cut(Inner *inner, uint32_t n, uint32_t skip)
{
	inner->node.n = (uint16_t) n;
	if (skip == inner->node.skip)
		return;
	inner->node.skip = skip;
	for (uint32_t i = 0; i < n; i++)
		inner->heads[i] = key_head(sep_key(inner->seps[i]), skip);
}

/* ---- splitting ---- */

/* A full node has no room for this key; is_append: it comes behind all. */
static bool
needs_split(const CowNode *node, Bytes key, bool is_right_edge,
			bool *is_append)
{
	bool		is_equal = false;
	uint32_t	at;

	if (likely(node->n < (node->is_leaf ? LEAF_MAX : INNER_MAX)))
		return false;
	if (node->is_leaf)
		at = leaf_find(node, key, &is_equal);
	else
		at = inner_find(node, key);
	*is_append = is_right_edge && at == node->n;
	return !is_equal;
}

static const Separator *
leaf_split(Leaf *left, Leaf *right, Fences fences, bool is_append)
{
	uint32_t	n = left->node.n;
	uint32_t	nleft = is_append ? n - 1 : n / 2;
	const Separator *sep = sep_create(cowitem_key(left->items[nleft - 1]),
									  cowitem_key(left->items[nleft]));

	leaf_fill(right, left->items + nleft, n - nleft,
			  fences_skip((Fences) {sep, fences.high}));
	leaf_cut(left, nleft, fences_skip((Fences) {fences.low, sep}));
	return sep;
}

static const Separator *
inner_split(Inner *left, Inner *right, Fences fences, bool is_append)
{
	uint32_t	n = left->node.n;
	uint32_t	nleft = is_append ? n - 2 : n / 2;
	const Separator *sep = left->seps[nleft];

	inner_fill(right, left->seps + nleft + 1, left->children + nleft + 1,
			   n - nleft - 1, fences_skip((Fences) {sep, fences.high}));
	inner_cut(left, nleft, fences_skip((Fences) {fences.low, sep}));
	return sep;
}

/*
 * Split a full child that is writable.  around: the fences of the parent,
 * which has room.
 */
static void
child_split(Inner *parent, uint32_t at, Fences around, bool is_append)
{
	CowNode    *left = parent->children[at];
	CowNode    *right = node_create(left->is_leaf, 0);
	Fences		fences = child_fences(parent, at, around);
	const Separator *sep;

	if (left->is_leaf)
		sep = leaf_split((Leaf *) left, (Leaf *) right, fences, is_append);
	else
		sep = inner_split((Inner *) left, (Inner *) right, fences, is_append);
	inner_insert(parent, at, sep, right);
}

/* ---- deleting ---- */

/* The key is there.  node is writable. */
static const CowItem *
delete_below(CowNode *node, Fences fences, Bytes key)
{
	const CowItem *old;
	Inner	   *parent;
	CowNode    *child;
	uint32_t	at;

	if (node->is_leaf)
	{
		bool		is_equal;

		at = leaf_find(node, key, &is_equal);
		Assert(is_equal);
		return leaf_remove((Leaf *) node, at);
	}
	parent = (Inner *) node;
	at = inner_find(node, key);
	child = child_writable(parent, at);
	old = delete_below(child, child_fences(parent, at, fences), key);
	if (child->n < (child->is_leaf ? LEAF_MIN : INNER_MIN))
		child_refill(parent, at, fences);
	return old;
}

/* Join two leaves into the left one, or level them; true if joined. */
static bool
leaves_join(Inner *parent, uint32_t at, Fences around)
{
	Leaf	   *left = (Leaf *) parent->children[at];
	Leaf	   *right = (Leaf *) parent->children[at + 1];
	Fences		low = child_fences(parent, at, around);
	Fences		high = child_fences(parent, at + 1, around);
	const CowItem *items[LEAF_MAX * 2];
	uint32_t	n = left->node.n + right->node.n;
	uint32_t	nleft = n / 2;
	const Separator *sep;

	memcpy(items, left->items, left->node.n * sizeof(items[0]));
	memcpy(items + left->node.n, right->items,
		   right->node.n * sizeof(items[0]));
	if (n <= LEAF_JOIN_MAX)
	{
		leaf_fill(left, items, n, fences_skip((Fences) {low.low, high.high}));
		return true;
	}
	sep = sep_create(cowitem_key(items[nleft - 1]), cowitem_key(items[nleft]));
	leaf_fill(left, items, nleft, fences_skip((Fences) {low.low, sep}));
	leaf_fill(right, items + nleft, n - nleft,
			  fences_skip((Fences) {sep, high.high}));
	sep_retire(parent->seps[at]);
	inner_set_sep(parent, at, sep);
	return false;
}

/* The same for inner nodes: the separator between them comes down. */
static bool
inners_join(Inner *parent, uint32_t at, Fences around)
{
	Inner	   *left = (Inner *) parent->children[at];
	Inner	   *right = (Inner *) parent->children[at + 1];
	Fences		low = child_fences(parent, at, around);
	Fences		high = child_fences(parent, at + 1, around);
	const Separator *seps[INNER_MAX * 2 + 1];
	CowNode    *children[INNER_MAX * 2 + 2];
	uint32_t	nl = left->node.n;
	uint32_t	nr = right->node.n;
	uint32_t	n = nl + nr + 1;
	uint32_t	nleft = n / 2;

	memcpy(seps, left->seps, nl * sizeof(seps[0]));
	seps[nl] = parent->seps[at];
	memcpy(seps + nl + 1, right->seps, nr * sizeof(seps[0]));
	memcpy(children, left->children, (nl + 1) * sizeof(children[0]));
	memcpy(children + nl + 1, right->children, (nr + 1) * sizeof(children[0]));
	if (n <= INNER_JOIN_MAX)
	{
		inner_fill(left, seps, children, n,
				   fences_skip((Fences) {low.low, high.high}));
		return true;
	}
	/* the one in the middle goes up */
	inner_fill(left, seps, children, nleft,
			   fences_skip((Fences) {low.low, seps[nleft]}));
	inner_fill(right, seps + nleft + 1, children + nleft + 1, n - nleft - 1,
			   fences_skip((Fences) {seps[nleft], high.high}));
	inner_set_sep(parent, at, seps[nleft]);
	return false;
}

/* Join the child at this place with a neighbour, or level the two. */
static void
child_refill(Inner *parent, uint32_t at, Fences around)
{
	CowNode    *right;

	Assert(parent->node.n > 0);
	if (at > 0)
		at--;
	child_writable(parent, at);
	right = child_writable(parent, at + 1);
	if (right->is_leaf)
	{
		if (!leaves_join(parent, at, around))
			return;
		sep_retire(parent->seps[at]);
	}
	else if (!inners_join(parent, at, around))
		return;
	inner_remove(parent, at);
	node_discard(right);
}

static void
drop_below(CowNode *node)
{
	if (!node->is_leaf)
	{
		Inner	   *inner = (Inner *) node;

		for (uint32_t i = 0; i < node->n; i++)
			sep_retire(inner->seps[i]);
		for (uint32_t i = 0; i <= node->n; i++)
			drop_below(inner->children[i]);
	}
	node_discard(node);
}

/* ---- checking ---- */

typedef struct CheckState
{
	uint32_t	height;
	uint64_t	nitems;
	const CowItem *last;		/* the item before, over all leaves */
} CheckState;

static const char *
check_leaf(const Leaf *leaf, Fences fences, CheckState *state)
{
	for (uint32_t i = 0; i < leaf->node.n; i++)
	{
		Bytes		key = cowitem_key(leaf->items[i]);

		if (state->last != NULL &&
			bytes_compare(cowitem_key(state->last), key) >= 0)
			return "items are not in ascending order";
		if (fences.low != NULL && bytes_compare(key, sep_key(fences.low)) < 0)
			return "item is below the separator on its left";
		if (fences.high != NULL && bytes_compare(key, sep_key(fences.high)) >= 0)
			return "item is not below the separator on its right";
		if (leaf->heads[i] != key_head(key, leaf->node.skip))
			return "head of an item is wrong";
		state->last = leaf->items[i];
		state->nitems++;
	}
	return NULL;
}

static const char *
check_seps(const Inner *inner, Fences fences)
{
	const Separator *before = fences.low;

	for (uint32_t i = 0; i < inner->node.n; i++)
	{
		const Separator *sep = inner->seps[i];

		if (before != NULL &&
			bytes_compare(sep_key(before), sep_key(sep)) >= 0)
			return "separators are not in ascending order";
		if (inner->heads[i] != key_head(sep_key(sep), inner->node.skip))
			return "head of a separator is wrong";
		before = sep;
	}
	if (before != NULL && fences.high != NULL &&
		bytes_compare(sep_key(before), sep_key(fences.high)) >= 0)
		return "separator is not below the one of its parent";
	return NULL;
}

/* the rule of fill in the head of this file */
static bool
fill_is_right(const CowNode *node, Fences fences, bool is_root)
{
	if (node->n > (node->is_leaf ? LEAF_MAX : INNER_MAX) || node->n < 1)
		return false;
	if (is_root || fences.high == NULL)
		return true;
	return node->n >= (node->is_leaf ? LEAF_MIN : INNER_MIN);
}

static const char *
check_below(const CowNode *node, Fences fences, uint32_t depth,
			CheckState *state)
{
	const char *fault;

	if (depth > state->height || node->is_leaf != (depth == state->height))
		return "leaf is not at the height of the tree";
	if (!fill_is_right(node, fences, depth == 1))
		return "node holds too few or too many entries";
	if (node->skip > fences_skip(fences))
		return "node skips more than its separators have in common";
	if (node->is_leaf)
		return check_leaf(leaf_of(node), fences, state);
	fault = check_seps(inner_of(node), fences);
	for (uint32_t i = 0; fault == NULL && i <= node->n; i++)
		fault = check_below(inner_of(node)->children[i],
							child_fences(inner_of(node), i, fences), depth + 1,
							state);
	return fault;
}

const char *
cowtree_check(const CowTree *tree)
{
	CheckState	state = {.height = tree->height};
	const char *fault;

	if (tree->root == NULL)
		return tree->nitems == 0 && tree->height == 0 ? NULL :
			"empty tree has items or a height";
	if (tree->height > COWTREE_MAX_HEIGHT)
		return "tree is too high";
	fault = check_below(tree->root, (Fences) {NULL, NULL}, 1, &state);
	if (fault == NULL && state.nitems != tree->nitems)
		fault = "count of items is wrong";
	return fault;
}
