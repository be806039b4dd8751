/*
 * t_kvrecord.c
 *	  Records of the table "key": round trip, order, and what is refused.
 */
/* needs: storage/bdb storage/snap storage/ipc storage/lmgr mvcc auth lease member alarm common utils/injection utils/guc */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>

/* this layer and below */
#include "storage/bdb/kvrecord.h"
#include "storage/bdb/tables.h"

static KvVersion *
version_make(Bytes key, Bytes value, int64_t create, int64_t version,
			 int64_t lease)
{
	KvVersion  *kv = xcalloc(1, sizeof(*kv) + key.len + value.len);

	kv->item.key_len = (uint32_t) key.len;
	kv->item.key_offset = offsetof(KvVersion, bytes);
	kv->value_len = (uint32_t) value.len;
	kv->create_revision = create;
	kv->version = version;
	kv->lease = lease;
	memcpy(kv->bytes, key.data, key.len);
	if (value.len > 0)
		memcpy(kv->bytes + key.len, value.data, value.len);
	return kv;
}

static void
test_round_trip(void **state)
{
	static uint8_t large[300000];
	const struct
	{
		Bytes		key;
		Bytes		value;
		int64_t		create;
		int64_t		version;
		int64_t		lease;
	}			cases[] = {
		{BYTES_LITERAL("a"), BYTES_LITERAL("b"), 2, 1, 0},
		{BYTES_LITERAL("\0\xff\0"), BYTES_EMPTY, INT64_MAX, INT64_MAX,
		INT64_MAX},
		{BYTES_LITERAL("k"), bytes_make(large, sizeof(large)), 5, 6, -1},
		{bytes_make(large, sizeof(large)), BYTES_LITERAL("\0"), 1, 1, 1},
		{BYTES_LITERAL("dead"), BYTES_EMPTY, 0, 0, 0},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		KvVersion  *kv = version_make(cases[i].key, cases[i].value,
									  cases[i].create, cases[i].version,
									  cases[i].lease);
		KvRecord	back;
		Buf			record;

		buf_init(&record, NULL);
		kvrecord_encode(kv, &record);
		assert_true(kvrecord_decode(buf_bytes(&record), &back));
		assert_true(bytes_equal(back.key, cases[i].key));
		assert_true(bytes_equal(back.value, cases[i].value));
		assert_true(back.create_revision == cases[i].create);
		assert_true(back.version == cases[i].version);
		assert_true(back.lease == cases[i].lease);
		buf_free(&record);
		free(kv);
	}
}

/* a record, byte by byte: what lies on disk may not change by accident */
static void
test_format(void **state)
{
	static const uint8_t expected[] = {1, 0, 0xac, 0x02, 3, 7, 2, 'k', 'y',
		'v', 'a', 'l'};
	static const uint8_t expected_key[] = {0, 0, 0, 0, 0, 0, 1, 44, 0, 0, 2, 1};
	KvVersion  *kv = version_make(BYTES_LITERAL("ky"), BYTES_LITERAL("val"),
								  300, 3, 7);
	uint8_t		key[KVRECORD_KEY_BYTES];
	Buf			record;

	buf_init(&record, NULL);
	kvrecord_encode(kv, &record);
	assert_int_equal(record.len, sizeof(expected));
	assert_memory_equal(record.data, expected, sizeof(expected));
	kvrecord_key(300, 513, key);
	assert_memory_equal(key, expected_key, sizeof(expected_key));
	buf_free(&record);
	free(kv);
}

/* byte order of keys is order of revisions */
static void
test_key_order(void **state)
{
	static const struct
	{
		int64_t		mod;
		uint32_t	sub;
	}			revisions[] = {
		{1, 0}, {1, 1}, {1, 255}, {1, 256}, {1, UINT32_MAX}, {2, 0},
		{255, 9}, {256, 0}, {INT64_C(1) << 40, 3}, {INT64_MAX, 0},
		{INT64_MAX, UINT32_MAX},
	};
	uint8_t		before[KVRECORD_KEY_BYTES] = {0};

	for (size_t i = 0; i < lengthof(revisions); i++)
	{
		uint8_t		key[KVRECORD_KEY_BYTES];
		int64_t		mod;
		uint32_t	sub;

		kvrecord_key(revisions[i].mod, revisions[i].sub, key);
		assert_true(memcmp(before, key, sizeof(key)) < 0);
		assert_true(kvrecord_key_decode(bytes_make(key, sizeof(key)), &mod,
										&sub));
		assert_true(mod == revisions[i].mod && sub == revisions[i].sub);
		memcpy(before, key, sizeof(key));
	}
}

static void
test_bad_keys(void **state)
{
	uint8_t		key[KVRECORD_KEY_BYTES + 1] = {0};
	int64_t		mod;
	uint32_t	sub;

	assert_false(kvrecord_key_decode(BYTES_EMPTY, &mod, &sub));
	/* revision 0 */
	assert_false(kvrecord_key_decode(bytes_make(key, 12), &mod, &sub));
	key[7] = 1;
	assert_true(kvrecord_key_decode(bytes_make(key, 12), &mod, &sub));
	assert_false(kvrecord_key_decode(bytes_make(key, 11), &mod, &sub));
	assert_false(kvrecord_key_decode(bytes_make(key, 13), &mod, &sub));
	/* negative */
	key[0] = 0x80;
	assert_false(kvrecord_key_decode(bytes_make(key, 12), &mod, &sub));
}

static void
test_bad_records(void **state)
{
#define R(...) {sizeof((uint8_t[]) {__VA_ARGS__}), {__VA_ARGS__}}
	static const struct
	{
		size_t		len;
		uint8_t		bytes[16];
	}			bad[] = {
		R(2, 0, 1, 1, 0, 1, 'k'),	/* another version */
		R(0, 0, 1, 1, 0, 1, 'k'),
		R(1, 2, 1, 1, 0, 1, 'k'),	/* unknown flag */
		R(1, 0, 1, 1, 0, 0),	/* empty key */
		R(1, 0, 0, 1, 0, 1, 'k'),	/* never created */
		R(1, 0, 1, 0, 0, 1, 'k'),	/* version 0, not a tombstone */
		R(1, 1, 0, 1, 0, 1, 'k'),	/* tombstone with a version */
		R(1, 1, 1, 0, 0, 1, 'k'),	/* with a creation */
		R(1, 1, 0, 0, 5, 1, 'k'),	/* with a lease */
		R(1, 1, 0, 0, 0, 1, 'k', 'v'),	/* with a value */
		R(1, 0, 1, 1, 0, 2, 'k'),	/* key longer than the record */
		/* creation beyond int64 */
		R(1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0,
		  1, 'k'),
	};
	static const uint8_t good[] = {1, 0, 1, 1, 0, 1, 'k', 'v'};
	KvRecord	kv;

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		if (kvrecord_decode(bytes_make(bad[i].bytes, bad[i].len), &kv))
			fail_msg("case %zu was taken", i);
	}
	/* each prefix, but for the one without its value */
	for (size_t n = 0; n < sizeof(good); n++)
		assert_true(kvrecord_decode(bytes_make(good, n), &kv) == (n == 7));
	assert_true(kvrecord_decode(bytes_make(good, sizeof(good)), &kv));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_key_order),
		cmocka_unit_test(test_bad_keys),
		cmocka_unit_test(test_bad_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
