/*
 * t_apply.c
 *	  Log entries in, state, rows and answers out; with the real stations
 *	  below and a table in memory instead of Berkeley DB.
 */
/* needs: apply mvcc lease auth member alarm storage/bdb storage/ipc storage/lmgr storage/snap common proto utils/injection */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "alarm/alarm.h"
#include "apply/apply.h"
#include "auth/authstate.h"
#include "auth/token.h"
#include "etcdserverpb.pb-c.h"
#include "mvcc/mvcc.h"
#include "member/member.h"
#include "storage/bdb/kvrecord.h"
#include "storage/bdb/tables.h"
#include "storage/ipc/control.h"

#define B(s) BYTES_LITERAL(s)
#define STORE_BYTES ((size_t) 128 * 1024 * 1024)
#define PHC B("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA")

/* ---- the tables, sorted by table and key ---- */

typedef struct Row
{
	int			table;
	Buf			key;
	Buf			value;
} Row;

static Row *rows;
static size_t nrows;
static size_t rows_cap;
static uint64_t nchanges;		/* puts and removes so far */

static int
row_compare(const Row *row, int table, Bytes key)
{
	if (row->table != table)
		return row->table < table ? -1 : 1;
	return bytes_compare(buf_bytes(&row->key), key);
}

/* where the row is, or where it belongs */
static size_t
row_find(int table, Bytes key, bool *found)
{
	size_t		i = 0;

	while (i < nrows && row_compare(&rows[i], table, key) < 0)
		i++;
	*found = i < nrows && row_compare(&rows[i], table, key) == 0;
	return i;
}

static void
table_put(void *arg, int table, Bytes key, Bytes value)
{
	bool		found;
	size_t		i = row_find(table, key, &found);

	nchanges++;
	if (!found)
	{
		if (nrows == rows_cap)
		{
			rows_cap = rows_cap == 0 ? 64 : rows_cap * 2;
			rows = xrealloc(rows, rows_cap * sizeof(*rows));
		}
		memmove(&rows[i + 1], &rows[i], (nrows - i) * sizeof(*rows));
		nrows++;
		rows[i] = (Row) {.table = table};
		buf_append(&rows[i].key, key.data, key.len);
	}
	rows[i].value.len = 0;
	buf_append(&rows[i].value, value.data, value.len);
}

static void
table_remove(void *arg, int table, Bytes key)
{
	bool		found;
	size_t		i = row_find(table, key, &found);

	nchanges++;
	assert_true(found);
	buf_free(&rows[i].key);
	buf_free(&rows[i].value);
	nrows--;
	memmove(&rows[i], &rows[i + 1], (nrows - i) * sizeof(*rows));
}

static const ApplyPersist persist = {table_put, table_remove, NULL};

static void
tables_clear(void)
{
	while (nrows > 0)
	{
		nrows--;
		buf_free(&rows[nrows].key);
		buf_free(&rows[nrows].value);
	}
	nchanges = 0;
}

/* ---- the world ---- */

static MemContext *mcx;
static ApplyState *apply;
static uint64_t last_index;

static void
world_open(uint64_t replay_index)
{
	ControlSizes sizes = {
		.nslots = 2,
		.max_request_bytes = 65536,
		.token_cache_entries = 64,
		.hash_slots = 1,
		.hash_queue = 4,
	};

	mcx = mcx_create(NULL, "t_apply");
	assert_true(store_create(STORE_BYTES));
	store_use_populate_thread(false);
	store_attach_writer();
	store_set_wipe_freed(true);
	assert_true(control_create(&sizes));
	control_attach_slot(control_claim_slot());
	apply = apply_create(&persist, replay_index);
	last_index = 0;
}

static void
world_close(void)
{
	apply_destroy(apply);
	control_destroy();
	store_destroy();
	mcx_destroy(mcx);
	tables_clear();
}

static int
setup(void **state)
{
	world_open(0);
	return 0;
}

static int
teardown(void **state)
{
	world_close();
	return 0;
}

static Bytes
entry_of(const LogOp *op)
{
	Buf			buf;

	buf_init(&buf, mcx);
	logop_encode(op, &buf);
	return buf_bytes(&buf);
}

static ApplyResult
run_entry(Bytes entry, bool want_result)
{
	ApplyResult result;

	apply_batch_begin(apply);
	apply_entry(apply, ++last_index, 1, entry, want_result, &result);
	apply_batch_end(apply);
	assert_int_equal(store_draft()->applied_index, last_index);
	return result;
}

static ErrCode
run(const LogOp *op)
{
	ApplyResult result = run_entry(entry_of(op), false);

	assert_null(result.body);
	assert_int_equal(result.revision, store_draft()->kv_revision);
	return result.error;
}

static Identity
identity_of(const char *name)
{
	const UserEntry *user = auth_user(store_draft(), bytes_from_cstr(name));

	assert_non_null(user);
	return (Identity) {IDENTITY_TOKEN, bytes_from_cstr(name), user->cred_rev};
}

/* ---- operations, asked for by root, or by nobody while auth is off ---- */

static Identity
admin(void)
{
	if (!store_draft()->auth_enabled)
		return (Identity) {IDENTITY_NONE, BYTES_EMPTY, 0};
	return identity_of("root");
}

static ErrCode
auth_switch(bool on)
{
	return run(&(LogOp) {.kind = on ? LOGOP_AUTH_ENABLE : LOGOP_AUTH_DISABLE,
				.identity = admin()});
}

