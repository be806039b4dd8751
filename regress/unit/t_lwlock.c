/*
 * t_lwlock.c
 *	  Locks: their order, and owners that are killed.
 */
/* needs: storage/lmgr */
#include "server.h"

/* system */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* this layer and below */
#include "storage/lmgr/lwlock.h"

typedef struct Shared
{
	LwLock		first;			/* LWLOCK_TOKEN_PARTITION */
	LwLock		second;			/* LWLOCK_TOKEN_PARTITION */
	uint64_t	counter;		/* protected by first */
} Shared;

static Shared *shared;

static int
setup(void **state)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return -1;
	lwlock_init(&shared->first, LWLOCK_TOKEN_PARTITION);
	lwlock_init(&shared->second, LWLOCK_TOKEN_PARTITION);
	return 0;
}

static int
teardown(void **state)
{
	munmap(shared, sizeof(*shared));
	return 0;
}

/* the signal that ends a child which runs this, or 0 */
static int
signal_of(void (*run) (void))
{
	pid_t		pid = fork();
	int			status;

	assert_true(pid >= 0);
	if (pid == 0)
	{
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void
die_holding(void)
{
	(void) lwlock_acquire(&shared->first);
	raise(SIGKILL);
}

static void
test_owner_died_is_told_until_released(void **state)
{
	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(signal_of(die_holding), SIGKILL);
		/* the one who was to repair is killed as well */
		assert_int_equal(signal_of(die_holding), SIGKILL);
		assert_int_equal(lwlock_acquire(&shared->first), LWLOCK_OWNER_DIED);
		assert_true(lwlock_is_held(&shared->first));
		lwlock_release(&shared->first);
		assert_int_equal(lwlock_acquire(&shared->first), LWLOCK_CLEAN);
		lwlock_release(&shared->first);
	}
}

static void
count_up(void)
{
	for (int i = 0; i < 20000; i++)
	{
		(void) lwlock_acquire(&shared->first);
		shared->counter++;
		lwlock_release(&shared->first);
	}
}

static void
test_one_at_a_time_over_processes(void **state)
{
	pid_t		pids[3];
	int			status;

	for (size_t i = 0; i < lengthof(pids); i++)
	{
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
		{
			count_up();
			_exit(0);
		}
	}
	for (size_t i = 0; i < lengthof(pids); i++)
	{
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(shared->counter, 3 * 20000);
}

/* a child that takes the lock and does something with it in hand */
static pid_t
start_holder(void (*hold) (void))
{
	int			pipe_fds[2];
	char		c;
	pid_t		pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
	{
		(void) lwlock_acquire(&shared->first);
		(void) !write(pipe_fds[1], "", 1);
		hold();
		lwlock_release(&shared->first);
		_exit(0);
	}
	assert_int_equal(read(pipe_fds[0], &c, 1), 1);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return pid;
}

static void
take_time(void)
{
	usleep(1800000);
}

/* with ThreadSanitizer there is no looking at owners */
#ifndef __SANITIZE_THREAD__

static void
stop(void)
{
	raise(SIGSTOP);
}

static void
test_stopped_owner_is_ended(void **state)
{
	pid_t		pid = start_holder(stop);
	int			status;

	assert_int_equal(lwlock_acquire(&shared->first), LWLOCK_OWNER_DIED);
	lwlock_release(&shared->first);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

#endif

static void
test_slow_owner_is_waited_for(void **state)
{
	pid_t		pid = start_holder(take_time);
	int			status;

	assert_int_equal(lwlock_acquire(&shared->first), LWLOCK_CLEAN);
	lwlock_release(&shared->first);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#ifdef USE_ASSERT_CHECKING

static LwLock private_lock;

static void
take_in_order(void)
{
	lwlock_init(&private_lock, LWLOCK_RING_SLOT);
	(void) lwlock_acquire(&shared->first);
	(void) lwlock_acquire(&private_lock);
	/* given back in any order */
	lwlock_release(&shared->first);
	lwlock_release(&private_lock);
	(void) lwlock_acquire(&shared->first);
	lwlock_release(&shared->first);
}

static void
take_out_of_order(void)
{
	lwlock_init(&private_lock, LWLOCK_RING_SLOT);
	(void) lwlock_acquire(&private_lock);
	(void) lwlock_acquire(&shared->first);
}

static void
take_two_of_a_class(void)
{
	(void) lwlock_acquire(&shared->first);
	(void) lwlock_acquire(&shared->second);
}

static void
test_order_is_checked(void **state)
{
	assert_int_equal(signal_of(take_in_order), 0);
	assert_int_equal(signal_of(take_out_of_order), SIGABRT);
	assert_int_equal(signal_of(take_two_of_a_class), SIGABRT);
}

static void
test_is_held(void **state)
{
	assert_false(lwlock_is_held(&shared->first));
	(void) lwlock_acquire(&shared->first);
	assert_true(lwlock_is_held(&shared->first));
	assert_false(lwlock_is_held(&shared->second));
	lwlock_release(&shared->first);
	assert_false(lwlock_is_held(&shared->first));
}

#endif

int
main(void)
{
#define WITH_LOCKS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_LOCKS(test_owner_died_is_told_until_released),
		WITH_LOCKS(test_one_at_a_time_over_processes),
#ifndef __SANITIZE_THREAD__
		WITH_LOCKS(test_stopped_owner_is_ended),
#endif
		WITH_LOCKS(test_slow_owner_is_waited_for),
#ifdef USE_ASSERT_CHECKING
		WITH_LOCKS(test_order_is_checked),
		WITH_LOCKS(test_is_held),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
