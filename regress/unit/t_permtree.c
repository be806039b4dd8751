/*
 * t_permtree.c
 *	  The interval trees against a plain list of grants.
 *
 * The model keeps (key, range_end) pairs and answers as the rules of
 * etcd-auth-semantics.md A6 are written down: sort what overlaps the request
 * by its begin and look for a gap.  Its ends are whole byte strings, it shares
 * no comparison with the tree.  Keys are short, of few letters, zero and 0xff
 * among them, so that touching, nested and equal ends are common.
 *
 * Seeds are fixed; another one: T_PERMTREE_SEED.
 */
/* needs: auth lease common storage/snap storage/ipc storage/lmgr utils/injection */
#include "server.h"

/* this layer and below */
#include "auth/permtree.h"

/* what the tests share */
#include "unit_auth.h"

#define NTREES 3
#define MODEL_MAX 64
#define KEY_MAX 4

typedef struct Str
{
	size_t		len;
	uint8_t		bytes[KEY_MAX + 1];
	bool		is_infinite;
} Str;

typedef struct Grant
{
	Str			key;
	Str			range_end;
} Grant;

typedef struct Model
{
	uint32_t	n;
	Grant		grants[MODEL_MAX];
} Model;

/* ---- strings ---- */

static Bytes
str_bytes(const Str *s)
{
	return bytes_make(s->bytes, s->len);
}

static int
str_compare(const Str *a, const Str *b)
{
	if (a->is_infinite || b->is_infinite)
		return (int) a->is_infinite - (int) b->is_infinite;
	for (size_t i = 0; i < a->len && i < b->len; i++)
	{
		if (a->bytes[i] != b->bytes[i])
			return a->bytes[i] < b->bytes[i] ? -1 : 1;
	}
	return (a->len > b->len) - (a->len < b->len);
}

static Str
random_str(uint32_t min_len)
{
	static const uint8_t letters[] = {0x00, 0x01, 'a', 'b', 'c', 0xff};
	Str			s = {.len = min_len + unit_random(KEY_MAX - min_len + 1)};

	for (size_t i = 0; i < s.len; i++)
		s.bytes[i] = letters[unit_random(sizeof(letters))];
	return s;
}

static KeyRange
grant_range(const Grant *g)
{
	return keyrange_make(str_bytes(&g->key), str_bytes(&g->range_end));
}

/* etcd's pair as [begin, end) with whole strings */
static Str
pair_end(const Grant *g)
{
	Str			end = g->range_end;

	if (end.len == 0)
	{
		end = g->key;
		end.bytes[end.len++] = 0x00;
	}
	else if (end.len == 1 && end.bytes[0] == 0x00)
		end.is_infinite = true;
	return end;
}

static Grant
random_pair(void)
{
	Grant		g = {.key = random_str(1)};

	switch (unit_random(8))
	{
		case 0:
			g.range_end = (Str) {.len = 1};
			break;
		case 1:
		case 2:
			break;
		case 3:
			/* the same keys as the single key, and another grant */
			g.range_end = g.key;
			if (g.key.len < KEY_MAX)
				g.range_end.len++;
			break;
		default:
			g.range_end = random_str(1);
	}
	return g;
}

static Grant
random_grant(void)
{
	for (;;)
	{
		Grant		g = random_pair();
		Str			end = pair_end(&g);

		if (str_compare(&g.key, &end) < 0)
			return g;
	}
}

/* ---- the model ---- */

static int
model_find(const Model *m, const Grant *g)
{
	for (uint32_t i = 0; i < m->n; i++)
	{
		if (str_compare(&m->grants[i].key, &g->key) == 0 &&
			bytes_equal(str_bytes(&m->grants[i].range_end),
						str_bytes(&g->range_end)))
			return (int) i;
	}
	return -1;
}

static int
compare_begins(const void *a, const void *b)
{
	return str_compare(&((const Grant *) a)->key, &((const Grant *) b)->key);
}

