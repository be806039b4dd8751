/*
 * t_authorize.c
 *	  Who may do what: each need against each identity, each operation against
 *	  its needs, and etcd's advisories one by one.
 *
 * alice holds the role `app`: READ [a,b), WRITE [w,x), READWRITE key k, READ
 * key p.  root is the admin; boss is another, by certificate only.
 */
/* needs: auth lease common storage/snap storage/ipc storage/lmgr utils/injection */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "auth/authorize.h"
#include "auth/authstate.h"
#include "lease/lease.h"

/* what the tests share */
#include "unit_auth.h"

#define LEASE_THAT_EXISTS 7
#define LEASE_OF_NOBODY 8
/* alice may read, write, and the one key but not the other */
#define LEASE_READABLE 9
#define LEASE_WRITABLE 10
#define LEASE_MIXED 11

static MemContext *mcx;

/* a key on a lease, which is made if there is none */
static void
hang(int64_t lease, const char *key)
{
	size_t		len = strlen(key);
	KvVersion  *kv = store_alloc(sizeof(*kv) + len);

	memset(kv, 0, sizeof(*kv));
	kv->item.key_len = (uint32_t) len;
	kv->item.key_offset = offsetof(KvVersion, bytes);
	kv->version = 1;
	kv->lease = lease;
	memcpy(kv->bytes, key, len);
	(void) lease_grant(store_draft(), lease, 100);
	assert_true(lease_attach(store_draft(), kv));
}

static int
setup(void **state)
{
	mcx = mcx_create(NULL, "test");
	unit_store_open();
	enable_auth();
	add_user("alice");
	add_user("boss");
	give_role("boss", "root");
	add_user("bob");
	add_role("app");
	add_role("other");
	give_perm("app", PERM_READ, B("a"), B("b"));
	give_perm("app", PERM_WRITE, B("w"), B("x"));
	give_perm("app", PERM_READWRITE, B("k"), BYTES_EMPTY);
	give_perm("app", PERM_READ, B("p"), BYTES_EMPTY);
	give_role("alice", "app");
	hang(LEASE_THAT_EXISTS, "zz");
	hang(LEASE_READABLE, "ab");
	hang(LEASE_READABLE, "az");
	hang(LEASE_WRITABLE, "k");
	hang(LEASE_WRITABLE, "w");
	hang(LEASE_WRITABLE, "wx");
	hang(LEASE_MIXED, "k");
	hang(LEASE_MIXED, "k0");
	return 0;
}

static int
teardown(void **state)
{
	unit_store_close();
	mcx_destroy(mcx);
	return 0;
}

/* ---- who ---- */

typedef enum Who
{
	ANONYMOUS,
	CN_UNKNOWN,
	CN_EMPTY,
	TOKEN_GONE,					/* of a user that does not exist */
	TOKEN_STALE,				/* of alice, before she was re-keyed */
	TOKEN_STALE_ADMIN,
	ALICE,
	ALICE_CN,
	ROOT,
	BOSS_CN,
	SERVER,
	WHO_COUNT
} Who;

static const char *const who_names[WHO_COUNT] = {
	"anonymous", "unknown CN", "empty CN", "token of nobody", "stale token",
	"stale token of root", "alice", "alice by CN", "root", "boss by CN",
	"the server"};

static uint64_t
cred_rev_of(const char *name)
{
	return auth_user(store_draft(), bytes_from_cstr(name))->cred_rev;
}

static Identity
identity_of(Who who)
{
	switch (who)
	{
		case CN_UNKNOWN:
			return (Identity) {IDENTITY_CN, B("mallory"), 0};
		case CN_EMPTY:
			return (Identity) {IDENTITY_CN, BYTES_EMPTY, 0};
		case TOKEN_GONE:
			return (Identity) {IDENTITY_TOKEN, B("mallory"), 2};
		case TOKEN_STALE:
			return (Identity) {
				IDENTITY_TOKEN, B("alice"), cred_rev_of("alice") - 1};
		case TOKEN_STALE_ADMIN:
			return (Identity) {
				IDENTITY_TOKEN, B("root"), cred_rev_of("root") - 1};
		case ALICE:
			return (Identity) {
				IDENTITY_TOKEN, B("alice"), cred_rev_of("alice")};
		case ALICE_CN:
			return (Identity) {IDENTITY_CN, B("alice"), 0};
		case ROOT:
			return (Identity) {
				IDENTITY_TOKEN, B("root"), cred_rev_of("root")};
		case BOSS_CN:
			return (Identity) {IDENTITY_CN, B("boss"), 0};
		case SERVER:
			return (Identity) {IDENTITY_INTERNAL, BYTES_EMPTY, 0};
		case ANONYMOUS:
		case WHO_COUNT:
			break;
	}
	return (Identity) {IDENTITY_NONE, BYTES_EMPTY, 0};
}

