/*
 * t_buf.c
 *	  Buffers, cursors and protobuf fields: what is written is read back, and
 *	  nothing is read beyond the end.
 */
/* needs: lib */
#include "server.h"

/* libraries */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* lib and utils */
#include "lib/buf.h"
#include "lib/pbwire.h"

static void
test_integers_round_trip(void **state UNUSED)
{
	Buf			buf;
	Cursor		cur;
	uint8_t		u8;
	uint16_t	u16;
	uint32_t	u32;
	uint64_t	u64;

	buf_init(&buf, NULL);
	buf_put_u8(&buf, 0xab);
	buf_put_u16(&buf, 0x1234);
	buf_put_u32(&buf, 0xdeadbeef);
	buf_put_u64(&buf, UINT64_MAX - 1);
	buf_put_u32be(&buf, 0x01020304);
	buf_put_u64be(&buf, 0x0102030405060708);
	assert_memory_equal(buf.data + 15, "\1\2\3\4\1\2\3\4\5\6\7\10", 12);

	cur = cursor_make(buf_bytes(&buf));
	assert_true(cursor_get_u8(&cur, &u8) && u8 == 0xab);
	assert_true(cursor_get_u16(&cur, &u16) && u16 == 0x1234);
	assert_true(cursor_get_u32(&cur, &u32) && u32 == 0xdeadbeef);
	assert_true(cursor_get_u64(&cur, &u64) && u64 == UINT64_MAX - 1);
	assert_true(cursor_get_u32be(&cur, &u32) && u32 == 0x01020304);
	assert_true(cursor_get_u64be(&cur, &u64) && u64 == 0x0102030405060708);
	assert_int_equal(cursor_left(&cur), 0);
	assert_false(cursor_get_u8(&cur, &u8));
	buf_free(&buf);
}

static void
test_varints_round_trip(void **state UNUSED)
{
	static const uint64_t values[] = {0, 1, 127, 128, 16383, 16384,
		UINT32_MAX, INT64_MAX, UINT64_MAX};

	for (size_t i = 0; i < lengthof(values); i++)
	{
		Buf			buf;
		Cursor		cur;
		uint64_t	got;

		buf_init(&buf, NULL);
		buf_put_varint(&buf, values[i]);
		assert_int_equal(buf.len, pbwire_varint_size(values[i]));
		cur = cursor_make(buf_bytes(&buf));
		assert_true(cursor_get_varint(&cur, &got));
		assert_true(got == values[i]);
		/* every truncation is refused and moves nothing */
		for (size_t n = 0; n < buf.len; n++)
		{
			cur = cursor_make(bytes_make(buf.data, n));
			assert_false(cursor_get_varint(&cur, &got));
			assert_int_equal(cursor_left(&cur), n);
		}
		buf_free(&buf);
	}
}

static void
test_varint_too_long_is_refused(void **state UNUSED)
{
	static const uint8_t eleven[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
		0x80, 0x80, 0x80, 0x00};
	static const uint8_t overflow[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0x02};
	uint64_t	got;
	Cursor		cur = cursor_make(bytes_make(eleven, sizeof(eleven)));

	assert_false(cursor_get_varint(&cur, &got));
	cur = cursor_make(bytes_make(overflow, sizeof(overflow)));
	assert_false(cursor_get_varint(&cur, &got));
}

static void
test_bytes_longer_than_input_are_refused(void **state UNUSED)
{
	Buf			buf;
	Cursor		cur;
	Bytes		got;

	buf_init(&buf, NULL);
	buf_put_bytes(&buf, BYTES_LITERAL("hello"));
	cur = cursor_make(buf_bytes(&buf));
	assert_true(cursor_get_bytes(&cur, &got));
	assert_true(bytes_equal_cstr(got, "hello"));
	cur = cursor_make(bytes_make(buf.data, buf.len - 1));
	assert_false(cursor_get_bytes(&cur, &got));
	assert_int_equal(cursor_left(&cur), buf.len - 1);

	/* a length near the greatest number must not wrap around */
	buf.len = 0;
	buf_put_varint(&buf, UINT64_MAX);
	cur = cursor_make(buf_bytes(&buf));
	assert_false(cursor_get_bytes(&cur, &got));
	buf_free(&buf);
}

static void
test_growth_keeps_content(void **state UNUSED)
{
	MemContext *mcx = mcx_create(NULL, "test");

	for (int in_context = 0; in_context < 2; in_context++)
	{
		Buf			buf;

		buf_init(&buf, in_context ? mcx : NULL);
		for (uint32_t i = 0; i < 20000; i++)
			buf_put_u32be(&buf, i);
		buf_printf(&buf, "%s-%d", "end", 7);
		for (uint32_t i = 0; i < 20000; i++)
		{
			Cursor		cur = cursor_make(bytes_make(buf.data + i * 4, 4));
			uint32_t	got;

			assert_true(cursor_get_u32be(&cur, &got) && got == i);
		}
		assert_memory_equal(buf.data + 80000, "end-7", 5);
		buf_free(&buf);
	}
	mcx_destroy(mcx);
}

static void
test_default_fields_are_left_out(void **state UNUSED)
{
	Buf			buf;

	buf_init(&buf, NULL);
	pbwire_put_uint(&buf, 1, 0);
	pbwire_put_int(&buf, 2, 0);
	pbwire_put_bytes(&buf, 3, BYTES_EMPTY);
	assert_int_equal(buf.len, 0);
	pbwire_put_bytes_always(&buf, 3, BYTES_EMPTY);
	pbwire_put_uint(&buf, 1, 300);
	pbwire_put_bytes(&buf, 2, BYTES_LITERAL("ab"));
	assert_int_equal(buf.len, 9);
	assert_memory_equal(buf.data, "\x1a\0\x08\xac\x02\x12\x02" "ab", 9);
	buf_free(&buf);
}

static void
test_order_of_keys(void **state UNUSED)
{
	assert_true(bytes_compare(BYTES_EMPTY, BYTES_LITERAL("\0")) < 0);
	assert_true(bytes_compare(BYTES_LITERAL("a"), BYTES_LITERAL("a\0")) < 0);
	assert_true(bytes_compare(BYTES_LITERAL("a\xff"), BYTES_LITERAL("b")) < 0);
	assert_true(bytes_compare(BYTES_LITERAL("\x80"), BYTES_LITERAL("\x7f")) > 0);
	assert_true(bytes_compare(BYTES_EMPTY, BYTES_EMPTY) == 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers_round_trip),
		cmocka_unit_test(test_varints_round_trip),
		cmocka_unit_test(test_varint_too_long_is_refused),
		cmocka_unit_test(test_bytes_longer_than_input_are_refused),
		cmocka_unit_test(test_growth_keeps_content),
		cmocka_unit_test(test_default_fields_are_left_out),
		cmocka_unit_test(test_order_of_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
