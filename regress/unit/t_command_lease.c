/*
 * t_command_lease.c
 *	  Leases and locks in a backend: what is asked of the raft worker, and what
 *	  becomes of its answers.
 */
/* needs: dispatch command alarm/alarm lease/clock lease/renewal common proto */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>
#include "etcdserverpb.pb-c.h"
#include "v3lockpb.pb-c.h"

/* this layer and below */
#include "lease/renewal.h"

#include "dispatch_setup.h"

/* the operation that was submitted last */
static LogOp
submitted(LogOpKind kind)
{
	LogOp		op;

	assert_int_equal(world.kind, SUBMIT_LOGOP);
	op = double_submitted_op();
	assert_int_equal(op.kind, kind);
	return op;
}

static LeaseRenewal
renewal_submitted(void)
{
	LeaseRenewal renewal;

	assert_int_equal(world.kind, SUBMIT_LEASE_RENEW);
	assert_true(lease_renewal_decode(bytes_make(world.payload,
												world.payload_len),
									 &renewal));
	return renewal;
}

/* ---- grant ---- */

static void
send_grant(int64_t id, int64_t ttl)
{
	Etcdserverpb__LeaseGrantRequest message =
		ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;

	message.id = id;
	message.ttl = ttl;
	double_send(RPC_LEASE_LEASE_GRANT, NULL, &message);
}

static void
grant_keeps_to_the_bounds(void **state)
{
	send_grant(7, 9000000000);
	assert_int_equal(submitted(LOGOP_LEASE_GRANT).lease.ttl_sec, 9000000000);
	double_complete(&(Completion) {.revision = 43});
	assert_int_equal(world.answer.error, ERR_NONE);
	double_reset();
	/* one and a half elections of 1000 ms, in full seconds */
	send_grant(7, -9000000000);
	assert_int_equal(submitted(LOGOP_LEASE_GRANT).lease.ttl_sec, 2);
	double_complete(&(Completion) {.revision = 43});
	double_reset();
	send_grant(7, 9000000001);
	assert_int_equal(world.nsubmitted, 0);
	assert_int_equal(world.answer.error, ERR_LEASE_TTL_TOO_LARGE);
}

static void
grant_chooses_until_one_is_free(void **state)
{
	int64_t		first;

	send_grant(0, 5);
	first = submitted(LOGOP_LEASE_GRANT).lease.id;
	assert_true(first > 0);
	double_complete(&(Completion) {.error = ERR_LEASE_EXIST});
	assert_int_equal(world.answer.n, 0);
	assert_true(submitted(LOGOP_LEASE_GRANT).lease.id > 0);
	assert_int_not_equal(submitted(LOGOP_LEASE_GRANT).lease.id, first);
	double_complete(&(Completion) {.revision = 43});
	assert_int_equal(world.answer.error, ERR_NONE);

	/* but what the client has chosen is what it gets, or nothing */
	double_reset();
	send_grant(first, 5);
	double_complete(&(Completion) {.error = ERR_LEASE_EXIST});
	assert_int_equal(world.answer.error, ERR_LEASE_EXIST);
	assert_int_equal(world.nsubmitted, 1);
}

static void
grant_asks_for_the_right_first(void **state)
{
	world.refuse_with = ERR_USER_EMPTY;
	send_grant(7, 9000000001);
	assert_int_equal(world.answer.error, ERR_USER_EMPTY);
	assert_int_equal(world.nsubmitted, 0);
}

/* ---- keepalive ---- */

static Request *
keep_alive_open(void)
{
	Request    *req = double_request(RPC_LEASE_LEASE_KEEP_ALIVE, NULL);

	dispatch_open(req);
	assert_int_equal(world.answer.n, 0);
	return req;
}

static void
keep_alive_send(Request *req, int64_t id)
{
	Buf			message;

	buf_init(&message, world.mcx);
	pbwire_put_int(&message, 1, id);
	assert_true(dispatch_takes_messages(req));
	dispatch_message(req, buf_bytes(&message));
}

static void
expect_ttl(int n, int64_t id, int64_t ttl)
{
	Etcdserverpb__LeaseKeepAliveResponse *answer;

	assert_int_equal(world.nmessages, n);
	answer = etcdserverpb__lease_keep_alive_response__unpack(
		NULL, world.sent_len, world.sent);
	assert_non_null(answer);
	assert_int_equal(answer->id, id);
	assert_int_equal(answer->ttl, ttl);
	assert_int_equal(answer->header->revision, 43);
	etcdserverpb__lease_keep_alive_response__free_unpacked(answer, NULL);
}

static void
keep_alive_one_after_the_other(void **state)
{
	Request    *req = keep_alive_open();

	keep_alive_send(req, 7);
	assert_int_equal(renewal_submitted().id, 7);
	assert_int_equal(world.asked[1].need, NEED_LEASE_WRITE);
	assert_int_equal(world.asked[1].lease, 7);
	/* the next one waits at the door */
	assert_false(dispatch_takes_messages(req));
	double_complete(&(Completion) {.revision = 43,.count = 10});
	expect_ttl(1, 7, 10);
	assert_int_equal(world.nready, 1);
	keep_alive_send(req, 8);
	/* the client sends nothing more, and still gets its answer */
	dispatch_half_close(req);
	assert_int_equal(world.answer.n, 0);
	double_complete(&(Completion) {.revision = 43,.count = 0});
	expect_ttl(2, 8, 0);
	assert_int_equal(world.answer.n, 1);
	assert_int_equal(world.answer.error, ERR_NONE);
}

