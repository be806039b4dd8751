/*
 * t_dispatch.c
 *	  The life of a request, with doubles for everything around dispatch.
 */
/* needs: dispatch command alarm/alarm lease/clock lease/renewal common proto */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>
#include "etcdserverpb.pb-c.h"
#include "health.pb-c.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"

/* this layer and below */
#include "dispatch/decode.h"
#include "dispatch/lifecycle.h"
#include "dispatch/limits.h"

#include "dispatch_setup.h"

static void
expect_error(ErrCode error)
{
	assert_int_equal(world.answer.n, 1);
	assert_string_equal(err_info(world.answer.error)->symbol,
						err_info(error)->symbol);
	assert_int_equal(world.answer.len, 0);
	assert_int_equal(world.answer.body_len, 0);
}

static void
expect_done(void)
{
	assert_int_equal(world.answer.n, 1);
	assert_string_equal(err_info(world.answer.error)->symbol, "ERR_NONE");
}

/* ---- messages ---- */

static void
send_put(const char *token, const char *key)
{
	Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;

	put.key.data = (uint8_t *) key;
	put.key.len = strlen(key);
	double_send(RPC_KV_PUT, token, &put);
}

static void
send_range(const char *token, const char *key, bool serializable)
{
	Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;

	range.key.data = (uint8_t *) key;
	range.key.len = strlen(key);
	range.serializable = serializable;
	double_send(RPC_KV_RANGE, token, &range);
}

static void
send_login(const char *token)
{
	Etcdserverpb__AuthenticateRequest login =
		ETCDSERVERPB__AUTHENTICATE_REQUEST__INIT;

	login.name = (char *) "alice";
	login.password = (char *) "secret";
	double_send(RPC_AUTH_AUTHENTICATE, token, &login);
}

/* ---- the table ---- */

static void
every_rpc_is_found_by_its_name(void **state)
{
	for (int i = RPC_NONE + 1; i < RPC_COUNT; i++)
	{
		const RpcInfo *rpc = rpc_info(i);

		assert_int_equal(rpc->id, i);
		assert_ptr_equal(rpc_find(bytes_from_cstr(rpc->service),
								  bytes_from_cstr(rpc->method)), rpc);
		assert_true(rpc_service_exists(bytes_from_cstr(rpc->service)));
	}
	assert_null(rpc_info(RPC_NONE));
	assert_null(rpc_info(RPC_COUNT));
	assert_null(rpc_find(BYTES_LITERAL("etcdserverpb.KV"),
						 BYTES_LITERAL("range")));
	assert_null(rpc_find(BYTES_LITERAL("etcdserverpb.K"),
						 BYTES_LITERAL("VRange")));
	assert_null(rpc_find(BYTES_EMPTY, BYTES_EMPTY));
	assert_false(rpc_service_exists(BYTES_LITERAL("etcdserverpb")));
}

static void
rpc_without_handler_is_unimplemented(void **state)
{
	RpcInfo		info = *rpc_info(RPC_KV_PUT);
	Request    *req = double_request(RPC_KV_PUT, NULL);

	info.handler = NULL;
	req->rpc = &info;
	dispatch_request(req, BYTES_LITERAL("\xff\xff"));
	expect_error(ERR_UNIMPLEMENTED);
	assert_int_equal(world.answer.grpc_code, 12);
	assert_string_equal(world.answer.text, "unknown method Put for service "
						"etcdserverpb.KV");
	/* nobody was asked anything */
	assert_int_equal(world.nauthorized, 0);
}

/* ---- states ---- */

static void
put_goes_through_the_states(void **state)
{
	const uint8_t body[] = {0x12, 0x00};

	send_put(NULL, "k");
	assert_int_equal(world.answer.n, 0);
	assert_int_equal(world.req->state, REQ_WAITING);
	assert_int_equal(dispatch_outstanding(), 1);
	assert_int_equal(world.kind, SUBMIT_LOGOP);
	assert_int_equal(world.slot.current_rpc, RPC_KV_PUT);
	double_complete(&(Completion) {.revision = 43,.body = body,.body_len = 2});
	expect_done();
	assert_int_equal(world.slot.current_rpc, RPC_NONE);
	assert_int_equal(world.counters[COUNTER_REQUESTS], 1);
	assert_int_equal(world.counters[COUNTER_REQUESTS_FAILED], 0);
}

static void
answer_is_header_and_body(void **state)
{
	const uint8_t body[] = {0x12, 0x00};
	Etcdserverpb__PutResponse *answer;

	send_put(NULL, "k");
	double_complete(&(Completion) {.revision = 43,.body = body,.body_len = 2});
	answer = etcdserverpb__put_response__unpack(NULL, world.answer.len,
												world.answer.bytes);
	assert_non_null(answer);
	assert_int_equal(answer->header->cluster_id, TEST_CLUSTER_ID);
	assert_int_equal(answer->header->member_id, TEST_MEMBER_ID);
	assert_int_equal(answer->header->revision, 43);
	assert_int_equal(answer->header->raft_term, TEST_TERM);
	assert_non_null(answer->prev_kv);
	etcdserverpb__put_response__free_unpacked(answer, NULL);
}

static void
header_gets_the_current_revision(void **state)
{
	Etcdserverpb__PutResponse *answer;

	send_put(NULL, "k");
	double_complete(&(Completion) {.revision = 0});
	answer = etcdserverpb__put_response__unpack(NULL, world.answer.len,
												world.answer.bytes);
	assert_int_equal(answer->header->revision, TEST_REVISION);
	etcdserverpb__put_response__free_unpacked(answer, NULL);
}