static bool
model_covers(const Model *models, uint32_t n, const Grant *request)
{
	Grant		over[NTREES * MODEL_MAX];
	uint32_t	nover = 0;
	Str			end = pair_end(request);
	Str			reached;

	for (uint32_t t = 0; t < n; t++)
	{
		for (uint32_t i = 0; i < models[t].n; i++)
		{
			const Grant *g = &models[t].grants[i];
			Str			g_end = pair_end(g);

			/* neither left of the request nor right of it */
			if (str_compare(&g->key, &end) >= 0 ||
				(str_compare(&g->key, &request->key) < 0 &&
				 str_compare(&g_end, &request->key) <= 0))
				continue;
			over[nover++] = *g;
		}
	}
	if (nover == 0)
		return false;
	if (request->range_end.len == 0)
		return true;			/* a point: any that overlaps it */

	qsort(over, nover, sizeof(over[0]), compare_begins);
	if (str_compare(&over[0].key, &request->key) > 0)
		return false;
	reached = pair_end(&over[0]);
	for (uint32_t i = 1; i < nover; i++)
	{
		Str			g_end = pair_end(&over[i]);

		if (str_compare(&over[i].key, &reached) > 0)
			return false;
		if (str_compare(&g_end, &reached) > 0)
			reached = g_end;
	}
	return str_compare(&reached, &end) >= 0;
}

static void
check_reach(const PermTree *tree, const Model *m, const Str *at, bool plus_zero)
{
	PermReach	reach = permtree_reach(tree, str_bytes(at), plus_zero);
	Str			point = *at;
	Str			best = {0};
	bool		found = false;

	if (plus_zero)
		point.bytes[point.len++] = 0x00;
	for (uint32_t i = 0; i < m->n; i++)
	{
		Str			end = pair_end(&m->grants[i]);

		if (str_compare(&m->grants[i].key, &point) > 0)
			continue;
		if (!found || str_compare(&end, &best) > 0)
			best = end;
		found = true;
	}
	if (!found)
		assert_int_equal(reach.kind, REACH_NOTHING);
	else if (best.is_infinite)
		assert_int_equal(reach.kind, REACH_OPEN);
	else
	{
		uint8_t		end[KEY_MAX + 1];
		size_t		len = reach.end.len;

		assert_int_equal(reach.kind, REACH_END);
		memcpy(end, reach.end.data, len);
		if (reach.end_plus_zero)
			end[len++] = 0x00;
		assert_true(bytes_equal(bytes_make(end, len), str_bytes(&best)));
	}
}

static void
check_answers(const PermTree *trees, const Model *models, int nquestions)
{
	const PermTree *pointers[NTREES];

	for (int t = 0; t < NTREES; t++)
	{
		const char *wrong = permtree_check(&trees[t]);

		if (wrong != NULL)
			fail_msg("%s", wrong);
		assert_int_equal(trees[t].nnodes, models[t].n);
		pointers[t] = &trees[t];
	}
	for (int q = 0; q < nquestions; q++)
	{
		Grant		request = random_pair();
		KeyRange	range = grant_range(&request);
		uint32_t	n = unit_random(NTREES + 1);
		Str			at = random_str(0);

		assert_int_equal(permtree_union_covers(pointers, n, &range),
						 model_covers(models, n, &request));
		check_reach(&trees[q % NTREES], &models[q % NTREES], &at, q % 2 == 0);
	}
}

static void
change(PermTree *tree, Model *m, uint32_t wanted)
{
	Grant		g = random_grant();
	KeyRange	range;
	int			i;

	/* grow to the wanted size, then replace at random */
	if (m->n > 0 && unit_random(wanted) < m->n)
		g = m->grants[unit_random(m->n)];
	range = grant_range(&g);
	i = model_find(m, &g);
	if (i >= 0)
	{
		assert_true(permtree_delete(tree, &range));
		assert_false(permtree_delete(tree, &range));
		m->grants[i] = m->grants[--m->n];
	}
	else if (m->n < MODEL_MAX)
	{
		permtree_insert(tree, &range);
		permtree_insert(tree, &range);
		m->grants[m->n++] = g;
	}
}

