/*
 * t_snapshot.c
 *	  Snapshot, Hash and HashKV as handlers: slices, backpressure, slow clients.
 */
/* needs: dispatch command alarm/alarm lease/clock lease/renewal common proto */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "utils/clock.h"

#include "dispatch_setup.h"

/* turns of the loop until the request is answered; how many */
static int
run_turns(int64_t now_ms)
{
	int			n = 0;

	for (; world.answer.n == 0 && n < 100000; n++)
		dispatch_expire(now_ms);
	return n;
}

static Etcdserverpb__SnapshotResponse *
last_message(void)
{
	return etcdserverpb__snapshot_response__unpack(NULL, world.sent_len,
												   world.sent);
}

static void
send_snapshot(void)
{
	Etcdserverpb__SnapshotRequest message =
		ETCDSERVERPB__SNAPSHOT_REQUEST__INIT;

	world.nmessages = 0;
	double_send(RPC_MAINTENANCE_SNAPSHOT, NULL, &message);
}

static void
send_hash_kv(int64_t revision)
{
	Etcdserverpb__HashKVRequest message = ETCDSERVERPB__HASH_KVREQUEST__INIT;

	message.revision = revision;
	double_send(RPC_MAINTENANCE_HASH_KV, NULL, &message);
}

static void
snapshot_counts_down_and_ends_with_a_hash(void **state)
{
	Etcdserverpb__SnapshotResponse *got;

	world.walk_records = 10;
	world.walk_value_bytes = 1000;
	send_snapshot();
	run_turns(clock_monotonic_ms());
	assert_int_equal(world.answer.error, ERR_NONE);
	/* 10.5 kB, and the hash */
	assert_int_equal(world.nmessages, 2);
	got = last_message();
	assert_int_equal(got->remaining_bytes, 0);
	assert_int_equal(got->blob.len, 32);
	assert_string_equal(got->version, "3.5.0");
	assert_null(got->header);
	etcdserverpb__snapshot_response__free_unpacked(got, NULL);
	assert_int_equal(world.asked[0].need, NEED_ADMIN);
}

static void
snapshot_waits_for_the_client(void **state)
{
	Etcdserverpb__SnapshotResponse *got;
	uint64_t	remaining;
	int			before;

	world.walk_records = 5000;
	world.walk_value_bytes = 1000;
	send_snapshot();
	/* measured in slices: others have their turn meanwhile */
	assert_int_equal(world.nmessages, 0);
	while (world.nmessages == 0)
		dispatch_expire(clock_monotonic_ms());
	world.backlog = REQUEST_BACKLOG_BYTES;
	dispatch_expire(clock_monotonic_ms());
	before = world.nmessages;
	got = last_message();
	remaining = got->remaining_bytes;
	assert_true(remaining > 0);
	etcdserverpb__snapshot_response__free_unpacked(got, NULL);

	/* no room: nothing is sent, and the timer only looks */
	for (int i = 0; i < 100; i++)
		dispatch_expire(clock_monotonic_ms());
	dispatch_expire(clock_monotonic_ms() + 600);
	assert_int_equal(world.nmessages, before);
	assert_int_equal(world.holds, 1);

	world.backlog = 0;
	dispatch_writable(world.req);
	assert_true(world.nmessages > before);
	run_turns(clock_monotonic_ms());
	assert_int_equal(world.answer.error, ERR_NONE);
	/* 5 MB in chunks of 32 KB */
	assert_in_range(world.nmessages, 155, 165);
}

static void
snapshot_ends_for_who_takes_too_little(void **state)
{
	world.walk_records = 5000;
	world.walk_value_bytes = 1000;
	send_snapshot();
	while (world.nmessages == 0)
		dispatch_expire(clock_monotonic_ms());
	world.backlog = REQUEST_BACKLOG_BYTES;
	/* one who takes enough goes on */
	guc_snapshot_max_age = 50;
	guc_snapshot_min_rate = 1;
	usleep(100 * 1000);
	dispatch_expire(clock_monotonic_ms() + 600);
	assert_int_equal(world.answer.n, 0);

	guc_snapshot_min_rate = INT64_C(1) << 40;
	dispatch_expire(clock_monotonic_ms() + 1200);
	assert_int_equal(world.answer.n, 1);
	assert_string_equal(err_info(world.answer.error)->symbol,
						"ERR_SNAPSHOT_TOO_OLD");
	assert_int_equal(world.holds, 0);
	guc_snapshot_max_age = 10000;
	guc_snapshot_min_rate = 1048576;
}