/* ---- each need against each identity ---- */

typedef enum Openness
{
	USERS,						/* users, as the case says; and admins */
	EVERYBODY,
	THE_SERVER,
	NO_ONE						/* not even the server */
} Openness;

typedef struct NeedCase
{
	const char *what;
	AccessOp	op;
	ErrCode		user;			/* what alice is answered */
	Openness	open_to;
} NeedCase;

#define ON_RANGE(need_, key, end) \
	{.need = need_, .range = keyrange_make(B(key), end)}
#define ON_NAME(need_, name_) {.need = need_, .name = B(name_)}
#define ON_LEASE(need_, lease_) {.need = need_, .lease = lease_}

static void
check_need(const NeedCase *c, Who who)
{
	Identity	identity = identity_of(who);
	ErrCode		expected;
	ErrCode		answer;
	AccessList	list;

	if (c->open_to == NO_ONE || (c->open_to == THE_SERVER && who != SERVER))
		expected = ERR_PERMISSION_DENIED;
	else if (c->open_to == EVERYBODY || who == SERVER || who == ROOT ||
			 who == BOSS_CN)
		expected = ERR_NONE;
	else if (who == ANONYMOUS || who == CN_UNKNOWN || who == CN_EMPTY)
		expected = ERR_USER_EMPTY;
	else if (who == TOKEN_GONE || who == TOKEN_STALE ||
			 who == TOKEN_STALE_ADMIN)
		expected = ERR_INVALID_AUTH_TOKEN;
	else
		expected = c->user;

	access_init(&list, mcx);
	access_add(&list, NEED_NOBODY);
	list.ops[0] = c->op;
	answer = authorize(store_draft(), &identity, &list);
	if (answer != expected)
		fail_msg("%s, %s: %s, expected %s", c->what, who_names[who],
				 err_info(answer)->symbol, err_info(expected)->symbol);

	/* while auth is off all is allowed but what nobody may */
	store_draft()->auth_enabled = false;
	assert_error(authorize(store_draft(), &identity, &list),
				 c->open_to == NO_ONE ||
				 (c->open_to == THE_SERVER && who != SERVER) ?
				 ERR_PERMISSION_DENIED : ERR_NONE);
	store_draft()->auth_enabled = true;
}

