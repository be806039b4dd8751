/*
 * permtree.c
 *	  Copy-on-write AVL tree of intervals, augmented with the greatest end.
 *
 *	                    [d, m)                  order: begin, then end
 *	                  /        \                max: of the whole subtree
 *	            [b, x)          [h, open)       low_max: of the left subtree
 *	           /      \                         and the node itself
 *	      [a, b)      [c]
 *
 * permtree_reach(e) walks one path down.  Where a node begins at or before e,
 * so does all that is left of it: their greatest end (low_max) is a candidate
 * and the walk goes right; else it goes left.  So one path, and one comparison
 * of ends for each turn to the right.
 *
 * max and low_max point to the node that has that end, which lies in the same
 * subtree; whoever replaces that node replaces all nodes above it, so the
 * pointers never hang.  A node carries its bytes with it: one cache miss less
 * on every check, for some bytes more to copy on every grant.
 *
 * Nodes bear the number of the draft that made them.  One made in the running
 * draft was never published, so it may be changed in place and freed at once.
 * This needs that nobody keeps a second PermTree with the same nodes within a
 * draft; RoleEntry is replaced, never forked, so nobody does.
 */
#include "server.h"

/* this layer and below */
#include "auth/permtree.h"
#include "storage/snap/store.h"

struct PermNode
{
	const PermNode *left;
	const PermNode *right;
	const PermNode *max;		/* has the greatest end in this subtree */
	const PermNode *low_max;	/* likewise, without the right subtree */
	uint64_t	stamp;			/* number of the draft that made it */
	uint32_t	height;			/* a leaf has 1 */
	KeyRangeKind kind;
	uint32_t	begin_len;
	uint32_t	end_len;		/* KEYRANGE_SPAN only */
	uint8_t		bytes[];		/* begin, end */
};

/* a place between keys: before `bytes`, or right behind the key `bytes` */
typedef struct Bound
{
	Bytes		bytes;
	bool		plus_zero;		/* a byte 0x00 follows */
} Bound;

static PermNode *make_node(const KeyRange *range);
static const PermNode *build_balanced(const KeyRange *ranges, size_t n);
static const PermNode *insert_at(const PermNode *node, PermNode *fresh);
static const PermNode *delete_at(const PermNode *node, const KeyRange *range);
static const PermNode *join(const PermNode *left, const PermNode *right);
static const PermNode *take_first(const PermNode *node, PermNode **first);
static void drop_subtree(const PermNode *node);

static PermNode *rebalance(PermNode *node);
static PermNode *rotate_left(PermNode *node);
static PermNode *rotate_right(PermNode *node);
static void fix(PermNode *node);
static PermNode *own(const PermNode *node);
static void discard(const PermNode *node);
static uint32_t height(const PermNode *node);
static size_t node_size(const PermNode *node);

static const PermNode *furthest(const PermTree *tree, Bound at, bool strictly);
static const PermNode *furthest_of(const PermTree *const *trees, uint32_t n,
								   Bound at, bool strictly);
static bool covers_point(const PermTree *const *trees, uint32_t n, Bytes key);
static bool covers_stretch(const PermTree *const *trees, uint32_t n,
						   const KeyRange *range);
static bool covers_inverted(const PermTree *const *trees, uint32_t n,
							const KeyRange *range);

static const PermNode *find(const PermTree *tree, const KeyRange *range);
static const PermNode *later_end(const PermNode *a, const PermNode *b);
static bool ends_behind(const PermNode *node, Bound bound);
static Bound node_end(const PermNode *node);
static Bytes node_begin(const PermNode *node);
static KeyRange node_range(const PermNode *node);
static int	compare_ranges(const KeyRange *a, const KeyRange *b);
static int	compare_bounds(Bound a, Bound b);
static const char *check_subtree(const PermNode *node, const PermNode **prev,
								 uint64_t *count);

void
permtree_insert(PermTree *tree, const KeyRange *range)
{
	Assert(range->begin.len <= UINT32_MAX && range->end.len <= UINT32_MAX);
	if (find(tree, range) != NULL)
		return;
	tree->root = insert_at(tree->root, make_node(range));
	tree->nnodes++;
}

bool
permtree_delete(PermTree *tree, const KeyRange *range)
{
	if (find(tree, range) == NULL)
		return false;
	tree->root = delete_at(tree->root, range);
	tree->nnodes--;
	return true;
}

void
permtree_build(PermTree *tree, const KeyRange *ranges, size_t n)
{
	for (size_t i = 1; i < n; i++)
		Assert(compare_ranges(&ranges[i - 1], &ranges[i]) < 0);
	tree->root = build_balanced(ranges, n);
	tree->nnodes = n;
}

