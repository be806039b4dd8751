/*
 * t_command_auth.c
 *	  Auth RPCs: the right before the work, the road of a login, and what
 *	  becomes of passwords.
 */
/* needs: dispatch command alarm/alarm lease/clock lease/renewal common proto */
#include "server.h"

/* system */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "utils/elog.h"

#include "dispatch_setup.h"

#define PASSWORD "correct horse"

static int
setup_with_auth_on(void **state)
{
	setup(state);
	world.version.auth_enabled = true;
	return 0;
}

static void
expect(int grpc_code, const char *text)
{
	assert_int_equal(world.answer.n, 1);
	assert_string_equal(world.answer.text, text);
	assert_int_equal(world.answer.grpc_code, grpc_code);
}

static void
expect_done(void)
{
	assert_int_equal(world.answer.n, 1);
	assert_string_equal(world.answer.text, "");
}

#define USER_EMPTY 3, "etcdserver: user name is empty"
#define DENIED 7, "etcdserver: permission denied"
#define BAD_TOKEN 16, "etcdserver: invalid auth token"
#define AUTH_FAILED \
	3, "etcdserver: authentication failed, invalid user ID or password"

/* ---- messages ---- */

static void
send_user_add(const char *token, const char *name, const char *password,
			  bool no_password)
{
	Etcdserverpb__AuthUserAddRequest add =
		ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT;
	Authpb__UserAddOptions options = AUTHPB__USER_ADD_OPTIONS__INIT;

	add.name = (char *) name;
	add.password = (char *) password;
	add.hashedpassword = (char *) "brought along";
	add.options = &options;
	options.no_password = no_password;
	double_send(RPC_AUTH_USER_ADD, token, &add);
}

static void
send_change(const char *token, const char *password, const char *hashed)
{
	Etcdserverpb__AuthUserChangePasswordRequest change =
		ETCDSERVERPB__AUTH_USER_CHANGE_PASSWORD_REQUEST__INIT;

	change.name = (char *) "alice";
	change.password = (char *) password;
	change.hashedpassword = (char *) hashed;
	double_send(RPC_AUTH_USER_CHANGE_PASSWORD, token, &change);
}

static void
send_login(const char *token, const char *name, const char *password)
{
	Etcdserverpb__AuthenticateRequest login =
		ETCDSERVERPB__AUTHENTICATE_REQUEST__INIT;

	login.name = (char *) name;
	login.password = (char *) password;
	double_send(RPC_AUTH_AUTHENTICATE, token, &login);
}

static const char *
long_text(size_t len)
{
	char	   *text = mcx_alloc(world.mcx, len + 1);

	memset(text, 'x', len);
	text[len] = '\0';
	return text;
}

/* ---- the right first ---- */

static void
management_needs_admin(void **state)
{
	static const RpcId rpcs[] = {
		RPC_AUTH_AUTH_ENABLE, RPC_AUTH_AUTH_DISABLE, RPC_AUTH_USER_ADD,
		RPC_AUTH_USER_DELETE, RPC_AUTH_USER_CHANGE_PASSWORD,
		RPC_AUTH_USER_GRANT_ROLE, RPC_AUTH_USER_REVOKE_ROLE,
		RPC_AUTH_USER_GET, RPC_AUTH_USER_LIST, RPC_AUTH_ROLE_ADD,
		RPC_AUTH_ROLE_GET, RPC_AUTH_ROLE_LIST, RPC_AUTH_ROLE_DELETE,
		RPC_AUTH_ROLE_GRANT_PERMISSION, RPC_AUTH_ROLE_REVOKE_PERMISSION,
	};

	/* an empty message: each has some mistake, which must not show */
	for (size_t i = 0; i < lengthof(rpcs); i++)
	{
		double_send_bytes(rpcs[i], "mallory", BYTES_EMPTY);
		expect(DENIED);
		double_send_bytes(rpcs[i], NULL, BYTES_EMPTY);
		expect(USER_EMPTY);
		double_send_bytes(rpcs[i], "bad", BYTES_EMPTY);
		expect(BAD_TOKEN);
	}
	assert_int_equal(world.nsubmitted, 0);
	assert_int_equal(world.nhashes, 0);
	assert_int_equal(world.counters[COUNTER_DENIED], 3 * lengthof(rpcs));
}

