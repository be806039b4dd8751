/*
 * t_watchtree.c
 *	  The interval tree of watched ranges against a list that is searched.
 */
/* needs: watch/watchtree common */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* this layer and below */
#include "watch/watchtree.h"

#define B(s) BYTES_LITERAL(s)
#define MAX_ITEMS 600

typedef struct Entry
{
	WatchItem	item;			/* first */
	KeyRange	range;
	char		begin[8];
	char		end[8];
	bool		is_in;
	int			found;
} Entry;

static Entry entries[MAX_ITEMS];
static uint64_t rng;
static int	nfound;

static uint32_t
rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t) (rng % n);
}

static void
random_key(char key[8])
{
	size_t		n = rnd(4);

	for (size_t i = 0; i < n; i++)
		key[i] = (char) ('a' + rnd(4));
	key[n] = '\0';
}

static void
count(WatchItem *item, void *arg)
{
	((Entry *) item)->found++;
	nfound++;
}

static void
compare_all(const WatchTree *tree)
{
	char		key[8];
	int			expected = 0;

	random_key(key);
	nfound = 0;
	for (int i = 0; i < MAX_ITEMS; i++)
		entries[i].found = 0;
	watchtree_find(tree, bytes_from_cstr(key), count, NULL);
	for (int i = 0; i < MAX_ITEMS; i++)
	{
		bool		holds = entries[i].is_in &&
			keyrange_contains(&entries[i].range, bytes_from_cstr(key));

		assert_int_equal(entries[i].found, holds);
		expected += holds;
	}
	assert_int_equal(nfound, expected);
}

static void
make_range(Entry *entry)
{
	do
	{
		random_key(entry->begin);
		random_key(entry->end);
		entry->range = (KeyRange) {
			.kind = (KeyRangeKind) rnd(3),
			.begin = bytes_from_cstr(entry->begin),
		};
		if (entry->range.kind == KEYRANGE_SPAN)
			entry->range.end = bytes_from_cstr(entry->end);
	} while (keyrange_is_empty(&entry->range));
}

static void
test_random(void **state)
{
	WatchTree	tree = {0};
	uint64_t	nnodes = 0;

	rng = 20261122;
	for (int step = 0; step < 30000; step++)
	{
		Entry	   *entry = &entries[rnd(MAX_ITEMS)];

		if (entry->is_in)
			nnodes -= watchtree_remove(&tree, &entry->item);
		else
		{
			bool		is_new;

			make_range(entry);
			is_new = watchtree_lookup(&tree, &entry->range) == NULL;
			assert_int_equal(watchtree_add(&tree, &entry->range, &entry->item),
							 is_new);
			nnodes += is_new;
			/* the tree has its own copy of the bytes */
			assert_ptr_not_equal(entry->item.node->range.begin.data,
								 entry->begin);
		}
		entry->is_in = !entry->is_in;
		assert_int_equal(tree.nnodes, nnodes);
		if (step % 50 == 0)
			assert_null(watchtree_check(&tree));
		if (step % 5 == 0)
			compare_all(&tree);
	}
	for (int i = 0; i < MAX_ITEMS; i++)
		if (entries[i].is_in)
			watchtree_remove(&tree, &entries[i].item);
	assert_null(tree.root);
	assert_int_equal(tree.nnodes, 0);
}

static void
test_edges(void **state)
{
	WatchTree	tree = {0};
	Entry		point = {0};
	Entry		all = {0};
	Entry		span = {0};
	KeyRange	range = keyrange_make(B("k"), BYTES_EMPTY);

	watchtree_find(&tree, B("k"), count, NULL);
	assert_true(watchtree_add(&tree, &range, &point.item));
	range = keyrange_make(B("k"), B("l"));
	assert_true(watchtree_add(&tree, &range, &span.item));
	nfound = 0;
	watchtree_find(&tree, B("k"), count, NULL);
	assert_int_equal(nfound, 2);
	watchtree_find(&tree, B("kz"), count, NULL);
	assert_int_equal(nfound, 3);
	watchtree_find(&tree, B("l"), count, NULL);
	watchtree_find(&tree, B("j"), count, NULL);
	assert_int_equal(nfound, 3);
	/* from the empty key on: everything, the empty key too */
	range = (KeyRange) {.kind = KEYRANGE_FROM};
	assert_true(watchtree_add(&tree, &range, &all.item));
	watchtree_find(&tree, BYTES_EMPTY, count, NULL);
	watchtree_find(&tree, B("\xff\xff\xff"), count, NULL);
	assert_int_equal(nfound, 5);
	assert_true(watchtree_remove(&tree, &all.item));
	assert_true(watchtree_remove(&tree, &point.item));
	assert_true(watchtree_remove(&tree, &span.item));
	assert_null(tree.root);
}

static void
test_many_on_one_range(void **state)
{
	WatchTree	tree = {0};
	KeyRange	range = keyrange_make(B("hot"), BYTES_EMPTY);

	for (int i = 0; i < MAX_ITEMS; i++)
		assert_int_equal(watchtree_add(&tree, &range, &entries[i].item), i == 0);
	nfound = 0;
	watchtree_find(&tree, B("hot"), count, NULL);
	assert_int_equal(nfound, MAX_ITEMS);
	for (int i = 0; i < MAX_ITEMS; i++)
		assert_int_equal(watchtree_remove(&tree, &entries[i].item),
						 i == MAX_ITEMS - 1);
	assert_null(tree.root);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_many_on_one_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