static void
test_each_need_against_each_identity(void **state)
{
	const ErrCode no = ERR_PERMISSION_DENIED;
	const NeedCase needs[] = {
		{"nobody", {.need = NEED_NOBODY}, ERR_NONE, EVERYBODY},
		{"identity", {.need = NEED_IDENTITY}, ERR_NONE, USERS},
		{"admin", {.need = NEED_ADMIN}, no, USERS},
		{"read key", ON_RANGE(NEED_READ, "ab", BYTES_EMPTY), ERR_NONE, USERS},
		{"read span", ON_RANGE(NEED_READ, "a", B("b")), ERR_NONE, USERS},
		{"read wider", ON_RANGE(NEED_READ, "a", B("b\0")), no, USERS},
		{"read behind", ON_RANGE(NEED_READ, "b", BYTES_EMPTY), no, USERS},
		{"read all", ON_RANGE(NEED_READ, "\0", OPEN_END), no, USERS},
		{"read what one may write",
		ON_RANGE(NEED_READ, "w", BYTES_EMPTY), no, USERS},
		{"write key", ON_RANGE(NEED_WRITE, "wa", BYTES_EMPTY), ERR_NONE, USERS},
		{"write span", ON_RANGE(NEED_WRITE, "w", B("wz")), ERR_NONE, USERS},
		{"write what one may read",
		ON_RANGE(NEED_WRITE, "ab", BYTES_EMPTY), no, USERS},
		{"read k", ON_RANGE(NEED_READ, "k", BYTES_EMPTY), ERR_NONE, USERS},
		{"write k", ON_RANGE(NEED_WRITE, "k", BYTES_EMPTY), ERR_NONE, USERS},
		{"oneself", ON_NAME(NEED_SELF_OR_ADMIN, "alice"), ERR_NONE, USERS},
		{"another", ON_NAME(NEED_SELF_OR_ADMIN, "bob"), no, USERS},
		{"no name", {.need = NEED_SELF_OR_ADMIN}, no, USERS},
		{"held role", ON_NAME(NEED_ROLE_OR_ADMIN, "app"), ERR_NONE, USERS},
		{"other role", ON_NAME(NEED_ROLE_OR_ADMIN, "other"), no, USERS},
		{"role root", ON_NAME(NEED_ROLE_OR_ADMIN, "root"), no, USERS},
		{"no role", {.need = NEED_ROLE_OR_ADMIN}, no, USERS},
		{"no lease",
		ON_LEASE(NEED_LEASE_WRITE, LEASE_OF_NOBODY), ERR_NONE, USERS},
		{"a lease", ON_LEASE(NEED_LEASE_WRITE, LEASE_THAT_EXISTS), no, USERS},
		{"no lease, read",
		ON_LEASE(NEED_LEASE_READ, LEASE_OF_NOBODY), ERR_NONE, USERS},
		{"a lease, read",
		ON_LEASE(NEED_LEASE_READ, LEASE_THAT_EXISTS), no, USERS},
		{"a lease that one may read",
		ON_LEASE(NEED_LEASE_READ, LEASE_READABLE), ERR_NONE, USERS},
		{"a lease that one may read, write",
		ON_LEASE(NEED_LEASE_WRITE, LEASE_READABLE), no, USERS},
		{"a lease that one may write",
		ON_LEASE(NEED_LEASE_WRITE, LEASE_WRITABLE), ERR_NONE, USERS},
		{"a lease that one may write, read",
		ON_LEASE(NEED_LEASE_READ, LEASE_WRITABLE), no, USERS},
		{"a lease with another's key",
		ON_LEASE(NEED_LEASE_WRITE, LEASE_MIXED), no, USERS},
		{"every lease", {.need = NEED_EVERY_LEASE_READ}, no, USERS},
		{"internal", {.need = NEED_INTERNAL}, no, THE_SERVER},
		{"refused", {.need = NEED_REFUSED}, no, NO_ONE},
		{"a need nobody made", {.need = (AccessNeed) 99}, no, NO_ONE},
	};

	for (size_t i = 0; i < lengthof(needs); i++)
	{
		for (int who = 0; who < WHO_COUNT; who++)
			check_need(&needs[i], (Who) who);
	}
}

static void
test_an_empty_list_is_refused(void **state)
{
	for (int who = 0; who < WHO_COUNT; who++)
	{
		Identity	identity = identity_of((Who) who);
		AccessList	list;

		access_init(&list, mcx);
		assert_error(authorize(store_draft(), &identity, &list),
					 ERR_PERMISSION_DENIED);
	}
}

static void
test_the_first_need_that_fails_is_the_answer(void **state)
{
	Identity	alice = identity_of(ALICE);
	Identity	nobody = identity_of(ANONYMOUS);
	AccessList	list;

	access_init(&list, mcx);
	access_add(&list, NEED_NOBODY);
	for (int i = 0; i < 20; i++)
		access_add(&list, NEED_IDENTITY);
	assert_error(authorize(store_draft(), &alice, &list), ERR_NONE);
	access_add(&list, NEED_ADMIN);
	assert_error(authorize(store_draft(), &alice, &list),
				 ERR_PERMISSION_DENIED);
	assert_error(authorize(store_draft(), &nobody, &list), ERR_USER_EMPTY);
}

/* ---- operations ---- */

static ErrCode
may(Who who, const KvOp *op)
{
	Identity	identity = identity_of(who);
	AccessList	list;

	access_init(&list, mcx);
	access_add_kvop(&list, op);
	return authorize(store_draft(), &identity, &list);
}

