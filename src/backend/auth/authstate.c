/*
 * authstate.c
 *	  The operations that change users, roles and permissions.
 *
 * One function for each kind of operation; the order of its checks is etcd's,
 * because the first one that fails is the answer.  Nothing is changed before
 * the last check, so an error leaves the draft as it was.
 *
 * Whether the caller may do it at all is not asked here: apply has called
 * authorize() on the same draft.
 *
 * Rules: etcd-auth-semantics.md A2, A7, A8.  Where we differ: granting a
 * (key, range_end) that a role has replaces it exactly (D1 no. 1), names are
 * bounded (D1 no. 24).
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/authentry.h"
#include "auth/authstate.h"

/* a change under way: what is changed and who is told */
typedef struct Change
{
	StoreVersion *draft;
	const AuthSink *sink;
} Change;

static ErrCode auth_enable(const Change *change);
static ErrCode auth_disable(const Change *change);
static ErrCode user_add(const Change *change, const LogOp *op);
static ErrCode user_delete(const Change *change, const LogOp *op);
static ErrCode user_change_password(const Change *change, const LogOp *op);
static ErrCode user_grant_role(const Change *change, const LogOp *op);
static ErrCode user_revoke_role(const Change *change, const LogOp *op);
static ErrCode role_add(const Change *change, const LogOp *op);
static ErrCode role_delete(const Change *change, const LogOp *op);
static ErrCode role_grant_permission(const Change *change, const LogOp *op);
static ErrCode role_revoke_permission(const Change *change, const LogOp *op);

static void take_role_from_everybody(const Change *change, Bytes role);
static void replace_user(const Change *change, const UserEntry *old,
						 const UserParts *parts);
static void replace_roles(const Change *change, const UserEntry *old,
						  const Bytes *roles, uint32_t nroles);
static void put_role(const Change *change, const RoleEntry *role);
static Bytes *copy_role_names(const UserEntry *user);
static uint32_t names_insert(Bytes *names, uint32_t n, Bytes name);
static uint32_t names_remove(Bytes *names, uint32_t n, Bytes name);
static void bump_revision(const Change *change);

static void tell_user(const Change *change, Bytes name,
					  const UserEntry *entry);
static void tell_role(const Change *change, Bytes name,
					  const RoleEntry *entry);
static void tell_auth(const Change *change);
static void tell_tokens_void(const Change *change, Bytes user);

ErrCode
auth_apply(StoreVersion *draft, const LogOp *op, const AuthSink *sink)
{
	Change		change = {draft, sink};

	switch (op->kind)
	{
		case LOGOP_AUTH_ENABLE:
			return auth_enable(&change);
		case LOGOP_AUTH_DISABLE:
			return auth_disable(&change);
		case LOGOP_USER_ADD:
			return user_add(&change, op);
		case LOGOP_USER_DELETE:
			return user_delete(&change, op);
		case LOGOP_USER_CHANGE_PASSWORD:
			return user_change_password(&change, op);
		case LOGOP_USER_GRANT_ROLE:
			return user_grant_role(&change, op);
		case LOGOP_USER_REVOKE_ROLE:
			return user_revoke_role(&change, op);
		case LOGOP_ROLE_ADD:
			return role_add(&change, op);
		case LOGOP_ROLE_DELETE:
			return role_delete(&change, op);
		case LOGOP_ROLE_GRANT_PERMISSION:
			return role_grant_permission(&change, op);
		case LOGOP_ROLE_REVOKE_PERMISSION:
			return role_revoke_permission(&change, op);
		default:
			return ERR_INTERNAL;
	}
}

/* ---- on and off ---- */

static ErrCode
auth_enable(const Change *change)
{
	const UserEntry *root;

	if (change->draft->auth_enabled)
		return ERR_NONE;
	root = auth_user(change->draft, BYTES_LITERAL(AUTH_ROOT_USER));
	if (root == NULL)
		return ERR_ROOT_USER_NOT_EXIST;
	if (!root->is_admin)
		return ERR_ROOT_ROLE_NOT_EXIST;
	change->draft->auth_enabled = true;
	tell_auth(change);
	return ERR_NONE;
}

static ErrCode
auth_disable(const Change *change)
{
	if (!change->draft->auth_enabled)
		return ERR_NONE;
	change->draft->auth_enabled = false;
	bump_revision(change);
	tell_tokens_void(change, BYTES_EMPTY);
	return ERR_NONE;
}

/* ---- users ---- */

static ErrCode
user_add(const Change *change, const LogOp *op)
{
	UserParts	parts = {
		.name = op->user.name,
		.no_password = op->user.no_password};

	if (parts.name.len == 0)
		return ERR_USER_EMPTY;
	if (parts.name.len > AUTH_MAX_NAME_BYTES)
		return ERR_NAME_TOO_LONG;
	if (op->user.phc.len > AUTH_MAX_PHC_BYTES)
		return ERR_BAD_HASHED_PASSWORD;
	if (auth_user(change->draft, parts.name) != NULL)
		return ERR_USER_ALREADY_EXIST;
	if (!parts.no_password)
		parts.phc = op->user.phc;
	bump_revision(change);
	parts.cred_rev = change->draft->auth_revision;
	replace_user(change, NULL, &parts);
	return ERR_NONE;
}

