/*
 * t_compactpolicy.c
 *	  When to compact by itself: as etcd does with the same settings.
 */
/* needs: worker/compactpolicy */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>

/* this layer and below */
#include "worker/compactpolicy.h"

#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)

static void
test_off(void **state)
{
	CompactPolicy policy;

	compactpolicy_init(&policy, false, 0, 300000, 5);
	assert_int_equal(compactpolicy_look(&policy, 1000, 77), 0);
	compactpolicy_fini(&policy);
	compactpolicy_init(&policy, true, 0, 300000, 5);
	assert_int_equal(compactpolicy_look(&policy, 1000, 77), 0);
	compactpolicy_fini(&policy);
}

static void
test_by_revision(void **state)
{
	CompactPolicy policy;

	compactpolicy_init(&policy, true, 100, 5 * MINUTE, 0);
	assert_int_equal(compactpolicy_look(&policy, 0, 100), 0);
	/* not before its time */
	assert_int_equal(compactpolicy_look(&policy, 1, 1000), 0);
	assert_int_equal(policy.next_ms, 5 * MINUTE);
	assert_int_equal(compactpolicy_look(&policy, 5 * MINUTE, 150), 50);
	compactpolicy_done(&policy, 5 * MINUTE, 50);
	/* nothing new: nothing to do */
	assert_int_equal(compactpolicy_look(&policy, 10 * MINUTE, 150), 0);
	assert_int_equal(compactpolicy_look(&policy, 15 * MINUTE, 151), 51);
	/* it was not done: again */
	assert_int_equal(compactpolicy_look(&policy, 20 * MINUTE, 151), 51);
	compactpolicy_fini(&policy);
}

/* one revision a minute: what is compacted is as old as the retention */
static void
run_periodic(int64_t retention, int64_t first, int64_t every)
{
	CompactPolicy policy;
	int64_t		last = 0;

	compactpolicy_init(&policy, false, retention, 300000, 0);
	for (int64_t now = 0; now <= 6 * retention; now = policy.next_ms)
	{
		int64_t		revision = now / MINUTE + 1;
		int64_t		up_to = compactpolicy_look(&policy, now, revision);

		if (up_to == 0)
			continue;
		assert_int_equal(now, last == 0 ? first : last + every);
		assert_in_range(revision - up_to, retention / MINUTE - 1,
						retention / MINUTE);
		compactpolicy_done(&policy, now, up_to);
		last = now;
	}
	assert_true(last > 5 * retention);
	compactpolicy_fini(&policy);
}

static void
test_periodic(void **state)
{
	/* up to an hour: once a period */
	run_periodic(10 * MINUTE, 10 * MINUTE, 10 * MINUTE);
	run_periodic(HOUR, HOUR, HOUR);
	/* beyond: once an hour */
	run_periodic(24 * HOUR, 24 * HOUR, HOUR);
}

static void
test_periodic_without_changes(void **state)
{
	CompactPolicy policy;

	compactpolicy_init(&policy, false, 10 * MINUTE, 300000, 0);
	for (int64_t now = 0; now < 10 * MINUTE; now += MINUTE)
		assert_int_equal(compactpolicy_look(&policy, now, 5), 0);
	assert_int_equal(compactpolicy_look(&policy, 10 * MINUTE, 5), 5);
	compactpolicy_done(&policy, 10 * MINUTE, 5);
	for (int64_t now = 11 * MINUTE; now < 60 * MINUTE; now += MINUTE)
		assert_int_equal(compactpolicy_look(&policy, now, 5), 0);
	compactpolicy_fini(&policy);
}

/* the shortest that can be asked for does not divide by zero */
static void
test_shortest(void **state)
{
	CompactPolicy policy;
	int64_t		up_to = 0;

	compactpolicy_init(&policy, false, 1, 300000, 0);
	for (int64_t now = 0; now < 10 && up_to == 0; now++)
		up_to = compactpolicy_look(&policy, now, 9);
	assert_int_equal(up_to, 9);
	compactpolicy_fini(&policy);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_by_revision),
		cmocka_unit_test(test_periodic),
		cmocka_unit_test(test_periodic_without_changes),
		cmocka_unit_test(test_shortest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
