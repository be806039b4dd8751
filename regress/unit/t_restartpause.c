/*
 * t_restartpause.c
 *	  The pause before the raft worker is started again grows, and is over when
 *	  one has served well.
 */
/* needs: postmaster/restartpause */
#include "server.h"

/* libraries */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* this layer and below */
#include "postmaster/restartpause.h"

#define LONGEST_MS 1000

/* It serves for so long and dies; returns the pause. */
static int64_t
life(RestartPause *pause, int64_t served_ms)
{
	static int64_t now_ms = 1000000;

	restartpause_ready(pause, now_ms);
	now_ms += served_ms;
	return restartpause_died(pause, now_ms, LONGEST_MS);
}

static void
test_grows(void **state)
{
	RestartPause pause = {0};

	assert_int_equal(life(&pause, 5), 0);
	assert_int_equal(life(&pause, 5), 100);
	assert_int_equal(life(&pause, 1999), 200);
	assert_int_equal(life(&pause, 0), 400);
	assert_int_equal(life(&pause, 5), 800);
	assert_int_equal(life(&pause, 5), LONGEST_MS);
	assert_int_equal(life(&pause, 5), LONGEST_MS);
}

static void
test_begins_anew(void **state)
{
	RestartPause pause = {0};

	for (int i = 0; i < 4; i++)
		(void) life(&pause, 5);
	assert_int_equal(life(&pause, 2 * LONGEST_MS), 0);
	assert_int_equal(life(&pause, 5), 100);
	assert_int_equal(life(&pause, 5), 200);
}

/* off, or shorter than the first pause */
static void
test_limits(void **state)
{
	RestartPause pause = {0};

	for (int i = 0; i < 4; i++)
	{
		restartpause_ready(&pause, 1000);
		assert_int_equal(restartpause_died(&pause, 1000, 0), 0);
	}
	restartpause_ready(&pause, 1000);
	(void) restartpause_died(&pause, 1001, 50);
	restartpause_ready(&pause, 1000);
	assert_int_equal(restartpause_died(&pause, 1001, 50), 50);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_begins_anew),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
