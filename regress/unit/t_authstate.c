/*
 * t_authstate.c
 *	  Every case of the auth operations, and the records of users and roles.
 *
 * The table holds the rows of etcd-auth-semantics.md A2 and A7: what is asked
 * on a known state, what is answered, whether the auth revision moves and
 * whose tokens are void.  After an error the whole state must be what it was;
 * after a success what the sink was told must be enough to make the same state
 * anew from its records.
 */
/* needs: auth lease common storage/snap storage/ipc storage/lmgr utils/injection */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "auth/authentry.h"
#include "auth/authstate.h"

/* what the tests share */
#include "unit_auth.h"

/* ---- what a sink hears, kept as tables ---- */

typedef struct Row
{
	bool		is_role;
	Bytes		name;
	Bytes		record;
} Row;

static struct
{
	MemContext *mcx;
	Row			rows[256];
	uint32_t	nrows;
	uint64_t	auth_revision;
	bool		auth_enabled;
	uint32_t	nvoids;
	Bytes		voided;
} heard;

static void
heard_init(void)
{
	if (heard.mcx != NULL)
		mcx_destroy(heard.mcx);
	memset(&heard, 0, sizeof(heard));
	heard.mcx = mcx_create(NULL, "heard");
	heard.auth_revision = 1;
}

static void
heard_row(bool is_role, Bytes name, Bytes record)
{
	uint32_t	i = 0;

	while (i < heard.nrows && (heard.rows[i].is_role != is_role ||
							   !bytes_equal(heard.rows[i].name, name)))
		i++;
	if (record.data == NULL)
	{
		assert_true(i < heard.nrows);
		heard.rows[i] = heard.rows[--heard.nrows];
		return;
	}
	if (i == heard.nrows)
	{
		assert_true(heard.nrows < lengthof(heard.rows));
		heard.nrows++;
	}
	heard.rows[i] = (Row) {
		is_role, mcx_bytes_dup(heard.mcx, name),
		mcx_bytes_dup(heard.mcx, record)};
}

static void
hear_user(void *arg, Bytes name, const UserEntry *entry)
{
	Buf			buf;

	buf_init(&buf, heard.mcx);
	if (entry != NULL)
		user_encode(entry, &buf);
	heard_row(false, name, buf_bytes(&buf));
}

static void
hear_role(void *arg, Bytes name, const RoleEntry *entry)
{
	Buf			buf;

	buf_init(&buf, heard.mcx);
	if (entry != NULL)
		role_encode(entry, &buf);
	heard_row(true, name, buf_bytes(&buf));
}

static void
hear_auth(void *arg, const StoreVersion *draft)
{
	heard.auth_revision = draft->auth_revision;
	heard.auth_enabled = draft->auth_enabled;
}

static void
hear_void(void *arg, Bytes user)
{
	heard.nvoids++;
	heard.voided = mcx_bytes_dup(heard.mcx, user);
}

static const AuthSink sink = {
	hear_user, hear_role, hear_auth, hear_void, NULL};

static void
told(LogOp op)
{
	assert_error(auth_apply(store_draft(), &op, &sink), ERR_NONE);
}

/* ---- the whole state as bytes ---- */

static void
dump_interval_tree(const RoleEntry *role, bool write, Buf *out)
{
	const PermTree *tree = write ? &role->write : &role->read;
	RolePermCursor cursor;
	uint32_t	perm_type;
	KeyRange	range;
	uint64_t	n = 0;

	assert_null(permtree_check(tree));
	role_perms_begin(role, &cursor);
	while (role_perms_next(&cursor, &perm_type, &range))
	{
		bool		in = perm_type == PERM_READWRITE ||
			perm_type == (write ? PERM_WRITE : PERM_READ);

		n += in;
		if (in)
			assert_true(permtree_union_covers(&tree, 1, &range));
	}
	assert_int_equal(tree->nnodes, n);
	buf_put_u64(out, n);
}

static Bytes
dump(const StoreVersion *v, MemContext *mcx)
{
	Buf			out;
	CowCursor	cursor;
	const CowItem *item;

	buf_init(&out, mcx);
	buf_put_u64(&out, v->auth_revision);
	buf_put_u8(&out, v->auth_enabled);
	item = cowtree_seek(&v->users, &cursor, BYTES_EMPTY);
	for (; item != NULL; item = cowtree_next(&cursor))
	{
		const UserEntry *user = (const UserEntry *) item;

		buf_put_bytes(&out, cowitem_key(item));
		user_encode(user, &out);
		buf_put_u8(&out, user->is_admin);
		assert_int_equal(user->is_admin,
						 user_has_role(user, B(AUTH_ROOT_ROLE)));
	}
	item = cowtree_seek(&v->roles, &cursor, BYTES_EMPTY);
	for (; item != NULL; item = cowtree_next(&cursor))
	{
		const RoleEntry *role = (const RoleEntry *) item;

		buf_put_bytes(&out, cowitem_key(item));
		role_encode(role, &out);
		dump_interval_tree(role, false, &out);
		dump_interval_tree(role, true, &out);
	}
	return buf_bytes(&out);
}

