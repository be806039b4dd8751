/*
 * t_tables.c
 *	  The tables on Berkeley DB: round trip, scans, reopening, kill -9 between
 *	  commits, damage on disk.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/injection.h"

/* this layer and below */
#include "storage/bdb/kvrecord.h"
#include "storage/bdb/tables.h"

#define OPS (&bdb_table_ops)
#define B(s) BYTES_LITERAL(s)

static char dir[] = "/tmp/t_tables.XXXXXX";
static char home[64];			/* of the environment */
static int	log_fd;

/* ---- helpers ---- */

static void
remove_home(void)
{
	DIR		   *d = opendir(home);
	struct dirent *entry;

	if (d == NULL)
		return;
	while ((entry = readdir(d)) != NULL)
		unlinkat(dirfd(d), entry->d_name, 0);
	closedir(d);
	rmdir(home);
}

static TableEnv *
open_env(bool create)
{
	TableEnv   *env;

	assert_int_equal(OPS->open(home, create, &env), 0);
	return env;
}

static TableEnv *
new_env(void)
{
	remove_home();
	return open_env(true);
}

static void
expect(TableEnv *env, TableId table, Bytes key, const char *value)
{
	Buf			out;
	bool		found;

	buf_init(&out, NULL);
	assert_int_equal(OPS->get(env, table, key, &out, &found), 0);
	assert_true(found == (value != NULL));
	if (value != NULL)
		assert_true(bytes_equal_cstr(buf_bytes(&out), value));
	buf_free(&out);
}

static bool
log_has(const char *text)
{
	static char buf[65536];
	ssize_t		n = pread(log_fd, buf, sizeof(buf) - 1, 0);

	assert_true(n >= 0);
	buf[n] = '\0';
	return strstr(buf, text) != NULL;
}

/* ---- cases ---- */

static void
test_round_trip(void **state)
{
	TableEnv   *env = new_env();

	assert_int_equal(OPS->txn_begin(env), 0);
	for (int t = 0; t < TABLE_COUNT; t++)
		assert_int_equal(OPS->put(env, t, B("k"),
								  bytes_from_cstr(table_name(t))), 0);
	assert_int_equal(OPS->put(env, TABLE_AUTH, B("empty"), BYTES_EMPTY), 0);
	assert_int_equal(OPS->put(env, TABLE_AUTH, B("\0z\xff"), B("v")), 0);
	assert_int_equal(OPS->put(env, TABLE_AUTH, B("twice"), B("1")), 0);
	assert_int_equal(OPS->put(env, TABLE_AUTH, B("twice"), B("2")), 0);
	assert_int_equal(OPS->commit(env), 0);

	assert_int_equal(OPS->txn_begin(env), 0);
	assert_int_equal(OPS->remove(env, TABLE_LEASE, B("k")), 0);
	assert_int_equal(OPS->remove(env, TABLE_LEASE, B("never there")), 0);
	assert_int_equal(OPS->commit(env), 0);

	assert_int_equal(OPS->txn_begin(env), 0);
	assert_int_equal(OPS->put(env, TABLE_AUTH, B("aborted"), B("x")), 0);
	assert_int_equal(OPS->remove(env, TABLE_AUTH, B("k")), 0);
	OPS->abort(env);
	assert_int_equal(OPS->checkpoint(env), 0);
	OPS->close(env);

	env = open_env(false);
	for (int t = 0; t < TABLE_COUNT; t++)
		expect(env, t, B("k"), t == TABLE_LEASE ? NULL : table_name(t));
	expect(env, TABLE_AUTH, B("empty"), "");
	expect(env, TABLE_AUTH, B("\0z\xff"), "v");
	expect(env, TABLE_AUTH, B("twice"), "2");
	expect(env, TABLE_AUTH, B("aborted"), NULL);
	assert_true(OPS->size_bytes(env) > TABLE_COUNT * 4096);
	OPS->close(env);
}

static void
test_open_mistakes(void **state)
{
	TableEnv   *env = new_env();
	char		path[128];
	struct stat st;
	DIR		   *d;
	int			nfiles = 0;

	OPS->close(env);
	assert_int_equal(OPS->open(home, true, &env), EEXIST);
	assert_null(env);
	/* what is there belongs to us alone */
	d = opendir(home);
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
	{
		snprintf(path, sizeof(path), "%s/%.60s", home, e->d_name);
		assert_int_equal(stat(path, &st), 0);
		if (!S_ISREG(st.st_mode))
			continue;
		nfiles++;
		if ((st.st_mode & 0777) != 0600)
			fail_msg("%s has mode %o", path, st.st_mode & 0777);
	}
	closedir(d);
	assert_true(nfiles >= TABLE_COUNT + 1);

	remove_home();
	assert_int_equal(OPS->open(home, false, &env), ENOENT);
	assert_int_equal(access(home, F_OK), -1);
	/* an empty directory stays empty */
	mkdir(home, 0700);
	assert_int_equal(OPS->open(home, false, &env), ENOENT);
	assert_int_equal(rmdir(home), 0);
	assert_int_equal(OPS->open("/proc/none/x", true, &env), ENOENT);
	assert_string_equal(OPS->text(NULL, ENOENT), "No such file or directory");
	assert_non_null(strstr(OPS->text(NULL, -30973), "RUNRECOVERY"));
}

