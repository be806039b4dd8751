/*
 * t_walk.c
 *	  The records of a version: what counts, in which order, and that the hash
 *	  depends on nothing else.
 */
/* needs: snapshot mvcc auth lease member alarm storage/bdb storage/ipc storage/lmgr storage/snap utils/guc common proto */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/authstate.h"
#include "lease/lease.h"
#include "mvcc/mvcc.h"
#include "snapshot/walk.h"

#define B(s) BYTES_LITERAL(s)

static StorePinWord words[2];
static MemContext *scratch;

static StorePinWord *
get_word(uint32_t i)
{
	return &words[i];
}

static int
setup(void **state)
{
	store_use_populate_thread(false);
	assert_true(store_create((size_t) 64 * 1024 * 1024));
	store_attach_writer();
	store_set_pin_words(get_word, lengthof(words));
	store_set_own_pin_word(&words[0]);
	store_set_own_hold_word(&words[1]);
	store_set_wipe_freed(true);
	mvcc_compact_resume(store_draft());
	scratch = mcx_create(NULL, "test");
	return 0;
}

static int
teardown(void **state)
{
	store_set_pin_words(NULL, 0);
	store_destroy();
	mcx_destroy(scratch);
	return 0;
}

static void
put(const char *key, const char *value)
{
	PutOp		op = {.key = bytes_from_cstr(key),.value = bytes_from_cstr(value)};
	MvccSink	sink = {0};
	MvccWrite	w;

	mvcc_write_begin(&w, store_draft(), &sink, scratch);
	assert_int_equal(mvcc_put(&w, &op, NULL), ERR_NONE);
	mvcc_write_end(&w);
	store_publish();
}

static void
del(const char *key)
{
	DeleteOp	op = {.range = keyrange_make(bytes_from_cstr(key), BYTES_EMPTY)};
	MvccSink	sink = {0};
	MvccWrite	w;
	int64_t		deleted;

	mvcc_write_begin(&w, store_draft(), &sink, scratch);
	assert_int_equal(mvcc_delete_range(&w, &op, &deleted, NULL), ERR_NONE);
	mvcc_write_end(&w);
	store_publish();
}

static void
compact(int64_t revision)
{
	assert_int_equal(mvcc_compact_begin(store_draft(), revision), ERR_NONE);
	store_publish();
}

static void
remove_all(void)
{
	MvccSink	sink = {0};

	while (!mvcc_compact_step(store_draft(), 2, &sink))
		store_publish();
	store_publish();
	store_reclaim();
}

/* the keys as "key@mod key@mod", and their hash */
static uint32_t
keys_of(const StoreVersion *v, int64_t revision, Buf *text)
{
	SnapshotWalk walk;
	SnapRecord	record;
	uint32_t	hash = 0;

	text->len = 0;
	snapshot_walk_begin(&walk, v, revision, true);
	while (snapshot_walk_next(&walk, &record))
	{
		KvRecord	kv;
		int64_t		mod;
		uint32_t	sub;

		assert_int_equal(record.table, SNAP_KEYS);
		assert_true(kvrecord_key_decode(record.key, &mod, &sub));
		assert_true(kvrecord_decode(record.value, &kv));
		buf_printf(text, "%s%.*s@%" PRId64 "%s", text->len > 0 ? " " : "",
				   (int) kv.key.len, (const char *) kv.key.data, mod,
				   kv.version == 0 ? "-" : "");
		hash = snapshot_hash_add(hash, &record);
	}
	snapshot_walk_end(&walk);
	buf_put_u8(text, 0);
	return hash;
}