static void
cluster_header_has_no_revision(void **state)
{
	Etcdserverpb__MemberListRequest list =
		ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
	Etcdserverpb__MemberListResponse *answer;
	MemberEntry entry = {.id = 99};
	const CowItem *items[] = {&entry.item};

	world.version.members = (CowTree) {(const void *) items, 1, 1};
	double_send(RPC_CLUSTER_MEMBER_LIST, NULL, &list);
	expect_done();
	answer = etcdserverpb__member_list_response__unpack(NULL, world.answer.len,
														world.answer.bytes);
	assert_int_equal(answer->header->member_id, TEST_MEMBER_ID);
	assert_int_equal(answer->header->revision, 0);
	assert_int_equal(answer->n_members, 1);
	assert_int_equal(answer->members[0]->id, 99);
	assert_string_equal(answer->members[0]->name, "m1");
	assert_int_equal(answer->members[0]->n_peerurls, 2);
	assert_string_equal(answer->members[0]->peerurls[1], "http://b:2");
	assert_int_equal(answer->members[0]->n_clienturls, 1);
	etcdserverpb__member_list_response__free_unpacked(answer, NULL);
	assert_int_equal(world.asked[0].need, NEED_IDENTITY);
}

static void
health_has_no_header_and_asks_nobody(void **state)
{
	const uint8_t serving[] = {0x08, 0x01};
	Grpc__Health__V1__HealthCheckRequest check =
		GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	world.version.auth_enabled = true;
	double_send(RPC_HEALTH_CHECK, "bad", &check);
	expect_done();
	assert_int_equal(world.answer.len, 2);
	assert_memory_equal(world.answer.bytes, serving, 2);
	assert_int_equal(world.nresolved, 0);

	check.service = (char *) "etcdserverpb.KV";
	double_send(RPC_HEALTH_CHECK, NULL, &check);
	expect_error(ERR_HEALTH_UNKNOWN_SERVICE);
	assert_int_equal(world.answer.grpc_code, 5);
	assert_string_equal(world.answer.text, "unknown service");
}

static void
health_list_has_one_service(void **state)
{
	Grpc__Health__V1__HealthListRequest list =
		GRPC__HEALTH__V1__HEALTH_LIST_REQUEST__INIT;
	Grpc__Health__V1__HealthListResponse *answer;

	double_send(RPC_HEALTH_LIST, NULL, &list);
	expect_done();
	answer = grpc__health__v1__health_list_response__unpack(
		NULL, world.answer.len, world.answer.bytes);
	assert_non_null(answer);
	assert_int_equal(answer->n_statuses, 1);
	assert_string_equal(answer->statuses[0]->key, "");
	assert_int_equal(answer->statuses[0]->value->status, 1);
	grpc__health__v1__health_list_response__free_unpacked(answer, NULL);
}

static void
status_tells_what_the_member_knows(void **state)
{
	Etcdserverpb__StatusRequest status = ETCDSERVERPB__STATUS_REQUEST__INIT;
	Etcdserverpb__StatusResponse *answer;

	atomic_store(&world.raft.leader_id, 0);
	atomic_store(&world.raft.commit_index, 12);
	atomic_store(&world.raft.db_size_bytes, 4096);
	world.version.applied_index = 11;
	world.version.live_bytes = 100;
	double_send(RPC_MAINTENANCE_STATUS, NULL, &status);
	expect_done();
	answer = etcdserverpb__status_response__unpack(NULL, world.answer.len,
												   world.answer.bytes);
	assert_string_equal(answer->version, ETCD_API_VERSION);
	assert_int_equal(answer->leader, 0);
	assert_int_equal(answer->raftindex, 12);
	assert_int_equal(answer->raftappliedindex, 11);
	assert_int_equal(answer->raftterm, TEST_TERM);
	assert_int_equal(answer->dbsize, 4096);
	assert_int_equal(answer->dbsizeinuse, 100);
	assert_int_equal(answer->dbsizequota, world.quota);
	assert_int_equal(answer->n_errors, 1);
	assert_string_equal(answer->errors[0], "etcdserver: no leader");
	assert_non_null(answer->downgradeinfo);
	/* the storage version is the release of the version */
	assert_memory_equal(answer->storageversion, ETCD_API_VERSION, 4);
	etcdserverpb__status_response__free_unpacked(answer, NULL);
}

/* ---- permission ---- */

static ReqResult
answers_without_asking(Request *req)
{
	buf_put_u8(&req->body, 1);
	return REQ_DONE;
}

static ReqResult
hashes_without_asking(Request *req)
{
	return request_hash(req, HASH_JOB_MAKE, BYTES_LITERAL("x"), BYTES_EMPTY,
						NULL);
}

static ReqResult
waits_for_nothing(Request *req)
{
	return REQ_PENDING;
}

static ReqResult
fails_without_reason(Request *req)
{
	return REQ_FAILED;
}

static void
run_with_handler(ReqHandler handler)
{
	RpcInfo		rpc = *rpc_info(RPC_KV_RANGE);
	Request    *req = double_request(RPC_KV_RANGE, NULL);

	rpc.handler = handler;
	req->rpc = &rpc;
	elog_set_level(LOG_LEVEL_FATAL);
	dispatch_request(req, BYTES_EMPTY);
	elog_set_level(LOG_LEVEL_INFO);
}

static void
answer_without_permission_is_refused(void **state)
{
	run_with_handler(answers_without_asking);
	expect_error(ERR_INTERNAL);
}

static void
hash_without_permission_is_refused(void **state)
{
	run_with_handler(hashes_without_asking);
	expect_error(ERR_INTERNAL);
	assert_int_equal(world.nhashes, 0);
}

static void
pending_on_nothing_is_answered(void **state)
{
	run_with_handler(waits_for_nothing);
	expect_error(ERR_INTERNAL);
}

static void
failure_without_reason_is_no_success(void **state)
{
	run_with_handler(fails_without_reason);
	expect_error(ERR_INTERNAL);
}

static ReqResult
asks_for_nothing(Request *req)
{
	AccessList	access;
	ErrCode		error;

	access_init(&access, req->mcx);
	error = request_authorize(req, &world.version, &access);
	return error == ERR_NONE ? REQ_DONE : request_fail(req, error);
}

static void
asking_for_nothing_is_refused(void **state)
{
	run_with_handler(asks_for_nothing);
	expect_error(ERR_PERMISSION_DENIED);
}