/* what was told gives, loaded into an empty draft, what there is */
static void
check_heard(MemContext *mcx)
{
	StoreVersion *draft = store_draft();
	StoreVersion kept = *draft;
	Bytes		expected = dump(draft, mcx);

	draft->users = (CowTree) {0};
	draft->roles = (CowTree) {0};
	draft->auth_revision = heard.auth_revision;
	draft->auth_enabled = heard.auth_enabled;
	for (uint32_t i = 0; i < heard.nrows; i++)
	{
		const Row  *row = &heard.rows[i];

		if (row->is_role)
			assert_true(role_load(draft, row->name, row->record));
		else
			assert_true(user_load(draft, row->name, row->record));
	}
	assert_true(bytes_equal(dump(draft, mcx), expected));
	*draft = kept;
}

/* ---- the table ---- */

/*
 * Users root (role root), alice (reader, writer), carol (no password), admin2
 * (role root); roles reader [a,b) READ and k READWRITE, writer, idle; a role
 * object root only where the row says so.
 */
static void
make_known_state(bool with_root_role, bool enabled)
{
	told(op_user(LOGOP_USER_ADD, B("root"), B("$phc"), false));
	told(op_grant(LOGOP_USER_GRANT_ROLE, B("root"), B("root")));
	told(op_user(LOGOP_USER_ADD, B("alice"), B("$phc"), false));
	told(op_user(LOGOP_USER_ADD, B("carol"), B("ignored"), true));
	told(op_user(LOGOP_USER_ADD, B("admin2"), B("$phc"), false));
	told(op_grant(LOGOP_USER_GRANT_ROLE, B("admin2"), B("root")));
	told(op_role(LOGOP_ROLE_ADD, B("reader")));
	told(op_role(LOGOP_ROLE_ADD, B("writer")));
	told(op_role(LOGOP_ROLE_ADD, B("idle")));
	if (with_root_role)
		told(op_role(LOGOP_ROLE_ADD, B("root")));
	told(op_perm(LOGOP_ROLE_GRANT_PERMISSION, B("reader"), PERM_READ, B("a"),
				 B("b")));
	told(op_perm(LOGOP_ROLE_GRANT_PERMISSION, B("reader"), PERM_READWRITE,
				 B("k"), BYTES_EMPTY));
	told(op_grant(LOGOP_USER_GRANT_ROLE, B("alice"), B("writer")));
	told(op_grant(LOGOP_USER_GRANT_ROLE, B("alice"), B("reader")));
	if (enabled)
		told(op_plain(LOGOP_AUTH_ENABLE));
}

enum
{
	OFF = 1,					/* the row holds while auth is off */
	ON = 2,
	BOTH = 3
};

static const uint8_t long_name[AUTH_MAX_NAME_BYTES + 1] = "x";
static const uint8_t long_phc[AUTH_MAX_PHC_BYTES + 1] = "x";

typedef struct Case
{
	const char *what;
	int			when;
	LogOp		op;
	ErrCode		error;
	int			bump;
	const char *voids;			/* NULL: nobody's tokens; "": all */
} Case;