static void
password_is_not_hashed_for_anybody(void **state)
{
	const char *tokens[] = {NULL, "bad", "alice"};

	for (size_t i = 0; i < lengthof(tokens); i++)
	{
		send_user_add(tokens[i], "bob", PASSWORD, false);
		assert_int_equal(world.answer.n, 1);
		assert_int_not_equal(world.answer.grpc_code, 0);
		/* not one's own either */
		send_change(tokens[i], PASSWORD, "");
		assert_int_equal(world.answer.n, 1);
		assert_int_not_equal(world.answer.grpc_code, 0);
	}
	assert_int_equal(world.nhashes, 0);
	assert_int_equal(world.nsubmitted, 0);
}

static void
anybody_manages_while_auth_is_off(void **state)
{
	world.version.auth_enabled = false;
	send_user_add("bad", "root", PASSWORD, false);
	assert_int_equal(world.nhashes, 1);
	double_hash_done(false);
	assert_int_equal(world.nsubmitted, 1);
	double_complete(&(Completion) {.revision = 43});
	expect_done();
}

/* ---- users ---- */

static void
user_add_hashes_then_proposes(void **state)
{
	LogOp		op;

	send_user_add("root", "bob", PASSWORD, false);
	assert_int_equal(world.nhashes, 1);
	assert_int_equal(world.job->kind, HASH_JOB_MAKE);
	assert_string_equal(world.password, PASSWORD);
	assert_int_equal(world.job->cost.memory_kib, guc_argon2_memory);
	assert_int_equal(world.job->cost.iterations, guc_argon2_iterations);
	assert_int_equal(world.nsubmitted, 0);
	double_hash_done(false);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_USER_ADD);
	assert_true(bytes_equal_cstr(op.user.name, "bob"));
	/* ours, not what the client sent as hashedPassword */
	assert_true(bytes_equal_cstr(op.user.phc, TEST_PHC));
	assert_false(op.user.no_password);
	assert_true(bytes_equal_cstr(op.identity.user, "root"));
	/* no password on its way to the log */
	assert_null(memmem(world.payload, world.payload_len, PASSWORD,
					   strlen(PASSWORD)));
	double_complete(&(Completion) {.error = ERR_USER_ALREADY_EXIST});
	expect(9, "etcdserver: user name already exists");
}

static void
user_add_without_password(void **state)
{
	LogOp		op;

	send_user_add("root", "bob", PASSWORD, true);
	assert_int_equal(world.nhashes, 0);
	op = double_submitted_op();
	assert_true(op.user.no_password);
	assert_int_equal(op.user.phc.len, 0);
	double_complete(&(Completion) {0});
	expect_done();

	/* an empty password is hashed like any other */
	send_user_add("root", "bob", "", false);
	assert_int_equal(world.nhashes, 1);
	double_hash_done(false);
	double_complete(&(Completion) {0});
	expect_done();
}

static void
user_add_checks(void **state)
{
	send_user_add("root", "", PASSWORD, false);
	expect(USER_EMPTY);
	send_user_add("root", long_text(AUTH_MAX_NAME_BYTES + 1), "x", false);
	expect(3, "claviger: the name is longer than 1024 bytes");
	send_user_add("root", "bob", long_text(AUTH_MAX_PASSWORD_BYTES + 1), false);
	expect(3, "claviger: the password is longer than 1024 bytes");
	assert_int_equal(world.nhashes, 0);
	send_user_add("root", long_text(AUTH_MAX_NAME_BYTES),
				  long_text(AUTH_MAX_PASSWORD_BYTES), false);
	assert_int_equal(world.nhashes, 1);
	double_hash_done(false);
	double_complete(&(Completion) {0});
	expect_done();
}

static void
right_is_asked_again_after_hashing(void **state)
{
	send_user_add("root", "bob", PASSWORD, false);
	/* root loses his role while the hash is computed */
	world.refuse_with = ERR_PERMISSION_DENIED;
	double_hash_done(false);
	expect(DENIED);
	assert_int_equal(world.nsubmitted, 0);
}

static void
failed_hash_is_told(void **state)
{
	send_user_add("root", "bob", PASSWORD, false);
	world.hash_error = ERR_TOO_MANY_LOGINS;
	double_hash_done(false);
	expect(8, "claviger: too many logins are waiting to be checked");
	assert_int_equal(world.nsubmitted, 0);
}