static void
keep_alive_asks_again_when_rights_move(void **state)
{
	Request    *req = keep_alive_open();
	int			asked;

	keep_alive_send(req, 7);
	asked = world.nauthorized;
	double_complete(&(Completion) {.error = ERR_AUTH_OLD_REVISION});
	assert_int_equal(world.nauthorized, asked + 1);
	assert_int_equal(world.nsubmitted, 2);
	double_complete(&(Completion) {.revision = 43,.count = 10});
	expect_ttl(1, 7, 10);
	/* when the right is gone that is the answer, and the end */
	keep_alive_send(req, 7);
	world.refuse_with = ERR_PERMISSION_DENIED;
	double_complete(&(Completion) {.error = ERR_AUTH_OLD_REVISION});
	assert_int_equal(world.answer.error, ERR_PERMISSION_DENIED);

	/* not for ever */
	double_reset();
	req = keep_alive_open();
	keep_alive_send(req, 7);
	while (world.answer.n == 0 && world.nsubmitted < 100)
		double_complete(&(Completion) {.error = ERR_AUTH_OLD_REVISION});
	assert_int_equal(world.answer.error, ERR_AUTH_OLD_REVISION);
	assert_int_equal(world.nsubmitted, 16);
}

static void
keep_alive_through_the_log(void **state)
{
	Request    *req = keep_alive_open();

	keep_alive_send(req, 7);
	double_complete(&(Completion) {.revision = 42,.count = -1});
	assert_int_equal(submitted(LOGOP_LEASE_RENEW).lease.id, 7);
	double_complete(&(Completion) {.revision = 43,.count = 10});
	expect_ttl(1, 7, 10);
	keep_alive_send(req, 7);
	double_complete(&(Completion) {.revision = 42,.count = -1});
	double_complete(&(Completion) {.revision = 43,
					.error = ERR_LEASE_NOT_FOUND});
	expect_ttl(2, 7, 0);
	dispatch_half_close(req);
	assert_int_equal(world.answer.error, ERR_NONE);
}

/* ---- lock ---- */

static void
send_lock(const char *name, int64_t lease)
{
	V3lockpb__LockRequest message = V3LOCKPB__LOCK_REQUEST__INIT;

	message.name.data = (uint8_t *) name;
	message.name.len = strlen(name);
	message.lease = lease;
	double_send(RPC_LOCK_LOCK, NULL, &message);
}

static void
expect_put(const LogOp *op, const char *key, int64_t lease)
{
	assert_int_equal(op->txn.ncompares, 1);
	assert_int_equal(op->txn.compares[0].target, COMPARE_CREATE);
	assert_int_equal(op->txn.compares[0].number, 0);
	assert_true(bytes_equal_cstr(op->txn.compares[0].range.begin, key));
	assert_int_equal(op->txn.nsuccess, 1);
	assert_true(bytes_equal_cstr(op->txn.success[0].put.key, key));
	assert_int_equal(op->txn.success[0].put.lease, lease);
}

static void
lock_without_the_right_leaves_nothing(void **state)
{
	world.refuse_with = ERR_PERMISSION_DENIED;
	send_lock("l", 0);
	assert_int_equal(world.answer.error, ERR_PERMISSION_DENIED);
	assert_int_equal(world.nsubmitted, 0);
}

static void
lock_grants_and_puts(void **state)
{
	LogOp		op;
	int64_t		lease;
	char		key[64];

	send_lock("l", 0);
	op = submitted(LOGOP_LEASE_GRANT);
	lease = op.lease.id;
	assert_int_equal(op.lease.ttl_sec, 60);
	double_complete(&(Completion) {.error = ERR_LEASE_EXIST});
	op = submitted(LOGOP_LEASE_GRANT);
	assert_int_not_equal(op.lease.id, lease);
	lease = op.lease.id;
	double_complete(&(Completion) {.revision = 42});
	snprintf(key, sizeof(key), "l/%" PRIx64, (uint64_t) lease);
	op = submitted(LOGOP_TXN);
	expect_put(&op, key, lease);
	/* refused: there is nothing to take back */
	double_complete(&(Completion) {.error = ERR_LEASE_NOT_FOUND});
	assert_int_equal(world.answer.error, ERR_LEASE_NOT_FOUND);
	assert_int_equal(world.nsubmitted, 3);
}

/* its key has been put, and is gone when it looks; it may come yet */
static void
lock_takes_back_what_it_put(void **state)
{
	LogOp		op;

	send_lock("l", 0x1a);
	op = submitted(LOGOP_TXN);
	expect_put(&op, "l/1a", 0x1a);
	double_complete(&(Completion) {.revision = 43,.count = 1});
	assert_int_equal(world.answer.n, 1);
	assert_string_equal(world.answer.text, "mutex: session is expired");
	assert_int_equal(world.nsubmitted, 2);
	op = submitted(LOGOP_TXN);
	assert_int_equal(op.txn.compares[0].target, COMPARE_CREATE);
	assert_int_equal(op.txn.compares[0].result, COMPARE_GREATER);
	assert_int_equal(op.txn.compares[0].number, TEST_REVISION);
	assert_int_equal(op.txn.success[0].kind, KVOP_DELETE);
	assert_true(bytes_equal_cstr(op.txn.success[0].delete.range.begin, "l/1a"));
	/* whatever comes of it, nobody is told */
	double_complete(&(Completion) {.revision = 44,.count = 1});
	assert_int_equal(world.answer.n, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(grant_keeps_to_the_bounds),
		TEST(grant_chooses_until_one_is_free),
		TEST(grant_asks_for_the_right_first),
		TEST(keep_alive_one_after_the_other),
		TEST(keep_alive_asks_again_when_rights_move),
		TEST(keep_alive_through_the_log),
		TEST(lock_without_the_right_leaves_nothing),
		TEST(lock_grants_and_puts),
		TEST(lock_takes_back_what_it_put),
	};

	dispatch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