#define USER(what_, name, phc) \
	{.kind = LOGOP_USER_##what_, .user = {B(name), B(phc), false}}
#define GRANT(what_, user_, role_) \
	{.kind = LOGOP_USER_##what_##_ROLE, .grant = {B(user_), B(role_)}}
#define ROLE(what_, name_) \
	{.kind = LOGOP_ROLE_##what_, .role = {.name = B(name_)}}
#define PERM(what_, role_, type_, ...) \
	{.kind = LOGOP_ROLE_##what_##_PERMISSION, \
	 .role = {B(role_), type_, __VA_ARGS__}}
#define SPAN(b, e) {KEYRANGE_SPAN, B(b), B(e)}
#define POINT(b) {KEYRANGE_POINT, B(b), {NULL, 0}}
#define FROM(b) {KEYRANGE_FROM, B(b), {NULL, 0}}

static const Case cases[] = {
	{"enable", OFF,
		{.kind = LOGOP_AUTH_ENABLE},
		ERR_NONE, 0, NULL},
	{"enable again", ON,
		{.kind = LOGOP_AUTH_ENABLE},
		ERR_NONE, 0, NULL},
	{"disable while off", OFF,
		{.kind = LOGOP_AUTH_DISABLE},
		ERR_NONE, 0, NULL},
	{"disable", ON,
		{.kind = LOGOP_AUTH_DISABLE},
		ERR_NONE, 1, ""},

	{"user add", BOTH,
		USER(ADD, "bob", "$x"),
		ERR_NONE, 1, NULL},
	{"user add, no name", BOTH,
		USER(ADD, "", "$x"),
		ERR_USER_EMPTY, 0, NULL},
	{"user add, exists", BOTH,
		USER(ADD, "alice", "$x"),
		ERR_USER_ALREADY_EXIST, 0, NULL},
	{"user add, long name", BOTH,
		{.kind = LOGOP_USER_ADD,
		 .user = {{long_name, sizeof(long_name)}, B("$x"), false}},
		ERR_NAME_TOO_LONG, 0, NULL},
	{"user add, longest name", BOTH,
		{.kind = LOGOP_USER_ADD,
		 .user = {{long_name, AUTH_MAX_NAME_BYTES}, B("$x"), false}},
		ERR_NONE, 1, NULL},
	{"user add, long hash", BOTH,
		{.kind = LOGOP_USER_ADD,
		 .user = {B("bob"), {long_phc, sizeof(long_phc)}, false}},
		ERR_BAD_HASHED_PASSWORD, 0, NULL},
	{"user add, empty hash", BOTH,
		USER(ADD, "bob", ""),
		ERR_NONE, 1, NULL},

	{"user delete", BOTH,
		USER(DELETE, "alice", ""),
		ERR_NONE, 1, "alice"},
	{"user delete, missing", BOTH,
		USER(DELETE, "bob", ""),
		ERR_USER_NOT_FOUND, 0, NULL},
	{"user delete, no name", BOTH,
		USER(DELETE, "", ""),
		ERR_USER_NOT_FOUND, 0, NULL},
	{"user delete, another admin", BOTH,
		USER(DELETE, "admin2", ""),
		ERR_NONE, 1, "admin2"},
	{"user delete root", OFF,
		USER(DELETE, "root", ""),
		ERR_NONE, 1, "root"},
	{"user delete root", ON,
		USER(DELETE, "root", ""),
		ERR_INVALID_AUTH_MGMT, 0, NULL},

	{"password", BOTH,
		USER(CHANGE_PASSWORD, "alice", "$y"),
		ERR_NONE, 1, "alice"},
	{"password of root", BOTH,
		USER(CHANGE_PASSWORD, "root", "$y"),
		ERR_NONE, 1, "root"},
	{"password, empty hash", BOTH,
		USER(CHANGE_PASSWORD, "alice", ""),
		ERR_NONE, 1, "alice"},
	{"password, missing user", BOTH,
		USER(CHANGE_PASSWORD, "bob", "$y"),
		ERR_USER_NOT_FOUND, 0, NULL},
	{"password of a no-password user", BOTH,
		USER(CHANGE_PASSWORD, "carol", "$y"),
		ERR_NONE, 1, "carol"},
	{"password, long hash", BOTH,
		{.kind = LOGOP_USER_CHANGE_PASSWORD,
		 .user = {B("alice"), {long_phc, sizeof(long_phc)}, false}},
		ERR_BAD_HASHED_PASSWORD, 0, NULL},

	{"grant role", BOTH,
		GRANT(GRANT, "alice", "idle"),
		ERR_NONE, 1, NULL},
	{"grant role, has it", BOTH,
		GRANT(GRANT, "alice", "reader"),
		ERR_NONE, 0, NULL},
	{"grant role, missing user", BOTH,
		GRANT(GRANT, "bob", "nothing"),
		ERR_USER_NOT_FOUND, 0, NULL},
	{"grant role, missing role", BOTH,
		GRANT(GRANT, "alice", "nothing"),
		ERR_ROLE_NOT_FOUND, 0, NULL},
	{"grant role, no name", BOTH,
		GRANT(GRANT, "alice", ""),
		ERR_ROLE_NOT_FOUND, 0, NULL},
	{"grant root without such a role", BOTH,
		GRANT(GRANT, "alice", "root"),
		ERR_NONE, 1, NULL},

	{"revoke role", BOTH,
		GRANT(REVOKE, "alice", "reader"),
		ERR_NONE, 1, NULL},
	{"revoke role, not held", BOTH,
		GRANT(REVOKE, "alice", "idle"),
		ERR_ROLE_NOT_GRANTED, 0, NULL},
	{"revoke role, no such role", BOTH,
		GRANT(REVOKE, "alice", "nothing"),
		ERR_ROLE_NOT_GRANTED, 0, NULL},
	{"revoke role, missing user", BOTH,
		GRANT(REVOKE, "bob", "reader"),
		ERR_USER_NOT_FOUND, 0, NULL},
	{"revoke root of root", OFF,
		GRANT(REVOKE, "root", "root"),
		ERR_NONE, 1, NULL},
	{"revoke root of root", ON,
		GRANT(REVOKE, "root", "root"),
		ERR_INVALID_AUTH_MGMT, 0, NULL},
	{"revoke root of another admin", BOTH,
		GRANT(REVOKE, "admin2", "root"),
		ERR_NONE, 1, NULL},

	{"role add", BOTH,
		ROLE(ADD, "new"),
		ERR_NONE, 1, NULL},
	{"role add, no name", BOTH,
		ROLE(ADD, ""),
		ERR_ROLE_EMPTY, 0, NULL},
	{"role add, exists", BOTH,
		ROLE(ADD, "reader"),
		ERR_ROLE_ALREADY_EXIST, 0, NULL},
	{"role add, long name", BOTH,
		{.kind = LOGOP_ROLE_ADD,
		 .role = {.name = {long_name, sizeof(long_name)}}},
		ERR_NAME_TOO_LONG, 0, NULL},
	{"role delete", BOTH,
		ROLE(DELETE, "reader"),
		ERR_NONE, 1, NULL},
	{"role delete, missing", BOTH,
		ROLE(DELETE, "nothing"),
		ERR_ROLE_NOT_FOUND, 0, NULL},
	{"role delete root, no such role", OFF,
		ROLE(DELETE, "root"),
		ERR_ROLE_NOT_FOUND, 0, NULL},
	{"role delete root", ON,
		ROLE(DELETE, "root"),
		ERR_INVALID_AUTH_MGMT, 0, NULL},

	{"grant span", BOTH,
		PERM(GRANT, "writer", PERM_WRITE, SPAN("a", "b")),
		ERR_NONE, 1, NULL},
	{"grant point", BOTH,
		PERM(GRANT, "writer", PERM_WRITE, POINT("a")),
		ERR_NONE, 1, NULL},
	{"grant from", BOTH,
		PERM(GRANT, "writer", PERM_READWRITE, FROM("\0")),
		ERR_NONE, 1, NULL},
	{"grant, same again", BOTH,
		PERM(GRANT, "reader", PERM_READ, SPAN("a", "b")),
		ERR_NONE, 1, NULL},
	{"grant, other type", BOTH,
		PERM(GRANT, "reader", PERM_WRITE, SPAN("a", "b")),
		ERR_NONE, 1, NULL},
	{"grant, unknown type", BOTH,
		PERM(GRANT, "reader", 77, SPAN("a", "z")),
		ERR_NONE, 1, NULL},
	{"grant, no key", BOTH,
		PERM(GRANT, "writer", PERM_READ, POINT("")),
		ERR_INVALID_AUTH_MGMT, 0, NULL},
	{"grant, no key, open end", BOTH,
		PERM(GRANT, "writer", PERM_READ, FROM("")),
		ERR_INVALID_AUTH_MGMT, 0, NULL},
	{"grant, no key, an end", BOTH,
		PERM(GRANT, "writer", PERM_READ, SPAN("", "b")),
		ERR_INVALID_AUTH_MGMT, 0, NULL},
	{"grant, ends where it begins", BOTH,
		PERM(GRANT, "writer", PERM_READ, SPAN("b", "b")),
		ERR_INVALID_AUTH_MGMT, 0, NULL},
	{"grant, inverted", BOTH,
		PERM(GRANT, "writer", PERM_READ, SPAN("b", "a")),
		ERR_INVALID_AUTH_MGMT, 0, NULL},
	{"grant, inverted, and no such role", BOTH,
		PERM(GRANT, "nothing", PERM_READ, SPAN("b", "a")),
		ERR_INVALID_AUTH_MGMT, 0, NULL},
	{"grant, no such role", BOTH,
		PERM(GRANT, "nothing", PERM_READ, SPAN("a", "b")),
		ERR_ROLE_NOT_FOUND, 0, NULL},
	{"grant, a kind nobody made", BOTH,
		PERM(GRANT, "writer", PERM_READ, {(KeyRangeKind) 9, B("a"), B("b")}),
		ERR_INVALID_AUTH_MGMT, 0, NULL},

	{"revoke permission", BOTH,
		PERM(REVOKE, "reader", 0, SPAN("a", "b")),
		ERR_NONE, 1, NULL},
	{"revoke READWRITE", BOTH,
		PERM(REVOKE, "reader", 0, POINT("k")),
		ERR_NONE, 1, NULL},
	{"revoke, other end", BOTH,
		PERM(REVOKE, "reader", 0, SPAN("a", "c")),
		ERR_PERMISSION_NOT_GRANTED, 0, NULL},
	{"revoke, span that is the key", BOTH,
		PERM(REVOKE, "reader", 0, SPAN("k", "k\0")),
		ERR_PERMISSION_NOT_GRANTED, 0, NULL},
	{"revoke, from that key", BOTH,
		PERM(REVOKE, "reader", 0, FROM("k")),
		ERR_PERMISSION_NOT_GRANTED, 0, NULL},
	{"revoke, no key", BOTH,
		PERM(REVOKE, "reader", 0, POINT("")),
		ERR_PERMISSION_NOT_GRANTED, 0, NULL},
	{"revoke, no such role", BOTH,
		PERM(REVOKE, "nothing", 0, SPAN("a", "b")),
		ERR_ROLE_NOT_FOUND, 0, NULL},

	{"not an auth operation", BOTH,
		{.kind = LOGOP_COMPACT},
		ERR_INTERNAL, 0, NULL},
};

static void
run_case(const Case *c, bool enabled)
{
	MemContext *mcx = mcx_create(NULL, "case");
	StoreVersion *draft;
	uint64_t	revision;
	Bytes		before;
	ErrCode		error;

	unit_store_open();
	heard_init();
	make_known_state(false, enabled);
	store_publish();
	draft = store_draft();
	revision = draft->auth_revision;
	before = dump(draft, mcx);
	heard.nvoids = 0;

	error = auth_apply(draft, &c->op, &sink);
	if (error != c->error ||
		draft->auth_revision != revision + (uint64_t) c->bump ||
		heard.nvoids != (c->voids != NULL) ||
		(c->voids != NULL && !bytes_equal_cstr(heard.voided, c->voids)))
		fail_msg("%s (auth %s): %s, revision +%d, %u voided", c->what,
				 enabled ? "on" : "off", err_info(error)->symbol,
				 (int) (draft->auth_revision - revision), heard.nvoids);
	if (error != ERR_NONE && !bytes_equal(dump(draft, mcx), before))
		fail_msg("%s: refused, but something has changed", c->what);
	check_heard(mcx);
	unit_store_close();
	mcx_destroy(mcx);
}

static void
test_every_case(void **state)
{
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		if (cases[i].when & OFF)
			run_case(&cases[i], false);
		if (cases[i].when & ON)
			run_case(&cases[i], true);
	}
}

/* ---- what a row of the table cannot say ---- */

static void
test_enable_needs_root_with_role_root(void **state)
{
	LogOp		enable = op_plain(LOGOP_AUTH_ENABLE);

	unit_store_open();
	assert_error(auth_apply(store_draft(), &enable, NULL),
				 ERR_ROOT_USER_NOT_EXIST);
	add_user("root");
	assert_error(auth_apply(store_draft(), &enable, NULL),
				 ERR_ROOT_ROLE_NOT_EXIST);
	add_role("root");
	assert_error(auth_apply(store_draft(), &enable, NULL),
				 ERR_ROOT_ROLE_NOT_EXIST);
	assert_false(store_draft()->auth_enabled);
	give_role("root", "root");
	assert_error(auth_apply(store_draft(), &enable, NULL), ERR_NONE);
	assert_true(store_draft()->auth_enabled);
	/* etcd's usual setup ends at 4 */
	assert_int_equal(store_draft()->auth_revision, 4);
	unit_store_close();
}

static void
test_deleting_role_root_takes_it_from_everybody(void **state)
{
	unit_store_open();
	heard_init();
	make_known_state(true, false);
	assert_true(auth_user(store_draft(), B("admin2"))->is_admin);
	told(op_role(LOGOP_ROLE_DELETE, B("root")));
	assert_false(auth_user(store_draft(), B("admin2"))->is_admin);
	assert_false(auth_user(store_draft(), B("root"))->is_admin);
	check_heard(heard.mcx);
	unit_store_close();
}

static void
test_deleted_role_is_nobodys(void **state)
{
	const UserEntry *alice;
	uint64_t	cred_rev;

	unit_store_open();
	heard_init();
	make_known_state(false, true);
	cred_rev = auth_user(store_draft(), B("alice"))->cred_rev;
	told(op_role(LOGOP_ROLE_DELETE, B("reader")));
	alice = auth_user(store_draft(), B("alice"));
	assert_false(user_has_role(alice, B("reader")));
	assert_true(user_has_role(alice, B("writer")));
	assert_int_equal(alice->nroles, 1);
	assert_int_equal(alice->cred_rev, cred_rev);
	assert_true(bytes_equal(user_phc(alice), B("$phc")));

	/* one of the same name begins empty */
	told(op_role(LOGOP_ROLE_ADD, B("reader")));
	assert_int_equal(auth_role(store_draft(), B("reader"))->perms.nitems, 0);
	unit_store_close();
}

static void
test_credential_revision(void **state)
{
	StoreVersion *draft;
	const UserEntry *alice;
	uint64_t	cred_rev;

	unit_store_open();
	draft = store_draft();
	add_user("alice");
	alice = auth_user(draft, B("alice"));
	assert_int_equal(alice->cred_rev, 2);
	assert_int_equal(draft->auth_revision, 2);

	/* what others do leaves it */
	add_user("bob");
	add_role("r");
	give_role("alice", "r");
	alice = auth_user(draft, B("alice"));
	assert_int_equal(alice->cred_rev, 2);

	apply_ok(op_user(LOGOP_USER_CHANGE_PASSWORD, B("alice"), B("$new"),
					 false));
	alice = auth_user(draft, B("alice"));
	assert_int_equal(alice->cred_rev, draft->auth_revision);
	assert_true(bytes_equal(user_phc(alice), B("$new")));
	assert_true(user_has_role(alice, B("r")));

	/* deleted and added again: another credential, no roles */
	cred_rev = alice->cred_rev;
	apply_ok(op_user(LOGOP_USER_DELETE, B("alice"), BYTES_EMPTY, false));
	add_user("alice");
	alice = auth_user(draft, B("alice"));
	assert_true(alice->cred_rev > cred_rev);
	assert_int_equal(alice->nroles, 0);
	unit_store_close();
}

static void
test_no_password_user_keeps_no_hash(void **state)
{
	const UserEntry *carol;

	unit_store_open();
	apply_ok(op_user(LOGOP_USER_ADD, B("carol"), B("$phc"), true));
	carol = auth_user(store_draft(), B("carol"));
	assert_true(carol->no_password);
	assert_int_equal(carol->phc_len, 0);
	apply_ok(op_user(LOGOP_USER_CHANGE_PASSWORD, B("carol"), B("$new"),
					 false));
	carol = auth_user(store_draft(), B("carol"));
	assert_true(carol->no_password);
	assert_int_equal(carol->phc_len, 0);
	assert_int_equal(carol->cred_rev, store_draft()->auth_revision);
	unit_store_close();
}

/* D1 no. 1: with several range_ends per key, etcd appends a duplicate */
static void
test_downgrade_to_read_takes_write_away(void **state)
{
	const RoleEntry *role;
	const PermTree *write;
	KeyRange	range = keyrange_make(B("a"), B("c"));

	unit_store_open();
	add_role("r");
	give_perm("r", PERM_READ, B("a"), BYTES_EMPTY);
	give_perm("r", PERM_READ, B("a"), B("b"));
	give_perm("r", PERM_READWRITE, B("a"), B("c"));
	role = auth_role(store_draft(), B("r"));
	write = &role->write;
	assert_true(permtree_union_covers(&write, 1, &range));
	give_perm("r", PERM_READ, B("a"), B("c"));
	role = auth_role(store_draft(), B("r"));
	write = &role->write;
	assert_false(permtree_union_covers(&write, 1, &range));
	assert_int_equal(role->perms.nitems, 3);
	assert_int_equal(role->write.nnodes, 0);
	unit_store_close();
}

static void
test_unknown_type_is_kept_and_grants_nothing(void **state)
{
	const RoleEntry *role;
	RolePermCursor cursor;
	uint32_t	perm_type;
	KeyRange	range;

	unit_store_open();
	add_role("r");
	give_perm("r", PERM_READWRITE, B("a"), B("b"));
	give_perm("r", (PermType) 7, B("a"), B("b"));
	role = auth_role(store_draft(), B("r"));
	assert_int_equal(role->read.nnodes, 0);
	assert_int_equal(role->write.nnodes, 0);
	role_perms_begin(role, &cursor);
	assert_true(role_perms_next(&cursor, &perm_type, &range));
	assert_int_equal(perm_type, 7);
	assert_false(role_perms_next(&cursor, &perm_type, &range));
	unit_store_close();
}

static void
test_permissions_are_sorted_by_key_then_end(void **state)
{
	static const struct
	{
		Bytes		key;
		Bytes		end;
	}			sorted[] = {
		{B("\0"), {NULL, 0}}, {B("\0"), B("\0")}, {B("\0\0"), {NULL, 0}},
		{B("\0\xff"), B("b")}, {B("a"), {NULL, 0}}, {B("a"), B("\0")},
		{B("a"), B("a\0")}, {B("a"), B("b")}, {B("a\0"), {NULL, 0}},
		{B("a\0"), B("b")}, {B("a\0\0"), {NULL, 0}}, {B("a\0\1"), {NULL, 0}},
		{B("a\0a"), {NULL, 0}}, {B("a\1"), {NULL, 0}}, {B("ab"), {NULL, 0}},
		{B("b"), {NULL, 0}},
	};
	RolePermCursor cursor;
	uint32_t	perm_type;
	KeyRange	range;

	unit_store_open();
	add_role("r");
	for (size_t i = 0; i < lengthof(sorted); i++)
	{
		/* 7 and 16 have no common divisor: every one, in another order */
		size_t		j = i * 7 % lengthof(sorted);

		give_perm("r", PERM_READ, sorted[j].key, sorted[j].end);
	}
	role_perms_begin(auth_role(store_draft(), B("r")), &cursor);
	for (size_t i = 0; i < lengthof(sorted); i++)
	{
		assert_true(role_perms_next(&cursor, &perm_type, &range));
		assert_true(bytes_equal(range.begin, sorted[i].key));
		assert_true(bytes_equal(keyrange_wire_end(&range), sorted[i].end));
	}
	assert_false(role_perms_next(&cursor, &perm_type, &range));
	unit_store_close();
}

static void
test_roles_are_sorted_and_unique(void **state)
{
	static const char *const names[] = {"m", "c", "root", "z", "a", "ab", "m"};
	static const char *const sorted[] = {"a", "ab", "c", "m", "root", "z"};
	RoleNameCursor cursor;
	Bytes		name;

	unit_store_open();
	add_user("u");
	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (auth_role(store_draft(), bytes_from_cstr(names[i])) == NULL)
			add_role(names[i]);
		give_role("u", names[i]);
	}
	cursor = user_roles(auth_user(store_draft(), B("u")));
	for (size_t i = 0; i < lengthof(sorted); i++)
	{
		assert_true(user_roles_next(&cursor, &name));
		assert_true(bytes_equal_cstr(name, sorted[i]));
	}
	assert_false(user_roles_next(&cursor, &name));
	unit_store_close();
}

/* ---- random history: told is enough, nothing leaks ---- */

static Bytes
pick(const char *const *names, uint32_t n)
{
	return bytes_from_cstr(names[unit_random(n)]);
}

static LogOp
random_op(void)
{
	static const char *const users[] = {"root", "a", "b", "c", "d", ""};
	static const char *const roles[] = {"root", "r1", "r2", "r3", "r4", ""};
	static const char *const keys[] = {"a", "b", "c", "d", "e", ""};
	LogOpKind	kind = (LogOpKind) (LOGOP_AUTH_ENABLE + unit_random(11));
	LogOp		op = {.kind = kind};

	switch (kind)
	{
		case LOGOP_USER_ADD:
		case LOGOP_USER_DELETE:
		case LOGOP_USER_CHANGE_PASSWORD:
			return op_user(kind, pick(users, 6), B("$phc"),
						   unit_random(4) == 0);
		case LOGOP_USER_GRANT_ROLE:
		case LOGOP_USER_REVOKE_ROLE:
			return op_grant(kind, pick(users, 6), pick(roles, 6));
		case LOGOP_ROLE_ADD:
		case LOGOP_ROLE_DELETE:
			return op_role(kind, pick(roles, 6));
		case LOGOP_ROLE_GRANT_PERMISSION:
		case LOGOP_ROLE_REVOKE_PERMISSION:
			return op_perm(kind, pick(roles, 6), unit_random(4), pick(keys, 6),
						   unit_random(6) == 0 ? OPEN_END : pick(keys, 6));
		default:
			return op;
	}
}

static void
drop_everything(void)
{
	StoreVersion *draft = store_draft();
	CowCursor	cursor;
	const CowItem *item;

	item = cowtree_seek(&draft->users, &cursor, BYTES_EMPTY);
	for (; item != NULL; item = cowtree_next(&cursor))
		user_retire((const UserEntry *) item);
	item = cowtree_seek(&draft->roles, &cursor, BYTES_EMPTY);
	for (; item != NULL; item = cowtree_next(&cursor))
		role_drop((const RoleEntry *) item);
	cowtree_drop(&draft->users);
	cowtree_drop(&draft->roles);
}

static void
test_random_history(void **state)
{
	for (uint64_t seed = 1; seed <= 8; seed++)
	{
		MemContext *mcx = mcx_create(NULL, "history");
		size_t		used;

		unit_seed(seed);
		unit_store_open();
		heard_init();
		store_publish();
		store_reclaim();
		used = store_bytes_used();
		for (int step = 0; step < 3000; step++)
		{
			LogOp		op = random_op();
			uint64_t	revision = store_draft()->auth_revision;
			ErrCode		error = auth_apply(store_draft(), &op, &sink);

			if (error != ERR_NONE)
				assert_int_equal(store_draft()->auth_revision, revision);
			if (unit_random(4) == 0)
				store_publish();
			if (unit_random(4) == 0)
				store_reclaim();
			if (step % 100 == 0)
			{
				check_heard(mcx);
				mcx_reset(mcx);
			}
		}
		mcx_destroy(mcx);
		unit_store_close();

		/* again without the loads, which leave their entries behind */
		unit_seed(seed);
		unit_store_open();
		for (int step = 0; step < 1000; step++)
		{
			LogOp		op = random_op();

			auth_apply(store_draft(), &op, NULL);
			if (unit_random(4) == 0)
				store_publish();
		}
		drop_everything();
		store_publish();
		while (store_reclaim() > 0)
			;
		assert_int_equal(store_bytes_used(), used);
		unit_store_close();
	}
}

/* ---- records ---- */

static void
make_rich_state(void)
{
	add_user("u");
	for (int i = 0; i < 9; i++)
	{
		char		name[16];

		snprintf(name, sizeof(name), "role%d", i);
		add_role(name);
		give_role("u", name);
	}
	give_perm("role1", PERM_READ, B("a"), B("b"));
	give_perm("role1", PERM_WRITE, B("a"), BYTES_EMPTY);
	give_perm("role1", PERM_READWRITE, B("a\0b"), B("a\0c"));
	give_perm("role1", PERM_READWRITE, B("\0"), OPEN_END);
	give_perm("role1", (PermType) 300, B("q"), OPEN_END);
}

typedef bool (*LoadFn) (StoreVersion *draft, Bytes name, Bytes record);

/* neither a cut nor a changed nor a longer record is taken */
static void
check_damage(LoadFn load, Bytes name, Bytes record)
{
	uint8_t    *copy = xmalloc(record.len + 1);
	StoreVersion *draft = store_draft();

	for (size_t len = 0; len < record.len; len++)
	{
		/* its own block, so that reading on is seen by ASan */
		uint8_t    *cut = xmalloc(len + 1);

		memcpy(cut, record.data, len);
		assert_false(load(draft, name, bytes_make(cut, len)));
		free(cut);
	}
	memcpy(copy, record.data, record.len);
	copy[record.len] = 0;
	assert_false(load(draft, name, bytes_make(copy, record.len + 1)));
	for (size_t i = 0; i < record.len; i++)
	{
		for (int flip = 1; flip < 256; flip++)
		{
			copy[i] = record.data[i] ^ (uint8_t) flip;
			assert_false(load(draft, name, bytes_make(copy, record.len)));
		}
		copy[i] = record.data[i];
	}
	assert_false(load(draft, B("other"), record));
	assert_false(load(draft, BYTES_EMPTY, record));
	assert_false(load(draft, bytes_make(long_name, sizeof(long_name)),
					  record));
	assert_true(load(draft, name, record));
	/* a second one of the same name */
	assert_false(load(draft, name, record));
	free(copy);
}

static void
test_damaged_records_are_refused(void **state)
{
	Buf			user;
	Buf			role;

	buf_init(&user, NULL);
	buf_init(&role, NULL);
	unit_store_open();
	make_rich_state();
	user_encode(auth_user(store_draft(), B("u")), &user);
	role_encode(auth_role(store_draft(), B("role1")), &role);
	store_draft()->users = (CowTree) {0};
	store_draft()->roles = (CowTree) {0};
	check_damage(user_load, B("u"), buf_bytes(&user));
	check_damage(role_load, B("role1"), buf_bytes(&role));
	/* a user's record is no role's */
	assert_false(role_load(store_draft(), B("u"), buf_bytes(&user)));
	unit_store_close();
	buf_free(&user);
	buf_free(&role);
}

/*
 * Records with a right checksum that this program cannot have written: made
 * here field by field.
 */

static uint32_t
slow_crc32c(uint32_t crc, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ UINT32_C(0x82f63b78) : crc >> 1;
	}
	return crc;
}