void
permtree_drop(PermTree *tree)
{
	drop_subtree(tree->root);
	*tree = (PermTree) {0};
}

PermReach
permtree_reach(const PermTree *tree, Bytes key, bool key_plus_zero)
{
	const PermNode *best = furthest(tree, (Bound) {key, key_plus_zero}, false);
	Bound		end;

	if (best == NULL)
		return (PermReach) {.kind = REACH_NOTHING};
	if (best->kind == KEYRANGE_FROM)
		return (PermReach) {.kind = REACH_OPEN};
	end = node_end(best);
	return (PermReach) {REACH_END, end.bytes, end.plus_zero};
}

bool
permtree_union_covers(const PermTree *const *trees, uint32_t n,
					  const KeyRange *range)
{
	switch (range->kind)
	{
		case KEYRANGE_POINT:
			return covers_point(trees, n, range->begin);
		case KEYRANGE_SPAN:
			if (keyrange_is_empty(range))
				return covers_inverted(trees, n, range);
			return covers_stretch(trees, n, range);
		case KEYRANGE_FROM:
			return covers_stretch(trees, n, range);
	}
	/* a kind that nobody made is covered by nothing */
	return false;
}

const char *
permtree_check(const PermTree *tree)
{
	const PermNode *prev = NULL;
	uint64_t	count = 0;
	const char *wrong = check_subtree(tree->root, &prev, &count);

	if (wrong == NULL && count != tree->nnodes)
		wrong = "permission tree: number of nodes is wrong";
	return wrong;
}

/* ---- changing ---- */

static PermNode *
make_node(const KeyRange *range)
{
	size_t		end_len = range->kind == KEYRANGE_SPAN ? range->end.len : 0;
	PermNode   *node;

	node = store_alloc(sizeof(*node) + range->begin.len + end_len);
	*node = (PermNode) {
		.stamp = store_draft()->number,
		.kind = range->kind,
		.begin_len = (uint32_t) range->begin.len,
		.end_len = (uint32_t) end_len};
	if (range->begin.len > 0)
		memcpy(node->bytes, range->begin.data, range->begin.len);
	if (end_len > 0)
		memcpy(node->bytes + range->begin.len, range->end.data, end_len);
	fix(node);
	return node;
}

static const PermNode *
build_balanced(const KeyRange *ranges, size_t n)
{
	size_t		middle = n / 2;
	PermNode   *node;

	if (n == 0)
		return NULL;
	node = make_node(&ranges[middle]);
	node->left = build_balanced(ranges, middle);
	node->right = build_balanced(ranges + middle + 1, n - middle - 1);
	fix(node);
	return node;
}

static const PermNode *
insert_at(const PermNode *node, PermNode *fresh)
{
	KeyRange	range = node_range(fresh);
	KeyRange	here;
	PermNode   *mine;

	if (node == NULL)
		return fresh;
	mine = own(node);
	here = node_range(mine);
	if (compare_ranges(&range, &here) < 0)
		mine->left = insert_at(mine->left, fresh);
	else
		mine->right = insert_at(mine->right, fresh);
	return rebalance(mine);
}

/* the range is in this subtree */
static const PermNode *
delete_at(const PermNode *node, const KeyRange *range)
{
	KeyRange	here = node_range(node);
	int			c = compare_ranges(range, &here);
	PermNode   *mine;

	if (c == 0)
	{
		const PermNode *left = node->left;
		const PermNode *right = node->right;

		discard(node);
		return join(left, right);
	}
	mine = own(node);
	if (c < 0)
		mine->left = delete_at(mine->left, range);
	else
		mine->right = delete_at(mine->right, range);
	return rebalance(mine);
}

/* one tree of two whose heights differ by at most one, left before right */
static const PermNode *
join(const PermNode *left, const PermNode *right)
{
	PermNode   *first;

	if (left == NULL)
		return right;
	if (right == NULL)
		return left;
	right = take_first(right, &first);
	first->left = left;
	first->right = right;
	return rebalance(first);
}

/* take the first node out; *first is ours to link elsewhere */
static const PermNode *
take_first(const PermNode *node, PermNode **first)
{
	PermNode   *mine = own(node);

	if (mine->left == NULL)
	{
		*first = mine;
		return mine->right;
	}
	mine->left = take_first(mine->left, first);
	return rebalance(mine);
}

static void
drop_subtree(const PermNode *node)
{
	if (node == NULL)
		return;
	drop_subtree(node->left);
	drop_subtree(node->right);
	discard(node);
}