static void
change_password(void **state)
{
	LogOp		op;

	send_change("root", PASSWORD, "ignored beside a password");
	assert_int_equal(world.nhashes, 1);
	double_hash_done(false);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_USER_CHANGE_PASSWORD);
	assert_true(bytes_equal_cstr(op.user.name, "alice"));
	assert_true(bytes_equal_cstr(op.user.phc, TEST_PHC));
	double_complete(&(Completion) {0});
	expect_done();

	/* a hash brought along, if it is one of ours */
	send_change("root", "", TEST_PHC);
	assert_int_equal(world.nhashes, 1);
	op = double_submitted_op();
	assert_true(bytes_equal_cstr(op.user.phc, TEST_PHC));
	double_complete(&(Completion) {0});
	expect_done();
	send_change("root", "", "JDJhJDEwJA==");
	expect(2, "claviger: the hashed password is not an argon2id string");
	send_change("root", "", long_text(PASSWORD_PHC_BYTES));
	expect(2, "claviger: the hashed password is not an argon2id string");
	send_change("root", long_text(AUTH_MAX_PASSWORD_BYTES + 1), "");
	expect(3, "claviger: the password is longer than 1024 bytes");
	/* a hash is not judged for who may not bring one */
	send_change("mallory", "", "JDJhJDEwJA==");
	expect(DENIED);

	/* neither: nobody can log in any more */
	send_change("root", "", "");
	op = double_submitted_op();
	assert_int_equal(op.user.phc.len, 0);
	double_complete(&(Completion) {0});
	expect_done();
}

static void
users_and_roles_become_operations(void **state)
{
	Etcdserverpb__AuthUserGrantRoleRequest grant =
		ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT;
	Etcdserverpb__AuthUserRevokeRoleRequest revoke =
		ETCDSERVERPB__AUTH_USER_REVOKE_ROLE_REQUEST__INIT;
	Etcdserverpb__AuthUserDeleteRequest delete =
		ETCDSERVERPB__AUTH_USER_DELETE_REQUEST__INIT;
	Etcdserverpb__AuthRoleDeleteRequest role_delete =
		ETCDSERVERPB__AUTH_ROLE_DELETE_REQUEST__INIT;
	LogOp		op;

	grant.user = (char *) "u";
	grant.role = (char *) "r";
	double_send(RPC_AUTH_USER_GRANT_ROLE, "root", &grant);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_USER_GRANT_ROLE);
	assert_true(bytes_equal_cstr(op.grant.user, "u"));
	assert_true(bytes_equal_cstr(op.grant.role, "r"));
	double_complete(&(Completion) {0});

	revoke.name = (char *) "u";
	revoke.role = (char *) "r";
	double_send(RPC_AUTH_USER_REVOKE_ROLE, "root", &revoke);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_USER_REVOKE_ROLE);
	assert_true(bytes_equal_cstr(op.grant.user, "u"));
	assert_true(bytes_equal_cstr(op.grant.role, "r"));
	double_complete(&(Completion) {0});

	delete.name = (char *) "u";
	double_send(RPC_AUTH_USER_DELETE, "root", &delete);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_USER_DELETE);
	assert_true(bytes_equal_cstr(op.user.name, "u"));
	double_complete(&(Completion) {0});

	role_delete.role = (char *) "r";
	double_send(RPC_AUTH_ROLE_DELETE, "root", &role_delete);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_ROLE_DELETE);
	assert_true(bytes_equal_cstr(op.role.name, "r"));
	double_complete(&(Completion) {0});

	double_send_bytes(RPC_AUTH_AUTH_ENABLE, "root", BYTES_EMPTY);
	assert_int_equal(double_submitted_op().kind, LOGOP_AUTH_ENABLE);
	double_complete(&(Completion) {.error = ERR_ROOT_ROLE_NOT_EXIST});
	expect(9, "etcdserver: root user does not have root role");
	double_send_bytes(RPC_AUTH_AUTH_DISABLE, "root", BYTES_EMPTY);
	assert_int_equal(double_submitted_op().kind, LOGOP_AUTH_DISABLE);
	double_complete(&(Completion) {0});
}

