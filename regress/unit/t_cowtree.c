/*
 * t_cowtree.c
 *	  The copy-on-write tree against a sorted array, old versions included.
 */
/* needs: storage/snap */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>

/* this layer and below */
#include "storage/snap/cowtree.h"
#include "storage/snap/store.h"
#include "utils/mmgr.h"

#define KEY_MAX_BYTES 400
#define NSNAPSHOTS 4

typedef struct Item
{
	CowItem		item;
	uint64_t	value;
	uint8_t		key[];
} Item;

/* what the tree should hold */
typedef struct Model
{
	Item	  **items;
	uint32_t	n;
	uint32_t	cap;
} Model;

typedef struct Snapshot
{
	const StoreVersion *version;	/* NULL: not taken */
	Model		model;
} Snapshot;

static StorePinWord pin_words[NSNAPSHOTS + 1];
static uint64_t seed;
static uint64_t next_value;
static size_t empty_bytes;

static uint32_t
next_random(uint32_t below)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t) (seed >> 33) % below;
}

static StorePinWord *
get_pin_word(uint32_t i)
{
	return &pin_words[i];
}

static int
setup(void **state)
{
	memset(pin_words, 0, sizeof(pin_words));
	seed = 4711;
	next_value = 1;
	store_use_populate_thread(false);
	assert_true(store_create((size_t) 256 * 1024 * 1024));
	store_attach_writer();
	store_set_wipe_freed(true);
	store_set_pin_words(get_pin_word, lengthof(pin_words));
	store_publish();
	store_publish();
	store_reclaim();
	empty_bytes = store_bytes_used();
	return 0;
}

static int
teardown(void **state)
{
	store_set_pin_words(NULL, 0);
	store_destroy();
	return 0;
}

static CowTree *
tree(void)
{
	return &store_draft()->keys;
}

/* ---- items and keys ---- */

static Item *
item_create(Bytes key)
{
	Item	   *item = store_alloc(sizeof(*item) + key.len);

	item->item.key_len = (uint32_t) key.len;
	item->item.key_offset = offsetof(Item, key);
	item->value = next_value++;
	if (key.len > 0)
		memcpy(item->key, key.data, key.len);
	return item;
}

static size_t
item_bytes(const Item *item)
{
	return sizeof(*item) + item->item.key_len;
}

static Bytes
item_key(const Item *item)
{
	return cowitem_key(&item->item);
}

/*
 * Keys that are hard to tell apart: the empty one, runs of zeros, bytes of a
 * small alphabet, numbers behind a common prefix, and long prefixes.
 */
static Bytes
random_key(uint8_t *buf, uint32_t range)
{
	static const uint8_t alphabet[] = {0x00, 0x01, 'a', 0x7f, 0x80, 0xff};
	uint32_t	kind = next_random(100);
	size_t		len = 0;

	if (kind < 5)
	{
		len = next_random(20);
		memset(buf, 0, len);
	}
	else if (kind < 30)
	{
		len = next_random(12);
		for (size_t i = 0; i < len; i++)
			buf[i] = alphabet[next_random(lengthof(alphabet))];
	}
	else if (kind < 80)
		len = (size_t) snprintf((char *) buf, KEY_MAX_BYTES,
								"/registry/pods/ns-%u/%u", next_random(5),
								next_random(range));
	else
	{
		len = 250 + next_random(3);
		memset(buf, 'p', len);
		len += (size_t) snprintf((char *) buf + len, KEY_MAX_BYTES - len, "%u",
								 next_random(range));
	}
	return bytes_make(buf, len);
}

/* ---- the model ---- */