static void
refusal_costs_no_log_entry(void **state)
{
	world.version.auth_enabled = true;
	send_put("alice", "bob");
	expect_error(ERR_PERMISSION_DENIED);
	assert_string_equal(world.answer.text, "etcdserver: permission denied");
	send_put(NULL, "alice");
	expect_error(ERR_USER_EMPTY);
	send_put("bad", "alice");
	expect_error(ERR_INVALID_AUTH_TOKEN);
	assert_int_equal(world.nsubmitted, 0);
	assert_int_equal(world.counters[COUNTER_DENIED], 3);
	assert_int_equal(world.counters[COUNTER_REQUESTS_FAILED], 3);
}

static void
proposal_carries_the_identity(void **state)
{
	LogOp		op;

	world.version.auth_enabled = true;
	send_put("alice", "alice/1");
	op = double_submitted_op();
	assert_int_equal(op.identity.kind, IDENTITY_TOKEN);
	assert_true(bytes_equal_cstr(op.identity.user, "alice"));
	assert_string_equal(world.user, "alice");
	double_complete(&(Completion) {.revision = 43});
	expect_done();
}

/* ---- before the handler ---- */

static void
not_ready_refuses_everything(void **state)
{
	/* an unloaded store has authentication off */
	atomic_store(&world.raft.is_ready, false);
	send_range(NULL, "k", true);
	expect_error(ERR_NO_LEADER);
	assert_int_equal(world.nranges, 0);
}

static void
learner_serves_little(void **state)
{
	Etcdserverpb__StatusRequest status = ETCDSERVERPB__STATUS_REQUEST__INIT;

	atomic_store(&world.raft.is_learner, true);
	send_range(NULL, "k", false);
	expect_error(ERR_NOT_SUPPORTED_FOR_LEARNER);
	send_range(NULL, "k", true);
	expect_done();
	send_put(NULL, "k");
	expect_error(ERR_NOT_SUPPORTED_FOR_LEARNER);
	double_send(RPC_MAINTENANCE_STATUS, NULL, &status);
	expect_done();
}

static void
client_version_must_be_utf8(void **state)
{
	Request    *req = double_request(RPC_KV_RANGE, NULL);

	req->client_api_version = BYTES_LITERAL("3.\xff");
	dispatch_request(req, BYTES_EMPTY);
	expect_error(ERR_INVALID_CLIENT_API_VERSION);
}

static void
hasleader_without_leader(void **state)
{
	Request    *req = double_request(RPC_KV_RANGE, NULL);

	atomic_store(&world.raft.leader_id, 0);
	req->require_leader = true;
	/* shape comes later: this request has no key */
	dispatch_request(req, BYTES_EMPTY);
	expect_error(ERR_NO_LEADER);
	assert_string_equal(world.answer.text, "etcdserver: no leader");
	assert_int_equal(world.answer.grpc_code, 14);
}

/* ---- decoding ---- */

static void
expect_undecodable(RpcId id, Bytes message)
{
	static const char prefix[] = "grpc: error unmarshalling request: ";

	double_send_bytes(id, NULL, message);
	expect_error(ERR_INTERNAL);
	assert_int_equal(world.answer.grpc_code, 13);
	assert_memory_equal(world.answer.text, prefix, sizeof(prefix) - 1);
	assert_true(strlen(world.answer.text) > sizeof(prefix) - 1);
}

static void
malformed_messages_are_refused(void **state)
{
	/* truncated: length beyond the end, half a varint, half a fixed64 */
	expect_undecodable(RPC_KV_PUT, BYTES_LITERAL("\x0a\x05" "ab"));
	expect_undecodable(RPC_KV_PUT, BYTES_LITERAL("\x18\x80"));
	expect_undecodable(RPC_KV_PUT, BYTES_LITERAL("\x79\x01\x02"));
	/* field number 0, group, tag and length beyond 32 bits */
	expect_undecodable(RPC_KV_PUT, BYTES_LITERAL("\x02\x00"));
	expect_undecodable(RPC_KV_PUT, BYTES_LITERAL("\x0b\x0c"));
	expect_undecodable(RPC_KV_PUT,
					   BYTES_LITERAL("\x8a\x80\x80\x80\x80\x01\x00"));
	expect_undecodable(RPC_KV_PUT,
					   BYTES_LITERAL("\x0a\x81\x80\x80\x80\x80\x01x"));
	/* key as a number */
	expect_undecodable(RPC_KV_PUT, BYTES_LITERAL("\x08\x01"));
}

static void
unknown_fields_are_skipped(void **state)
{
	/* key "k", then field 15 as varint, bytes, fixed32 and fixed64 */
	double_send_bytes(RPC_KV_PUT, NULL,
					  BYTES_LITERAL("\x0a\x01k\x78\x07\x7a\x01\xff"
									"\x7d\x01\x02\x03\x04"
									"\x79\x01\x02\x03\x04\x05\x06\x07\x08"));
	assert_int_equal(world.nsubmitted, 1);
	double_complete(&(Completion) {0});
	expect_done();
}

static void
strings_are_utf8_without_zero(void **state)
{
	/* UserGet, name: field 1 */
	expect_undecodable(RPC_AUTH_USER_GET, BYTES_LITERAL("\x0a\x02" "a\xff"));
	expect_undecodable(RPC_AUTH_USER_GET, BYTES_LITERAL("\x0a\x06root\x00x"));
	/* in a nested message it would be found as well: none of ours has one */
	double_send_bytes(RPC_AUTH_USER_GET, NULL,
					  BYTES_LITERAL("\x0a\x05" "alice"));
	expect_done();
}