static void
role_add_checks(void **state)
{
	Etcdserverpb__AuthRoleAddRequest add =
		ETCDSERVERPB__AUTH_ROLE_ADD_REQUEST__INIT;

	double_send(RPC_AUTH_ROLE_ADD, "root", &add);
	expect(3, "etcdserver: role name is empty");
	add.name = (char *) long_text(AUTH_MAX_NAME_BYTES + 1);
	double_send(RPC_AUTH_ROLE_ADD, "root", &add);
	expect(3, "claviger: the name is longer than 1024 bytes");
	assert_int_equal(world.nsubmitted, 0);
	add.name = (char *) "r";
	double_send(RPC_AUTH_ROLE_ADD, "root", &add);
	assert_true(bytes_equal_cstr(double_submitted_op().role.name, "r"));
	double_complete(&(Completion) {0});
	expect_done();
}

static void
send_grant(const char *key, size_t key_len, const char *end, size_t end_len)
{
	Etcdserverpb__AuthRoleGrantPermissionRequest grant =
		ETCDSERVERPB__AUTH_ROLE_GRANT_PERMISSION_REQUEST__INIT;
	Authpb__Permission perm = AUTHPB__PERMISSION__INIT;

	grant.name = (char *) "r";
	grant.perm = &perm;
	perm.permtype = AUTHPB__PERMISSION__TYPE__READWRITE;
	perm.key.data = (uint8_t *) key;
	perm.key.len = key_len;
	perm.range_end.data = (uint8_t *) end;
	perm.range_end.len = end_len;
	double_send(RPC_AUTH_ROLE_GRANT_PERMISSION, "root", &grant);
}

static void
permission_ranges(void **state)
{
	static const struct
	{
		const char *key;
		size_t		key_len;
		const char *end;
		size_t		end_len;
		int			kind;		/* -1: refused */
	}			cases[] = {
		{"", 0, "", 0, -1},
		{"", 0, "x", 1, -1},
		{"", 0, "\0", 1, -1},
		{"k", 1, "", 0, KEYRANGE_POINT},
		{"k", 1, "\0", 1, KEYRANGE_FROM},
		{"\0", 1, "\0", 1, KEYRANGE_FROM},
		{"k", 1, "l", 1, KEYRANGE_SPAN},
		{"k", 1, "k\0", 2, KEYRANGE_SPAN},
		{"k", 1, "k", 1, -1},
		{"l", 1, "k", 1, -1},
		{"l", 1, "\0\0", 2, -1},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		send_grant(cases[i].key, cases[i].key_len, cases[i].end,
				   cases[i].end_len);
		if (cases[i].kind < 0)
			expect(3, "etcdserver: invalid auth management");
		else
		{
			LogOp		op = double_submitted_op();

			assert_int_equal(op.role.range.kind, cases[i].kind);
			assert_int_equal(op.role.perm_type, PERM_READWRITE);
			double_complete(&(Completion) {0});
			expect_done();
		}
	}
	double_send_bytes(RPC_AUTH_ROLE_GRANT_PERMISSION, "root", BYTES_EMPTY);
	expect(3, "etcdserver: permission not given");
}

static void
unknown_permission_type_is_kept(void **state)
{
	/* name "r", perm { permType -1, key "k" } */
	double_send_bytes(RPC_AUTH_ROLE_GRANT_PERMISSION, "root", BYTES_LITERAL(
		"\x0a\x01r\x12\x0e\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
		"\x12\x01k"));
	assert_int_equal(double_submitted_op().role.perm_type, UINT32_MAX);
	double_complete(&(Completion) {0});
	expect_done();
}

static void
permission_is_revoked_by_its_pair(void **state)
{
	Etcdserverpb__AuthRoleRevokePermissionRequest revoke =
		ETCDSERVERPB__AUTH_ROLE_REVOKE_PERMISSION_REQUEST__INIT;
	LogOp		op;

	revoke.role = (char *) "r";
	revoke.key.data = (uint8_t *) "k";
	revoke.key.len = 1;
	double_send(RPC_AUTH_ROLE_REVOKE_PERMISSION, "root", &revoke);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_ROLE_REVOKE_PERMISSION);
	assert_true(bytes_equal_cstr(op.role.name, "r"));
	assert_int_equal(op.role.range.kind, KEYRANGE_POINT);
	double_complete(&(Completion) {.error = ERR_PERMISSION_NOT_GRANTED});
	expect(9, "etcdserver: permission is not granted to the role");
}

/* ---- looking ---- */

