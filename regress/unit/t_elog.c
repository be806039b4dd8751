/*
 * t_elog.c
 *	  The log: one line an event, nothing forged; the error table complete.
 */
/* needs: utils/error */
#include "server.h"

/* system */
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/errcodes.h"

static char text[16384];

/* What is logged by fn, read back from a pipe. */
static const char *
logged(void (*fn) (void))
{
	int			fds[2];
	ssize_t		n;

	assert_int_equal(pipe(fds), 0);
	elog_set_fd(fds[1]);
	fn();
	elog_set_fd(STDERR_FILENO);
	close(fds[1]);
	n = read(fds[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	return text;
}

static void
say_forged(void)
{
	elog_warning("user \"%s\" failed", "x\n2026-01-01 LOG: forged\x7f");
}

static void
say_hint(void)
{
	elog_write(LOG_LEVEL_ERROR, "Facts.", "Do this.", "it failed");
}

static void
say_debug(void)
{
	elog_debug("not shown");
}

static void
say_long(void)
{
	static char big[9000];

	memset(big, 'x', sizeof(big) - 1);
	elog_info("%s", big);
}

static void
test_a_line_cannot_be_forged(void **state UNUSED)
{
	const char *line = logged(say_forged);

	assert_non_null(strstr(line, "WARNING: user \"x\\x0a2026-01-01 LOG: "
						   "forged\\x7f\" failed\n"));
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void
test_detail_and_hint(void **state UNUSED)
{
	assert_non_null(strstr(logged(say_hint),
						   "ERROR: it failed; DETAIL: Facts.; HINT: Do this.\n"));
}

static void
test_levels(void **state UNUSED)
{
	assert_string_equal(logged(say_debug), "");
	elog_set_level(LOG_LEVEL_DEBUG);
	assert_non_null(strstr(logged(say_debug), "DEBUG: not shown\n"));
	elog_set_level(LOG_LEVEL_INFO);
}

static void
test_a_long_line_is_cut(void **state UNUSED)
{
	const char *line = logged(say_long);

	assert_true(strlen(line) <= 4097);
	assert_int_equal(line[strlen(line) - 1], '\n');
}

static int
exit_status_of(bool panic)
{
	int			status;
	pid_t		pid = fork();

	if (pid == 0)
	{
		close(STDERR_FILENO);
		if (panic)
			elog_panic("on purpose");
		elog_fatal("on purpose");
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
test_fatal_and_panic_end_the_process(void **state UNUSED)
{
	assert_int_equal(exit_status_of(false), ELOG_EXIT_FATAL);
	assert_int_equal(exit_status_of(true), ELOG_EXIT_PANIC);
}

static void
test_error_table_is_sound(void **state UNUSED)
{
	for (int code = 1; code < ERR_COUNT; code++)
	{
		const ErrInfo *info = err_info((ErrCode) code);

		assert_in_range(info->grpc_code, 1, 16);
		assert_in_range(info->http_status, 400, 599);
		assert_int_equal(strlen(info->sqlstate), 5);
		assert_true(strlen(info->text) > 0);
	}
	assert_ptr_equal(err_info((ErrCode) 9999), err_info(ERR_INTERNAL));
	assert_string_equal(err_info(ERR_PERMISSION_DENIED)->text,
						"etcdserver: permission denied");
	assert_int_equal(err_info(ERR_PERMISSION_DENIED)->grpc_code, 7);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_line_cannot_be_forged),
		cmocka_unit_test(test_detail_and_hint),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_a_long_line_is_cut),
		cmocka_unit_test(test_fatal_and_panic_end_the_process),
		cmocka_unit_test(test_error_table_is_sound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