static void
utf8_table(void **state)
{
	static const struct
	{
		const char *text;
		bool		is_valid;
	}			cases[] = {
		{"", true}, {"abc", true}, {"\xc3\xa4", true}, {"\xe2\x82\xac", true},
		{"\xf0\x9f\x98\x80", true}, {"\xf4\x8f\xbf\xbf", true},
		{"\xed\x9f\xbf", true}, {"\xee\x80\x80", true},
		{"\x80", false}, {"\xc0\x80", false}, {"\xc1\xbf", false},
		{"\xe0\x9f\xbf", false}, {"\xed\xa0\x80", false},
		{"\xf0\x8f\xbf\xbf", false}, {"\xf4\x90\x80\x80", false},
		{"\xf5\x80\x80\x80", false}, {"\xc3", false}, {"\xe2\x82", false},
		{"\xe2\x82z", false}, {"a\xc3(", false},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
		assert_int_equal(utf8_is_valid(bytes_from_cstr(cases[i].text)),
						 cases[i].is_valid);
}

static void
message_field_twice_is_refused(void **state)
{
	/* UserAdd: name "u", options twice */
	expect_undecodable(RPC_AUTH_USER_ADD,
					   BYTES_LITERAL("\x0a\x01u\x1a\x00\x1a\x00"));
}

/* wrap n times: field 2 (success) { field 4 (request_txn) { ... } } */
static size_t
nest_txn(uint8_t *out, size_t cap, unsigned n, const uint8_t *leaf,
		 size_t leaf_len)
{
	size_t		pos = cap - leaf_len;

	if (leaf_len > 0)
		memcpy(out + pos, leaf, leaf_len);
	for (unsigned i = 0; i < 2 * n; i++)
	{
		size_t		len = cap - pos;
		uint8_t		head[12];
		size_t		used = 0;

		head[used++] = i % 2 == 0 ? 4 << 3 | 2 : 2 << 3 | 2;
		for (; len >= 0x80; len >>= 7)
			head[used++] = (uint8_t) (len | 0x80);
		head[used++] = (uint8_t) len;
		pos -= used;
		memcpy(out + pos, head, used);
	}
	memmove(out, out + pos, cap - pos);
	return cap - pos;
}

static void
deep_nesting_ends_with_an_error(void **state)
{
	const size_t cap = 1536 * 1024;
	uint8_t    *bytes = xmalloc(cap);
	size_t		len;

	/* as deep as a message of the greatest size can be */
	len = nest_txn(bytes, cap, 160000, NULL, 0);
	assert_true(len > 1024 * 1024);
	double_send_bytes(RPC_KV_TXN, NULL, bytes_make(bytes, len));
	expect_error(ERR_TOO_MANY_OPS);
	assert_string_equal(world.answer.text, "etcdserver: too many operations "
						"in txn request");

	/* malformed is more than too deep, if it can be seen */
	bytes[len] = 0xff;
	double_send_bytes(RPC_KV_TXN, NULL, bytes_make(bytes, len + 1));
	expect_error(ERR_INTERNAL);
	free(bytes);
}

/* each costs memory for as long as the request waits */
static void
number_of_fields_is_bounded(void **state)
{
	const uint8_t unknown[] = {0xf8, 0x01, 0x00};	/* field 31, varint 0 */
	const uint8_t key[] = {0x0a, 0x01, 'k'};
	Buf			message;

	buf_init(&message, NULL);
	buf_append(&message, key, sizeof(key));
	for (int i = 0; i < 8000; i++)
		buf_append(&message, unknown, sizeof(unknown));
	double_send_bytes(RPC_KV_PUT, NULL, buf_bytes(&message));
	assert_int_equal(world.nsubmitted, 1);
	double_complete(&(Completion) {0});
	expect_done();

	for (int i = 0; i < 1000; i++)
		buf_append(&message, unknown, sizeof(unknown));
	double_send_bytes(RPC_KV_PUT, NULL, buf_bytes(&message));
	expect_error(ERR_INTERNAL);
	assert_string_equal(world.answer.text, "grpc: error unmarshalling request: "
						"too many fields");
	buf_free(&message);
}

static void
nesting_bound_is_the_logs(void **state)
{
	/* failure { request_put { key "k" } } */
	const uint8_t put[] = {0x1a, 0x05, 0x12, 0x03, 0x0a, 0x01, 'k'};
	uint8_t		bytes[4096];
	size_t		len;

	len = nest_txn(bytes, sizeof(bytes), LOGOP_MAX_TXN_DEPTH - 1, put,
				   sizeof(put));
	double_send_bytes(RPC_KV_TXN, NULL, bytes_make(bytes, len));
	assert_int_equal(world.nsubmitted, 1);
	/* aborts if the decoder of the log would not take it */
	(void) double_submitted_op();
	double_complete(&(Completion) {0});
	expect_done();

	len = nest_txn(bytes, sizeof(bytes), LOGOP_MAX_TXN_DEPTH, put, sizeof(put));
	double_send_bytes(RPC_KV_TXN, NULL, bytes_make(bytes, len));
	expect_error(ERR_TOO_MANY_OPS);
	/* an empty one at the bottom can still be unpacked */
	len = nest_txn(bytes, sizeof(bytes), LOGOP_MAX_TXN_DEPTH, NULL, 0);
	double_send_bytes(RPC_KV_TXN, NULL, bytes_make(bytes, len));
	expect_error(ERR_TOO_MANY_OPS);
	assert_int_equal(world.nsubmitted, 1);
}

static void
many_empty_operations_are_not_unpacked(void **state)
{
	const size_t n = 700000;
	uint8_t    *bytes = xmalloc(2 * n);

	for (size_t i = 0; i < n; i++)
	{
		bytes[2 * i] = 2 << 3 | 2;
		bytes[2 * i + 1] = 0;
	}
	double_send_bytes(RPC_KV_TXN, NULL, bytes_make(bytes, 2 * n));
	expect_error(ERR_TOO_MANY_OPS);
	assert_true(world.answer.request_bytes < 16384);
	free(bytes);
}

/* ---- waiting ---- */

static void
read_waits_for_its_point(void **state)
{
	atomic_store(&world.raft.reads_are_local, false);
	send_range(NULL, "k", false);
	assert_int_equal(world.kind, SUBMIT_READ);
	assert_int_equal(world.req->state, REQ_BARRIER);
	/* nobody has been asked, nothing has been read */
	assert_int_equal(world.nauthorized, 0);
	assert_int_equal(world.nranges, 0);
	double_complete(&(Completion) {0});
	expect_done();
	assert_int_equal(world.nranges, 1);

	/* the client asked for less */
	send_range(NULL, "k", true);
	expect_done();
	assert_int_equal(world.nsubmitted, 1);
}

static void
right_is_judged_after_the_point(void **state)
{
	atomic_store(&world.raft.reads_are_local, false);
	send_range(NULL, "k", false);
	/* authentication is switched on in the meantime */
	world.version.auth_enabled = true;
	double_complete(&(Completion) {0});
	expect_error(ERR_USER_EMPTY);
	assert_int_equal(world.nranges, 0);
}

static void
failed_barrier_fails_the_read(void **state)
{
	atomic_store(&world.raft.reads_are_local, false);
	send_range(NULL, "k", false);
	double_complete(&(Completion) {.error = ERR_LEADER_CHANGED});
	expect_error(ERR_LEADER_CHANGED);
	assert_int_equal(world.nranges, 0);
}

static void
failed_proposal_fails_the_write(void **state)
{
	send_put(NULL, "k");
	double_complete(&(Completion) {.error = ERR_LEASE_NOT_FOUND});
	expect_error(ERR_LEASE_NOT_FOUND);
}

static void
failed_range_leaves_no_half_answer(void **state)
{
	world.range_error = ERR_COMPACTED;
	send_range(NULL, "k", false);
	expect_error(ERR_COMPACTED);
}

/* what was submitted last */
static void
expect_put_of(const char *key)
{
	assert_non_null(memmem(world.payload, world.payload_len, key, strlen(key)));
}

static void
full_ring_is_waited_for(void **state)
{
	world.ring_is_full = true;
	send_put(NULL, "first");
	atomic_store(&world.raft.reads_are_local, false);
	send_range(NULL, "k", false);
	assert_int_equal(world.answer.n, 0);
	assert_int_equal(world.nsubmitted, 0);
	/* an answer to somebody else: still no room */
	double_complete(&(Completion) {.request_id = 123456});
	assert_int_equal(world.nsubmitted, 0);

	/* room for one; what comes now does not overtake */
	world.room = 1;
	world.ring_is_full = false;
	send_put(NULL, "third");
	assert_int_equal(world.nsubmitted, 0);
	double_complete(&(Completion) {.request_id = 123456});
	assert_int_equal(world.nsubmitted, 1);
	assert_int_equal(world.kind, SUBMIT_LOGOP);
	expect_put_of("first");

	world.ring_is_full = false;
	double_complete(&(Completion) {.revision = 43});
	assert_int_equal(world.answer.n, 1);
	assert_int_equal(world.nsubmitted, 3);
	expect_put_of("third");
	double_complete(&(Completion) {.revision = 44});
	assert_int_equal(world.answer.n, 2);
	double_complete(&(Completion) {.request_id = world.id - 1});
	assert_int_equal(world.answer.n, 3);
	assert_int_equal(dispatch_outstanding(), 0);
}

static void
gone_while_waiting_for_room(void **state)
{
	world.ring_is_full = true;
	send_put(NULL, "cancelled");
	dispatch_cancel(world.req);
	send_put(NULL, "late");
	dispatch_expire(INT64_MAX);
	expect_error(ERR_TIMEOUT);
	send_put(NULL, "k");
	world.ring_is_full = false;
	double_complete(&(Completion) {.request_id = 123456});
	assert_int_equal(world.nsubmitted, 1);
	expect_put_of("k");
	double_complete(&(Completion) {.revision = 43});
	assert_int_equal(world.answer.n, 1);
}

static void
congestion_stops_the_input(void **state)
{
	char		key[50000];

	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	world.ring_is_full = true;
	for (int i = 0; i < 20; i++)
		send_put(NULL, key);
	assert_false(dispatch_is_congested());
	send_put(NULL, key);
	assert_true(dispatch_is_congested());
	/* nobody waits any more, and nothing is kept for them */
	dispatch_expire(INT64_MAX);
	assert_int_equal(world.answer.n, 21);
	assert_false(dispatch_is_congested());
	assert_int_equal(world.nsubmitted, 0);
}

static void
unknown_completion_is_dropped(void **state)
{
	double_complete(&(Completion) {.request_id = 123456});
	assert_int_equal(world.answer.n, 0);
	assert_false(world.has_done);
}

static void
cancel_while_in_the_ring(void **state)
{
	uint64_t	id;

	send_put(NULL, "k");
	id = world.id;
	dispatch_cancel(world.req);
	assert_int_equal(dispatch_outstanding(), 0);
	assert_int_equal(world.slot.current_rpc, RPC_NONE);
	/* the entry is applied all the same; nobody is told */
	double_complete(&(Completion) {.request_id = id,.revision = 43});
	assert_int_equal(world.answer.n, 0);
}

static void
cancel_while_hashing(void **state)
{
	world.version.auth_enabled = true;
	send_login(NULL);
	assert_int_equal(world.nhashes, 1);
	dispatch_cancel(world.req);
	assert_int_equal(dispatch_outstanding(), 0);
	/* the job comes back to nobody, and does not go on into the log */
	double_hash_done(true);
	assert_int_equal(world.answer.n, 0);
	assert_int_equal(world.nsubmitted, 0);
}

static void
cancel_before_dispatch(void **state)
{
	dispatch_cancel(double_request(RPC_KV_PUT, NULL));
	assert_int_equal(world.answer.n, 0);
}

static void
request_times_out(void **state)
{
	int64_t		now = clock_coarse_ms();
	int64_t		timeout = 5000 + 2 * guc_election_timeout;
	uint64_t	id;

	assert_int_equal(dispatch_next_expiry_ms(), -1);
	send_put(NULL, "k");
	id = world.id;
	assert_in_range(dispatch_next_expiry_ms(), now + timeout,
					now + timeout + 1000);
	dispatch_expire(now + timeout - 1);
	assert_int_equal(world.answer.n, 0);
	dispatch_expire(now + timeout + 1000);
	expect_error(ERR_TIMEOUT);
	assert_string_equal(world.answer.text, "etcdserver: request timed out");
	assert_int_equal(dispatch_next_expiry_ms(), -1);
	/* late */
	double_complete(&(Completion) {.request_id = id});
	assert_int_equal(world.answer.n, 1);
}

static void
clients_deadline_comes_first(void **state)
{
	Request    *req = double_request(RPC_KV_PUT, NULL);
	int64_t		now = clock_coarse_ms();

	req->deadline_ms = now + 50;
	dispatch_request(req, BYTES_LITERAL("\x0a\x01k"));
	assert_int_equal(dispatch_next_expiry_ms(), now + 50);
	dispatch_expire(now + 50);
	expect_error(ERR_DEADLINE_EXCEEDED);
	assert_string_equal(world.answer.text, "context deadline exceeded");
}

static void
hashing_times_out_too(void **state)
{
	world.version.auth_enabled = true;
	send_login(NULL);
	/* longer than the log: others may be in front of it */
	dispatch_expire(clock_coarse_ms() + 59000);
	assert_int_equal(world.answer.n, 0);
	dispatch_expire(clock_coarse_ms() + 61000);
	expect_error(ERR_TIMEOUT);
	double_hash_done(true);
	assert_int_equal(world.answer.n, 1);
	assert_int_equal(world.nsubmitted, 0);
}

static void
many_are_outstanding(void **state)
{
	enum
	{
		N = 1500
	};
	uint64_t	ids[N];
	int64_t		now = clock_coarse_ms();

	for (int i = 0; i < N; i++)
	{
		Request    *req = double_request(RPC_KV_PUT, NULL);

		/* every third has a deadline of its own */
		if (i % 3 == 0)
			req->deadline_ms = now + 100;
		dispatch_request(req, BYTES_LITERAL("\x0a\x01k"));
		ids[i] = world.id;
	}
	assert_int_equal(dispatch_outstanding(), N);
	world.answer.n = 0;
	dispatch_expire(now + 100);
	assert_int_equal(world.answer.n, N / 3);
	assert_true(dispatch_next_expiry_ms() > now + 100);
	/* the others are answered in another order; those expired are unknown */
	for (int i = N - 1; i >= 0; i--)
		double_complete(&(Completion) {.request_id = ids[i]});
	assert_int_equal(world.answer.n, N);
}

/* a door that closes the connection when it is told of the first answer */
static Request *neighbours[8];

static void
finished_and_close(Request *req)
{
	world.answer.n++;
	for (size_t i = 0; i < lengthof(neighbours); i++)
	{
		if (neighbours[i] == NULL)
			continue;
		if (neighbours[i] != req)
			dispatch_cancel(neighbours[i]);
		neighbours[i] = NULL;
	}
	request_destroy(req);
}

static void
door_may_cancel_others_when_told(void **state)
{
	static const RequestOps closing = {.finished = finished_and_close};

	for (size_t i = 0; i < lengthof(neighbours); i++)
	{
		neighbours[i] = double_request(RPC_KV_PUT, NULL);
		neighbours[i]->ops = &closing;
		dispatch_request(neighbours[i], BYTES_LITERAL("\x0a\x01k"));
	}
	dispatch_expire(INT64_MAX);
	assert_int_equal(world.answer.n, 1);
}

/* ---- limits ---- */

static void
quota_refuses_what_adds(void **state)
{
	Etcdserverpb__DeleteRangeRequest del =
		ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
	LogOp		op;

	world.quota = 1000;
	world.version.live_bytes = 1000 - 256 - 1;
	send_put(NULL, "k");
	double_complete(&(Completion) {0});
	expect_done();
	world.version.live_bytes++;
	send_put(NULL, "k");
	/* the answer waits for the alarm, and is the same whatever became of it */
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_QUOTA_REACHED);
	assert_true(op.alarm.member_id == TEST_MEMBER_ID);
	assert_int_equal(world.answer.n, 0);
	double_complete(&(Completion) {.error = ERR_TIMEOUT});
	expect_error(ERR_NO_SPACE);
	assert_string_equal(world.answer.text,
						"etcdserver: mvcc: database space exceeded");
	world.version.live_bytes = 5000;
	world.ring_is_full = true;
	send_put(NULL, "k");
	assert_int_equal(world.answer.n, 0);
	dispatch_expire(INT64_MAX);
	expect_error(ERR_TIMEOUT);
	world.ring_is_full = false;

	del.key.data = (uint8_t *) "k";
	del.key.len = 1;
	double_send(RPC_KV_DELETE_RANGE, NULL, &del);
	double_complete(&(Completion) {0});
	expect_done();

	/* who may not write learns nothing of it */
	world.version.auth_enabled = true;
	send_put("alice", "bob");
	expect_error(ERR_PERMISSION_DENIED);
}

