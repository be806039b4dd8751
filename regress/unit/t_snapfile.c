/*
 * t_snapfile.c
 *	  The snapshot file: what is written is read, what is altered is refused.
 */
/* needs: common */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "common/snapfile.h"

static const SnapMeta meta = {
	.cluster_id = UINT64_C(0xcdf818194e3a8c32),
	.member_id = UINT64_C(0x8e9e05c52164694d),
	.created_ms = 1700000000000,
	.revision = 12345,
	.compacted_revision = 12,
	.applied_index = 20000,
	.applied_term = 3,
};

/* n records, each with a value of value_bytes; with room for the hash */
static void
make_file(Buf *file, uint32_t n, size_t value_bytes)
{
	uint8_t    *value = xcalloc(1, value_bytes + 1);
	SnapWriter	w;

	buf_init(file, NULL);
	snapwriter_begin(&w, &meta, NULL, file);
	for (uint32_t i = 0; i < n; i++)
	{
		uint8_t		key[4] = {0, 0, (uint8_t) (i >> 8), (uint8_t) i};
		SnapRecord	record = {
			.table = i % 5 + 1,
			.key = bytes_make(key, sizeof(key)),
			.value = bytes_make(value, value_bytes),
		};

		value[0] = (uint8_t) i;
		snapwriter_add(&w, &record, file);
	}
	snapwriter_end(&w, file);
	assert_int_equal(w.nbytes, file->len);
	assert_int_equal(w.nrecords, n);
	assert_int_equal(file->len % SNAPFILE_ALIGN, 0);
	for (int i = 0; i < SNAPFILE_HASH_BYTES; i++)
		buf_put_u8(file, 0xaa);
	buf_free(&w.block);
	free(value);
}

/* how many records are in it; -1: it is refused */
static int64_t
read_file(Bytes file, uint32_t value_bytes)
{
	SnapReader	r;
	SnapRecord	record;
	int64_t		n = 0;

	if (!snapreader_open(&r, file))
	{
		assert_non_null(r.error);
		return -1;
	}
	while (snapreader_next(&r, &record))
	{
		if (value_bytes == UINT32_MAX)
		{
			n++;
			continue;
		}
		assert_int_equal(record.table, n % 5 + 1);
		assert_int_equal(record.key.len, 4);
		assert_int_equal(record.key.data[3], n & 0xff);
		assert_int_equal(record.value.len, value_bytes);
		n++;
	}
	if (r.error != NULL)
		return -1;
	assert_memory_equal(&r.meta, &meta, sizeof(meta));
	/* and it stays over */
	assert_false(snapreader_next(&r, &record));
	return n;
}

static void
test_what_is_written_is_read(void **state)
{
	static const struct
	{
		uint32_t	n;
		uint32_t	value_bytes;
	}			cases[] = {
		{0, 0}, {1, 0}, {1, 1}, {7, 300}, {3000, 100}, {3, 200000}, {513, 511},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		Buf			file;

		make_file(&file, cases[i].n, cases[i].value_bytes);
		assert_int_equal(read_file(buf_bytes(&file), cases[i].value_bytes),
						 cases[i].n);
		buf_free(&file);
	}
}

/* on the heap and exactly as long, so that reading beyond it shows */
static int64_t
read_copy(Bytes file)
{
	uint8_t    *copy = xmalloc(file.len == 0 ? 1 : file.len);
	int64_t		n;

	if (file.len > 0)
		memcpy(copy, file.data, file.len);
	n = read_file(bytes_make(copy, file.len), UINT32_MAX);
	free(copy);
	return n;
}

static void
test_every_cut_is_refused(void **state)
{
	Buf			file;

	make_file(&file, 40, 20);
	for (size_t len = 0; len < file.len; len++)
		assert_int_equal(read_copy(bytes_make(file.data, len)), -1);
	/* nor may there be more */
	buf_reserve(&file, SNAPFILE_ALIGN);
	buf_append(&file, file.data, SNAPFILE_ALIGN);
	assert_int_equal(read_copy(buf_bytes(&file)), -1);
	buf_free(&file);
}

/* the hash itself is the caller's to check */
static void
test_every_flip_is_refused(void **state)
{
	Buf			file;

	make_file(&file, 40, 20);
	for (size_t i = 0; i < file.len - SNAPFILE_HASH_BYTES; i++)
	{
		for (int bit = 0; bit < 8; bit++)
		{
			file.data[i] ^= (uint8_t) (1 << bit);
			assert_int_equal(read_copy(buf_bytes(&file)), -1);
			file.data[i] ^= (uint8_t) (1 << bit);
		}
	}
	assert_int_equal(read_copy(buf_bytes(&file)), 40);
	buf_free(&file);
}

/* blocks that are sound by themselves, and missing, twice, or exchanged */
static void
test_blocks_out_of_place_are_refused(void **state)
{
	Buf			file;
	Buf			other;
	size_t		first = 12 + 9 + 56;
	size_t		block;
	Cursor		cur;
	uint8_t		kind;
	uint32_t	len;

	make_file(&file, 3000, 100);
	cur = cursor_make(bytes_make(file.data + first, file.len - first));
	assert_true(cursor_get_u8(&cur, &kind) && cursor_get_u32(&cur, &len));
	block = 9 + len;

	/* one missing, of a length that keeps the file a multiple of 512 or not */
	buf_init(&other, NULL);
	buf_append(&other, file.data, first);
	buf_append(&other, file.data + first + block, file.len - first - block);
	assert_int_equal(read_copy(buf_bytes(&other)), -1);
	/* twice */
	other.len = 0;
	buf_append(&other, file.data, first + block);
	buf_append(&other, file.data + first, file.len - first);
	assert_int_equal(read_copy(buf_bytes(&other)), -1);
	/* without the description */
	other.len = 0;
	buf_append(&other, file.data, 12);
	buf_append(&other, file.data + first, file.len - first);
	assert_int_equal(read_copy(buf_bytes(&other)), -1);
	buf_free(&other);
	buf_free(&file);
}

static void
test_foreign_files_say_so(void **state)
{
	SnapReader	r;
	Buf			file;

	make_file(&file, 1, 1);
	file.data[0] = 'X';
	assert_false(snapreader_open(&r, buf_bytes(&file)));
	assert_string_equal(r.error, "the file is no snapshot of claviger");
	file.data[0] = 'C';
	file.data[8] = 2;
	assert_false(snapreader_open(&r, buf_bytes(&file)));
	assert_string_equal(r.error, "the snapshot has a format that this version "
						"cannot read");
	assert_false(snapreader_open(&r, BYTES_EMPTY));
	assert_string_equal(r.error, "the file is too short for a snapshot");
	buf_free(&file);
}

static void
test_names(void **state)
{
	assert_string_equal(snaptable_name(SNAP_KEYS), "key");
	assert_null(snaptable_name(0));
	assert_null(snaptable_name(6));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_every_cut_is_refused),
		cmocka_unit_test(test_every_flip_is_refused),
		cmocka_unit_test(test_blocks_out_of_place_are_refused),
		cmocka_unit_test(test_foreign_files_say_so),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