static void
user_get(void **state)
{
	Etcdserverpb__AuthUserGetRequest get =
		ETCDSERVERPB__AUTH_USER_GET_REQUEST__INIT;
	Etcdserverpb__AuthUserGetResponse *answer;

	get.name = (char *) "alice";
	double_send(RPC_AUTH_USER_GET, "alice", &get);
	expect_done();
	assert_int_equal(world.asked[0].need, NEED_SELF_OR_ADMIN);
	answer = etcdserverpb__auth_user_get_response__unpack(
		NULL, world.answer.len, world.answer.bytes);
	assert_int_equal(answer->header->revision, TEST_REVISION);
	assert_int_equal(answer->n_roles, 1);
	assert_string_equal(answer->roles[0], "r1");
	etcdserverpb__auth_user_get_response__free_unpacked(answer, NULL);

	get.name = (char *) "nobody";
	double_send(RPC_AUTH_USER_GET, "alice", &get);
	expect(DENIED);
	double_send(RPC_AUTH_USER_GET, "root", &get);
	expect(9, "etcdserver: user name not found");
}

static void
role_get(void **state)
{
	Etcdserverpb__AuthRoleGetRequest get =
		ETCDSERVERPB__AUTH_ROLE_GET_REQUEST__INIT;
	Etcdserverpb__AuthRoleGetResponse *answer;

	get.role = (char *) "r1";
	double_send(RPC_AUTH_ROLE_GET, "root", &get);
	expect_done();
	assert_int_equal(world.asked[0].need, NEED_ROLE_OR_ADMIN);
	answer = etcdserverpb__auth_role_get_response__unpack(
		NULL, world.answer.len, world.answer.bytes);
	assert_int_equal(answer->n_perm, 1);
	assert_int_equal(answer->perm[0]->permtype, PERM_WRITE);
	assert_memory_equal(answer->perm[0]->key.data, "k", 1);
	assert_memory_equal(answer->perm[0]->range_end.data, "m", 1);
	etcdserverpb__auth_role_get_response__free_unpacked(answer, NULL);

	get.role = (char *) "root";
	double_send(RPC_AUTH_ROLE_GET, "root", &get);
	expect_done();
	answer = etcdserverpb__auth_role_get_response__unpack(
		NULL, world.answer.len, world.answer.bytes);
	assert_int_equal(answer->n_perm, 1);
	assert_int_equal(answer->perm[0]->permtype, PERM_READWRITE);
	assert_int_equal(answer->perm[0]->key.len, 0);
	assert_int_equal(answer->perm[0]->range_end.len, 1);
	assert_int_equal(answer->perm[0]->range_end.data[0], 0);
	etcdserverpb__auth_role_get_response__free_unpacked(answer, NULL);

	get.role = (char *) "none";
	double_send(RPC_AUTH_ROLE_GET, "root", &get);
	expect(9, "etcdserver: role name not found");
}

typedef struct NamedItem
{
	CowItem		item;
	char		name[8];
} NamedItem;

static void
lists(void **state)
{
	NamedItem	a = {{1, offsetof(NamedItem, name)}, "a"};
	NamedItem	b = {{2, offsetof(NamedItem, name)}, "bb"};
	const CowItem *items[] = {&a.item, &b.item};
	CowTree		tree = {(const void *) items, 2, 1};
	Etcdserverpb__AuthUserListResponse *users;
	Etcdserverpb__AuthRoleListResponse *roles;

	world.version.users = tree;
	world.version.roles = tree;
	double_send_bytes(RPC_AUTH_USER_LIST, "root", BYTES_EMPTY);
	expect_done();
	assert_int_equal(world.asked[0].need, NEED_ADMIN);
	users = etcdserverpb__auth_user_list_response__unpack(
		NULL, world.answer.len, world.answer.bytes);
	assert_int_equal(users->n_users, 2);
	assert_string_equal(users->users[0], "a");
	assert_string_equal(users->users[1], "bb");
	etcdserverpb__auth_user_list_response__free_unpacked(users, NULL);

	double_send_bytes(RPC_AUTH_ROLE_LIST, "root", BYTES_EMPTY);
	expect_done();
	assert_int_equal(world.asked[0].need, NEED_ADMIN);
	roles = etcdserverpb__auth_role_list_response__unpack(
		NULL, world.answer.len, world.answer.bytes);
	assert_int_equal(roles->n_roles, 2);
	assert_string_equal(roles->roles[1], "bb");
	etcdserverpb__auth_role_list_response__free_unpacked(roles, NULL);
}