static ErrCode
user_op(LogOpKind kind, const char *name)
{
	LogOp		op = {.kind = kind, .identity = admin()};

	op.user.name = bytes_from_cstr(name);
	op.user.phc = PHC;
	return run(&op);
}

static ErrCode
role_op(LogOpKind kind, const char *name)
{
	LogOp		op = {.kind = kind, .identity = admin()};

	op.role.name = bytes_from_cstr(name);
	return run(&op);
}

static ErrCode
grant_op(LogOpKind kind, const char *user, const char *role)
{
	LogOp		op = {.kind = kind, .identity = admin()};

	op.grant.user = bytes_from_cstr(user);
	op.grant.role = bytes_from_cstr(role);
	return run(&op);
}

static ErrCode
perm_op(LogOpKind kind, const char *role, const char *key, const char *end)
{
	LogOp		op = {.kind = kind, .identity = admin()};

	op.role.name = bytes_from_cstr(role);
	op.role.perm_type = PERM_READWRITE;
	op.role.range = keyrange_make(bytes_from_cstr(key), bytes_from_cstr(end));
	return run(&op);
}

/* root, and alice who may touch [a, m) through role r */
static void
enable_auth(void)
{
	assert_int_equal(user_op(LOGOP_USER_ADD, "root"), ERR_NONE);
	assert_int_equal(grant_op(LOGOP_USER_GRANT_ROLE, "root", "root"), ERR_NONE);
	assert_int_equal(user_op(LOGOP_USER_ADD, "alice"), ERR_NONE);
	assert_int_equal(role_op(LOGOP_ROLE_ADD, "r"), ERR_NONE);
	assert_int_equal(perm_op(LOGOP_ROLE_GRANT_PERMISSION, "r", "a", "m"),
					 ERR_NONE);
	assert_int_equal(grant_op(LOGOP_USER_GRANT_ROLE, "alice", "r"), ERR_NONE);
	assert_int_equal(auth_switch(true), ERR_NONE);
}

static LogOp
put_by(Identity identity, const char *key, const char *value)
{
	LogOp		op = {.kind = LOGOP_PUT, .identity = identity};

	op.put.key = bytes_from_cstr(key);
	op.put.value = bytes_from_cstr(value);
	return op;
}

/* ---- everything that must be equal on two members, as text ---- */

static void
dump_bytes(Buf *out, Bytes b)
{
	buf_put_bytes(out, b);
}

static void
dump_keys(Buf *out, const StoreVersion *v)
{
	CowCursor	cursor;

	for (const CowItem *item = cowtree_seek(&v->keys, &cursor, BYTES_EMPTY);
		 item != NULL; item = cowtree_next(&cursor))
	{
		for (const KvVersion *kv = (const KvVersion *) item; kv != NULL;
			 kv = atomic_load(&kv->prev))
		{
			buf_printf(out, "key %" PRId64 ".%u %" PRId64 " %" PRId64 " "
					   "%" PRId64 " ", kv->mod_revision, kv->sub_revision,
					   kv->create_revision, kv->version, kv->lease);
			dump_bytes(out, kvversion_key(kv));
			dump_bytes(out, kvversion_value(kv));
		}
	}
}