typedef struct Scan
{
	uint32_t	n;
	uint32_t	stop_at;
	bool		is_wrong;
} Scan;

/* record i has the key of revision i+1 and i % 5000 bytes, the last 3 MB */
static bool
see_record(void *arg, Bytes key, Bytes value)
{
	Scan	   *scan = arg;
	int64_t		mod;
	uint32_t	sub;

	if (!kvrecord_key_decode(key, &mod, &sub) ||
		mod != (int64_t) scan->n + 1 ||
		value.len != (scan->n == 3000 ? 3000000 : scan->n % 5000) ||
		(value.len > 0 && value.data[value.len - 1] != (uint8_t) scan->n))
		scan->is_wrong = true;
	scan->n++;
	return scan->n != scan->stop_at;
}

static void
test_scan(void **state)
{
	TableEnv   *env = new_env();
	uint8_t    *value = xmalloc(3000000);
	Scan		scan = {0};

	assert_int_equal(OPS->scan(env, TABLE_KEY, see_record, &scan), 0);
	assert_int_equal(scan.n, 0);
	assert_int_equal(OPS->txn_begin(env), 0);
	/* written backwards, to be found forwards */
	for (int i = 3000; i >= 0; i--)
	{
		uint8_t		key[KVRECORD_KEY_BYTES];

		kvrecord_key(i + 1, 0, key);
		memset(value, i, i == 3000 ? 3000000 : i % 5000);
		assert_int_equal(OPS->put(env, TABLE_KEY,
								  bytes_make(key, sizeof(key)),
								  bytes_make(value, i == 3000 ? 3000000
											 : i % 5000)), 0);
	}
	assert_int_equal(OPS->commit(env), 0);
	assert_int_equal(OPS->scan(env, TABLE_KEY, see_record, &scan), 0);
	assert_int_equal(scan.n, 3001);
	assert_false(scan.is_wrong);

	scan = (Scan) {.stop_at = 777};
	assert_int_equal(OPS->scan(env, TABLE_KEY, see_record, &scan), ECANCELED);
	assert_int_equal(scan.n, 777);
	free(value);
	OPS->close(env);
}

/* ---- kill -9 ---- */

#define KEYS_PER_COMMIT 5
#define ROUNDS 6

typedef struct Progress
{
	_Atomic uint64_t durable;	/* index of the last finished checkpoint */
	_Atomic uint64_t committed;
} Progress;

/* Transaction i writes i into meta and five keys, and takes away an old one. */
static void
write_until_killed(Progress *progress, uint64_t i)
{
	TableEnv   *env;

	if (OPS->open(home, false, &env) != 0)
		_exit(1);
	for (;; i++)
	{
		uint8_t		key[KVRECORD_KEY_BYTES];
		char		text[300];
		int			rc = OPS->txn_begin(env);

		for (uint32_t sub = 0; sub < KEYS_PER_COMMIT; sub++)
		{
			kvrecord_key((int64_t) i, sub, key);
			snprintf(text, sizeof(text), "%0250" PRIu64, i);
			rc |= OPS->put(env, TABLE_KEY, bytes_make(key, sizeof(key)),
						   bytes_from_cstr(text));
		}
		kvrecord_key((int64_t) i - 100, 2, key);
		if (i > 100)
			rc |= OPS->remove(env, TABLE_KEY, bytes_make(key, sizeof(key)));
		snprintf(text, sizeof(text), "%" PRIu64, i);
		rc |= OPS->put(env, TABLE_META, B("appliedIndex"),
					   bytes_from_cstr(text));
		rc |= OPS->commit(env);
		if (rc != 0)
			_exit(2);
		atomic_store(&progress->committed, i);
		if (i % 500 == 0)
		{
			if (OPS->checkpoint(env) != 0)
				_exit(3);
			atomic_store(&progress->durable, i);
		}
	}
}

typedef struct Prefix
{
	uint64_t	last;			/* the commit that is the end */
	uint64_t	commit;			/* being seen */
	uint32_t	sub;
	bool		is_wrong;
} Prefix;

