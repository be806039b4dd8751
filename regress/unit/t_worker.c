/*
 * t_worker.c
 *	  The raft worker as a process, seen from a backend: what it answers, what
 *	  it refuses, and what is there after it was killed.  And the data
 *	  directory it works on.
 */
/* needs: raft raft/worker member alarm apply mvcc lease auth watch/registry watch/watchtree storage/snap storage/ipc storage/lmgr storage/bdb utils/guc utils/injection common */
#include "server.h"

/* system */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "common/logop.h"
#include "lease/lease.h"
#include "lease/renewal.h"
#include "mvcc/mvcc.h"
#include "mvcc/vlog.h"
#include "raft/worker.h"
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "storage/snap/store.h"
#include "watch/registry.h"

#define PATIENCE_MS 60000
#define STORE_BYTES ((size_t) 256 * 1024 * 1024)

static char dir[256];
static pid_t worker;
static uint64_t next_request = 1;

/* ---- directory ---- */

static void
remove_tree(const char *path)
{
	char		command[300];

	snprintf(command, sizeof(command), "rm -rf '%s'", path);
	assert_int_equal(system(command), 0);
}

static void
make_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/t_worker.XXXXXX");
	assert_non_null(mkdtemp(dir));
}

/* fn in a child; its exit status */
static int
status_of(void (*fn) (const char *data_dir))
{
	pid_t		pid = fork();
	int			status;

	assert_true(pid >= 0);
	if (pid == 0)
	{
		fn(dir);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool
is_initialised(bool *is_empty)
{
	char		error[1024];

	return raft_data_dir_is_initialised(dir, is_empty, error, sizeof(error));
}

static void
touch(const char *name)
{
	char		path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	close(open(path, O_WRONLY | O_CREAT, 0600));
}

static void
test_ids_are_etcds(void **state)
{
	uint64_t	id = raft_member_id("http://localhost:2380", "etcd-cluster");
	uint64_t	ids[3];
	uint64_t	turned[3];

	/* what every etcd with default settings calls itself */
	assert_true(id == UINT64_C(0x8e9e05c52164694d));
	assert_true(raft_cluster_id(&id, 1) == UINT64_C(0xcdf818194e3a8c32));
	/* the order of URLs and members does not count */
	assert_true(raft_member_id("http://b:1,http://a:1", "t") ==
				raft_member_id(" http://a:1 ,http://b:1", "t"));
	assert_true(raft_member_id("http://a:1", "t") !=
				raft_member_id("http://a:1", "u"));
	for (int i = 0; i < 3; i++)
		ids[i] = turned[2 - i] = id / (uint64_t) (i + 1);
	assert_true(raft_cluster_id(ids, 3) == raft_cluster_id(turned, 3));
}

static void
test_directory(void **state)
{
	bool		is_empty;

	make_dir();
	assert_false(is_initialised(&is_empty));
	assert_true(is_empty);
	touch("claviger.conf");
	assert_false(is_initialised(&is_empty));
	assert_true(is_empty);
	touch("letters");
	assert_false(is_initialised(&is_empty));
	assert_false(is_empty);
	remove_tree(dir);
	assert_false(is_initialised(&is_empty));
	assert_true(is_empty);

	/* cut short at each step, it begins again */
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(status_of(raft_initialise_data_dir), 0);
	assert_true(is_initialised(&is_empty));
	touch("claviger.init");
	assert_true(is_initialised(&is_empty));
	{
		char		path[512];

		snprintf(path, sizeof(path), "%s/claviger.version", dir);
		assert_int_equal(unlink(path), 0);
	}
	assert_false(is_initialised(&is_empty));
	assert_true(is_empty);
	assert_int_equal(status_of(raft_initialise_data_dir), 0);
	assert_true(is_initialised(&is_empty));
	remove_tree(dir);
}

static void
test_lock(void **state)
{
	make_dir();
	assert_int_equal(chmod(dir, 0750), 0);
	assert_int_equal(status_of(raft_lock_data_dir), ELOG_EXIT_FATAL);
	assert_int_equal(chmod(dir, 0700), 0);
	assert_int_equal(status_of(raft_lock_data_dir), 0);
	raft_lock_data_dir(dir);
	assert_int_equal(status_of(raft_lock_data_dir), ELOG_EXIT_FATAL);
	remove_tree(dir);
}

/* ---- the process ---- */

static void
start_worker(void)
{
	ControlSizes sizes = {
		.nslots = 4,
		.max_request_bytes = 65536,
		.token_cache_entries = 256,
		.token_max_per_user = 16,
		.hash_slots = 1,
		.hash_queue = 1,
	};
	int			worker_slot;
	int			own_slot;
	int64_t		until = clock_monotonic_ms() + PATIENCE_MS;

	assert_true(store_create(STORE_BYTES));
	assert_true(control_create(&sizes));
	assert_true(ring_create_fds());
	worker_slot = control_claim_slot();
	worker = fork();
	assert_true(worker >= 0);
	if (worker == 0)
		RaftWorkerMain(worker_slot);
	store_close_writer_fd();
	while (!atomic_load(&store_raft_status()->is_ready))
	{
		assert_int_equal(waitpid(worker, NULL, WNOHANG), 0);
		assert_true(clock_monotonic_ms() < until);
		usleep(1000);
	}
	assert_true(atomic_load(&store_raft_status()->reads_are_local));
	own_slot = control_claim_slot();
	control_attach_slot(own_slot);
	ring_attach_backend();
}

/* returns the wait status; the shared memory goes with it */
static int
stop_worker(int signo)
{
	int			status;

	assert_int_equal(kill(worker, signo), 0);
	assert_int_equal(waitpid(worker, &status, 0), worker);
	worker = 0;
	ring_close_fds();
	control_destroy();
	store_destroy();
	return status;
}

static int
set_up(void **state)
{
	make_dir();
	guc_data_dir = dir;
	assert_int_equal(status_of(raft_initialise_data_dir), 0);
	start_worker();
	return 0;
}

static int
tear_down(void **state)
{
	/* a test that failed left it behind */
	if (worker != 0)
		stop_worker(SIGKILL);
	remove_tree(dir);
	return 0;
}

/* ---- a backend's requests ---- */

static Completion
wait_for_answer(void)
{
	int64_t		until = clock_monotonic_ms() + PATIENCE_MS;
	Completion	c;

	while (!ring_completion_next(&c))
	{
		struct pollfd pfd = {.fd = ring_completion_fd(),.events = POLLIN};
		uint64_t	count;

		assert_true(clock_monotonic_ms() < until);
		if (ring_arm_completions())
			poll(&pfd, 1, 100);
		/* poll() knows no edges */
		if (read(pfd.fd, &count, sizeof(count)) < 0)
			assert_int_equal(errno, EAGAIN);
	}
	return c;
}

static ErrCode
ask(SubmitKind kind, Bytes payload, Completion *answer)
{
	Completion	c;

	assert_true(ring_submit(kind, next_request, payload));
	c = wait_for_answer();
	assert_int_equal(c.request_id, next_request);
	next_request++;
	if (answer != NULL)
		*answer = c;
	ring_completion_done();
	return c.error;
}

static LogOp
put_op(const char *key, const char *value)
{
	return (LogOp) {
		.kind = LOGOP_PUT,
		.put = {.key = bytes_from_cstr(key),.value = bytes_from_cstr(value)},
	};
}

static ErrCode
ask_op(const LogOp *op, Completion *answer)
{
	ErrCode		error;
	Buf			encoded;

	buf_init(&encoded, NULL);
	logop_encode(op, &encoded);
	error = ask(SUBMIT_LOGOP, buf_bytes(&encoded), answer);
	buf_free(&encoded);
	return error;
}

static void
put(const char *key, const char *value)
{
	LogOp		op = put_op(key, value);

	assert_int_equal(ask_op(&op, NULL), ERR_NONE);
}

static bool
holds(const char *key, const char *value)
{
	const StoreVersion *v = store_pin();
	const KvVersion *kv = mvcc_get(v, bytes_from_cstr(key), 0);
	bool		result = kv != NULL &&
		bytes_equal_cstr(kvversion_value(kv), value);

	store_unpin();
	return result;
}

static void
test_answers(void **state)
{
	LogOp		op = put_op("a", "1");
	Completion	c;
	uint64_t	index;

	assert_int_equal(ask_op(&op, &c), ERR_NONE);
	assert_int_equal(c.revision, 2);
	index = c.index;
	assert_true(index > 1);
	/* published before it was answered */
	assert_true(holds("a", "1"));
	assert_int_equal(ask_op(&op, &c), ERR_NONE);
	assert_int_equal(c.revision, 3);
	assert_true(c.index > index);
	assert_int_equal(ask(SUBMIT_READ, BYTES_EMPTY, NULL), ERR_NONE);
	assert_true(WIFEXITED(stop_worker(SIGTERM)));
}

/* A backend may be broken, or somebody else's by now. */
static void
test_nonsense_is_refused(void **state)
{
	LogOp		op = put_op("a", "1");
	LogOp		publish = {.kind = LOGOP_MEMBER_PUBLISH,.member = {.id = 7}};
	Buf			encoded;
	int			status;

	buf_init(&encoded, NULL);
	logop_encode(&op, &encoded);
	for (size_t n = 0; n < encoded.len; n++)
		assert_int_equal(ask(SUBMIT_LOGOP, bytes_make(encoded.data, n), NULL),
						 ERR_INTERNAL);
	encoded.data[0] ^= 0xff;
	assert_int_equal(ask(SUBMIT_LOGOP, buf_bytes(&encoded), NULL),
					 ERR_INTERNAL);
	buf_free(&encoded);
	op.identity.kind = IDENTITY_INTERNAL;
	assert_int_equal(ask_op(&op, NULL), ERR_INTERNAL);
	assert_int_equal(ask_op(&publish, NULL), ERR_INTERNAL);
	assert_int_equal(ask(SUBMIT_CLUSTER, BYTES_LITERAL("x"), NULL),
					 ERR_UNIMPLEMENTED);
	/* and nothing of it has come into the log */
	assert_false(holds("a", "1"));
	put("a", "2");
	assert_true(holds("a", "2"));
	status = stop_worker(SIGTERM);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- leases ---- */

static ErrCode
renew(int64_t id, int64_t *ttl_sec)
{
	LeaseRenewal renewal = lease_renewal_make(store_pin(), id);
	Completion	c;
	ErrCode		error;
	Buf			payload;

	store_unpin();
	buf_init(&payload, NULL);
	lease_renewal_encode(&renewal, &payload);
	error = ask(SUBMIT_LEASE_RENEW, buf_bytes(&payload), &c);
	assert_int_equal(c.index, 0);
	*ttl_sec = c.count;
	buf_free(&payload);
	return error;
}

static ErrCode
ask_lease(LogOpKind kind, IdentityKind who, int64_t id, int64_t ttl_sec)
{
	LogOp		op = {
		.kind = kind,
		.identity.kind = who,
		.lease = {.id = id,.ttl_sec = ttl_sec},
	};

	return ask_op(&op, NULL);
}

static ErrCode
ask_checkpoint(IdentityKind who, int64_t id, int64_t remaining_sec)
{
	LeaseCheckpoint rest = {.id = id,.remaining_sec = remaining_sec};
	LogOp		op = {
		.kind = LOGOP_LEASE_CHECKPOINT,
		.identity.kind = who,
		.checkpoint = {.n = 1,.leases = &rest},
	};

	return ask_op(&op, NULL);
}

static void
test_leases(void **state)
{
	LogOp		leased = put_op("k", "1");
	LogOp		renewal = {.kind = LOGOP_LEASE_RENEW,.lease.id = 1};
	Completion	c;
	int64_t		ttl;

	assert_int_equal(ask_lease(LOGOP_LEASE_GRANT, IDENTITY_NONE, 1, 100),
					 ERR_NONE);
	assert_int_equal(renew(1, &ttl), ERR_NONE);
	assert_int_equal(ttl, 100);
	assert_int_equal(renew(2, &ttl), ERR_NONE);
	assert_int_equal(ttl, 0);
	assert_int_equal(ask(SUBMIT_LEASE_RENEW, BYTES_LITERAL("nonsense"), NULL),
					 ERR_INTERNAL);

	/* only who is marked may speak for the server, and not before the time */
	assert_int_equal(ask_lease(LOGOP_LEASE_REVOKE, IDENTITY_INTERNAL, 1, 0),
					 ERR_INTERNAL);
	assert_int_equal(ask_checkpoint(IDENTITY_INTERNAL, 1, 50), ERR_INTERNAL);
	assert_int_equal(ask_checkpoint(IDENTITY_NONE, 1, 50),
					 ERR_PERMISSION_DENIED);
	control_mark_internal(control_own_slot());
	assert_int_equal(ask_lease(LOGOP_LEASE_REVOKE, IDENTITY_INTERNAL, 1, 0),
					 ERR_LEASE_EXIST);
	assert_int_equal(ask_lease(LOGOP_LEASE_REVOKE, IDENTITY_INTERNAL, 2, 0),
					 ERR_LEASE_NOT_FOUND);

	/* with a rest in the log a renewal goes through the log */
	assert_int_equal(ask_checkpoint(IDENTITY_INTERNAL, 1, 50), ERR_NONE);
	assert_int_equal(renew(1, &ttl), ERR_NONE);
	assert_int_equal(ttl, LEASE_NEEDS_LOG);
	assert_int_equal(ask_op(&renewal, &c), ERR_NONE);
	assert_int_equal(c.count, 100);
	assert_int_equal(renew(1, &ttl), ERR_NONE);
	assert_int_equal(ttl, 100);

	/* its time is over: nobody renews it, and its keys go with it */
	assert_int_equal(ask_lease(LOGOP_LEASE_GRANT, IDENTITY_NONE, 3, 1),
					 ERR_NONE);
	leased.put.lease = 3;
	assert_int_equal(ask_op(&leased, NULL), ERR_NONE);
	assert_true(holds("k", "1"));
	usleep(1100000);
	assert_int_equal(renew(3, &ttl), ERR_NONE);
	assert_int_equal(ttl, 0);
	assert_int_equal(ask_lease(LOGOP_LEASE_REVOKE, IDENTITY_INTERNAL, 3, 0),
					 ERR_NONE);
	assert_false(holds("k", "1"));

	/* what was granted is there again, what was revoked is not */
	stop_worker(SIGKILL);
	start_worker();
	assert_int_equal(renew(1, &ttl), ERR_NONE);
	assert_int_equal(ttl, 100);
	assert_int_equal(renew(3, &ttl), ERR_NONE);
	assert_int_equal(ttl, 0);
	assert_int_equal(ask_lease(LOGOP_LEASE_REVOKE, IDENTITY_NONE, 1, 0),
					 ERR_NONE);
	assert_true(WIFEXITED(stop_worker(SIGTERM)));
}

/*
 * Whoever watches is told of his key only.  An answer to a later put says that
 * the earlier one has been told.
 */
static void
test_watches(void **state)
{
	KeyRange	range = keyrange_make(BYTES_LITERAL("k"), BYTES_EMPTY);
	LogOp		mine = put_op("k", "1");
	LogOp		other = put_op("other", "1");
	const StoreVersion *v;
	uint64_t	from;
	Buf			ops;

	buf_init(&ops, NULL);
	registry_put_op(&ops, REGISTRY_ADD, &range);
	assert_int_equal(ask(SUBMIT_WATCH, buf_bytes(&ops), NULL), ERR_NONE);
	assert_int_equal(atomic_load(&store_raft_status()->watch_ranges), 1);
	assert_int_equal(ask_op(&other, NULL), ERR_NONE);
	assert_int_equal(ask_op(&other, NULL), ERR_NONE);
	assert_int_equal(atomic_load(&control_self()->watch_from), 0);

	for (int i = 0; i < 3; i++)
		assert_int_equal(ask_op(&mine, NULL), ERR_NONE);
	assert_int_equal(ask_op(&other, NULL), ERR_NONE);
	from = atomic_exchange(&control_self()->watch_from, 0);
	assert_true(from > 0);
	v = store_pin();
	/* the first of three */
	assert_true(bytes_equal_cstr(kvversion_key(vlog_get(&v->log, from - 1)),
								 "k"));
	assert_int_equal(v->log.end - from + 1, 4);
	store_unpin();

	ops.len = 0;
	registry_put_op(&ops, REGISTRY_REMOVE, &range);
	assert_int_equal(ask(SUBMIT_WATCH, buf_bytes(&ops), NULL), ERR_NONE);
	assert_int_equal(atomic_load(&store_raft_status()->watch_ranges), 0);
	assert_int_equal(ask_op(&mine, NULL), ERR_NONE);
	assert_int_equal(ask_op(&other, NULL), ERR_NONE);
	assert_int_equal(atomic_load(&control_self()->watch_from), 0);
	assert_int_equal(ask(SUBMIT_WATCH, BYTES_LITERAL("nonsense"), NULL),
					 ERR_INTERNAL);
	buf_free(&ops);
	assert_true(WIFEXITED(stop_worker(SIGTERM)));
}

static void
test_restart(void **state)
{
	char		key[16];
	uint64_t	term = 0;
	uint64_t	index = 0;
	int			n = 0;

	for (int round = 0; round < 6; round++)
	{
		static const int signals[] = {SIGKILL, SIGTERM, SIGQUIT};
		int			status;

		for (int i = 0; i < 20; i++)
		{
			snprintf(key, sizeof(key), "k%d", n++);
			put(key, key);
		}
		assert_true(atomic_load(&store_raft_status()->term) > term);
		term = atomic_load(&store_raft_status()->term);
		index = atomic_load(&store_raft_status()->last_index);
		status = stop_worker(signals[round % 3]);
		if (signals[round % 3] == SIGTERM)
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		start_worker();
		/* one barrier; the member was published once and for all */
		assert_int_equal(atomic_load(&store_raft_status()->last_index),
						 index + 1);
		for (int i = 0; i < n; i++)
		{
			snprintf(key, sizeof(key), "k%d", i);
			assert_true(holds(key, key));
		}
	}
	stop_worker(SIGTERM);
}

/* more than may be proposed at one time: it all comes through, in order */
static void
test_many_at_once(void **state)
{
	uint64_t	first = next_request;
	uint64_t	expected = first;
	uint64_t	last_index = 0;
	LogOp		op = put_op("counter", "x");
	Buf			encoded;

	buf_init(&encoded, NULL);
	logop_encode(&op, &encoded);
	while (expected < first + 30000)
	{
		Completion	c;

		while (next_request < first + 30000 &&
			   ring_submit(SUBMIT_LOGOP, next_request, buf_bytes(&encoded)))
			next_request++;
		c = wait_for_answer();
		assert_int_equal(c.request_id, expected);
		assert_int_equal(c.error, ERR_NONE);
		assert_true(c.index > last_index);
		last_index = c.index;
		expected++;
		ring_completion_done();
	}
	buf_free(&encoded);
	assert_true(WIFEXITED(stop_worker(SIGTERM)));
}

int
main(void)
{
#define WORKER_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids_are_etcds),
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_lock),
		WORKER_TEST(test_answers),
		WORKER_TEST(test_nonsense_is_refused),
		WORKER_TEST(test_leases),
		WORKER_TEST(test_watches),
		WORKER_TEST(test_restart),
		WORKER_TEST(test_many_at_once),
	};

	guc_init_defaults();
	elog_set_level(LOG_LEVEL_PANIC);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