static Buf
dump_state(void)
{
	const StoreVersion *v = store_draft();
	CowCursor	cursor;
	const CowItem *item;
	Buf			out;

	buf_init(&out, mcx);
	buf_printf(&out, "revision %" PRId64 " compacted %" PRId64 " auth %" PRIu64
			   " %d live %" PRIu64 " keys %" PRIu64 "\n", v->kv_revision,
			   v->compacted_revision, v->auth_revision, v->auth_enabled,
			   v->live_bytes, v->keys.nitems);
	dump_keys(&out, v);
	for (item = cowtree_seek(&v->users, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
		user_encode((const UserEntry *) item, &out);
	for (item = cowtree_seek(&v->roles, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
		role_encode((const RoleEntry *) item, &out);
	for (item = cowtree_seek(&v->members, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		MemberInfo	info = member_info((const MemberEntry *) item);

		member_encode(&info, &out);
	}
	return out;
}

static Buf
dump_rows(void)
{
	Buf			out;

	buf_init(&out, mcx);
	for (size_t i = 0; i < nrows; i++)
	{
		buf_printf(&out, "%d:", rows[i].table);
		dump_bytes(&out, buf_bytes(&rows[i].key));
		dump_bytes(&out, buf_bytes(&rows[i].value));
	}
	return out;
}

static void
assert_same(const Buf *a, const Buf *b)
{
	assert_int_equal(a->len, b->len);
	assert_memory_equal(a->data, b->data, a->len);
}

/* run an operation that must be refused and must leave no trace */
static void
assert_refused(const LogOp *op, ErrCode want)
{
	Buf			state_before = dump_state();
	Buf			rows_before = dump_rows();
	uint64_t	changes_before = nchanges;
	Buf			state_after;
	Buf			rows_after;
	ApplyResult result = run_entry(entry_of(op), true);

	assert_int_equal(result.error, want);
	assert_null(result.body);
	assert_int_equal(result.revision, store_draft()->kv_revision);
	state_after = dump_state();
	rows_after = dump_rows();
	assert_same(&state_before, &state_after);
	assert_same(&rows_before, &rows_after);
	assert_int_equal(nchanges, changes_before);
}

/* ---- tests: answers ---- */

static void
test_put_answers(void **state)
{
	LogOp		op = put_by(admin(), "k", "one");
	Etcdserverpb__PutResponse *r;
	ApplyResult result;

	/* nothing in it but the header: no body */
	result = run_entry(entry_of(&op), true);
	assert_int_equal(result.error, ERR_NONE);
	assert_int_equal(result.revision, 2);
	assert_null(result.body);
	assert_int_equal(result.body_len, 0);

	op.put.prev_kv = true;
	result = run_entry(entry_of(&op), true);
	assert_int_equal(result.revision, 3);
	assert_non_null(result.body);
	/* in the store, where a backend can read it */
	assert_true((const char *) result.body > (const char *) store_base());
	assert_true((const char *) result.body < (const char *) store_base() +
				store_reserved_bytes());
	r = etcdserverpb__put_response__unpack(NULL, result.body_len, result.body);
	assert_non_null(r);
	assert_int_equal(r->prev_kv->mod_revision, 2);
	assert_memory_equal(r->prev_kv->value.data, "one", 3);
	etcdserverpb__put_response__free_unpacked(r, NULL);
	store_free(result.body, result.body_len);

	/* nobody waits */
	result = run_entry(entry_of(&op), false);
	assert_int_equal(result.revision, 4);
	assert_null(result.body);
}

static void
test_delete_and_txn_answers(void **state)
{
	LogOp		op = {.kind = LOGOP_DELETE};
	CompareOp	compare = {.range = keyrange_make(B("a"), BYTES_EMPTY),
		.target = COMPARE_VERSION};
	KvOp		ops[1] = {{.kind = KVOP_PUT}};
	LogOp		txn = {.kind = LOGOP_TXN};
	LogOp		put = put_by(admin(), "a", "1");
	ApplyResult result;

	op.delete.range = keyrange_make(B("a"), B("\0"));
	result = run_entry(entry_of(&op), true);
	assert_int_equal(result.count, 0);
	assert_int_equal(result.revision, 1);
	assert_null(result.body);

	assert_int_equal(run(&put), ERR_NONE);
	result = run_entry(entry_of(&op), true);
	assert_int_equal(result.count, 1);
	assert_int_equal(result.revision, 3);
	assert_non_null(result.body);
	store_free(result.body, result.body_len);

	/* if absent, create */
	ops[0].put.key = B("a");
	txn.txn = (TxnOp) {.ncompares = 1, .compares = &compare, .nsuccess = 1,
		.success = ops};
	result = run_entry(entry_of(&txn), false);
	assert_int_equal(result.count, 1);
	assert_int_equal(result.revision, 4);
	result = run_entry(entry_of(&txn), true);
	assert_int_equal(result.error, ERR_NONE);
	assert_int_equal(result.count, 0);
	assert_int_equal(result.revision, 4);
	assert_null(result.body);
}

static void
test_rows(void **state)
{
	LogOp		put = put_by(admin(), "key", "value");
	LogOp		del = {.kind = LOGOP_DELETE};
	KvRecord	kv;
	int64_t		mod;
	uint32_t	sub;

	assert_int_equal(run(&put), ERR_NONE);
	del.delete.range = keyrange_make(B("key"), BYTES_EMPTY);
	assert_int_equal(run(&del), ERR_NONE);
	assert_int_equal(nrows, 2);
	for (int i = 0; i < 2; i++)
	{
		assert_int_equal(rows[i].table, TABLE_KEY);
		assert_true(kvrecord_key_decode(buf_bytes(&rows[i].key), &mod, &sub));
		assert_int_equal(mod, 2 + i);
		assert_int_equal(sub, 0);
		assert_true(kvrecord_decode(buf_bytes(&rows[i].value), &kv));
		assert_true(bytes_equal(kv.key, B("key")));
		assert_int_equal(kv.version, i == 0 ? 1 : 0);
	}
}

static void
test_barrier(void **state)
{
	ApplyResult result;

	result = run_entry(BYTES_EMPTY, true);
	assert_int_equal(result.error, ERR_NONE);
	assert_int_equal(result.revision, 1);
	assert_int_equal(store_pin()->applied_index, 1);
	assert_int_equal(store_pin()->applied_term, 1);
	store_unpin();
	store_unpin();
	assert_int_equal(nchanges, 0);
}

/* a replay may begin before what the tables hold */
static void
test_skips_what_is_applied(void **state)
{
	LogOp		op = put_by(admin(), "k", "v");
	Bytes		entry = entry_of(&op);
	ApplyResult result;

	run_entry(entry, false);
	run_entry(entry, false);
	assert_int_equal(store_draft()->kv_revision, 3);
	apply_batch_begin(apply);
	for (uint64_t index = 1; index <= 2; index++)
	{
		apply_entry(apply, index, 1, entry, false, &result);
		assert_int_equal(result.error, ERR_NONE);
	}
	apply_batch_end(apply);
	assert_int_equal(store_draft()->kv_revision, 3);
	assert_int_equal(store_draft()->applied_index, 2);
}

static void
assert_panics(uint64_t index, Bytes entry)
{
	ApplyResult result;
	int			status;
	pid_t		pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
	{
		close(2);
		apply_batch_begin(apply);
		apply_entry(apply, index, 1, entry, false, &result);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), ELOG_EXIT_PANIC);
}

static void
test_panics(void **state)
{
	LogOp		op = put_by(admin(), "k", "v");

	assert_panics(1, B("\x01\x63\x00"));
	assert_panics(1, B("\0"));
	assert_panics(2, entry_of(&op));
}

/* ---- tests: rights ---- */

static void
test_right_at_apply(void **state)
{
	LogOp		inside;
	LogOp		outside;

	enable_auth();
	inside = put_by(identity_of("alice"), "b", "v");
	outside = put_by(identity_of("alice"), "x", "v");
	assert_int_equal(run(&inside), ERR_NONE);
	assert_refused(&outside, ERR_PERMISSION_DENIED);
	outside.identity = (Identity) {IDENTITY_NONE, BYTES_EMPTY, 0};
	assert_refused(&outside, ERR_USER_EMPTY);

	/* proposed while she could, committed when she cannot any more */
	assert_int_equal(grant_op(LOGOP_USER_REVOKE_ROLE, "alice", "r"), ERR_NONE);
	assert_refused(&inside, ERR_PERMISSION_DENIED);
	assert_int_equal(grant_op(LOGOP_USER_GRANT_ROLE, "alice", "r"), ERR_NONE);
	assert_int_equal(run(&inside), ERR_NONE);
	assert_int_equal(perm_op(LOGOP_ROLE_REVOKE_PERMISSION, "r", "a", "m"),
					 ERR_NONE);
	assert_refused(&inside, ERR_PERMISSION_DENIED);
	assert_int_equal(perm_op(LOGOP_ROLE_GRANT_PERMISSION, "r", "a", "m"),
					 ERR_NONE);
	assert_int_equal(run(&inside), ERR_NONE);
	assert_int_equal(role_op(LOGOP_ROLE_DELETE, "r"), ERR_NONE);
	assert_refused(&inside, ERR_PERMISSION_DENIED);
}

/* the old credentials, for a user of the same name with the same rights */
static void
test_old_credentials_at_apply(void **state)
{
	LogOp		op;

	enable_auth();
	op = put_by(identity_of("alice"), "b", "v");
	assert_int_equal(run(&op), ERR_NONE);
	assert_int_equal(user_op(LOGOP_USER_CHANGE_PASSWORD, "alice"), ERR_NONE);
	assert_refused(&op, ERR_INVALID_AUTH_TOKEN);

	op = put_by(identity_of("alice"), "b", "v");
	assert_int_equal(run(&op), ERR_NONE);
	assert_int_equal(user_op(LOGOP_USER_DELETE, "alice"), ERR_NONE);
	run_entry(BYTES_EMPTY, false);
	assert_int_not_equal(run(&op), ERR_NONE);
	assert_int_equal(user_op(LOGOP_USER_ADD, "alice"), ERR_NONE);
	assert_int_equal(grant_op(LOGOP_USER_GRANT_ROLE, "alice", "r"), ERR_NONE);
	assert_refused(&op, ERR_INVALID_AUTH_TOKEN);
}

/* also when both are in one batch, unpublished in between */
static void
test_revoked_in_the_same_batch(void **state)
{
	LogOp		revoke = {.kind = LOGOP_USER_REVOKE_ROLE};
	LogOp		put;
	Bytes		entries[3];
	ApplyResult results[3];

	enable_auth();
	put = put_by(identity_of("alice"), "b", "v");
	revoke.identity = identity_of("root");
	revoke.grant.user = B("alice");
	revoke.grant.role = B("r");
	entries[0] = entries[2] = entry_of(&put);
	entries[1] = entry_of(&revoke);
	apply_batch_begin(apply);
	for (int i = 0; i < 3; i++)
		apply_entry(apply, ++last_index, 1, entries[i], true, &results[i]);
	apply_batch_end(apply);
	assert_int_equal(results[0].error, ERR_NONE);
	assert_int_equal(results[0].revision, 2);
	assert_int_equal(results[1].error, ERR_NONE);
	assert_int_equal(results[2].error, ERR_PERMISSION_DENIED);
	assert_int_equal(store_draft()->kv_revision, 2);
}

/* a nested op in the branch that will not run counts as well (E4, D1.20) */
static void
test_right_in_nested_txn(void **state)
{
	KvOp		inner = {.kind = KVOP_PUT};
	KvOp		outer = {.kind = KVOP_TXN};
	LogOp		op = {.kind = LOGOP_TXN};

	enable_auth();
	inner.put.key = B("x");
	outer.txn = (TxnOp) {.nfailure = 1, .failure = &inner};
	op.txn = (TxnOp) {.nsuccess = 1, .success = &outer};
	op.identity = identity_of("alice");
	assert_refused(&op, ERR_PERMISSION_DENIED);
	inner.put.key = B("b");
	assert_int_equal(run(&op), ERR_NONE);
}

static void
test_admin_only(void **state)
{
	LogOp		op = {.kind = LOGOP_COMPACT};

	enable_auth();
	op.identity = identity_of("alice");
	assert_refused(&op, ERR_PERMISSION_DENIED);
	op.kind = LOGOP_AUTH_DISABLE;
	assert_refused(&op, ERR_PERMISSION_DENIED);
	op.kind = LOGOP_USER_ADD;
	op.user.name = B("mallory");
	assert_refused(&op, ERR_PERMISSION_DENIED);
	op.identity = identity_of("root");
	assert_int_equal(run(&op), ERR_NONE);
	assert_int_equal(auth_switch(false), ERR_NONE);
}

/* ---- tests: failures leave nothing ---- */

static void
test_failing_txn(void **state)
{
	KvOp		ops[3] = {{.kind = KVOP_PUT}, {.kind = KVOP_DELETE},
	{.kind = KVOP_PUT}};
	LogOp		op = {.kind = LOGOP_TXN};
	LogOp		put = put_by(admin(), "old", "v");

	assert_int_equal(run(&put), ERR_NONE);
	op.txn = (TxnOp) {.nsuccess = 3, .success = ops};
	ops[0].put.key = B("a");
	ops[1].delete.range = keyrange_make(B("old"), BYTES_EMPTY);
	ops[2].put.key = B("b");
	ops[2].put.lease = 77;
	assert_refused(&op, ERR_LEASE_NOT_FOUND);
	ops[2].put.lease = 0;
	ops[2].put.ignore_value = true;
	assert_refused(&op, ERR_KEY_NOT_FOUND);
	ops[2] = (KvOp) {.kind = KVOP_RANGE};
	ops[2].range.range = keyrange_make(B("a"), BYTES_EMPTY);
	ops[2].range.revision = 99;
	assert_refused(&op, ERR_FUTURE_REV);
	ops[2].range.revision = 0;
	assert_int_equal(run(&op), ERR_NONE);
	assert_int_equal(nrows, 3);
}

static void
test_failing_auth_op(void **state)
{
	LogOp		op = {.kind = LOGOP_AUTH_ENABLE};

	assert_refused(&op, ERR_ROOT_USER_NOT_EXIST);
	op.kind = LOGOP_USER_DELETE;
	op.user.name = B("nobody");
	assert_refused(&op, ERR_USER_NOT_FOUND);
	op.kind = LOGOP_COMPACT;
	op.compact_revision = 2;
	assert_refused(&op, ERR_FUTURE_REV);
}

/* ---- tests: logins ---- */

typedef struct Login
{
	char		random[TOKEN_RANDOM_CHARS + 1];
	LogOp		op;
} Login;

static void
make_login(Login *login, const char *user, uint64_t cred_rev)
{
	*login = (Login) {.op.kind = LOGOP_AUTHENTICATE};
	token_make_random(login->random, login->op.authenticate.token_hash);
	login->op.authenticate.user = bytes_from_cstr(user);
	login->op.authenticate.cred_rev = cred_rev;
	login->op.authenticate.ttl_sec = 300;
}

static bool
token_is_known(const Login *login, TokenInfo *info)
{
	char		token[64];

	snprintf(token, sizeof(token), "%s.%" PRIu64, login->random, last_index);
	return token_cache_lookup(bytes_from_cstr(token), info);
}

static void
test_authenticate(void **state)
{
	Login		login;
	TokenInfo	info;

	make_login(&login, "alice", 1);
	assert_refused(&login.op, ERR_AUTH_NOT_ENABLED);
	enable_auth();
	make_login(&login, "alice", identity_of("alice").cred_rev + 1);
	assert_refused(&login.op, ERR_AUTH_FAILED);
	make_login(&login, "nobody", 1);
	assert_refused(&login.op, ERR_AUTH_FAILED);
	assert_int_equal(token_cache_count(), 0);

	make_login(&login, "alice", identity_of("alice").cred_rev);
	assert_int_equal(run(&login.op), ERR_NONE);
	assert_true(token_is_known(&login, &info));
	assert_int_equal(info.user_len, 5);
	assert_memory_equal(info.user, "alice", 5);
	assert_true(info.cred_rev == identity_of("alice").cred_rev);

	/* password checked, then changed, then the login committed */
	make_login(&login, "alice", identity_of("alice").cred_rev);
	assert_int_equal(user_op(LOGOP_USER_CHANGE_PASSWORD, "alice"), ERR_NONE);
	assert_int_equal(token_cache_count(), 0);
	assert_refused(&login.op, ERR_AUTH_FAILED);

	make_login(&login, "alice", identity_of("alice").cred_rev);
	assert_int_equal(run(&login.op), ERR_NONE);
	make_login(&login, "root", identity_of("root").cred_rev);
	assert_int_equal(run(&login.op), ERR_NONE);
	assert_int_equal(token_cache_count(), 2);
	assert_int_equal(user_op(LOGOP_USER_DELETE, "alice"), ERR_NONE);
	assert_int_equal(token_cache_count(), 1);
	assert_int_equal(auth_switch(false), ERR_NONE);
	assert_int_equal(token_cache_count(), 0);
}

static void
test_replay_makes_no_tokens(void **state)
{
	Login		login;

	/* entries 1 to 8 are of the log before the start; seven set auth up */
	world_open(8);
	enable_auth();
	assert_int_equal(last_index, 7);
	make_login(&login, "alice", identity_of("alice").cred_rev);
	assert_int_equal(run(&login.op), ERR_NONE);
	assert_int_equal(token_cache_count(), 0);
	make_login(&login, "alice", identity_of("alice").cred_rev);
	assert_int_equal(run(&login.op), ERR_NONE);
	assert_int_equal(token_cache_count(), 1);
	world_close();
}

/* ---- tests: members, compaction ---- */

static void
test_member_publish(void **state)
{
	static const uint8_t key[8] = {0, 0, 0, 0, 0, 0, 0x12, 0x34};
	LogOp		op = {.kind = LOGOP_MEMBER_PUBLISH};
	MemberInfo	learner = {.id = 0x1234, .is_learner = true};
	MemberInfo	info;
	bool		found;
	size_t		row;

	op.identity.kind = IDENTITY_INTERNAL;
	op.member.id = 0x1234;
	op.member.name = B("m1");
	op.member.client_urls = B("http://127.0.0.1:2379");
	op.member.peer_urls = B("http://127.0.0.1:2380");
	assert_int_equal(run(&op), ERR_NONE);
	row = row_find(TABLE_MEMBER, bytes_make(key, 8), &found);
	assert_true(found);
	assert_true(member_decode(buf_bytes(&rows[row].value), &info));
	assert_true(info.id == 0x1234 && !info.is_learner);
	assert_true(bytes_equal(info.name, B("m1")));
	assert_true(bytes_equal(info.client_urls, B("http://127.0.0.1:2379")));
	assert_true(bytes_equal(info.peer_urls, B("http://127.0.0.1:2380")));

	/* it cannot make itself a voter */
	member_put(store_draft(), &learner);
	assert_int_equal(run(&op), ERR_NONE);
	info = member_info((const MemberEntry *)
					   cowtree_get(&store_draft()->members,
								   bytes_make(key, 8)));
	assert_true(info.is_learner);

	/* and it is nothing that a client may do, with auth or without */
	op.identity.kind = IDENTITY_NONE;
	assert_refused(&op, ERR_PERMISSION_DENIED);
}

/* what an alarm forbids is decided by the state, so it is the same everywhere */
static void
test_alarms(void **state)
{
	LogOp		alarm = {.kind = LOGOP_ALARM,.identity = admin()};
	LogOp		quota = {.kind = LOGOP_QUOTA_REACHED,.identity = admin()};
	LogOp		put = put_by(admin(), "a", "v");
	LogOp		del = {.kind = LOGOP_DELETE,.identity = admin()};
	uint8_t		key[ALARM_KEY_BYTES];
	bool		found;

	del.delete.range = keyrange_make(B("a"), BYTES_EMPTY);
	alarm_key(7, ALARM_NO_SPACE, key);
	assert_int_equal(run(&put), ERR_NONE);
	quota.alarm.member_id = 7;
	assert_int_equal(run(&quota), ERR_NONE);
	row_find(TABLE_ALARM, bytes_make(key, sizeof(key)), &found);
	assert_true(found);
	assert_int_equal(run(&put), ERR_NO_SPACE);
	assert_int_equal(run(&del), ERR_NONE);

	/* another member's is another alarm, and clearing it changes nothing */
	alarm.alarm.member_id = 8;
	alarm.alarm.type = ALARM_NO_SPACE;
	assert_int_equal(run(&alarm), ERR_NONE);
	assert_int_equal(run(&put), ERR_NO_SPACE);
	alarm.alarm.member_id = 7;
	assert_int_equal(run(&alarm), ERR_NONE);
	row_find(TABLE_ALARM, bytes_make(key, sizeof(key)), &found);
	assert_false(found);
	assert_int_equal(run(&put), ERR_NONE);

	alarm.alarm.is_on = true;
	alarm.alarm.type = ALARM_CORRUPT;
	assert_int_equal(run(&alarm), ERR_NONE);
	assert_int_equal(run(&put), ERR_CORRUPT);
	assert_int_equal(run(&del), ERR_CORRUPT);
	/* a type that nobody knows forbids nothing, and cannot be raised */
	alarm.alarm.type = 77;
	assert_int_equal(run(&alarm), ERR_NONE);
	assert_int_equal(store_draft()->alarms.nitems, 1);
	alarm.alarm.type = ALARM_CORRUPT;
	alarm.alarm.is_on = false;
	assert_int_equal(run(&alarm), ERR_NONE);
	assert_int_equal(run(&put), ERR_NONE);

	/* not everybody's to give */
	enable_auth();
	alarm.identity = identity_of("alice");
	assert_refused(&alarm, ERR_PERMISSION_DENIED);
	alarm.identity = (Identity) {.kind = IDENTITY_NONE};
	assert_refused(&alarm, ERR_USER_EMPTY);
	assert_int_equal(auth_switch(false), ERR_NONE);
}

static void
test_compaction(void **state)
{
	LogOp		put = put_by(admin(), "a", "v");
	LogOp		del = {.kind = LOGOP_DELETE};
	LogOp		compact = {.kind = LOGOP_COMPACT, .compact_revision = 1002};
	const StoreVersion *old;

	/* revisions 2 to 1001, the tombstone 1002, and b at 1003 */
	for (int i = 0; i < 1000; i++)
		assert_int_equal(run(&put), ERR_NONE);
	del.delete.range = keyrange_make(B("a"), BYTES_EMPTY);
	assert_int_equal(run(&del), ERR_NONE);
	put.put.key = B("b");
	assert_int_equal(run(&put), ERR_NONE);
	assert_int_equal(nrows, 1002);
	assert_false(apply_idle_step(apply));
	assert_int_equal(nrows, 1002);

	old = store_pin();
	assert_int_equal(run(&compact), ERR_NONE);
	assert_true(apply_idle_step(apply));
	assert_int_equal(nrows, 1002);
	assert_int_equal(mvcc_get(old, B("a"), 2)->version, 1);
	store_unpin();
	assert_true(apply_idle_step(apply));
	while (apply_idle_step(apply))
		;
	assert_int_equal(nrows, 1);
	/* what it took out has been published without any further entry */
	assert_int_equal(store_pin()->keys.nitems, 1);
	store_unpin();
	assert_int_equal(store_reclaim(), 0);
	assert_null(store_check());
	assert_refused(&compact, ERR_COMPACTED);
}

/* tables were loaded with a removal half done, and no entry comes */
static void
test_removal_needs_no_entry(void **state)
{
	LogOp		put = put_by(admin(), "a", "v");
	LogOp		compact = {.kind = LOGOP_COMPACT, .compact_revision = 4};
	int			steps = 0;

	for (int i = 0; i < 3; i++)
		assert_int_equal(run(&put), ERR_NONE);
	assert_int_equal(run(&compact), ERR_NONE);
	assert_int_equal(nrows, 3);
	apply_destroy(apply);
	apply = apply_create(&persist, 0);
	while (apply_idle_step(apply))
		assert_true(++steps < 100);
	assert_int_equal(nrows, 1);
}

/* ---- tests: the same entries make the same state ---- */

static uint64_t rng;

static uint32_t
rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t) (rng >> 32) % n;
}

static const char *
random_name(char c, uint32_t n)
{
	return mcx_printf(mcx, "%c%u", c, rnd(n));
}

static KeyRange
random_range(void)
{
	Bytes		key = bytes_from_cstr(random_name('k', 30));

	if (rnd(3) > 0)
		return keyrange_make(key, BYTES_EMPTY);
	return keyrange_make(key, rnd(4) ? B("k2") : B("\0"));
}

static void
random_kvop(KvOp *op, unsigned depth)
{
	*op = (KvOp) {.kind = (KvOpKind) (1 + rnd(depth > 0 ? 4 : 3))};
	switch (op->kind)
	{
		case KVOP_RANGE:
			op->range.range = random_range();
			break;
		case KVOP_PUT:
			op->put.key = bytes_from_cstr(random_name('k', 30));
			op->put.value = bytes_from_cstr(random_name('v', 1000));
			op->put.ignore_value = rnd(9) == 0;
			op->put.lease = rnd(20) == 0;
			break;
		case KVOP_DELETE:
			op->delete.range = random_range();
			break;
		case KVOP_TXN:
			op->txn = (TxnOp) {.ncompares = rnd(2), .nsuccess = rnd(3),
				.nfailure = rnd(3)};
			op->txn.compares = mcx_alloc0(mcx, sizeof(CompareOp));
			op->txn.compares[0].range = random_range();
			op->txn.compares[0].result = rnd(4);
			op->txn.compares[0].number = rnd(2);
			op->txn.success = mcx_alloc0(mcx, 3 * sizeof(KvOp));
			op->txn.failure = mcx_alloc0(mcx, 3 * sizeof(KvOp));
			for (uint32_t i = 0; i < 3; i++)
			{
				random_kvop(&op->txn.success[i], depth - 1);
				random_kvop(&op->txn.failure[i], depth - 1);
			}
			break;
	}
}

/* names and revisions are guesses: many are refused, which is as good */
static Bytes
random_entry(void)
{
	static const LogOpKind auth_kinds[] = {
		LOGOP_USER_ADD, LOGOP_USER_DELETE, LOGOP_USER_CHANGE_PASSWORD,
		LOGOP_USER_GRANT_ROLE, LOGOP_USER_REVOKE_ROLE, LOGOP_ROLE_ADD,
		LOGOP_ROLE_DELETE, LOGOP_ROLE_GRANT_PERMISSION,
		LOGOP_ROLE_REVOKE_PERMISSION,
	};
	LogOp		op = {.identity = {IDENTITY_TOKEN, B("root"), 2}};
	KvOp		kv;

	if (rnd(4) == 0)
		op.identity = (Identity) {IDENTITY_TOKEN,
			bytes_from_cstr(random_name('u', 4)), rnd(60)};
	if (rnd(40) == 0)
	{
		op.kind = LOGOP_COMPACT;
		op.compact_revision = rnd(300);
		return entry_of(&op);
	}
	if (rnd(3) > 0)
	{
		random_kvop(&kv, 2);
		if (kv.kind == KVOP_PUT)
		{
			op.kind = LOGOP_PUT;
			op.put = kv.put;
		}
		else if (kv.kind == KVOP_DELETE)
		{
			op.kind = LOGOP_DELETE;
			op.delete = kv.delete;
		}
		else if (kv.kind == KVOP_TXN)
		{
			op.kind = LOGOP_TXN;
			op.txn = kv.txn;
		}
		else
			return BYTES_EMPTY;
		return entry_of(&op);
	}
	op.kind = auth_kinds[rnd(lengthof(auth_kinds))];
	switch (op.kind)
	{
		case LOGOP_USER_ADD:
		case LOGOP_USER_DELETE:
		case LOGOP_USER_CHANGE_PASSWORD:
			op.user.name = bytes_from_cstr(random_name('u', 4));
			op.user.phc = PHC;
			break;
		case LOGOP_USER_GRANT_ROLE:
		case LOGOP_USER_REVOKE_ROLE:
			op.grant.user = bytes_from_cstr(random_name('u', 4));
			op.grant.role = bytes_from_cstr(random_name('r', 4));
			break;
		default:
			op.role.name = bytes_from_cstr(random_name('r', 4));
			op.role.perm_type = rnd(4);
			op.role.range = random_range();
			break;
	}
	return entry_of(&op);
}

/* run all entries in batches of some size; rest: steps until all is removed */
static void
run_entries(const Bytes *entries, uint32_t n, uint32_t batch, bool steps_between)
{
	uint32_t	i = 0;

	while (i < n)
	{
		apply_batch_begin(apply);
		for (uint32_t k = 0; k < batch && i < n; k++, i++)
		{
			ApplyResult result;

			apply_entry(apply, ++last_index, 1, entries[i], i % 3 == 0,
						&result);
			if (result.body != NULL)
				store_retire(result.body, result.body_len);
		}
		apply_batch_end(apply);
		if (steps_between)
			apply_idle_step(apply);
	}
	while (apply_idle_step(apply))
		;
}

static bool
rows_load(int table)
{
	for (size_t i = 0; i < nrows; i++)
	{
		Bytes		key = buf_bytes(&rows[i].key);
		Bytes		value = buf_bytes(&rows[i].value);
		KvRecord	kv;
		int64_t		mod;
		uint32_t	sub;

		if (rows[i].table != table)
			continue;
		if (table == TABLE_USERS && !user_load(store_draft(), key, value))
			return false;
		if (table == TABLE_ROLES && !role_load(store_draft(), key, value))
			return false;
		if (table != TABLE_KEY)
			continue;
		if (!kvrecord_key_decode(key, &mod, &sub) ||
			!kvrecord_decode(value, &kv))
			return false;
		mvcc_load_version(store_draft(), kv.key, kv.value, mod, sub,
						  kv.create_revision, kv.version, kv.lease);
	}
	return true;
}

/* the rows alone must give the same state once more */
static void
check_reload(const Buf *want, const StoreVersion *end)
{
	StoreVersion *draft;
	Buf			got;

	apply_destroy(apply);
	store_destroy();
	assert_true(store_create(STORE_BYTES));
	store_attach_writer();
	draft = store_draft();
	assert_true(rows_load(TABLE_ROLES));
	assert_true(rows_load(TABLE_USERS));
	assert_true(rows_load(TABLE_KEY));
	draft->kv_revision = end->kv_revision;
	draft->compacted_revision = end->compacted_revision;
	draft->auth_revision = end->auth_revision;
	draft->auth_enabled = end->auth_enabled;
	apply = apply_create(&persist, 0);
	store_publish();
	got = dump_state();
	assert_same(want, &got);
}

static void
test_same_entries_same_state(void **state)
{
	enum
	{
		NENTRIES = 1500
	};
	MemContext *keep = mcx_create(NULL, "entries");
	Bytes		entries[NENTRIES];
	Buf			first_state;
	Buf			first_rows;

	for (uint64_t seed = 1; seed <= 4; seed++)
	{
		StoreVersion end;

		printf("seed %" PRIu64 "\n", seed);
		rng = seed * UINT64_C(0x9e3779b97f4a7c15);
		world_open(0);
		enable_auth();
		for (int i = 0; i < NENTRIES; i++)
			entries[i] = mcx_bytes_dup(keep, random_entry());
		run_entries(entries, NENTRIES, 1, true);
		first_state = dump_state();
		first_state.data = mcx_memdup(keep, first_state.data, first_state.len);
		first_rows = dump_rows();
		first_rows.data = mcx_memdup(keep, first_rows.data, first_rows.len);
		end = *store_draft();
		assert_true(end.kv_revision > 100 && end.compacted_revision > 0);
		check_reload(&first_state, &end);
		world_close();

		for (uint32_t batch = 7; batch <= 700; batch *= 10)
		{
			Buf			again_state;
			Buf			again_rows;

			world_open(UINT64_MAX);
			enable_auth();
			run_entries(entries, NENTRIES, batch, batch < 700);
			again_state = dump_state();
			again_rows = dump_rows();
			assert_same(&first_state, &again_state);
			assert_same(&first_rows, &again_rows);
			world_close();
		}
	}
	mcx_destroy(keep);
}

int
main(void)
{
#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_WORLD(test_put_answers),
		WITH_WORLD(test_delete_and_txn_answers),
		WITH_WORLD(test_rows),
		WITH_WORLD(test_barrier),
		WITH_WORLD(test_skips_what_is_applied),
		WITH_WORLD(test_panics),
		WITH_WORLD(test_right_at_apply),
		WITH_WORLD(test_old_credentials_at_apply),
		WITH_WORLD(test_revoked_in_the_same_batch),
		WITH_WORLD(test_right_in_nested_txn),
		WITH_WORLD(test_admin_only),
		WITH_WORLD(test_failing_txn),
		WITH_WORLD(test_failing_auth_op),
		WITH_WORLD(test_authenticate),
		cmocka_unit_test(test_replay_makes_no_tokens),
		WITH_WORLD(test_member_publish),
		WITH_WORLD(test_alarms),
		WITH_WORLD(test_compaction),
		WITH_WORLD(test_removal_needs_no_entry),
		cmocka_unit_test(test_same_entries_same_state),
	};
	int			rc = cmocka_run_group_tests(tests, NULL, NULL);

	free(rows);
	return rc;
}