static bool
see_commit(void *arg, Bytes key, Bytes value)
{
	Prefix	   *p = arg;
	char		text[300];
	int64_t		mod;
	uint32_t	sub;

	if (p->sub == KEYS_PER_COMMIT)
	{
		p->commit++;
		p->sub = 0;
	}
	if (p->sub == 2 && p->commit + 100 <= p->last)
		p->sub++;
	snprintf(text, sizeof(text), "%0250" PRIu64, p->commit);
	if (!kvrecord_key_decode(key, &mod, &sub) || mod != (int64_t) p->commit ||
		sub != p->sub || !bytes_equal_cstr(value, text))
		p->is_wrong = true;
	p->sub++;
	return !p->is_wrong;
}

static void
test_kill(void **state)
{
	Progress   *progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
								MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t	start = 0;

	OPS->close(new_env());
	for (int round = 0; round < ROUNDS; round++)
	{
		pid_t		pid = fork();
		TableEnv   *env;
		Buf			out;
		bool		found;
		Prefix		prefix = {.commit = 1};
		int			status;

		if (pid == 0)
			write_until_killed(progress, start + 1);
		/* well into the work, each round at another moment */
		while (atomic_load(&progress->committed) <
			   start + 300 + 171 * (uint64_t) round)
		{
			assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
			usleep(100 + 137 * (unsigned) round);
		}
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status));

		env = open_env(false);
		buf_init(&out, NULL);
		assert_int_equal(OPS->get(env, TABLE_META, B("appliedIndex"), &out,
								  &found), 0);
		if (found)
		{
			buf_put_u8(&out, 0);
			prefix.last = strtoull((char *) out.data, NULL, 10);
		}
		buf_free(&out);
		assert_true(prefix.last >= atomic_load(&progress->durable));
		assert_true(prefix.last <= atomic_load(&progress->committed) + 1);
		/* a round may lose commits, but not those of the rounds before: the
		 * opening after them made a checkpoint */
		assert_true(prefix.last >= start);
		assert_int_equal(OPS->scan(env, TABLE_KEY, see_commit, &prefix), 0);
		assert_false(prefix.is_wrong);
		if (prefix.last > 0)
			assert_true(prefix.commit == prefix.last &&
						prefix.sub == KEYS_PER_COMMIT);
		OPS->close(env);
		start = prefix.last;
		atomic_store(&progress->committed, start);
	}
	assert_true(start > 0);
	munmap(progress, sizeof(*progress));
}

/* ---- damage ---- */

static bool
count_record(void *arg, Bytes key, Bytes value)
{
	++*(uint32_t *) arg;
	return true;
}

/* flip one bit of a file of the environment */
static void
damage(const char *name, off_t offset)
{
	char		path[128];
	uint8_t		byte;
	int			fd;

	snprintf(path, sizeof(path), "%s/%s", home, name);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
}

static int
scan_damaged(void)
{
	TableEnv   *env;
	uint32_t	n = 0;
	int			rc = OPS->open(home, false, &env);

	if (rc != 0)
		return 1;
	rc = OPS->scan(env, TABLE_KEY, count_record, &n);
	if (rc == 0 || rc == ECANCELED || n >= 5000 || OPS->text(env, rc) == NULL)
		return 2;
	OPS->close(env);
	return 0;
}

static int
open_damaged(void)
{
	TableEnv   *env;

	return OPS->open(home, false, &env) != 0 && env == NULL ? 0 : 1;
}