static void
auth_status(void **state)
{
	Etcdserverpb__AuthStatusResponse *answer;

	double_send_bytes(RPC_AUTH_AUTH_STATUS, NULL, BYTES_EMPTY);
	expect_done();
	answer = etcdserverpb__auth_status_response__unpack(
		NULL, world.answer.len, world.answer.bytes);
	assert_true(answer->enabled);
	assert_int_equal(answer->authrevision, 9);
	assert_int_equal(answer->header->revision, TEST_REVISION);
	etcdserverpb__auth_status_response__free_unpacked(answer, NULL);
	/* open to everybody, but not to a bad token */
	double_send_bytes(RPC_AUTH_AUTH_STATUS, "bad", BYTES_EMPTY);
	expect(BAD_TOKEN);
}

static void
looking_waits_for_its_point(void **state)
{
	static const RpcId rpcs[] = {
		RPC_AUTH_USER_GET, RPC_AUTH_USER_LIST, RPC_AUTH_ROLE_GET,
		RPC_AUTH_ROLE_LIST, RPC_AUTH_AUTH_STATUS, RPC_AUTH_AUTHENTICATE,
	};

	atomic_store(&world.raft.reads_are_local, false);
	for (size_t i = 0; i < lengthof(rpcs); i++)
	{
		double_send_bytes(rpcs[i], "root", BYTES_EMPTY);
		assert_int_equal(world.kind, SUBMIT_READ);
		assert_int_equal(world.nauthorized, 0);
		double_complete(&(Completion) {.error = ERR_TIMEOUT});
		expect(14, "etcdserver: request timed out");
	}
}

/* ---- logging in ---- */

static void
login_takes_its_road(void **state)
{
	Etcdserverpb__AuthenticateResponse *answer;
	LogOp		op;

	atomic_store(&world.raft.reads_are_local, false);
	/* an old, bad token beside it does not matter */
	send_login("bad", "alice", PASSWORD);
	assert_int_equal(world.kind, SUBMIT_READ);
	assert_int_equal(world.nhashes, 0);
	double_complete(&(Completion) {0});

	assert_int_equal(world.nhashes, 1);
	assert_int_equal(world.job->kind, HASH_JOB_VERIFY);
	assert_string_equal(world.password, PASSWORD);
	assert_string_equal(world.phc, TEST_PHC);
	assert_int_equal(world.nsubmitted, 1);
	double_hash_done(true);

	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_AUTHENTICATE);
	assert_int_equal(op.identity.kind, IDENTITY_NONE);
	assert_int_equal(op.identity.user.len, 0);
	assert_true(bytes_equal_cstr(op.authenticate.user, "alice"));
	assert_int_equal(op.authenticate.cred_rev, 7);
	assert_int_equal(op.authenticate.ttl_sec, 300);
	assert_int_equal(op.authenticate.token_hash[0], 0x5a);
	/* neither password nor token */
	assert_null(memmem(world.payload, world.payload_len, PASSWORD,
					   strlen(PASSWORD)));
	assert_null(memmem(world.payload, world.payload_len, "RRRR", 4));
	assert_int_equal(world.counters[COUNTER_LOGINS], 0);

	double_complete(&(Completion) {.revision = 44,.index = 31});
	expect_done();
	answer = etcdserverpb__authenticate_response__unpack(
		NULL, world.answer.len, world.answer.bytes);
	assert_string_equal(answer->token, "RRRRRRRRRRRRRRRRRRRRRR.31");
	assert_int_equal(answer->header->revision, 44);
	etcdserverpb__authenticate_response__free_unpacked(answer, NULL);
	assert_int_equal(world.counters[COUNTER_LOGINS], 1);
	assert_int_equal(world.counters[COUNTER_LOGINS_FAILED], 0);
	/* token and certificate were not even looked at */
	assert_int_equal(world.nresolved, 0);
}

/* the log lines of a piece of work */
static int	log_fd = -1;

static void
log_begin(void)
{
	log_fd = memfd_create("log", 0);
	assert_true(log_fd >= 0);
	elog_set_fd(log_fd);
}

