/*
 * dispatch_setup.h
 *	  Before and after each test that uses dispatch_doubles.h: nothing may be
 *	  left pinned, held or waited for.
 */
#ifndef DISPATCH_SETUP_H
#define DISPATCH_SETUP_H

#include "dispatch_doubles.h"

static int
setup(void **state)
{
	double_reset();
	return 0;
}

static int
teardown(void **state)
{
	assert_int_equal(world.holds, 0);
	assert_int_equal(world.pins, 0);
	assert_int_equal(dispatch_outstanding(), 0);
	return 0;
}

#endif							/* DISPATCH_SETUP_H */
