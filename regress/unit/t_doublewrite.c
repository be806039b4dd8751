/*
 * t_doublewrite.c
 *	  Pages that were torn by an end in the middle of writing them are put
 *	  right; a batch that is not whole is not believed; after an error no
 *	  checkpoint succeeds; what was thrown out of the cache is read back.
 */
/* needs: storage/bdb storage/snap storage/ipc storage/lmgr mvcc auth lease member alarm common utils/injection utils/guc */
#include "server.h"

/* system */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "storage/bdb/doublewrite.h"
#include "storage/bdb/kvrecord.h"
#include "storage/bdb/tables.h"

#define OPS (&bdb_table_ops)
#define NKEYS 5000
#define VALUE "some value of some length"

static char dir[] = "/tmp/t_doublewrite.XXXXXX";
static char home[64];			/* of the environment */

/* ---- helpers ---- */

static TableEnv *
new_env(void)
{
	DIR		   *d = opendir(home);
	struct dirent *entry;
	TableEnv   *env;

	if (d != NULL)
	{
		while ((entry = readdir(d)) != NULL)
			unlinkat(dirfd(d), entry->d_name, 0);
		closedir(d);
	}
	assert_int_equal(OPS->open(home, true, &env), 0);
	return env;
}

static void
put_keys(TableEnv *env, int from, int n, Bytes value)
{
	assert_int_equal(OPS->txn_begin(env), 0);
	for (int i = from; i < from + n; i++)
	{
		uint8_t		key[KVRECORD_KEY_BYTES];

		kvrecord_key(i, 0, key);
		assert_int_equal(OPS->put(env, TABLE_KEY, bytes_make(key, sizeof(key)),
								  value), 0);
	}
	assert_int_equal(OPS->commit(env), 0);
}

static bool
count_record(void *arg, Bytes key, Bytes value)
{
	++*(int *) arg;
	return true;
}

static int
count_keys(TableEnv *env)
{
	int			n = 0;

	assert_int_equal(OPS->scan(env, TABLE_KEY, count_record, &n), 0);
	return n;
}

static Buf
read_batch(void)
{
	char		path[128];
	Buf			batch;
	ssize_t		n;
	int			fd;

	snprintf(path, sizeof(path), "%s/%s", home, DOUBLEWRITE_NAME);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	buf_init(&batch, NULL);
	n = read(fd, buf_reserve(&batch, 8 * 1024 * 1024), 8 * 1024 * 1024);
	assert_true(n > 0);
	batch.len = (size_t) n;
	close(fd);
	return batch;
}

static bool
count_page(void *arg, Bytes name, uint64_t offset, Bytes page)
{
	assert_int_equal(page.len, 16384);
	assert_int_equal(offset % 16384, 0);
	++*(int *) arg;
	return true;
}

/* Keys and a checkpoint in a process that dies at the point. */
static void
die_at(const char *point)
{
	char		list[128];
	pid_t		pid = fork();
	int			status;

	if (pid == 0)
	{
		TableEnv   *env = new_env();

		put_keys(env, 1, NKEYS, BYTES_LITERAL(VALUE));
		snprintf(list, sizeof(list), "%s=kill", point);
		setenv("CLAVIGER_INJECT", list, 1);
		injection_reload();
		(void) OPS->checkpoint(env);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* the first half of the page is new, the second what the disk had before */
static bool
tear(void *arg, Bytes name, uint64_t offset, Bytes page)
{
	char		path[192];
	int			fd;

	snprintf(path, sizeof(path), "%s/%.*s", home, (int) name.len,
			 (const char *) name.data);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, page.data, page.len / 2, (off_t) offset),
					 page.len / 2);
	close(fd);
	++*(int *) arg;
	return true;
}

/* ---- cases ---- */

static void
test_torn_pages(void **state)
{
	TableEnv   *env;
	Buf			batch;
	int			ntorn = 0;

	die_at("doublewrite-after-sync");
	batch = read_batch();
	assert_true(doublewrite_decode(buf_bytes(&batch), tear, &ntorn));
	assert_true(ntorn > 10);
	buf_free(&batch);

	assert_int_equal(OPS->open(home, false, &env), 0);
	assert_int_equal(count_keys(env), NKEYS);
	OPS->close(env);
}