static void
test_what_counts(void **state)
{
	Buf			text;
	StoreHold	hold = {0};
	uint32_t	before;
	uint32_t	early;

	buf_init(&text, NULL);
	put("b", "1");				/* 2 */
	put("a", "2");				/* 3 */
	put("b", "3");				/* 4 */
	del("a");					/* 5 */
	put("c", "6");				/* 6 */
	put("a", "7");				/* 7 */
	del("c");					/* 8 */
	put("b", "9");				/* 9 */

	(void) keys_of(store_pin(), 9, &text);
	assert_string_equal(text.data, "a@7 a@5- a@3 b@9 b@4 b@2 c@8- c@6");
	early = keys_of(store_pin(), 4, &text);
	assert_string_equal(text.data, "a@3 b@4 b@2");
	(void) keys_of(store_pin(), 1, &text);
	assert_string_equal(text.data, "");
	store_unpin();
	store_unpin();
	store_unpin();

	/* the same, before and after the removal; and for who holds the old one */
	store_hold(&hold);
	compact(6);
	before = keys_of(store_pin(), 9, &text);
	assert_string_equal(text.data, "a@7 b@9 b@4 c@8- c@6");
	store_unpin();
	assert_int_equal(keys_of(hold.version, 4, &text), early);
	store_release(&hold);
	remove_all();
	assert_int_equal(keys_of(store_pin(), 9, &text), before);
	assert_string_equal(text.data, "a@7 b@9 b@4 c@8- c@6");
	store_unpin();

	/* a deletion that is compacted does not count any more */
	compact(8);
	before = keys_of(store_pin(), 9, &text);
	assert_string_equal(text.data, "a@7 b@9 b@4");
	store_unpin();
	remove_all();
	assert_int_equal(keys_of(store_pin(), 9, &text), before);
	store_unpin();
	buf_free(&text);
}

/* the smallest difference is another hash */
static void
test_hash_differs(void **state)
{
	SnapRecord	records[] = {
		{SNAP_KEYS, B("k"), B("v")}, {SNAP_USERS, B("k"), B("v")},
		{SNAP_KEYS, B("kv"), B("")}, {SNAP_KEYS, B(""), B("kv")},
		{SNAP_KEYS, B("k"), B("w")}, {SNAP_KEYS, B("k"), B("vv")},
	};

	for (size_t i = 0; i < lengthof(records); i++)
	{
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(snapshot_hash_add(0, &records[i]),
								 snapshot_hash_add(0, &records[j]));
	}
}

static void
user_op(LogOpKind kind, const char *user, const char *role)
{
	AuthSink	sink = {0};
	LogOp		op = {.kind = kind};

	if (kind == LOGOP_USER_ADD)
		op.user.name = bytes_from_cstr(user);
	else if (kind == LOGOP_ROLE_ADD)
		op.role.name = bytes_from_cstr(role);
	else
	{
		op.grant.user = bytes_from_cstr(user);
		op.grant.role = bytes_from_cstr(role);
	}
	assert_int_equal(auth_apply(store_draft(), &op, &sink), ERR_NONE);
	store_publish();
}

static void
test_all_tables(void **state)
{
	static const SnapTable want[] = {
		SNAP_AUTH, SNAP_AUTH, SNAP_ROLES, SNAP_USERS, SNAP_USERS, SNAP_LEASES,
		SNAP_KEYS,
	};
	SnapshotWalk walk;
	SnapRecord	record;
	size_t		n = 0;

	put("k", "v");
	user_op(LOGOP_USER_ADD, "bob", NULL);
	user_op(LOGOP_USER_ADD, "alice", NULL);
	user_op(LOGOP_ROLE_ADD, NULL, "r");
	user_op(LOGOP_USER_GRANT_ROLE, "alice", "r");
	assert_int_equal(lease_grant(store_draft(), 17, 60), ERR_NONE);
	store_publish();
	snapshot_walk_begin(&walk, store_pin(), 2, false);
	while (snapshot_walk_next(&walk, &record))
	{
		assert_true(n < lengthof(want));
		assert_int_equal(record.table, want[n]);
		if (n == 3)
			assert_true(bytes_equal(record.key, B("alice")));
		n++;
	}
	assert_int_equal(n, lengthof(want));
	assert_false(snapshot_walk_next(&walk, &record));
	snapshot_walk_end(&walk);
	store_unpin();
}

int
main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_counts),
		TEST(test_hash_differs),
		TEST(test_all_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