/* ---- tests ---- */

static void
test_against_model(void **state)
{
	const char *env = getenv("T_PERMTREE_SEED");
	uint64_t	seed = env != NULL ? strtoull(env, NULL, 10) : 1;

	for (uint64_t round = 0; round < 12; round++)
	{
		PermTree	trees[NTREES] = {{0}};
		Model		models[NTREES] = {{0}};
		uint32_t	wanted;
		size_t		used;

		unit_seed(seed + round);
		wanted = 4 + unit_random(MODEL_MAX);
		unit_store_open();
		store_publish();
		store_reclaim();
		used = store_bytes_used();
		for (int step = 0; step < 400; step++)
		{
			for (int t = 0; t < NTREES; t++)
				change(&trees[t], &models[t], wanted);
			check_answers(trees, models, 40);
			if (unit_random(3) == 0)
				store_publish();
			if (unit_random(3) == 0)
				store_reclaim();
		}
		for (int t = 0; t < NTREES; t++)
			permtree_drop(&trees[t]);
		store_publish();
		while (store_reclaim() > 0)
			;
		assert_int_equal(store_bytes_used(), used);
		unit_store_close();
	}
}

/* what a reader has pinned stays as it was, whatever is changed since */
static void
test_old_versions_stay(void **state)
{
	PermTree	trees[NTREES] = {{0}};
	Model		models[NTREES] = {{0}};

	unit_seed(77);
	unit_store_open();
	for (int t = 0; t < NTREES; t++)
	{
		for (int i = 0; i < 60; i++)
			change(&trees[t], &models[t], MODEL_MAX);
	}
	for (int round = 0; round < 20; round++)
	{
		PermTree	old_trees[NTREES];
		Model		old_models[NTREES];

		store_publish();
		store_pin();
		memcpy(old_trees, trees, sizeof(trees));
		memcpy(old_models, models, sizeof(models));
		for (int step = 0; step < 30; step++)
		{
			for (int t = 0; t < NTREES; t++)
				change(&trees[t], &models[t], MODEL_MAX);
			if (step % 7 == 0)
			{
				store_publish();
				store_reclaim();
			}
		}
		check_answers(old_trees, old_models, 200);
		check_answers(trees, models, 50);
		store_unpin();
	}
	unit_store_close();
}

static int
compare_pairs(const void *a, const void *b)
{
	const Grant *x = a;
	const Grant *y = b;
	int			c = str_compare(&x->key, &y->key);

	return c != 0 ? c : bytes_compare(str_bytes(&x->range_end),
									  str_bytes(&y->range_end));
}

static void
test_build(void **state)
{
	unit_seed(5);
	unit_store_open();
	for (int round = 0; round < 60; round++)
	{
		PermTree	trees[NTREES] = {{0}};
		Model		models[NTREES] = {{0}};
		KeyRange	ranges[MODEL_MAX];

		for (int t = 0; t < NTREES; t++)
		{
			Model	   *m = &models[t];
			uint32_t	wanted = unit_random(MODEL_MAX);

			while (m->n < wanted)
			{
				Grant		g = random_grant();

				if (model_find(m, &g) < 0)
					m->grants[m->n++] = g;
			}
			qsort(m->grants, m->n, sizeof(m->grants[0]), compare_pairs);
			for (uint32_t i = 0; i < m->n; i++)
				ranges[i] = grant_range(&m->grants[i]);
			permtree_build(&trees[t], ranges, m->n);
		}
		check_answers(trees, models, 100);
		for (int step = 0; step < 20; step++)
		{
			for (int t = 0; t < NTREES; t++)
				change(&trees[t], &models[t], MODEL_MAX);
		}
		check_answers(trees, models, 100);
	}
	unit_store_close();
}