static bool
load_sealed(LoadFn load, Bytes name, Buf *record)
{
	uint8_t		len[2] = {(uint8_t) name.len, (uint8_t) (name.len >> 8)};
	uint32_t	crc = slow_crc32c(UINT32_MAX, len, sizeof(len));
	bool		taken;

	crc = slow_crc32c(crc, name.data, name.len);
	buf_put_u32(record, ~slow_crc32c(crc, record->data, record->len));
	taken = load(store_draft(), name, buf_bytes(record));
	buf_free(record);
	return taken;
}

static Buf
user_head(uint8_t version, uint8_t flags, uint64_t cred_rev, Bytes phc)
{
	Buf			buf;

	buf_init(&buf, NULL);
	buf_put_u8(&buf, version);
	buf_put_u8(&buf, flags);
	buf_put_u64(&buf, cred_rev);
	buf_put_bytes(&buf, phc);
	return buf;
}

static Buf
user_record(uint64_t nroles, const char *const *roles, uint32_t n)
{
	Buf			buf = user_head(1, 0, 2, B("$phc"));

	buf_put_varint(&buf, nroles);
	for (uint32_t i = 0; i < n; i++)
		buf_put_bytes(&buf, bytes_from_cstr(roles[i]));
	return buf;
}

static void
test_unsound_user_records_are_refused(void **state)
{
	static const char *const sorted[] = {"a", "b"};
	static const char *const unsorted[] = {"b", "a"};
	static const char *const twice[] = {"a", "a"};
	static const char *const unnamed[] = {"", "a"};
	Bytes		name = B("u");
	Buf			buf;

	unit_store_open();
	/* the maker itself makes good ones */
	buf = user_record(2, sorted, 2);
	assert_true(load_sealed(user_load, B("good"), &buf));

	buf = user_record(2, unsorted, 2);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_record(2, twice, 2);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_record(2, unnamed, 2);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_record(1, sorted, 2);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_record(3, sorted, 2);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_record(UINT64_MAX, sorted, 2);
	assert_false(load_sealed(user_load, name, &buf));

	buf = user_head(2, 0, 2, B("$phc"));	/* version */
	buf_put_varint(&buf, 0);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_head(1, 2, 2, B("$phc"));	/* a flag without meaning */
	buf_put_varint(&buf, 0);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_head(1, 1, 2, B("$phc"));	/* no password, yet a hash */
	buf_put_varint(&buf, 0);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_head(1, 0, 0, B("$phc"));	/* never set */
	buf_put_varint(&buf, 0);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_head(1, 0, 2, bytes_make(long_phc, sizeof(long_phc)));
	buf_put_varint(&buf, 0);
	assert_false(load_sealed(user_load, name, &buf));
	buf = user_head(1, 0, 2, B("$phc"));	/* 0 in two bytes */
	buf_put_u8(&buf, 0x80);
	buf_put_u8(&buf, 0x00);
	assert_false(load_sealed(user_load, name, &buf));
	assert_null(auth_user(store_draft(), name));
	unit_store_close();
}

