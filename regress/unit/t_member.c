/*
 * t_member.c
 *	  Members as items in store memory and as records.
 */
/* needs: member storage/snap */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>

/* this layer and below */
#include "member/member.h"
#include "storage/snap/store.h"

static const MemberInfo example = {
	.id = UINT64_C(0x8e9e05c52164694d),
	.name = {(const uint8_t *) "default", 7},
	.peer_urls = {(const uint8_t *) "http://localhost:2380", 21},
	.client_urls = {(const uint8_t *) "http://a:1,http://b:2", 21},
};

static void
expect_same(const MemberInfo *a, const MemberInfo *b)
{
	assert_int_equal(a->id, b->id);
	assert_int_equal(a->is_learner, b->is_learner);
	assert_true(bytes_equal(a->name, b->name));
	assert_true(bytes_equal(a->peer_urls, b->peer_urls));
	assert_true(bytes_equal(a->client_urls, b->client_urls));
}

static MemberInfo
member_in(const StoreVersion *v, uint64_t id)
{
	uint8_t		key[8];
	const CowItem *item;

	for (int i = 0; i < 8; i++)
		key[i] = (uint8_t) (id >> (56 - 8 * i));
	item = cowtree_get(&v->members, bytes_make(key, sizeof(key)));
	assert_non_null(item);
	return member_info((const MemberEntry *) item);
}

static void
test_items(void **state)
{
	StoreVersion *draft = store_draft();
	MemberInfo	info = example;
	MemberInfo	nameless = {.id = 1,.is_learner = true};
	MemberInfo	got;

	member_put(draft, &info);
	member_put(draft, &nameless);
	assert_int_equal(draft->members.nitems, 2);
	got = member_in(draft, info.id);
	expect_same(&got, &info);
	got = member_in(draft, 1);
	expect_same(&got, &nameless);

	/* in the order of their ids, and replaced under the same one */
	info.name = BYTES_LITERAL("another name");
	info.client_urls = BYTES_EMPTY;
	member_put(draft, &info);
	assert_int_equal(draft->members.nitems, 2);
	got = member_in(draft, info.id);
	expect_same(&got, &info);
	assert_null(cowtree_check(&draft->members));
	store_publish();
	store_reclaim();
	got = member_in(store_draft(), info.id);
	expect_same(&got, &info);
}

static void
test_records(void **state)
{
	MemberInfo	got;
	Buf			record;

	buf_init(&record, NULL);
	member_encode(&example, &record);
	assert_true(member_decode(buf_bytes(&record), &got));
	expect_same(&got, &example);

	for (size_t n = 0; n < record.len; n++)
		assert_false(member_decode(bytes_make(record.data, n), &got));
	buf_put_u8(&record, 0);
	assert_false(member_decode(buf_bytes(&record), &got));
	record.len--;

	record.data[0]++;			/* version */
	assert_false(member_decode(buf_bytes(&record), &got));
	record.data[0]--;
	record.data[9] = 2;			/* learner */
	assert_false(member_decode(buf_bytes(&record), &got));
	record.data[9] = 1;
	assert_true(member_decode(buf_bytes(&record), &got));
	assert_true(got.is_learner);
	memset(record.data + 1, 0, 8);	/* id */
	assert_false(member_decode(buf_bytes(&record), &got));
	buf_free(&record);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_items),
		cmocka_unit_test(test_records),
	};

	store_use_populate_thread(false);
	assert_true(store_create((size_t) 64 * 1024 * 1024));
	store_attach_writer();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