static ErrCode
user_delete(const Change *change, const LogOp *op)
{
	Bytes		name = op->user.name;
	const UserEntry *user;

	if (change->draft->auth_enabled && bytes_equal_cstr(name, AUTH_ROOT_USER))
		return ERR_INVALID_AUTH_MGMT;
	user = auth_user(change->draft, name);
	if (user == NULL)
		return ERR_USER_NOT_FOUND;
	cowtree_delete(&change->draft->users, name);
	user_retire(user);
	tell_user(change, name, NULL);
	bump_revision(change);
	tell_tokens_void(change, name);
	return ERR_NONE;
}

/* a user without password stays one: he gets a new credential revision only */
static ErrCode
user_change_password(const Change *change, const LogOp *op)
{
	const UserEntry *old = auth_user(change->draft, op->user.name);
	Bytes	   *roles;
	UserParts	parts;

	if (old == NULL)
		return ERR_USER_NOT_FOUND;
	if (op->user.phc.len > AUTH_MAX_PHC_BYTES)
		return ERR_BAD_HASHED_PASSWORD;
	bump_revision(change);
	roles = copy_role_names(old);
	parts = (UserParts) {
		.name = cowitem_key(&old->item),
		.cred_rev = change->draft->auth_revision,
		.no_password = old->no_password,
		.phc = old->no_password ? BYTES_EMPTY : op->user.phc,
		.roles = roles,
		.nroles = old->nroles};
	replace_user(change, old, &parts);
	free(roles);
	tell_tokens_void(change, op->user.name);
	return ERR_NONE;
}

static ErrCode
user_grant_role(const Change *change, const LogOp *op)
{
	const UserEntry *user = auth_user(change->draft, op->grant.user);
	Bytes		role = op->grant.role;
	Bytes	   *names;
	uint32_t	n;

	if (user == NULL)
		return ERR_USER_NOT_FOUND;
	/* the role root counts by its name, the object need not exist */
	if (!bytes_equal_cstr(role, AUTH_ROOT_ROLE) &&
		auth_role(change->draft, role) == NULL)
		return ERR_ROLE_NOT_FOUND;
	if (user_has_role(user, role))
		return ERR_NONE;
	if (user->nroles >= AUTH_MAX_USER_ROLES)
		return ERR_INVALID_AUTH_MGMT;
	names = copy_role_names(user);
	n = names_insert(names, user->nroles, role);
	replace_roles(change, user, names, n);
	free(names);
	bump_revision(change);
	return ERR_NONE;
}

static ErrCode
user_revoke_role(const Change *change, const LogOp *op)
{
	Bytes		role = op->grant.role;
	const UserEntry *user;
	Bytes	   *names;
	uint32_t	n;

	if (change->draft->auth_enabled &&
		bytes_equal_cstr(op->grant.user, AUTH_ROOT_USER) &&
		bytes_equal_cstr(role, AUTH_ROOT_ROLE))
		return ERR_INVALID_AUTH_MGMT;
	user = auth_user(change->draft, op->grant.user);
	if (user == NULL)
		return ERR_USER_NOT_FOUND;
	if (!user_has_role(user, role))
		return ERR_ROLE_NOT_GRANTED;
	names = copy_role_names(user);
	n = names_remove(names, user->nroles, role);
	replace_roles(change, user, names, n);
	free(names);
	bump_revision(change);
	return ERR_NONE;
}

/* ---- roles ---- */

static ErrCode
role_add(const Change *change, const LogOp *op)
{
	Bytes		name = op->role.name;

	if (name.len == 0)
		return ERR_ROLE_EMPTY;
	if (name.len > AUTH_MAX_NAME_BYTES)
		return ERR_NAME_TOO_LONG;
	if (auth_role(change->draft, name) != NULL)
		return ERR_ROLE_ALREADY_EXIST;
	put_role(change, role_make(name));
	bump_revision(change);
	return ERR_NONE;
}

static ErrCode
role_delete(const Change *change, const LogOp *op)
{
	Bytes		name = op->role.name;
	const RoleEntry *role;

	if (change->draft->auth_enabled && bytes_equal_cstr(name, AUTH_ROOT_ROLE))
		return ERR_INVALID_AUTH_MGMT;
	role = auth_role(change->draft, name);
	if (role == NULL)
		return ERR_ROLE_NOT_FOUND;
	take_role_from_everybody(change, name);
	cowtree_delete(&change->draft->roles, name);
	role_drop(role);
	tell_role(change, name, NULL);
	bump_revision(change);
	return ERR_NONE;
}