static KvOp
range_op(Bytes key, Bytes range_end)
{
	return (KvOp) {
		.kind = KVOP_RANGE, .range = {.range = keyrange_make(key, range_end)}};
}

static KvOp
put_op(Bytes key)
{
	return (KvOp) {.kind = KVOP_PUT, .put = {.key = key, .value = B("v")}};
}

static KvOp
delete_op(Bytes key, Bytes range_end, bool prev_kv)
{
	return (KvOp) {
		.kind = KVOP_DELETE, .delete = {keyrange_make(key, range_end), prev_kv}};
}

static KvOp
txn_op(CompareOp *compare, KvOp *success, KvOp *failure)
{
	return (KvOp) {
		.kind = KVOP_TXN,
		.txn = {compare != NULL, success != NULL, failure != NULL, compare,
				success, failure}};
}

static CompareOp
compare_on(Bytes key, Bytes range_end)
{
	return (CompareOp) {.range = keyrange_make(key, range_end)};
}

#define allowed(op) assert_error(may(ALICE, op), ERR_NONE)
#define denied(op) assert_error(may(ALICE, op), ERR_PERMISSION_DENIED)

static void
test_plain_operations(void **state)
{
	KvOp		op;

	op = range_op(B("a"), B("b"));
	allowed(&op);
	assert_error(may(ANONYMOUS, &op), ERR_USER_EMPTY);
	assert_error(may(TOKEN_STALE, &op), ERR_INVALID_AUTH_TOKEN);
	op.range.count_only = true;
	op.range.range = keyrange_make(B("b"), B("c"));
	denied(&op);
	op.range.keys_only = true;
	denied(&op);
	op = put_op(B("w"));
	allowed(&op);
	op.put.ignore_value = true;
	op.put.ignore_lease = true;
	allowed(&op);
	op.put.prev_kv = true;
	denied(&op);
	op = put_op(B("k"));
	op.put.prev_kv = true;
	allowed(&op);
	op = delete_op(B("w"), B("x"), false);
	allowed(&op);
	op = delete_op(B("w"), B("x"), true);
	denied(&op);
	op = delete_op(B("k"), BYTES_EMPTY, true);
	allowed(&op);
	/* a prefix needs the full range */
	op = delete_op(B("w"), B("y"), false);
	denied(&op);
}

/* both branches count, whatever the compares would say */
static void
test_both_branches_and_compares(void **state)
{
	CompareOp	good = compare_on(B("a"), BYTES_EMPTY);
	CompareOp	bad = compare_on(B("w"), BYTES_EMPTY);
	CompareOp	wide = compare_on(B("a"), B("c"));
	KvOp		may_op = put_op(B("w"));
	KvOp		may_not = put_op(B("z"));
	KvOp		txn;

	txn = txn_op(&good, &may_op, &may_op);
	allowed(&txn);
	txn = txn_op(&good, &may_not, &may_op);
	denied(&txn);
	txn = txn_op(&good, &may_op, &may_not);
	denied(&txn);
	txn = txn_op(&bad, &may_op, NULL);
	denied(&txn);
	txn = txn_op(&wide, &may_op, NULL);
	denied(&txn);
	txn = txn_op(&bad, NULL, NULL);
	denied(&txn);
}

static void
test_an_empty_txn_needs_somebody(void **state)
{
	KvOp		inner = txn_op(NULL, NULL, NULL);
	KvOp		outer = txn_op(NULL, &inner, NULL);

	assert_error(may(ALICE, &outer), ERR_NONE);
	assert_error(may(ANONYMOUS, &inner), ERR_USER_EMPTY);
	assert_error(may(ANONYMOUS, &outer), ERR_USER_EMPTY);
	assert_error(may(TOKEN_GONE, &outer), ERR_INVALID_AUTH_TOKEN);
}

static void
test_unknown_kinds_are_refused(void **state)
{
	KvOp		unknown = {.kind = (KvOpKind) 9};
	KvOp		txn = txn_op(NULL, &unknown, NULL);
	LogOp		log = {.kind = (LogOpKind) 999};
	Identity	server = identity_of(SERVER);
	AccessList	list;

	assert_error(may(ROOT, &unknown), ERR_PERMISSION_DENIED);
	assert_error(may(ROOT, &txn), ERR_PERMISSION_DENIED);
	access_init(&list, mcx);
	access_add_logop(&list, &log);
	assert_error(authorize(store_draft(), &server, &list),
				 ERR_PERMISSION_DENIED);
}