/* the first place with key >= key */
static uint32_t
model_find(const Model *m, Bytes key, bool *is_equal)
{
	uint32_t	low = 0;
	uint32_t	high = m->n;

	while (low < high)
	{
		uint32_t	mid = (low + high) / 2;

		if (bytes_compare(item_key(m->items[mid]), key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*is_equal = low < m->n && bytes_equal(item_key(m->items[low]), key);
	return low;
}

static const CowItem *
model_at(const Model *m, int64_t at)
{
	return at < 0 || at >= m->n ? NULL : &m->items[at]->item;
}

static void
model_copy(Model *to, const Model *from)
{
	to->items = xrealloc(to->items, (from->n + 1) * sizeof(*to->items));
	memcpy(to->items, from->items, from->n * sizeof(*to->items));
	to->n = to->cap = from->n;
}

/* ---- the same step in both ---- */

static void
step_put(Model *m, Bytes key)
{
	bool		is_equal;
	uint32_t	at = model_find(m, key, &is_equal);
	Item	   *item = item_create(key);
	const CowItem *old = cowtree_put(tree(), &item->item);

	if (is_equal)
	{
		assert_ptr_equal(old, m->items[at]);
		store_retire(m->items[at], item_bytes(m->items[at]));
		m->items[at] = item;
		return;
	}
	assert_null(old);
	if (m->n == m->cap)
	{
		m->cap = m->cap * 2 + 64;
		m->items = xrealloc(m->items, m->cap * sizeof(*m->items));
	}
	memmove(&m->items[at + 1], &m->items[at],
			(m->n - at) * sizeof(*m->items));
	m->items[at] = item;
	m->n++;
}

static void
step_delete(Model *m, Bytes key)
{
	bool		is_equal;
	uint32_t	at = model_find(m, key, &is_equal);
	const CowItem *old = cowtree_delete(tree(), key);

	assert_ptr_equal(old, is_equal ? m->items[at] : NULL);
	if (!is_equal)
		return;
	store_retire(m->items[at], item_bytes(m->items[at]));
	m->n--;
	memmove(&m->items[at], &m->items[at + 1],
			(m->n - at) * sizeof(*m->items));
}

/* get, seek and seek_back, and some steps both ways from there */
static void
step_look(const CowTree *t, const Model *m, Bytes key)
{
	bool		is_equal;
	int64_t		at = model_find(m, key, &is_equal);
	int64_t		back = is_equal ? at : at - 1;
	CowCursor	cursor;

	assert_ptr_equal(cowtree_get(t, key), is_equal ? model_at(m, at) : NULL);
	assert_ptr_equal(cowtree_seek(t, &cursor, key), model_at(m, at));
	for (uint32_t i = next_random(100); i > 0 && at < m->n; i--)
		assert_ptr_equal(cowtree_next(&cursor), model_at(m, ++at));
	for (uint32_t i = next_random(200); i > 0 && at >= 0 && at < m->n; i--)
		assert_ptr_equal(cowtree_prev(&cursor), model_at(m, --at));
	if (at < 0 || at >= m->n)
	{
		/* past an end there is no way back */
		assert_null(cowtree_next(&cursor));
		assert_null(cowtree_prev(&cursor));
	}
	assert_ptr_equal(cowtree_seek_back(t, &cursor, key), model_at(m, back));
	for (uint32_t i = next_random(100); i > 0 && back >= 0; i--)
		assert_ptr_equal(cowtree_prev(&cursor), model_at(m, --back));
	for (uint32_t i = next_random(100); i > 0 && back >= 0 && back < m->n; i--)
		assert_ptr_equal(cowtree_next(&cursor), model_at(m, ++back));
}

static void
check_whole(const CowTree *t, const Model *m)
{
	const char *fault = cowtree_check(t);
	CowCursor	cursor;
	const CowItem *item;
	uint32_t	n = 0;

	if (fault != NULL)
		fail_msg("%s", fault);
	assert_int_equal(t->nitems, m->n);
	for (item = cowtree_seek(t, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
		assert_ptr_equal(item, model_at(m, n++));
	assert_int_equal(n, m->n);
}

/* ---- old versions ---- */

static void
snapshot_take(Snapshot *snapshot, uint32_t i, const Model *m)
{
	store_set_own_pin_word(&pin_words[i]);
	snapshot->version = store_pin();
	model_copy(&snapshot->model, m);
}

static void
snapshot_drop(Snapshot *snapshot, uint32_t i)
{
	if (snapshot->version == NULL)
		return;
	check_whole(&snapshot->version->keys, &snapshot->model);
	atomic_store(&pin_words[i].epoch, 0);
	snapshot->version = NULL;
}

/* empty the draft and see that every byte comes back */
static void
check_nothing_leaked(Model *m)
{
	for (uint32_t i = 0; i < m->n; i++)
		store_retire(m->items[i], item_bytes(m->items[i]));
	m->n = 0;
	cowtree_drop(tree());
	assert_null(cowtree_check(tree()));
	store_publish();
	store_publish();
	while (store_reclaim() > sizeof(StoreVersion))
		;
	assert_int_equal(store_reclaim(), 0);
	assert_int_equal(store_bytes_used(), empty_bytes);
	assert_null(store_check());
	free(m->items);
	*m = (Model) {0};
}

/* ---- the tests ---- */

/* put_percent of the steps put, the others delete */
static void
run_batches(Model *m, Snapshot *snapshots, uint32_t nbatches,
			uint32_t put_percent)
{
	uint8_t		buf[KEY_MAX_BYTES];

	for (uint32_t batch = 0; batch < nbatches; batch++)
	{
		uint32_t	which = next_random(NSNAPSHOTS);

		for (uint32_t n = 1 + next_random(150); n > 0; n--)
		{
			/* deletes mostly hit: a random key seldom does */
			if (next_random(100) < put_percent)
				step_put(m, random_key(buf, 3000));
			else if (m->n > 0 && next_random(10) > 0)
			{
				Bytes		key = item_key(m->items[next_random(m->n)]);

				step_delete(m, key);
			}
			else
				step_delete(m, random_key(buf, 3000));
			if (n % 16 == 0)
				step_look(tree(), m, random_key(buf, 3000));
		}
		check_whole(tree(), m);
		store_publish();
		snapshot_drop(&snapshots[which], which);
		snapshot_take(&snapshots[which], which, m);
		store_reclaim();
		for (uint32_t i = 0; i < NSNAPSHOTS; i++)
		{
			if (snapshots[i].version != NULL)
				step_look(&snapshots[i].version->keys, &snapshots[i].model,
						  random_key(buf, 3000));
		}
	}
}

static void
random_steps_match_the_model(void **state)
{
	Model		m = {0};
	Snapshot	snapshots[NSNAPSHOTS] = {0};

	run_batches(&m, snapshots, 120, 90);	/* grow */
	assert_true(tree()->height >= 3);
	run_batches(&m, snapshots, 120, 50);
	run_batches(&m, snapshots, 160, 10);	/* shrink */
	run_batches(&m, snapshots, 60, 90);
	for (uint32_t i = 0; i < NSNAPSHOTS; i++)
	{
		snapshot_drop(&snapshots[i], i);
		free(snapshots[i].model.items);
	}
	check_nothing_leaked(&m);
}

static Bytes
number_key(uint8_t *buf, uint32_t i)
{
	return bytes_make(buf, (size_t) snprintf((char *) buf, KEY_MAX_BYTES,
											 "/some/common/prefix/%08u", i));
}

/* nodes that keys in order make: ascending fills them */
static void
keys_in_order(void **state)
{
	enum
	{
		NKEYS = 6000
	};
	uint8_t		buf[KEY_MAX_BYTES];
	Model		m = {0};

	for (uint32_t i = 0; i < NKEYS; i++)
	{
		step_put(&m, number_key(buf, i));
		if (i % 1000 == 0)
			store_publish();
	}
	check_whole(tree(), &m);
	/* items have a class of their own, so the rest is nodes */
	assert_true(store_bytes_used() < NKEYS * (64 + 18));
	/* from the front, so that the left edge is emptied again and again */
	for (uint32_t i = 0; i < NKEYS; i++)
	{
		step_delete(&m, number_key(buf, i));
		if (i % 300 == 0)
		{
			check_whole(tree(), &m);
			store_publish();
			store_reclaim();
		}
	}
	assert_null(tree()->root);
	for (uint32_t i = NKEYS; i-- > 0;)
		step_put(&m, number_key(buf, i));
	check_whole(tree(), &m);
	/* and from the back, where nodes may be nearly empty */
	for (uint32_t i = NKEYS; i-- > 0;)
	{
		step_delete(&m, number_key(buf, i));
		if (i % 300 == 0)
		{
			check_whole(tree(), &m);
			store_publish();
			store_reclaim();
		}
	}
	check_nothing_leaked(&m);
}

static void
empty_tree_and_empty_key(void **state)
{
	CowCursor	cursor;
	Model		m = {0};
	uint8_t		zero = 0;

	assert_null(cowtree_get(tree(), BYTES_EMPTY));
	assert_null(cowtree_delete(tree(), BYTES_EMPTY));
	assert_null(cowtree_seek(tree(), &cursor, BYTES_EMPTY));
	assert_null(cowtree_next(&cursor));
	assert_null(cowtree_seek_back(tree(), &cursor, BYTES_LITERAL("x")));
	assert_null(cowtree_prev(&cursor));
	assert_null(cowtree_check(tree()));

	step_put(&m, bytes_make(&zero, 1));
	step_put(&m, BYTES_EMPTY);
	step_look(tree(), &m, BYTES_EMPTY);
	step_look(tree(), &m, bytes_make(&zero, 1));
	check_whole(tree(), &m);
	assert_int_equal(tree()->height, 1);
	step_delete(&m, BYTES_EMPTY);
	assert_null(cowtree_get(tree(), BYTES_EMPTY));
	step_delete(&m, bytes_make(&zero, 1));
	assert_null(tree()->root);
	assert_int_equal(tree()->height, 0);
	check_nothing_leaked(&m);
}

/* one put in a published tree copies one path, a second one nothing more */
static void
a_batch_copies_each_path_once(void **state)
{
	uint8_t		buf[KEY_MAX_BYTES];
	Model		m = {0};
	size_t		waiting;
	Bytes		key;

	for (uint32_t i = 0; i < 10000; i++)
		step_put(&m, number_key(buf, i));
	store_publish();
	store_publish();
	store_reclaim();
	waiting = store_reclaim();
	assert_int_equal(waiting, 0);

	key = number_key(buf, 5000);
	step_put(&m, key);
	waiting = store_reclaim();
	assert_int_equal(waiting, tree()->height * 1024 +
					 item_bytes(m.items[5000]));
	step_put(&m, key);
	assert_int_equal(store_reclaim(), waiting + item_bytes(m.items[5000]));
	/* what is not there copies nothing */
	store_publish();
	store_reclaim();
	waiting = store_reclaim();
	assert_null(cowtree_delete(tree(), BYTES_LITERAL("/some/common/prefix")));
	assert_int_equal(store_reclaim(), waiting);
	check_nothing_leaked(&m);
}

/* dropping is for the draft; who has the tree pinned keeps it */
static void
a_dropped_tree_lives_on_for_readers(void **state)
{
	uint8_t		buf[KEY_MAX_BYTES];
	Snapshot	snapshot = {0};
	Model		m = {0};

	for (uint32_t i = 0; i < 2000; i++)
		step_put(&m, number_key(buf, i));
	store_publish();
	snapshot_take(&snapshot, 0, &m);
	/* some nodes of the draft's own among those of the published version */
	for (uint32_t i = 0; i < 2000; i += 500)
		step_put(&m, number_key(buf, i));
	for (uint32_t i = 0; i < m.n; i++)
		store_retire(m.items[i], item_bytes(m.items[i]));
	m.n = 0;
	cowtree_drop(tree());
	assert_int_equal(tree()->nitems, 0);
	store_publish();
	store_publish();
	assert_true(store_reclaim() > 2000 * sizeof(Item));
	snapshot_drop(&snapshot, 0);
	free(snapshot.model.items);
	check_nothing_leaked(&m);
}

/* the check is what the others rely on: it must see what is wrong */
static void
check_sees_faults(void **state)
{
	uint8_t		buf[KEY_MAX_BYTES];
	Model		m = {0};
	CowTree		broken;

	for (uint32_t i = 0; i < 1000; i++)
		step_put(&m, number_key(buf, i));
	assert_null(cowtree_check(tree()));
	broken = *tree();
	broken.nitems--;
	assert_non_null(cowtree_check(&broken));
	broken = *tree();
	broken.height++;
	assert_non_null(cowtree_check(&broken));
	broken = *tree();
	broken.root = NULL;
	assert_non_null(cowtree_check(&broken));

	/* an item whose key changed behind the tree's back */
	m.items[500]->key[25] ^= 1;
	assert_non_null(cowtree_check(tree()));
	m.items[500]->key[25] ^= 1;
	m.items[501]->item.key_len--;
	assert_non_null(cowtree_check(tree()));
	m.items[501]->item.key_len++;
	assert_null(cowtree_check(tree()));
	check_nothing_leaked(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(empty_tree_and_empty_key, setup,
										teardown),
		cmocka_unit_test_setup_teardown(random_steps_match_the_model, setup,
										teardown),
		cmocka_unit_test_setup_teardown(keys_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(a_batch_copies_each_path_once, setup,
										teardown),
		cmocka_unit_test_setup_teardown(a_dropped_tree_lives_on_for_readers,
										setup, teardown),
		cmocka_unit_test_setup_teardown(check_sees_faults, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
