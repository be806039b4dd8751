/*
 * t_memlimit.c
 *	  Limits of cgroups, read from a directory made up for it.
 */
/* needs: postmaster/memlimit utils/guc */
#include "server.h"

/* system */
#include <sys/stat.h>
#include <unistd.h>

/* libraries */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* this layer and below */
#include "postmaster/memlimit.h"

static char root[] = "/tmp/memlimit-XXXXXX";

/* Make a file below root, and the directories to it. */
static void
make_file(const char *path, const char *text)
{
	char		name[PATH_MAX];
	FILE	   *file;

	snprintf(name, sizeof(name), "%s%s", root, path);
	for (char *slash = strchr(name + 1, '/'); slash != NULL;
		 slash = strchr(slash + 1, '/'))
	{
		*slash = '\0';
		mkdir(name, 0700);
		*slash = '/';
	}
	file = fopen(name, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int64_t
physical(void)
{
	return (int64_t) sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

static void
test_without_cgroups_it_is_the_machine(void **state UNUSED)
{
	assert_true(memlimit_bytes(root) == physical());
}

static void
test_the_least_of_all_levels_counts(void **state UNUSED)
{
	make_file("/proc/self/cgroup", "0::/system.slice/claviger.service\n");
	make_file("/sys/fs/cgroup/system.slice/claviger.service/memory.max",
			  "max\n");
	assert_true(memlimit_bytes(root) == physical());
	make_file("/sys/fs/cgroup/system.slice/memory.max", "1000000\n");
	assert_true(memlimit_bytes(root) == 1000000);
	make_file("/sys/fs/cgroup/system.slice/claviger.service/memory.max",
			  "500000\n");
	assert_true(memlimit_bytes(root) == 500000);
	make_file("/sys/fs/cgroup/memory.max", "400000\n");
	assert_true(memlimit_bytes(root) == 400000);
}

static void
test_version_1(void **state UNUSED)
{
	make_file("/proc/self/cgroup", "7:cpu,cpuacct:/x\n5:memory:/docker/abc\n");
	make_file("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
			  "300000\n");
	assert_true(memlimit_bytes(root) == 300000);
}

static void
test_nonsense_is_no_limit(void **state UNUSED)
{
	make_file("/proc/self/cgroup", "nonsense\n:\n::\n0::relative\n");
	assert_true(memlimit_bytes(root) == physical());
}

static int
set_up(void **state UNUSED)
{
	return mkdtemp(root) == NULL;
}

static int
tear_down(void **state UNUSED)
{
	char		command[PATH_MAX];

	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_cgroups_it_is_the_machine),
		cmocka_unit_test(test_the_least_of_all_levels_counts),
		cmocka_unit_test(test_version_1),
		cmocka_unit_test(test_nonsense_is_no_limit),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