typedef struct PermField
{
	uint64_t	type;
	Bytes		key;
	Bytes		end;
} PermField;

static bool
load_perms(Bytes name, uint64_t count, const PermField *perms, uint32_t n)
{
	Buf			buf;

	buf_init(&buf, NULL);
	buf_put_u8(&buf, 1);
	buf_put_varint(&buf, count);
	for (uint32_t i = 0; i < n; i++)
	{
		buf_put_varint(&buf, perms[i].type);
		buf_put_bytes(&buf, perms[i].key);
		buf_put_bytes(&buf, perms[i].end);
	}
	return load_sealed(role_load, name, &buf);
}

static void
test_unsound_role_records_are_refused(void **state)
{
	const PermField good[] = {{0, B("a"), B("b")}, {1, B("a"), B("c")}};
	const PermField unsorted[] = {{0, B("a"), B("c")}, {1, B("a"), B("b")}};
	const PermField twice[] = {{0, B("a"), B("b")}, {1, B("a"), B("b")}};
	const PermField keyless[] = {{0, B(""), B("b")}};
	const PermField everything[] = {{2, B(""), B("\0")}};
	const PermField inverted[] = {{0, B("b"), B("a")}};
	const PermField wide_type[] = {{UINT64_C(1) << 32, B("a"), B("b")}};
	Bytes		name = B("r");

	unit_store_open();
	assert_true(load_perms(B("good"), 2, good, 2));
	assert_true(load_perms(B("empty"), 0, NULL, 0));
	assert_false(load_perms(name, 2, unsorted, 2));
	assert_false(load_perms(name, 2, twice, 2));
	assert_false(load_perms(name, 1, keyless, 1));
	assert_false(load_perms(name, 1, everything, 1));
	assert_false(load_perms(name, 1, inverted, 1));
	assert_false(load_perms(name, 1, wide_type, 1));
	assert_false(load_perms(name, 1, good, 2));
	assert_false(load_perms(name, 3, good, 2));
	assert_false(load_perms(name, UINT64_MAX, good, 2));
	assert_null(auth_role(store_draft(), name));
	unit_store_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_case),
		cmocka_unit_test(test_enable_needs_root_with_role_root),
		cmocka_unit_test(test_deleting_role_root_takes_it_from_everybody),
		cmocka_unit_test(test_deleted_role_is_nobodys),
		cmocka_unit_test(test_credential_revision),
		cmocka_unit_test(test_no_password_user_keeps_no_hash),
		cmocka_unit_test(test_downgrade_to_read_takes_write_away),
		cmocka_unit_test(test_unknown_type_is_kept_and_grants_nothing),
		cmocka_unit_test(test_permissions_are_sorted_by_key_then_end),
		cmocka_unit_test(test_roles_are_sorted_and_unique),
		cmocka_unit_test(test_random_history),
		cmocka_unit_test(test_damaged_records_are_refused),
		cmocka_unit_test(test_unsound_user_records_are_refused),
		cmocka_unit_test(test_unsound_role_records_are_refused),
	};
	int			failed = cmocka_run_group_tests(tests, NULL, NULL);

	if (heard.mcx != NULL)
		mcx_destroy(heard.mcx);
	return failed;
}