static void
cost_is_that_of_the_dearer_branch(void **state)
{
	KvOp		puts[] = {
		{.kind = KVOP_PUT,.put = {.key = BYTES_LITERAL("k"),
			.value = BYTES_LITERAL("vv")}},
		{.kind = KVOP_DELETE},
		{.kind = KVOP_PUT,.put = {.key = BYTES_LITERAL("l")}},
	};
	KvOp		nested = {.kind = KVOP_TXN,.txn = {.nsuccess = 3,
			.success = puts}};
	LogOp		txn = {.kind = LOGOP_TXN,.txn = {.nsuccess = 1,
			.success = puts,.nfailure = 1,.failure = &nested}};

	assert_int_equal(logop_cost(&txn), 2 * 256 + 4);
	txn.txn.failure = &puts[1];
	assert_int_equal(logop_cost(&txn), 256 + 3);
	txn.kind = LOGOP_USER_ADD;
	assert_int_equal(logop_cost(&txn), 0);
}

static void
size_of_the_entry_is_limited(void **state)
{
	Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
	uint8_t		value[2000] = {0};

	guc_max_request_bytes = 2000;
	put.key.data = (uint8_t *) "k";
	put.key.len = 1;
	put.value.data = value;
	put.value.len = 1900;
	double_send(RPC_KV_PUT, NULL, &put);
	double_complete(&(Completion) {0});
	expect_done();
	put.value.len = 2000;
	double_send(RPC_KV_PUT, NULL, &put);
	expect_error(ERR_REQUEST_TOO_LARGE);
	assert_string_equal(world.answer.text, "etcdserver: request is too large");
	assert_int_equal(world.nsubmitted, 1);
}