static const char *
log_end(void)
{
	static char text[8192];
	ssize_t		n = pread(log_fd, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	elog_set_fd(STDERR_FILENO);
	close(log_fd);
	return text;
}

static void
failed_logins_are_alike(void **state)
{
	static const char *names[] = {"alice", "nobody", "nopass", ""};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		const char *log;

		strcpy(world.slot.peer, "10.0.0.1:99");
		log_begin();
		send_login(NULL, names[i], PASSWORD);
		/* everybody's password is hashed, against a hash or against none */
		assert_int_equal(world.nhashes, i + 1);
		assert_string_equal(world.phc, i == 0 ? TEST_PHC : "");
		double_hash_done(false);
		expect(AUTH_FAILED);
		log = log_end();
		assert_non_null(strstr(log, names[i]));
		assert_non_null(strstr(log, "10.0.0.1:99"));
		assert_null(strstr(log, PASSWORD));
	}
	assert_int_equal(world.nsubmitted, 0);
	assert_int_equal(world.counters[COUNTER_LOGINS_FAILED], lengthof(names));
}

static void
login_while_auth_is_off(void **state)
{
	world.version.auth_enabled = false;
	send_login(NULL, "alice", PASSWORD);
	expect(9, "etcdserver: authentication is not enabled");
	assert_int_equal(world.nhashes, 0);
}

static void
login_without_tokens(void **state)
{
	guc_auth_token = "";
	send_login(NULL, "alice", PASSWORD);
	expect(AUTH_FAILED);
	assert_int_equal(world.nhashes, 0);
}

static void
login_with_an_endless_password(void **state)
{
	send_login(NULL, "alice", long_text(AUTH_MAX_PASSWORD_BYTES + 1));
	expect(3, "claviger: the password is longer than 1024 bytes");
	assert_int_equal(world.nhashes, 0);
}

static void
login_queue_is_full(void **state)
{
	world.hash_queue_is_full = true;
	send_login(NULL, "alice", PASSWORD);
	expect(8, "claviger: too many logins are waiting to be checked");
	assert_int_equal(world.nsubmitted, 0);
}

static void
credentials_changed_meanwhile(void **state)
{
	log_begin();
	send_login(NULL, "alice", PASSWORD);
	double_hash_done(true);
	double_complete(&(Completion) {.error = ERR_AUTH_FAILED});
	expect(AUTH_FAILED);
	assert_int_equal(world.counters[COUNTER_LOGINS], 0);
	assert_int_equal(world.counters[COUNTER_LOGINS_FAILED], 1);
	log_end();
}

static void
password_is_wiped_in_the_message(void **state)
{
	const Etcdserverpb__AuthenticateRequest *login;
	const Etcdserverpb__AuthUserAddRequest *add;

	send_login(NULL, "alice", PASSWORD);
	login = world.req->message;
	for (size_t i = 0; i < strlen(PASSWORD); i++)
		assert_int_equal(login->password[i], 0);
	dispatch_cancel(world.req);
	double_hash_done(true);

	send_user_add("root", "bob", PASSWORD, false);
	add = world.req->message;
	for (size_t i = 0; i < strlen(PASSWORD); i++)
		assert_int_equal(add->password[i], 0);
	assert_string_equal(add->name, "bob");
	dispatch_cancel(world.req);
	double_hash_done(true);
	assert_int_equal(world.nsubmitted, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_with_auth_on, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(management_needs_admin),
		TEST(password_is_not_hashed_for_anybody),
		TEST(anybody_manages_while_auth_is_off),
		TEST(user_add_hashes_then_proposes),
		TEST(user_add_without_password),
		TEST(user_add_checks),
		TEST(right_is_asked_again_after_hashing),
		TEST(failed_hash_is_told),
		TEST(change_password),
		TEST(users_and_roles_become_operations),
		TEST(role_add_checks),
		TEST(permission_ranges),
		TEST(unknown_permission_type_is_kept),
		TEST(permission_is_revoked_by_its_pair),
		TEST(user_get),
		TEST(role_get),
		TEST(lists),
		TEST(auth_status),
		TEST(looking_waits_for_its_point),
		TEST(login_takes_its_road),
		TEST(failed_logins_are_alike),
		TEST(login_while_auth_is_off),
		TEST(login_without_tokens),
		TEST(login_with_an_endless_password),
		TEST(login_queue_is_full),
		TEST(credentials_changed_meanwhile),
		TEST(password_is_wiped_in_the_message),
	};

	dispatch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
