/*
 * t_injection.c
 *	  Injection points: each action, the passage it fires at, trigger files,
 *	  and lists that cannot be read.
 */
/* needs: utils/injection */
#include "server.h"

/* system */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"

#ifdef USE_INJECTION

static void
arm(const char *list)
{
	setenv("CLAVIGER_INJECT", list, 1);
	injection_reload();
}

static int
disarm(void **state)
{
	unsetenv("CLAVIGER_INJECT");
	injection_reload();
	return 0;
}

/* wait status of a child that passes the point under this list */
static int
status_of(const char *list)
{
	pid_t		pid = fork();
	int			status;

	assert_true(pid >= 0);
	if (pid == 0)
	{
		arm(list);
		_exit(INJECTION_POINT("here") == 0 ? 0 : 77);
	}
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	if (WIFSTOPPED(status))
	{
		int			last;

		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &last, 0), pid);
	}
	return status;
}

static void
test_error_at_each_passage_or_at_one(void **state)
{
	arm("here=error:28,there@3=error:5,there@4=error:6");
	for (int i = 0; i < 5; i++)
		assert_int_equal(INJECTION_POINT("here"), ENOSPC);
	for (int i = 1; i <= 6; i++)
		assert_int_equal(INJECTION_POINT("there"),
						 i == 3 ? EIO : i == 4 ? ENXIO : 0);
	assert_int_equal(INJECTION_POINT("elsewhere"), 0);
	assert_int_equal(INJECTION_POINT("her"), 0);
	/* counted anew */
	injection_reload();
	assert_int_equal(INJECTION_POINT("there"), 0);
}

static void
test_sleep(void **state)
{
	int64_t		before = clock_monotonic_ms();

	arm("here=sleep:60");
	assert_int_equal(INJECTION_POINT("here"), 0);
	assert_true(clock_monotonic_ms() - before >= 59);
}

static void
test_ends(void **state)
{
	int			status = status_of("here=kill");

	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	status = status_of("here=abort");
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	status = status_of("here=stop");
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	assert_int_equal(status_of("there=kill"), 0);
	assert_int_equal(status_of(""), 0);
}

static void *
pass_and_tell(void *went_on)
{
	(void) INJECTION_POINT("here");
	atomic_store((_Atomic bool *) went_on, true);
	return NULL;
}

/*
 * Whoever passes stops there, in whatever thread he is: a stop that another
 * thread takes first would let him go on for a while.
 */
static void
test_stop_stops_the_thread_that_passes(void **state)
{
	_Atomic bool *went_on = mmap(NULL, sizeof(*went_on), PROT_READ | PROT_WRITE,
								 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(went_on, MAP_FAILED);
	for (int i = 0; i < 100; i++)
	{
		pid_t		pid = fork();
		int			status;

		assert_true(pid >= 0);
		if (pid == 0)
		{
			pthread_t	thread;

			alarm(60);
			arm("here=stop");
			if (pthread_create(&thread, NULL, pass_and_tell,
							   (void *) went_on) != 0)
				_exit(1);
			for (;;)
				pause();
		}
		assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
		assert_true(WIFSTOPPED(status));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_false(atomic_load(went_on));
	}
	munmap((void *) went_on, sizeof(*went_on));
}

static void
test_trigger_file_fires_once(void **state)
{
	char		path[] = "/tmp/t_injection.XXXXXX";
	int			fd = mkstemp(path);
	char		list[128];

	assert_true(fd >= 0);
	close(fd);
	snprintf(list, sizeof(list), "here?%s=error:28", path);
	arm(list);
	assert_int_equal(INJECTION_POINT("here"), ENOSPC);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(INJECTION_POINT("here"), 0);
}

static void
test_unreadable_lists_end_the_process(void **state)
{
	static const char *const bad[] = {
		"here", "here=", "=kill", "here=die", "here=kill:1", "here=error",
		"here=error:", "here=error:0", "here=error:x", "here=error:4096",
		"here=error:-1", "here=sleep:9999999", "here@=kill", "here@0=kill",
		"here@x=kill", "here=kill,there",
	};

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		int			status = status_of(bad[i]);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != ELOG_EXIT_FATAL)
			fail_msg("taken: %s", bad[i]);
	}
}

int
main(void)
{
#define DISARMED(test) cmocka_unit_test_teardown(test, disarm)
	const struct CMUnitTest tests[] = {
		DISARMED(test_error_at_each_passage_or_at_one),
		DISARMED(test_sleep),
		DISARMED(test_ends),
		DISARMED(test_stop_stops_the_thread_that_passes),
		DISARMED(test_trigger_file_fires_once),
		DISARMED(test_unreadable_lists_end_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int
main(void)
{
	puts("this build has no injection points");
	return 0;
}

#endif