/* ---- streams ---- */

static struct
{
	int			opened;
	int			messages;
	int64_t		watch_id;
	int			half_closes;
	int			writables;
	ErrCode		told;
	ErrCode		authorized;
	void	   *scratch;
} seen;

static RpcInfo stream_rpc;

static ReqResult
stream_told(Request *req, const Completion *done)
{
	seen.told = done->error;
	return REQ_PENDING;
}

/* what a message does is said by its watch id */
static ReqResult
stream_message(Request *req, const void *message)
{
	const Etcdserverpb__WatchRequest *watch = message;
	LogOp		op = {.kind = LOGOP_PUT,.put = {.key = BYTES_LITERAL("k")}};
	AccessList	access;
	Buf			fields;

	seen.messages++;
	seen.scratch = mcx_alloc(request_scratch(req), 100000);
	if (watch->request_union_case !=
		ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST)
		return REQ_PENDING;
	seen.watch_id = watch->cancel_request->watch_id;
	switch (seen.watch_id)
	{
		case 1:
			buf_init(&fields, request_scratch(req));
			pbwire_put_int(&fields, 2, 77);
			request_send(req, &fields);
			assert_int_equal(fields.len, 0);
			return REQ_PENDING;
		case 2:
			return request_propose(req, &op, stream_told);
		case 3:
			return request_end(req);
		case 4:
			return request_fail(req, ERR_PERMISSION_DENIED);
		case 5:
			request_identify_again(req);
			access_init(&access, request_scratch(req));
			access_add(&access, NEED_IDENTITY);
			seen.authorized = request_authorize(req, &world.version, &access);
			return REQ_PENDING;
		case 6:
			return request_park(req);
		default:
			return REQ_PENDING;
	}
}