static void
snapshot_lets_go_when_the_client_leaves(void **state)
{
	world.walk_records = 5000;
	world.walk_value_bytes = 1000;
	send_snapshot();
	assert_int_equal(world.holds, 1);
	dispatch_cancel(world.req);
	assert_int_equal(world.holds, 0);
	send_snapshot();
	while (world.nmessages == 0)
		dispatch_expire(clock_monotonic_ms());
	dispatch_cancel(world.req);
}

static void
snapshot_is_for_admins(void **state)
{
	Etcdserverpb__SnapshotRequest message =
		ETCDSERVERPB__SNAPSHOT_REQUEST__INIT;

	world.version.auth_enabled = true;
	double_send(RPC_MAINTENANCE_SNAPSHOT, "alice", &message);
	assert_int_equal(world.answer.error, ERR_PERMISSION_DENIED);
	send_snapshot();
	assert_int_equal(world.answer.error, ERR_USER_EMPTY);
	assert_int_equal(world.nmessages, 0);
	send_hash_kv(0);
	assert_int_equal(world.answer.error, ERR_USER_EMPTY);
}

static void
hash_is_done_in_slices(void **state)
{
	Etcdserverpb__HashKVResponse *got;

	world.walk_records = 5500;
	world.version.compacted_revision = 7;
	send_hash_kv(0);
	assert_int_equal(world.answer.n, 0);
	assert_int_equal(dispatch_outstanding(), 1);
	/* at once, not later */
	assert_true(dispatch_next_expiry_ms() <= clock_monotonic_ms());
	assert_int_equal(run_turns(clock_monotonic_ms()), 5);
	assert_int_equal(world.answer.error, ERR_NONE);
	got = etcdserverpb__hash_kvresponse__unpack(NULL, world.answer.len,
												world.answer.bytes);
	assert_int_equal(got->hash, 5500);
	assert_int_equal(got->compact_revision, 7);
	assert_int_equal(got->hash_revision, TEST_REVISION);
	assert_int_equal(got->header->revision, TEST_REVISION);
	etcdserverpb__hash_kvresponse__free_unpacked(got, NULL);

	/* never compacted is -1 */
	world.version.compacted_revision = 0;
	world.walk_records = 3;
	send_hash_kv(5);
	got = etcdserverpb__hash_kvresponse__unpack(NULL, world.answer.len,
												world.answer.bytes);
	assert_int_equal(got->hash, 3);
	assert_int_equal(got->compact_revision, -1);
	assert_int_equal(got->hash_revision, 5);
	etcdserverpb__hash_kvresponse__free_unpacked(got, NULL);
}

static void
hash_refuses_what_is_not_there(void **state)
{
	world.version.compacted_revision = 7;
	send_hash_kv(7);
	assert_int_equal(world.answer.error, ERR_COMPACTED);
	send_hash_kv(TEST_REVISION + 1);
	assert_int_equal(world.answer.error, ERR_FUTURE_REV);
	send_hash_kv(8);
	assert_int_equal(world.answer.error, ERR_NONE);
}

static void
hash_ends_with_the_deadline(void **state)
{
	world.walk_records = 100000;
	send_hash_kv(0);
	world.req->deadline_ms = clock_monotonic_ms() - 1;
	dispatch_expire(clock_monotonic_ms());
	assert_int_equal(world.answer.error, ERR_DEADLINE_EXCEEDED);
	send_hash_kv(0);
	dispatch_cancel(world.req);
}

int
main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(snapshot_counts_down_and_ends_with_a_hash),
		TEST(snapshot_waits_for_the_client),
		TEST(snapshot_ends_for_who_takes_too_little),
		TEST(snapshot_lets_go_when_the_client_leaves),
		TEST(snapshot_is_for_admins),
		TEST(hash_is_done_in_slices),
		TEST(hash_refuses_what_is_not_there),
		TEST(hash_ends_with_the_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