/* the cases that A6 names, one by one */

static bool
covers(const PermTree *a, const PermTree *b, Bytes key, Bytes range_end)
{
	const PermTree *trees[] = {a, b};
	KeyRange	range = keyrange_make(key, range_end);

	return permtree_union_covers(trees, b == NULL ? 1 : 2, &range);
}

static void
grant(PermTree *tree, Bytes key, Bytes range_end)
{
	KeyRange	range = keyrange_make(key, range_end);

	permtree_insert(tree, &range);
}

static void
test_no_grants(void **state)
{
	PermTree	none = {0};
	KeyRange	all = keyrange_make(B("\0"), OPEN_END);

	unit_store_open();
	assert_false(covers(&none, NULL, B("a"), BYTES_EMPTY));
	assert_false(covers(&none, NULL, B("a"), B("b")));
	assert_false(covers(&none, NULL, B("b"), B("a")));
	assert_false(permtree_union_covers(NULL, 0, &all));
	assert_int_equal(permtree_reach(&none, B("a"), false).kind, REACH_NOTHING);
	unit_store_close();
}

static void
test_touching_grants_of_two_roles_add_up(void **state)
{
	PermTree	one = {0};
	PermTree	two = {0};

	unit_store_open();
	grant(&one, B("a"), B("c"));
	grant(&two, B("c"), B("f"));
	assert_true(covers(&one, &two, B("b"), B("e")));
	assert_true(covers(&one, &two, B("a"), B("f")));
	assert_false(covers(&one, &two, B("a"), B("f\0")));
	assert_false(covers(&one, NULL, B("b"), B("e")));
	assert_false(covers(&one, &two, B("A"), B("b")));
	unit_store_close();
}

static void
test_a_gap_of_one_key_is_a_gap(void **state)
{
	PermTree	one = {0};

	unit_store_open();
	grant(&one, B("a"), B("c"));
	grant(&one, B("c\0"), B("f"));
	assert_false(covers(&one, NULL, B("b"), B("e")));
	grant(&one, B("c"), BYTES_EMPTY);
	assert_true(covers(&one, NULL, B("b"), B("e")));
	unit_store_close();
}

static void
test_open_end_needs_an_open_tail(void **state)
{
	PermTree	one = {0};
	PermTree	two = {0};

	unit_store_open();
	grant(&one, B("a"), B("\xff\xff\xff"));
	assert_false(covers(&one, NULL, B("b"), OPEN_END));
	grant(&two, B("m"), OPEN_END);
	assert_true(covers(&one, &two, B("b"), OPEN_END));
	assert_false(covers(&one, &two, B("\0"), OPEN_END));
	grant(&two, B("\0"), OPEN_END);
	assert_true(covers(&one, &two, B("\0"), OPEN_END));
	unit_store_close();
}

static void
test_inverted_requests_need_one_that_spans(void **state)
{
	PermTree	one = {0};

	unit_store_open();
	grant(&one, B("b"), B("d"));
	grant(&one, B("d"), B("f"));
	assert_true(covers(&one, NULL, B("c"), B("bb")));
	assert_true(covers(&one, NULL, B("c"), B("c")));
	assert_false(covers(&one, NULL, B("e"), B("c")));	/* two together */
	assert_false(covers(&one, NULL, B("b"), B("b")));	/* begins there */
	assert_false(covers(&one, NULL, B("c"), B("a")));
	assert_false(covers(&one, NULL, B("z"), B("e")));
	unit_store_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_grants),
		cmocka_unit_test(test_touching_grants_of_two_roles_add_up),
		cmocka_unit_test(test_a_gap_of_one_key_is_a_gap),
		cmocka_unit_test(test_open_end_needs_an_open_tail),
		cmocka_unit_test(test_inverted_requests_need_one_that_spans),
		cmocka_unit_test(test_against_model),
		cmocka_unit_test(test_old_versions_stay),
		cmocka_unit_test(test_build),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