static ReqResult
stream_writable(Request *req)
{
	seen.writables++;
	return REQ_PENDING;
}

static ReqResult
stream_opened(Request *req)
{
	seen.opened++;
	request_permit_stream(req);
	req->on_message = stream_message;
	req->on_writable = stream_writable;
	return REQ_PENDING;
}

static Request *
stream_make(const char *token, ReqHandler handler)
{
	Request    *req = double_request(RPC_WATCH_WATCH, token);

	memset(&seen, 0, sizeof(seen));
	stream_rpc = *rpc_info(RPC_WATCH_WATCH);
	stream_rpc.handler = handler;
	req->rpc = &stream_rpc;
	return req;
}

static Request *
stream_new(const char *token)
{
	Request    *req = stream_make(token, stream_opened);

	dispatch_open(req);
	return req;
}

static void
stream_say(Request *req, int64_t watch_id)
{
	Etcdserverpb__WatchRequest watch = ETCDSERVERPB__WATCH_REQUEST__INIT;
	Etcdserverpb__WatchCancelRequest cancel =
		ETCDSERVERPB__WATCH_CANCEL_REQUEST__INIT;
	uint8_t		bytes[64];

	cancel.watch_id = watch_id;
	watch.request_union_case =
		ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST;
	watch.cancel_request = &cancel;
	dispatch_message(req, bytes_make(bytes, protobuf_c_message_pack(&watch.base,
																	bytes)));
}

static void
stream_takes_messages_and_sends(void **state)
{
	Request    *req = stream_new(NULL);
	Etcdserverpb__WatchResponse *answer;

	assert_int_equal(seen.opened, 1);
	assert_int_equal(world.answer.n, 0);
	assert_true(dispatch_takes_messages(req));
	for (int i = 0; i < 50; i++)
		stream_say(req, 1);
	assert_int_equal(seen.messages, 50);
	assert_int_equal(world.nmessages, 50);
	answer = etcdserverpb__watch_response__unpack(NULL, world.sent_len,
												  world.sent);
	assert_non_null(answer);
	assert_int_equal(answer->watch_id, 77);
	assert_int_equal(answer->header->revision, TEST_REVISION);
	assert_int_equal(answer->header->member_id, TEST_MEMBER_ID);
	etcdserverpb__watch_response__free_unpacked(answer, NULL);
	req->header_revision = HEADER_REVISION_ZERO;
	stream_say(req, 1);
	answer = etcdserverpb__watch_response__unpack(NULL, world.sent_len,
												  world.sent);
	assert_int_equal(answer->header->revision, 0);
	etcdserverpb__watch_response__free_unpacked(answer, NULL);
	/* 51 messages with 100 kB of scratch each have left nothing behind */
	assert_true(mcx_total_bytes(req->mcx) < 400000);
	dispatch_half_close(req);
	expect_done();
	assert_int_equal(world.answer.len, 0);
}

static void
stream_ends_when_told(void **state)
{
	stream_say(stream_new(NULL), 3);
	expect_done();
	stream_say(stream_new(NULL), 4);
	expect_error(ERR_PERMISSION_DENIED);
	dispatch_message(stream_new(NULL), BYTES_LITERAL("\xff"));
	expect_error(ERR_INTERNAL);
	dispatch_cancel(stream_new(NULL));
	assert_int_equal(world.answer.n, 0);
}

static ReqResult
stream_unpermitted(Request *req)
{
	req->on_message = stream_message;
	return REQ_PENDING;
}

static void
stream_without_permission_says_nothing(void **state)
{
	Request    *req = stream_make(NULL, stream_unpermitted);

	dispatch_open(req);
	stream_say(req, 1);
	expect_error(ERR_INTERNAL);
	assert_int_equal(world.nmessages, 0);
	req = stream_make(NULL, stream_unpermitted);
	dispatch_open(req);
	stream_say(req, 6);
	expect_error(ERR_INTERNAL);
	/* nor may it end well */
	req = stream_make(NULL, stream_unpermitted);
	dispatch_open(req);
	dispatch_half_close(req);
	expect_error(ERR_INTERNAL);
}

/* what waits for the log gets no message; its timeout ends no stream */
static void
stream_waits_for_the_log(void **state)
{
	Request    *req = stream_new(NULL);

	stream_say(req, 2);
	assert_int_equal(dispatch_outstanding(), 1);
	assert_false(dispatch_takes_messages(req));
	double_complete(&(Completion) {.revision = 43,.error = ERR_NO_SPACE});
	assert_int_equal(seen.told, ERR_NO_SPACE);
	assert_int_equal(world.nready, 1);
	assert_int_equal(world.answer.n, 0);

	stream_say(req, 2);
	dispatch_expire(INT64_MAX);
	assert_int_equal(seen.told, ERR_TIMEOUT);
	assert_int_equal(world.answer.n, 0);
	/* nobody waits at the door: nobody is told */
	assert_int_equal(world.nready, 1);
	assert_int_equal(dispatch_next_expiry_ms(), -1);
	dispatch_half_close(req);
	expect_done();
}

