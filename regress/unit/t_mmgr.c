/*
 * t_mmgr.c
 *	  Memory contexts: alignment, lifetimes, cleanup order.
 */
/* needs: utils/mmgr */
#include "server.h"

/* libraries */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* lib and utils */
#include "utils/mmgr.h"

static char order[16];
static size_t order_len;

static void
note(void *arg)
{
	order[order_len++] = *(const char *) arg;
	order[order_len] = '\0';
}

static void
test_pieces_are_aligned_and_apart(void **state UNUSED)
{
	MemContext *mcx = mcx_create(NULL, "test");
	uint8_t    *pieces[500];

	for (size_t i = 0; i < lengthof(pieces); i++)
	{
		size_t		size = (i * 37) % 3000;

		pieces[i] = mcx_alloc(mcx, size);
		assert_int_equal((uintptr_t) pieces[i] % 16, 0);
		memset(pieces[i], (int) (i & 0xff), size);
	}
	for (size_t i = 0; i < lengthof(pieces); i++)
	{
		size_t		size = (i * 37) % 3000;

		for (size_t j = 0; j < size; j++)
			assert_int_equal(pieces[i][j], i & 0xff);
	}
	mcx_destroy(mcx);
}

static void
test_reset_runs_cleanups_last_first_and_children(void **state UNUSED)
{
	MemContext *parent = mcx_create(NULL, "parent");
	MemContext *child = mcx_create(parent, "child");

	order_len = 0;
	mcx_on_reset(parent, note, (void *) "1");
	mcx_on_reset(parent, note, (void *) "2");
	mcx_on_reset(child, note, (void *) "c");
	mcx_reset(parent);
	assert_string_equal(order, "c21");
	/* once only */
	mcx_reset(parent);
	assert_string_equal(order, "c21");
	mcx_destroy(parent);
}

static void
test_destroy_of_a_middle_child(void **state UNUSED)
{
	MemContext *parent = mcx_create(NULL, "parent");
	MemContext *children[3];

	for (size_t i = 0; i < lengthof(children); i++)
		children[i] = mcx_create(parent, "child");
	mcx_destroy(children[1]);
	mcx_alloc(children[0], 10000);
	assert_true(mcx_total_bytes(parent) > 10000);
	mcx_destroy(children[2]);
	mcx_destroy(children[0]);
	assert_true(mcx_total_bytes(parent) < 10000);
	mcx_destroy(parent);
	mcx_destroy(NULL);
}

static void
test_memory_is_reused_after_reset(void **state UNUSED)
{
	MemContext *mcx = mcx_create(NULL, "test");
	size_t		first = 0;

	for (int round = 0; round < 100; round++)
	{
		for (int i = 0; i < 100; i++)
			mcx_alloc0(mcx, 500);
		if (round == 5)
			first = mcx_total_bytes(mcx);
		if (round > 5)
			assert_true(mcx_total_bytes(mcx) <= first);
		mcx_reset(mcx);
	}
	mcx_destroy(mcx);
}

static void
test_strings(void **state UNUSED)
{
	MemContext *mcx = mcx_create(NULL, "test");
	Bytes		copy = mcx_bytes_dup(mcx, BYTES_LITERAL("a\0b"));

	assert_int_equal(copy.len, 3);
	assert_memory_equal(copy.data, "a\0b", 3);
	assert_string_equal(mcx_strdup(mcx, "hello"), "hello");
	assert_string_equal(mcx_strndup(mcx, "hello", 2), "he");
	assert_string_equal(mcx_printf(mcx, "%d-%s", 5, "x"), "5-x");
	mcx_destroy(mcx);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_are_aligned_and_apart),
		cmocka_unit_test(test_reset_runs_cleanups_last_first_and_children),
		cmocka_unit_test(test_destroy_of_a_middle_child),
		cmocka_unit_test(test_memory_is_reused_after_reset),
		cmocka_unit_test(test_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