static void
test_nesting_has_a_bound(void **state)
{
	KvOp		txns[LOGOP_MAX_TXN_DEPTH + 2];
	KvOp		put = put_op(B("w"));

	txns[0] = txn_op(NULL, &put, NULL);
	for (int i = 1; i < (int) lengthof(txns); i++)
		txns[i] = txn_op(NULL, &txns[i - 1], NULL);
	allowed(&txns[LOGOP_MAX_TXN_DEPTH - 1]);
	denied(&txns[LOGOP_MAX_TXN_DEPTH]);
	assert_error(may(ROOT, &txns[LOGOP_MAX_TXN_DEPTH + 1]),
				 ERR_PERMISSION_DENIED);
}

static ErrCode
may_log(Who who, LogOp op)
{
	Identity	identity = identity_of(who);
	AccessList	list;

	access_init(&list, mcx);
	access_add_logop(&list, &op);
	return authorize(store_draft(), &identity, &list);
}

static void
test_log_operations(void **state)
{
	LogOp		put = {.kind = LOGOP_PUT, .put = {.key = B("w")}};
	LogOp		delete = {
		.kind = LOGOP_DELETE,
		.delete = {.range = keyrange_make(B("w"), B("x"))}};
	LogOp		publish = op_plain(LOGOP_MEMBER_PUBLISH);
	LogOp		login = op_plain(LOGOP_AUTHENTICATE);

	assert_error(may_log(ALICE, put), ERR_NONE);
	assert_error(may_log(ANONYMOUS, put), ERR_USER_EMPTY);
	put.put.key = B("x");
	assert_error(may_log(ALICE, put), ERR_PERMISSION_DENIED);
	assert_error(may_log(ROOT, put), ERR_NONE);
	assert_error(may_log(ALICE, delete), ERR_NONE);
	assert_error(may_log(ALICE_CN, delete), ERR_NONE);
	assert_error(may_log(ANONYMOUS, login), ERR_NONE);
	assert_error(may_log(SERVER, publish), ERR_NONE);
	assert_error(may_log(ROOT, publish), ERR_PERMISSION_DENIED);
	store_draft()->auth_enabled = false;
	assert_error(may_log(ANONYMOUS, publish), ERR_PERMISSION_DENIED);
	store_draft()->auth_enabled = true;
}

static void
test_more_roles_than_a_few(void **state)
{
	KvOp		op = range_op(B("n0"), B("n9"));

	for (int i = 0; i < 90; i++)
	{
		char		role[16];
		char		begin[16];
		char		end[16];

		snprintf(role, sizeof(role), "n%02d", i);
		/* n0, n01, n02 ... n09, n1, n11 ...: no key between them */
		snprintf(begin, sizeof(begin), i % 10 == 0 ? "n%d" : "n%02d",
				 i % 10 == 0 ? i / 10 : i);
		snprintf(end, sizeof(end), i % 10 == 9 ? "n%d" : "n%02d",
				 i % 10 == 9 ? i / 10 + 1 : i + 1);
		denied(&op);
		add_role(role);
		give_perm(role, PERM_READ, bytes_from_cstr(begin),
				  bytes_from_cstr(end));
		give_role("alice", role);
	}
	allowed(&op);
	apply_ok(op_role(LOGOP_ROLE_DELETE, B("n45")));
	denied(&op);
}

/* ---- what went wrong elsewhere; etcd-auth-semantics.md D ---- */