static void
stream_with_a_backlog_takes_nothing(void **state)
{
	Request    *req = stream_new(NULL);

	world.backlog = REQUEST_BACKLOG_BYTES;
	assert_false(request_may_send(req));
	assert_false(dispatch_takes_messages(req));
	world.backlog = REQUEST_BACKLOG_BYTES / 2 - 1;
	dispatch_writable(req);
	assert_int_equal(seen.writables, 1);
	assert_true(dispatch_takes_messages(req));
	dispatch_cancel(req);
}

static void
stream_asks_again_who_it_is(void **state)
{
	Request    *req;

	world.version.auth_enabled = true;
	req = stream_new("alice");
	for (int i = 0; i < 100; i++)
		stream_say(req, 5);
	assert_int_equal(seen.authorized, ERR_NONE);
	assert_int_equal(world.nresolved, 100);
	assert_true(req->has_right);
	assert_true(mcx_total_bytes(req->mcx) < 400000);
	/* the token is void from now on */
	req->credentials.token = BYTES_LITERAL("bad");
	stream_say(req, 5);
	assert_int_equal(seen.authorized, ERR_INVALID_AUTH_TOKEN);
	/* that is the handler's business, the stream goes on */
	assert_int_equal(world.answer.n, 0);
	dispatch_cancel(req);
}

static void
stream_without_leader_is_ended(void **state)
{
	Request    *req = stream_make(NULL, stream_opened);
	int64_t		now_ms = clock_coarse_ms();

	req->require_leader = true;
	dispatch_open(req);
	assert_in_range(dispatch_next_expiry_ms(), now_ms,
					now_ms + 2 * guc_election_timeout);
	now_ms += 2 * guc_election_timeout;
	dispatch_expire(now_ms);
	atomic_store(&world.raft.leader_id, 0);
	for (int i = 0; i < 3; i++)
		dispatch_expire(now_ms += guc_election_timeout);
	/* it came back in time */
	atomic_store(&world.raft.leader_id, TEST_MEMBER_ID);
	dispatch_expire(now_ms += guc_election_timeout);
	atomic_store(&world.raft.leader_id, 0);
	for (int i = 0; i < 3; i++)
		dispatch_expire(now_ms += guc_election_timeout);
	assert_int_equal(world.answer.n, 0);
	dispatch_expire(now_ms += guc_election_timeout);
	expect_error(ERR_NO_LEADER);
	assert_int_equal(dispatch_next_expiry_ms(), -1);
	/* who has not asked for one is left alone */
	req = stream_new(NULL);
	dispatch_expire(INT64_MAX);
	assert_int_equal(world.answer.n, 0);
	dispatch_cancel(req);
}

static void
parked_stream_waits_and_goes_on(void **state)
{
	Request    *req = stream_new(NULL);

	stream_say(req, 6);
	assert_false(dispatch_takes_messages(req));
	dispatch_expire(INT64_MAX);
	assert_int_equal(world.answer.n, 0);
	request_resume(req, REQ_PENDING);
	assert_int_equal(world.nready, 1);
	assert_true(dispatch_takes_messages(req));
	request_resume(req, request_fail(req, ERR_WATCH_CANCELED));
	expect_error(ERR_WATCH_CANCELED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_rpc_is_found_by_its_name),
		TEST(rpc_without_handler_is_unimplemented),
		TEST(put_goes_through_the_states),
		TEST(answer_is_header_and_body),
		TEST(header_gets_the_current_revision),
		TEST(cluster_header_has_no_revision),
		TEST(health_has_no_header_and_asks_nobody),
		TEST(health_list_has_one_service),
		TEST(status_tells_what_the_member_knows),
		TEST(answer_without_permission_is_refused),
		TEST(hash_without_permission_is_refused),
		TEST(pending_on_nothing_is_answered),
		TEST(failure_without_reason_is_no_success),
		TEST(asking_for_nothing_is_refused),
		TEST(refusal_costs_no_log_entry),
		TEST(proposal_carries_the_identity),
		TEST(not_ready_refuses_everything),
		TEST(learner_serves_little),
		TEST(client_version_must_be_utf8),
		TEST(hasleader_without_leader),
		TEST(malformed_messages_are_refused),
		TEST(unknown_fields_are_skipped),
		TEST(strings_are_utf8_without_zero),
		TEST(utf8_table),
		TEST(message_field_twice_is_refused),
		TEST(deep_nesting_ends_with_an_error),
		TEST(number_of_fields_is_bounded),
		TEST(nesting_bound_is_the_logs),
		TEST(many_empty_operations_are_not_unpacked),
		TEST(read_waits_for_its_point),
		TEST(right_is_judged_after_the_point),
		TEST(failed_barrier_fails_the_read),
		TEST(failed_proposal_fails_the_write),
		TEST(failed_range_leaves_no_half_answer),
		TEST(full_ring_is_waited_for),
		TEST(gone_while_waiting_for_room),
		TEST(congestion_stops_the_input),
		TEST(unknown_completion_is_dropped),
		TEST(cancel_while_in_the_ring),
		TEST(cancel_while_hashing),
		TEST(cancel_before_dispatch),
		TEST(request_times_out),
		TEST(clients_deadline_comes_first),
		TEST(hashing_times_out_too),
		TEST(many_are_outstanding),
		TEST(door_may_cancel_others_when_told),
		TEST(quota_refuses_what_adds),
		TEST(cost_is_that_of_the_dearer_branch),
		TEST(size_of_the_entry_is_limited),
		TEST(stream_takes_messages_and_sends),
		TEST(stream_ends_when_told),
		TEST(stream_without_permission_says_nothing),
		TEST(stream_waits_for_the_log),
		TEST(stream_with_a_backlog_takes_nothing),
		TEST(stream_asks_again_who_it_is),
		TEST(stream_without_leader_is_ended),
		TEST(parked_stream_waits_and_goes_on),
	};

	dispatch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