/*
 * Give an owned node, whose subtrees are sound and differ in height by at most
 * two, its place and its sums.  Returns what stands in its place.
 */
static PermNode *
rebalance(PermNode *node)
{
	const PermNode *left = node->left;
	const PermNode *right = node->right;

	if (height(left) > height(right) + 1)
	{
		if (height(left->left) < height(left->right))
			node->left = rotate_left(own(left));
		return rotate_right(node);
	}
	if (height(right) > height(left) + 1)
	{
		if (height(right->right) < height(right->left))
			node->right = rotate_right(own(right));
		return rotate_left(node);
	}
	fix(node);
	return node;
}

static PermNode *
rotate_left(PermNode *node)
{
	PermNode   *top = own(node->right);

	node->right = top->left;
	top->left = node;
	fix(node);
	fix(top);
	return top;
}

static PermNode *
rotate_right(PermNode *node)
{
	PermNode   *top = own(node->left);

	node->left = top->right;
	top->right = node;
	fix(node);
	fix(top);
	return top;
}

/* height and greatest ends, from the children's */
static void
fix(PermNode *node)
{
	const PermNode *left = node->left;
	const PermNode *right = node->right;
	uint32_t	lower = height(left) > height(right) ?
		height(left) : height(right);

	node->height = lower + 1;
	node->low_max = left == NULL ? node : later_end(left->max, node);
	node->max = right == NULL ? node->low_max :
		later_end(node->low_max, right->max);
}

/*
 * A node that may be changed: itself if it is of this draft, else a copy.  The
 * caller fixes it and everything above, since the copy's max and low_max may
 * still name the old node.
 */
static PermNode *
own(const PermNode *node)
{
	uint64_t	draft = store_draft()->number;
	PermNode   *copy;

	if (node->stamp == draft)
		return (PermNode *) node;
	copy = store_alloc(node_size(node));
	memcpy(copy, node, node_size(node));
	copy->stamp = draft;
	store_retire(node, node_size(node));
	return copy;
}

static void
discard(const PermNode *node)
{
	if (node->stamp == store_draft()->number)
		store_free((PermNode *) node, node_size(node));
	else
		store_retire(node, node_size(node));
}

static uint32_t
height(const PermNode *node)
{
	return node == NULL ? 0 : node->height;
}

static size_t
node_size(const PermNode *node)
{
	return sizeof(*node) + node->begin_len + node->end_len;
}

/* ---- asking ---- */

/*
 * The node with the greatest end among those that begin at or before `at`
 * (strictly: before it), or NULL.
 */
static const PermNode *
furthest(const PermTree *tree, Bound at, bool strictly)
{
	const PermNode *node = tree->root;
	const PermNode *best = NULL;

	while (node != NULL)
	{
		int			c = compare_bounds((Bound) {node_begin(node), false}, at);

		if (c < 0 || (c == 0 && !strictly))
		{
			best = best == NULL ? node->low_max :
				later_end(best, node->low_max);
			if (best->kind == KEYRANGE_FROM)
				break;
			node = node->right;
		}
		else
			node = node->left;
	}
	return best;
}

static const PermNode *
furthest_of(const PermTree *const *trees, uint32_t n, Bound at, bool strictly)
{
	const PermNode *best = NULL;

	for (uint32_t i = 0; i < n; i++)
	{
		const PermNode *node = furthest(trees[i], at, strictly);

		if (node != NULL)
			best = best == NULL ? node : later_end(best, node);
	}
	return best;
}

static bool
covers_point(const PermTree *const *trees, uint32_t n, Bytes key)
{
	Bound		at = {key, false};

	for (uint32_t i = 0; i < n; i++)
	{
		const PermNode *node = furthest(trees[i], at, false);

		if (node != NULL && ends_behind(node, at))
			return true;
	}
	return false;
}

/*
 * A range that holds keys, or everything from a key on: go from its begin to
 * where grants that begin there or before it reach, and on from there, until
 * the end is reached or nothing leads further.
 *
 * XXX One step for each of the touching grants that it takes; a range over
 * very many that only touch (a..b, b..c, ...) costs as many steps.
 */
static bool
covers_stretch(const PermTree *const *trees, uint32_t n, const KeyRange *range)
{
	Bound		at = {range->begin, false};

	for (;;)
	{
		const PermNode *node = furthest_of(trees, n, at, false);

		if (node == NULL)
			return false;
		if (node->kind == KEYRANGE_FROM)
			return true;
		if (range->kind == KEYRANGE_SPAN &&
			compare_bounds(node_end(node), (Bound) {range->end, false}) >= 0)
			return true;
		if (!ends_behind(node, at))
			return false;
		at = node_end(node);
	}
}