/* ops nested in a txn in a txn were not checked */
static void
test_cve_2026_33343_nested_txn(void **state)
{
	CompareOp	bad_compare = compare_on(B("z"), BYTES_EMPTY);
	KvOp		bad[] = {
		range_op(B("z"), BYTES_EMPTY),
		put_op(B("z")),
		delete_op(B("z"), BYTES_EMPTY, false),
		txn_op(&bad_compare, NULL, NULL),
	};

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		for (int branches = 0; branches < 8; branches++)
		{
			KvOp		in = branches & 1 ? txn_op(NULL, &bad[i], NULL) :
				txn_op(NULL, NULL, &bad[i]);
			KvOp		mid = branches & 2 ? txn_op(NULL, &in, NULL) :
				txn_op(NULL, NULL, &in);
			KvOp		out = branches & 4 ? txn_op(NULL, &mid, NULL) :
				txn_op(NULL, NULL, &mid);

			denied(&out);
			assert_error(may(ANONYMOUS, &out), ERR_USER_EMPTY);
			assert_error(may(ROOT, &out), ERR_NONE);
		}
	}
}

/* prev_kv and the lease of a put inside a txn were not checked */
static void
test_cve_2026_44283_prev_kv_and_lease_in_txn(void **state)
{
	KvOp		put = put_op(B("w"));
	KvOp		txn = txn_op(NULL, &put, NULL);
	KvOp		nested = txn_op(NULL, NULL, &txn);

	allowed(&nested);
	put.put.prev_kv = true;
	denied(&txn);
	denied(&nested);
	put.put.prev_kv = false;
	put.put.lease = LEASE_THAT_EXISTS;
	denied(&put);
	denied(&txn);
	denied(&nested);
	assert_error(may(ROOT, &nested), ERR_NONE);
	put.put.lease = LEASE_OF_NOBODY;
	allowed(&nested);
	put = delete_op(B("w"), BYTES_EMPTY, true);
	denied(&nested);
}

/* a key's READ allowed watching, and reading, everything from that key on */
static void
test_ghsa_xg4h_point_grant_is_not_from_key(void **state)
{
	KvOp		point = range_op(B("p"), BYTES_EMPTY);
	KvOp		from = range_op(B("p"), OPEN_END);
	KvOp		next = range_op(B("p"), B("p\0"));
	KvOp		longer = range_op(B("p"), B("p\0\0"));

	allowed(&point);
	allowed(&next);
	denied(&from);
	denied(&longer);
	point = put_op(B("k"));
	from = delete_op(B("k"), OPEN_END, false);
	allowed(&point);
	denied(&from);
}

/* D1 no. 23: a range_end of no bytes and none at all are the same */
static void
test_d1_23_empty_range_end_is_absent(void **state)
{
	static const uint8_t nothing[1] = "x";
	KvOp		absent = range_op(B("p"), BYTES_EMPTY);
	KvOp		empty = range_op(B("p"), bytes_make(nothing, 0));

	assert_int_equal(absent.range.range.kind, KEYRANGE_POINT);
	assert_int_equal(empty.range.range.kind, KEYRANGE_POINT);
	allowed(&absent);
	allowed(&empty);
}

/* many calls could be made without authentication */
static void
test_cve_2026_33413_nothing_without_authentication(void **state)
{
	static const LogOpKind kinds[] = {
#define LOGOP(symbol, number, name) symbol,
#include "common/logoplist.h"
#undef LOGOP
	};

	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		ErrCode		nobody = may_log(ANONYMOUS, op_plain(kinds[i]));
		ErrCode		alice = may_log(ALICE, op_plain(kinds[i]));

		if (kinds[i] == LOGOP_AUTHENTICATE)
			continue;
		assert_error(nobody, kinds[i] == LOGOP_MEMBER_PUBLISH ||
					 kinds[i] == LOGOP_LEASE_CHECKPOINT ?
					 ERR_PERMISSION_DENIED : ERR_USER_EMPTY);

		/*
		 * The empty transaction is harmless; the quota tells on itself; every
		 * user may have leases, and nothing hangs on lease 0.
		 */
		assert_error(alice, kinds[i] == LOGOP_TXN ||
					 kinds[i] == LOGOP_QUOTA_REACHED ||
					 kinds[i] == LOGOP_LEASE_GRANT ||
					 kinds[i] == LOGOP_LEASE_REVOKE ||
					 kinds[i] == LOGOP_LEASE_RENEW ? ERR_NONE :
					 ERR_PERMISSION_DENIED);
	}
}