static ErrCode
role_grant_permission(const Change *change, const LogOp *op)
{
	const KeyRange *range = &op->role.range;
	const RoleEntry *old;
	RoleEntry  *role;

	if (!perm_range_is_valid(range))
		return ERR_INVALID_AUTH_MGMT;
	if (range->begin.len > AUTH_MAX_PERM_KEY_BYTES ||
		range->end.len > AUTH_MAX_PERM_KEY_BYTES)
		return ERR_REQUEST_TOO_LARGE;
	old = auth_role(change->draft, op->role.name);
	if (old == NULL)
		return ERR_ROLE_NOT_FOUND;
	role = role_copy(old);
	role_put_perm(role, op->role.perm_type, range);
	put_role(change, role);
	bump_revision(change);
	return ERR_NONE;
}

static ErrCode
role_revoke_permission(const Change *change, const LogOp *op)
{
	const RoleEntry *old = auth_role(change->draft, op->role.name);
	RoleEntry  *role;

	if (old == NULL)
		return ERR_ROLE_NOT_FOUND;
	if (!role_has_perm(old, &op->role.range))
		return ERR_PERMISSION_NOT_GRANTED;
	role = role_copy(old);
	role_remove_perm(role, &op->role.range);
	put_role(change, role);
	bump_revision(change);
	return ERR_NONE;
}

/* ---- static: what the cases share ---- */

/* the holders are collected first: the tree must not change under a cursor */
static void
take_role_from_everybody(const Change *change, Bytes role)
{
	const CowTree *users = &change->draft->users;
	const UserEntry **holders =
		xmalloc(users->nitems * sizeof(*holders) + 1);
	size_t		nholders = 0;
	CowCursor	cursor;
	const CowItem *item;

	item = cowtree_seek(users, &cursor, BYTES_EMPTY);
	for (; item != NULL; item = cowtree_next(&cursor))
	{
		const UserEntry *user = (const UserEntry *) item;

		if (user_has_role(user, role))
			holders[nholders++] = user;
	}
	for (size_t i = 0; i < nholders; i++)
	{
		Bytes	   *names = copy_role_names(holders[i]);
		uint32_t	n = names_remove(names, holders[i]->nroles, role);

		replace_roles(change, holders[i], names, n);
		free(names);
	}
	free(holders);
}

/* old NULL: a new user */
static void
replace_user(const Change *change, const UserEntry *old,
			 const UserParts *parts)
{
	const UserEntry *user = user_make(parts);

	cowtree_put(&change->draft->users, &user->item);
	if (old != NULL)
		user_retire(old);
	tell_user(change, cowitem_key(&user->item), user);
}

static void
replace_roles(const Change *change, const UserEntry *old, const Bytes *roles,
			  uint32_t nroles)
{
	UserParts	parts = {
		.name = cowitem_key(&old->item),
		.cred_rev = old->cred_rev,
		.no_password = old->no_password,
		.phc = user_phc(old),
		.roles = roles,
		.nroles = nroles};

	replace_user(change, old, &parts);
}

static void
put_role(const Change *change, const RoleEntry *role)
{
	const CowItem *old = cowtree_put(&change->draft->roles, &role->item);

	if (old != NULL)
		role_retire((const RoleEntry *) old);
	tell_role(change, cowitem_key(&role->item), role);
}

/* the user's role names and room for one more; heap */
static Bytes *
copy_role_names(const UserEntry *user)
{
	Bytes	   *names = xmalloc((user->nroles + 1) * sizeof(*names));
	RoleNameCursor cursor = user_roles(user);

	for (uint32_t i = 0; user_roles_next(&cursor, &names[i]); i++)
		;
	return names;
}

static uint32_t
names_insert(Bytes *names, uint32_t n, Bytes name)
{
	uint32_t	i = n;

	while (i > 0 && bytes_compare(names[i - 1], name) > 0)
	{
		names[i] = names[i - 1];
		i--;
	}
	names[i] = name;
	return n + 1;
}

static uint32_t
names_remove(Bytes *names, uint32_t n, Bytes name)
{
	uint32_t	kept = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		if (!bytes_equal(names[i], name))
			names[kept++] = names[i];
	}
	return kept;
}

static void
bump_revision(const Change *change)
{
	change->draft->auth_revision++;
	tell_auth(change);
}

/* ---- static: telling; a callback that is NULL does not want to know ---- */

static void
tell_user(const Change *change, Bytes name, const UserEntry *entry)
{
	if (change->sink != NULL && change->sink->on_user != NULL)
		change->sink->on_user(change->sink->arg, name, entry);
}

static void
tell_role(const Change *change, Bytes name, const RoleEntry *entry)
{
	if (change->sink != NULL && change->sink->on_role != NULL)
		change->sink->on_role(change->sink->arg, name, entry);
}

static void
tell_auth(const Change *change)
{
	if (change->sink != NULL && change->sink->on_auth != NULL)
		change->sink->on_auth(change->sink->arg, change->draft);
}

static void
tell_tokens_void(const Change *change, Bytes user)
{
	if (change->sink != NULL && change->sink->on_tokens_void != NULL)
		change->sink->on_tokens_void(change->sink->arg, user);
}