/* The same disk without the batch: what it is there for. */
static void
test_torn_pages_without(void **state)
{
	TableEnv   *env;
	Buf			batch;
	int			ntorn = 0;
	char		path[128];
	pid_t		pid;
	int			status;

	die_at("doublewrite-after-sync");
	batch = read_batch();
	assert_true(doublewrite_decode(buf_bytes(&batch), tear, &ntorn));
	buf_free(&batch);
	snprintf(path, sizeof(path), "%s/%s", home, DOUBLEWRITE_NAME);
	assert_int_equal(unlink(path), 0);

	/* the library keeps what it could not open until the process ends */
	pid = fork();
	if (pid == 0)
		_exit(OPS->open(home, false, &env) != 0 ? 0 : 1);
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
test_ends_anywhere(void **state)
{
	static const char *const points[] = {
		"doublewrite-before-batch", "doublewrite-before-sync",
		"doublewrite-after-sync", "doublewrite-page-placed",
		"doublewrite-page-placed@9", "doublewrite-placed",
	};

	for (size_t i = 0; i < lengthof(points); i++)
	{
		TableEnv   *env;

		die_at(points[i]);
		assert_int_equal(OPS->open(home, false, &env), 0);
		assert_int_equal(count_keys(env), NKEYS);
		OPS->close(env);
	}
}

static void
test_decode(void **state)
{
	Buf			batch;
	int			npages = 0;
	int			n = 0;
	uint8_t		nothing[64] = {0};

	die_at("doublewrite-after-sync");
	batch = read_batch();
	assert_true(doublewrite_decode(buf_bytes(&batch), count_page, &npages));
	assert_true(npages > 10);
	/* a header and nothing, half of it, one bit that is another */
	assert_false(doublewrite_decode(BYTES_EMPTY, count_page, &n));
	assert_false(doublewrite_decode(bytes_make(nothing, sizeof(nothing)),
									count_page, &n));
	for (size_t len = 1; len < (size_t) npages * 16384; len += 4111)
		assert_false(doublewrite_decode(bytes_make(batch.data, len),
										count_page, &n));
	for (size_t at = 0; at < (size_t) npages * 16384; at += 4111)
	{
		batch.data[at] ^= 4;
		assert_false(doublewrite_decode(buf_bytes(&batch), count_page, &n));
		batch.data[at] ^= 4;
	}
	assert_int_equal(n, 0);
	buf_free(&batch);
}

/* After an end in order the batch is void: it would hide damage of the disk. */
static void
test_void_at_end(void **state)
{
	TableEnv   *env = new_env();
	Buf			batch;
	int			n = 0;

	put_keys(env, 1, NKEYS, BYTES_LITERAL(VALUE));
	assert_int_equal(OPS->checkpoint(env), 0);
	batch = read_batch();
	assert_true(doublewrite_decode(buf_bytes(&batch), count_page, &n));
	buf_free(&batch);
	OPS->close(env);
	batch = read_batch();
	assert_false(doublewrite_decode(buf_bytes(&batch), count_page, &n));
	buf_free(&batch);
}

/* A sync that failed once must not be believed when it is tried again. */
static void
test_error_stays(void **state)
{
	static const char *const points[] = {
		"doublewrite-before-batch", "doublewrite-before-sync",
		"doublewrite-page-placed", "doublewrite-placed",
	};

	for (size_t i = 0; i < lengthof(points); i++)
	{
		TableEnv   *env = new_env();
		char		list[128];
		pid_t		pid;
		int			status;

		OPS->close(env);
		/* the library keeps what failed until the process ends */
		pid = fork();
		if (pid == 0)
		{
			if (OPS->open(home, false, &env) != 0)
				_exit(1);
			put_keys(env, 1, NKEYS, BYTES_LITERAL(VALUE));
			snprintf(list, sizeof(list), "%s@1=error:5", points[i]);
			setenv("CLAVIGER_INJECT", list, 1);
			injection_reload();
			if (OPS->checkpoint(env) == 0)
				_exit(2);
			_exit(OPS->checkpoint(env) == 0 ? 3 : 0);
		}
		waitpid(pid, &status, 0);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		assert_int_equal(OPS->open(home, false, &env), 0);
		OPS->close(env);
	}
}

/* More than the cache holds, without a checkpoint. */
static void
test_read_back(void **state)
{
	TableEnv   *env = new_env();
	Buf			value;

	buf_init(&value, NULL);
	memset(buf_reserve(&value, 5000), 'v', 5000);
	value.len = 5000;
	for (int i = 0; i < 20; i++)
		put_keys(env, 1 + i * 1000, 1000, buf_bytes(&value));
	assert_int_equal(count_keys(env), 20000);
	/* and over themselves, while some of it is not in its place yet */
	for (int i = 0; i < 20; i += 3)
		put_keys(env, 1 + i * 1000, 1000, buf_bytes(&value));
	assert_int_equal(count_keys(env), 20000);
	assert_int_equal(OPS->checkpoint(env), 0);
	OPS->close(env);
	assert_int_equal(OPS->open(home, false, &env), 0);
	assert_int_equal(count_keys(env), 20000);
	OPS->close(env);
	buf_free(&value);
}

static int
setup(void **state)
{
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(home, sizeof(home), "%s/db", dir);
	elog_set_fd(memfd_create("log", MFD_CLOEXEC));
	return 0;
}

static int
teardown(void **state)
{
	DIR		   *d = opendir(home);
	struct dirent *entry;

	while (d != NULL && (entry = readdir(d)) != NULL)
		unlinkat(dirfd(d), entry->d_name, 0);
	closedir(d);
	rmdir(home);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_torn_pages),
		cmocka_unit_test(test_torn_pages_without),
		cmocka_unit_test(test_ends_anywhere),
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_void_at_end),
		cmocka_unit_test(test_error_stays),
		cmocka_unit_test(test_read_back),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