/* names of keys leaked through LeaseTimeToLive */
static void
test_cve_2023_32082_lease_keys_need_read(void **state)
{
	Identity	alice = identity_of(ALICE);
	AccessList	list;

	access_init(&list, mcx);
	access_add(&list, NEED_IDENTITY);
	access_add_lease(&list, NEED_LEASE_READ, LEASE_THAT_EXISTS);
	assert_error(authorize(store_draft(), &alice, &list),
				 ERR_PERMISSION_DENIED);
}

static ErrCode
may_lease(AccessNeed need, int64_t lease)
{
	Identity	alice = identity_of(ALICE);
	AccessList	list;

	access_init(&list, mcx);
	access_add_lease(&list, need, lease);
	return authorize(store_draft(), &alice, &list);
}

/*
 * The walk over a lease's keys jumps from grant to grant; random keys and
 * grants of two roles against asking for each key.
 */
static void
test_keys_of_a_lease_one_by_one(void **state)
{
	enum
	{
		LEASE = 50, ROUNDS = 300
	};
	uint32_t	nallowed = 0;

	srand(7);
	add_role("r1");
	add_role("r2");
	give_role("alice", "r1");
	give_role("alice", "r2");
	for (int round = 0; round < ROUNDS; round++)
	{
		int64_t		lease = LEASE + round;
		bool		all = true;
		char		key[4] = {0};
		char		end[4] = {0};

		/* few letters, so that grants touch and meet keys at their ends */
		snprintf(key, sizeof(key), "t%c", 'a' + rand() % 20);
		snprintf(end, sizeof(end), "t%c", 'a' + rand() % 20);
		if (rand() % 3 == 0)
			give_perm(rand() % 2 ? "r1" : "r2", PERM_WRITE,
					  bytes_from_cstr(key), BYTES_EMPTY);
		else if (strcmp(key, end) < 0 && end[1] - key[1] < 5)
			give_perm(rand() % 2 ? "r1" : "r2", PERM_WRITE,
					  bytes_from_cstr(key), bytes_from_cstr(end));
		(void) lease_grant(store_draft(), lease, 100);
		for (int n = 1 + rand() % 6; n > 0; n--)
		{
			KvOp		put;

			snprintf(key, sizeof(key), "t%c%s", 'a' + rand() % 20,
					 rand() % 3 == 0 ? "x" : "");
			hang(lease, key);
			put = put_op(bytes_from_cstr(key));
			all = may(ALICE, &put) == ERR_NONE && all;
		}
		assert_error(may_lease(NEED_LEASE_WRITE, lease),
					 all ? ERR_NONE : ERR_PERMISSION_DENIED);
		nallowed += all;
	}
	/* both answers are there */
	assert_in_range(nallowed, 20, ROUNDS - 20);
}

/* who may not read one key of one lease sees no list */
static void
test_every_lease(void **state)
{
	give_perm("app", PERM_READ, B("zz"), BYTES_EMPTY);
	assert_error(may_lease(NEED_EVERY_LEASE_READ, 0), ERR_PERMISSION_DENIED);
	give_perm("app", PERM_READ, B("w"), B("x"));
	assert_error(may_lease(NEED_EVERY_LEASE_READ, 0), ERR_PERMISSION_DENIED);
	give_perm("app", PERM_READ, B("k0"), BYTES_EMPTY);
	assert_error(may_lease(NEED_EVERY_LEASE_READ, 0), ERR_NONE);
	hang(77, "zy");
	assert_error(may_lease(NEED_EVERY_LEASE_READ, 0), ERR_PERMISSION_DENIED);
}

/* D1 no. 3: a token of a deleted or re-keyed admin kept its power */
static void
test_d1_3_old_credentials_have_no_power(void **state)
{
	Identity	old = identity_of(ALICE);
	AccessList	list;

	access_init(&list, mcx);
	access_add(&list, NEED_IDENTITY);
	assert_error(authorize(store_draft(), &old, &list), ERR_NONE);
	give_role("alice", "root");
	assert_error(authorize(store_draft(), &old, &list), ERR_NONE);

	apply_ok(op_user(LOGOP_USER_CHANGE_PASSWORD, B("alice"), B("$n"), false));
	assert_error(authorize(store_draft(), &old, &list),
				 ERR_INVALID_AUTH_TOKEN);
	old = identity_of(ALICE);
	apply_ok(op_user(LOGOP_USER_DELETE, B("alice"), BYTES_EMPTY, false));
	assert_error(authorize(store_draft(), &old, &list),
				 ERR_INVALID_AUTH_TOKEN);
	add_user("alice");
	assert_error(authorize(store_draft(), &old, &list),
				 ERR_INVALID_AUTH_TOKEN);
}