/*
 * A range whose end is not behind its begin holds nothing.  etcd allows it to
 * who has one grant that begins before its end and ends behind its begin.
 */
static bool
covers_inverted(const PermTree *const *trees, uint32_t n,
				const KeyRange *range)
{
	const PermNode *node;

	node = furthest_of(trees, n, (Bound) {range->end, false}, true);
	return node != NULL && ends_behind(node, (Bound) {range->begin, false});
}

static const PermNode *
find(const PermTree *tree, const KeyRange *range)
{
	const PermNode *node = tree->root;

	while (node != NULL)
	{
		KeyRange	here = node_range(node);
		int			c = compare_ranges(range, &here);

		if (c == 0)
			break;
		node = c < 0 ? node->left : node->right;
	}
	return node;
}

/* the one that ends later; the first if they end together */
static const PermNode *
later_end(const PermNode *a, const PermNode *b)
{
	if (a->kind == KEYRANGE_FROM)
		return a;
	if (b->kind == KEYRANGE_FROM)
		return b;
	return compare_bounds(node_end(a), node_end(b)) < 0 ? b : a;
}

static bool
ends_behind(const PermNode *node, Bound bound)
{
	return node->kind == KEYRANGE_FROM ||
		compare_bounds(node_end(node), bound) > 0;
}

/* not for KEYRANGE_FROM, which has none */
static Bound
node_end(const PermNode *node)
{
	if (node->kind == KEYRANGE_POINT)
		return (Bound) {node_begin(node), true};
	return (Bound) {
		bytes_make(node->bytes + node->begin_len, node->end_len), false};
}

static Bytes
node_begin(const PermNode *node)
{
	return bytes_make(node->bytes, node->begin_len);
}

static KeyRange
node_range(const PermNode *node)
{
	return (KeyRange) {
		.kind = node->kind,
		.begin = node_begin(node),
		.end = bytes_make(node->bytes + node->begin_len, node->end_len)};
}

/*
 * Order of the tree: as (key, range_end) stand in a role, so that [k] and
 * [k, k + 0x00), which hold the same key, are still two grants.
 */
static int
compare_ranges(const KeyRange *a, const KeyRange *b)
{
	int			c = bytes_compare(a->begin, b->begin);

	if (c != 0)
		return c;
	return bytes_compare(keyrange_wire_end(a), keyrange_wire_end(b));
}

static int
compare_bounds(Bound a, Bound b)
{
	size_t		shared = size_min(a.bytes.len, b.bytes.len);
	int			c = shared == 0 ? 0 :
		memcmp(a.bytes.data, b.bytes.data, shared);

	if (c != 0)
		return c;
	if (a.bytes.len == b.bytes.len)
		return (int) a.plus_zero - (int) b.plus_zero;
	if (a.bytes.len > b.bytes.len)
		return -compare_bounds(b, a);

	/* a is the shorter; its zero, if any, meets a byte of b */
	if (!a.plus_zero || b.bytes.data[a.bytes.len] != 0x00)
		return -1;
	return a.bytes.len + 1 < b.bytes.len + (b.plus_zero ? 1 : 0) ? -1 : 0;
}

/* prev: the node before this subtree in order; left at the last one in it */
static const char *
check_subtree(const PermNode *node, const PermNode **prev, uint64_t *count)
{
	const char *wrong;
	uint32_t	left;
	uint32_t	right;

	if (node == NULL)
		return NULL;
	if ((wrong = check_subtree(node->left, prev, count)) != NULL)
		return wrong;
	if (*prev != NULL)
	{
		KeyRange	before = node_range(*prev);
		KeyRange	here = node_range(node);

		if (compare_ranges(&before, &here) >= 0)
			return "permission tree: out of order";
	}
	*prev = node;
	*count += 1;
	if ((wrong = check_subtree(node->right, prev, count)) != NULL)
		return wrong;

	left = height(node->left);
	right = height(node->right);
	if (node->height != (left > right ? left : right) + 1)
		return "permission tree: height is wrong";
	if (left > right + 1 || right > left + 1)
		return "permission tree: out of balance";
	if (node->low_max !=
		(node->left == NULL ? node : later_end(node->left->max, node)))
		return "permission tree: greatest end on the left is wrong";
	if (node->max != (node->right == NULL ? node->low_max :
					  later_end(node->low_max, node->right->max)))
		return "permission tree: greatest end is wrong";
	return NULL;
}