/* after damage the library gives up without giving back its memory */
static int
in_child(int (*fn) (void))
{
	pid_t		pid = fork();
	int			status;

	if (pid == 0)
		_exit(fn());
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
test_damage(void **state)
{
	TableEnv   *env = new_env();

	assert_int_equal(OPS->txn_begin(env), 0);
	for (int i = 1; i <= 5000; i++)
	{
		uint8_t		key[KVRECORD_KEY_BYTES];

		kvrecord_key(i, 0, key);
		assert_int_equal(OPS->put(env, TABLE_KEY,
								  bytes_make(key, sizeof(key)),
								  B("some value of some length")), 0);
	}
	assert_int_equal(OPS->commit(env), 0);
	assert_int_equal(OPS->checkpoint(env), 0);
	OPS->close(env);

	/* in the middle of a page in the middle of the file */
	damage("key.db", 16384 * 7 + 16000);
	assert_int_equal(in_child(scan_damaged), 0);
	assert_true(log_has("checksum error"));

	/* the page that says what the file is */
	damage("auth.db", 40);
	assert_int_equal(in_child(open_damaged), 0);
}

/* ---- what the library may not do ---- */

#define SMALL_RECORDS 20

/* Tables with a log that begins with their making, and ends without a
 * checkpoint. */
static int
make_small(void)
{
	TableEnv   *env = new_env();

	for (int i = 0; i < SMALL_RECORDS; i++)
	{
		char		key[16];

		snprintf(key, sizeof(key), "k%02d", i);
		if (OPS->txn_begin(env) != 0 ||
			OPS->put(env, TABLE_AUTH, bytes_from_cstr(key), B("v")) != 0 ||
			OPS->put(env, TABLE_KEY, bytes_from_cstr(key), B("v")) != 0 ||
			OPS->commit(env) != 0)
			return 1;
		if (i == SMALL_RECORDS / 2 && OPS->checkpoint(env) != 0)
			return 2;
	}
	return OPS->checkpoint(env);
}

/* 0: all is there */
static int
check_small(void)
{
	TableEnv   *env;
	uint32_t	n[2] = {0, 0};

	if (OPS->open(home, false, &env) != 0)
		return 10;
	if (OPS->scan(env, TABLE_AUTH, count_record, &n[0]) != 0 ||
		OPS->scan(env, TABLE_KEY, count_record, &n[1]) != 0)
		return 11;
	return n[0] == SMALL_RECORDS && n[1] == SMALL_RECORDS ? 0 : 12;
}

/* the nth read of the log fails */
static int
open_without_read(void)
{
	TableEnv   *env;
	int			rc;

	injection_reload();
	rc = OPS->open(home, false, &env);
	return rc == 0 ? 0 : 50;
}

/*
 * A recovery that takes such a read for the end of the log removes tables, and
 * the next one cannot be good.
 */
static void
test_failed_read(void **state)
{
	int			nth = 0;
	int			status;

	assert_int_equal(in_child(make_small), 0);
	do
	{
		char		inject[64];

		snprintf(inject, sizeof(inject), "bdb-read-log@%d=error:5", ++nth);
		setenv("CLAVIGER_INJECT", inject, 1);
		status = in_child(open_without_read);
		unsetenv("CLAVIGER_INJECT");
		assert_true(status == 0 || status == 50);
		assert_int_equal(in_child(check_small), 0);
	}
	while (status != 0);
	assert_true(nth > 2);
}

/* The same where the log is damaged: as it was, once the byte is put back. */
static void
test_damaged_log(void **state)
{
	int			nrefused = 0;

	/* through the making of the tables, record after record */
	for (off_t at = 200; at < 140000; at += 12007)
	{
		int			status;

		assert_int_equal(in_child(make_small), 0);
		damage("log.0000000001", at);
		status = in_child(check_small);
		nrefused += status == ELOG_EXIT_FATAL;
		for (int i = 0; i < TABLE_COUNT; i++)
		{
			char		path[128];

			snprintf(path, sizeof(path), "%s/%s.db", home,
					 table_name((TableId) i));
			assert_int_equal(access(path, F_OK), 0);
		}
		if (status != ELOG_EXIT_FATAL)
			continue;
		damage("log.0000000001", at);
		assert_int_equal(in_child(check_small), 0);
	}
	assert_true(nrefused > 5);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

/* those of the executable go before libc's, also for the library */
extern void *__libc_malloc(size_t size);
extern void *__libc_realloc(void *old, size_t size);

static int	allocations_left;	/* 0: not counted */

static bool
allocation_fails(void)
{
	return allocations_left > 0 && --allocations_left == 0;
}

void *
malloc(size_t size)
{
	return allocation_fails() ? NULL : __libc_malloc(size);
}

void *
realloc(void *old, size_t size)
{
	return allocation_fails() ? NULL : __libc_realloc(old, size);
}

static int	nth_allocation;

static int
open_without_memory(void)
{
	TableEnv   *env;
	int			rc;

	allocations_left = nth_allocation;
	rc = OPS->open(home, false, &env);
	if (allocations_left > 0)
		return 0;
	/* libc's own, of a directory's list for one, need not matter */
	return rc == 0 ? 51 : 50;
}

static void
test_failed_allocation(void **state)
{
	int			status;

	assert_int_equal(in_child(make_small), 0);
	nth_allocation = 0;
	do
	{
		nth_allocation += nth_allocation < 160 ? 1 : 7;
		status = in_child(open_without_memory);
		/* and no signal */
		assert_true(status == 0 || status == ELOG_EXIT_FATAL || status == 50 ||
					status == 51);
		/* where the library took the log to end, none would be good any more */
		if (nth_allocation % 40 == 0)
			assert_int_equal(in_child(check_small), 0);
	}
	while (status != 0);
	assert_true(nth_allocation > 100);
	assert_int_equal(in_child(check_small), 0);
}
#else
static void
test_failed_allocation(void **state)
{
	skip();
}
#endif

static int
setup(void **state)
{
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(home, sizeof(home), "%s/db", dir);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	fcntl(log_fd, F_SETFL, O_APPEND);
	elog_set_fd(log_fd);
	return 0;
}

static int
teardown(void **state)
{
	remove_home();
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_open_mistakes),
		cmocka_unit_test(test_scan),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_failed_read),
		cmocka_unit_test(test_damaged_log),
		cmocka_unit_test(test_failed_allocation),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