/* D1 no. 5: but nobody else's change takes a token away */
static void
test_d1_5_others_changes_leave_a_token(void **state)
{
	Identity	alice = identity_of(ALICE);
	KvOp		op = put_op(B("w"));
	AccessList	list;

	access_init(&list, mcx);
	access_add_kvop(&list, &op);
	add_user("newcomer");
	apply_ok(op_user(LOGOP_USER_DELETE, B("bob"), BYTES_EMPTY, false));
	give_perm("app", PERM_READ, B("z"), BYTES_EMPTY);
	assert_error(authorize(store_draft(), &alice, &list), ERR_NONE);
}

/* D1 no. 2, part F: what is revoked is gone with the next request */
static void
test_d1_2_revoked_is_gone_at_once(void **state)
{
	KvOp		put = put_op(B("w"));
	KvOp		get = range_op(B("a"), B("b"));

	allowed(&put);
	apply_ok(op_perm(LOGOP_ROLE_REVOKE_PERMISSION, B("app"), 0, B("w"),
					 B("x")));
	denied(&put);
	allowed(&get);
	apply_ok(op_grant(LOGOP_USER_REVOKE_ROLE, B("alice"), B("app")));
	denied(&get);
	apply_ok(op_grant(LOGOP_USER_REVOKE_ROLE, B("boss"), B("root")));
	assert_error(may(BOSS_CN, &get), ERR_PERMISSION_DENIED);
}

/* #14571: after a snapshot or restart the old permission cache decided */
static void
test_14571_loaded_state_decides_alike(void **state)
{
	StoreVersion *draft = store_draft();
	KvOp		ops[] = {
		range_op(B("a"), B("b")), range_op(B("a"), B("c")), put_op(B("w")),
		put_op(B("a")), put_op(B("k")), delete_op(B("k"), OPEN_END, true)};
	ErrCode		before[lengthof(ops)];
	Buf			alice;
	Buf			app;

	for (size_t i = 0; i < lengthof(ops); i++)
		before[i] = may(ALICE, &ops[i]);
	buf_init(&alice, mcx);
	buf_init(&app, mcx);
	user_encode(auth_user(draft, B("alice")), &alice);
	role_encode(auth_role(draft, B("app")), &app);
	draft->users = (CowTree) {0};
	draft->roles = (CowTree) {0};
	assert_true(user_load(draft, B("alice"), buf_bytes(&alice)));
	for (size_t i = 0; i < lengthof(ops); i++)
		denied(&ops[i]);
	assert_true(role_load(draft, B("app"), buf_bytes(&app)));
	for (size_t i = 0; i < lengthof(ops); i++)
		assert_error(may(ALICE, &ops[i]), before[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(test_each_need_against_each_identity),
		TEST(test_an_empty_list_is_refused),
		TEST(test_the_first_need_that_fails_is_the_answer),
		TEST(test_plain_operations),
		TEST(test_both_branches_and_compares),
		TEST(test_an_empty_txn_needs_somebody),
		TEST(test_unknown_kinds_are_refused),
		TEST(test_nesting_has_a_bound),
		TEST(test_log_operations),
		TEST(test_more_roles_than_a_few),
		TEST(test_cve_2026_33343_nested_txn),
		TEST(test_cve_2026_44283_prev_kv_and_lease_in_txn),
		TEST(test_ghsa_xg4h_point_grant_is_not_from_key),
		TEST(test_d1_23_empty_range_end_is_absent),
		TEST(test_cve_2026_33413_nothing_without_authentication),
		TEST(test_cve_2023_32082_lease_keys_need_read),
		TEST(test_keys_of_a_lease_one_by_one),
		TEST(test_every_lease),
		TEST(test_d1_2_revoked_is_gone_at_once),
		TEST(test_d1_3_old_credentials_have_no_power),
		TEST(test_d1_5_others_changes_leave_a_token),
		TEST(test_14571_loaded_state_decides_alike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
