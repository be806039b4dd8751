/*
 * authorize.c
 *	  May this identity do all of this on this version?
 *
 * The same function, with the same list, in the backend before anything is
 * proposed and in apply on the state that is changed.  It looks at nothing but
 * its arguments, so every member gives the same answer.
 *
 * Order (etcd-auth-semantics.md A9, with our changes from D1):
 *
 *	what nobody may: refused, whoever asks, also while auth is off
 *	the server itself, or auth is off: allowed
 *	for each need, the first that fails is the answer:
 *		open to everybody: allowed
 *		nobody in particular asks: user name is empty
 *		the token's user is gone, or has other credentials since: invalid token
 *		admin: allowed
 *		otherwise the need itself: allowed, or permission denied
 *
 * etcd answers a deleted user with "permission denied" or "user name not
 * found" and lets him pass where any identity will do; here his token is
 * invalid.  A certificate whose name is no user is nobody.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/authorize.h"
#include "auth/authstate.h"
#include "lease/lease.h"

#define FEW_ROLES 32

/* the trees of the caller's roles, collected when first needed */
typedef struct RoleTrees
{
	bool		collected;
	uint32_t	n;
	const PermTree **read;
	const PermTree **write;
	const PermTree *few_read[FEW_ROLES];
	const PermTree *few_write[FEW_ROLES];
} RoleTrees;

typedef struct Caller
{
	const StoreVersion *v;
	const UserEntry *user;		/* NULL: error says why */
	ErrCode		error;
	RoleTrees	roles;
} Caller;

static ErrCode check_list_is_sound(const AccessList *list, bool is_internal);
static void caller_find(Caller *caller, const Identity *identity);
static void caller_fini(Caller *caller);
static ErrCode check_op(Caller *caller, const AccessOp *op);
static ErrCode check_user_op(Caller *caller, const AccessOp *op);
static void collect_roles(Caller *caller);
static bool covers_every_lease(Caller *caller);
static bool covers_lease(Caller *caller, AccessNeed need,
						 const LeaseEntry *lease);
static PermReach furthest_reach(const PermTree *const *trees, uint32_t n,
								Bytes key);
static ErrCode allowed_if(bool condition);

ErrCode
authorize(const StoreVersion *v, const Identity *identity,
		  const AccessList *list)
{
	bool		is_internal = identity->kind == IDENTITY_INTERNAL;
	ErrCode		error = check_list_is_sound(list, is_internal);
	Caller		caller;

	if (error != ERR_NONE || is_internal || !v->auth_enabled)
		return error;

	/* not initialised as a whole: the arrays are large and seldom used */
	caller.v = v;
	caller.roles.collected = false;
	caller_find(&caller, identity);
	for (uint32_t i = 0; i < list->n && error == ERR_NONE; i++)
		error = check_op(&caller, &list->ops[i]);
	caller_fini(&caller);
	return error;
}

/*
 * A list that nobody filled is a request that nobody judged, and one with
 * NEED_REFUSED has something in it that nobody can judge.
 */
static ErrCode
check_list_is_sound(const AccessList *list, bool is_internal)
{
	if (list->n == 0)
		return ERR_PERMISSION_DENIED;
	for (uint32_t i = 0; i < list->n; i++)
	{
		AccessNeed	need = list->ops[i].need;

		/* it is the last of them: beyond are needs that nobody made */
		if (need >= NEED_REFUSED || (need == NEED_INTERNAL && !is_internal))
			return ERR_PERMISSION_DENIED;
	}
	return ERR_NONE;
}

static void
caller_find(Caller *caller, const Identity *identity)
{
	caller->user = NULL;
	caller->error = ERR_USER_EMPTY;
	switch (identity->kind)
	{
		case IDENTITY_TOKEN:
			caller->user = auth_user(caller->v, identity->user);
			if (caller->user == NULL ||
				caller->user->cred_rev != identity->cred_rev)
			{
				caller->user = NULL;
				caller->error = ERR_INVALID_AUTH_TOKEN;
			}
			break;
		case IDENTITY_CN:
			/* a certificate proves the name, whatever the password is now */
			caller->user = auth_user(caller->v, identity->user);
			break;
		case IDENTITY_NONE:
		case IDENTITY_INTERNAL:
			break;
	}
}

static void
caller_fini(Caller *caller)
{
	if (caller->roles.collected &&
		caller->roles.read != caller->roles.few_read)
	{
		free(caller->roles.read);
		free(caller->roles.write);
	}
}

static ErrCode
check_op(Caller *caller, const AccessOp *op)
{
	if (op->need == NEED_NOBODY)
		return ERR_NONE;
	if (caller->user == NULL)
		return caller->error;
	if (caller->user->is_admin)
		return ERR_NONE;
	return check_user_op(caller, op);
}

/* the caller is a user, and not an admin */
static ErrCode
check_user_op(Caller *caller, const AccessOp *op)
{
	const UserEntry *user = caller->user;

	switch (op->need)
	{
		case NEED_IDENTITY:
			return ERR_NONE;
		case NEED_READ:
			collect_roles(caller);
			return allowed_if(permtree_union_covers(
				caller->roles.read, caller->roles.n, &op->range));
		case NEED_WRITE:
			collect_roles(caller);
			return allowed_if(permtree_union_covers(
				caller->roles.write, caller->roles.n, &op->range));
		case NEED_SELF_OR_ADMIN:
			return allowed_if(bytes_equal(op->name, cowitem_key(&user->item)));
		case NEED_ROLE_OR_ADMIN:
			return allowed_if(user_has_role(user, op->name));
		case NEED_LEASE_WRITE:
		case NEED_LEASE_READ:
			return allowed_if(covers_lease(caller, op->need,
										   lease_find(caller->v, op->lease)));
		case NEED_EVERY_LEASE_READ:
			return allowed_if(covers_every_lease(caller));
		case NEED_NOBODY:
		case NEED_ADMIN:
		case NEED_INTERNAL:
		case NEED_REFUSED:
			break;
	}
	return ERR_PERMISSION_DENIED;
}

static bool
covers_every_lease(Caller *caller)
{
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&caller->v->leases, &cursor, BYTES_EMPTY);
		 item != NULL; item = cowtree_next(&cursor))
	{
		if (!covers_lease(caller, NEED_LEASE_READ, lease_from_item(item)))
			return false;
	}
	return true;
}

/*
 * All keys of a lease; nothing hangs on one that does not exist.  Where a
 * grant covers a key, the walk goes on behind the end of that grant, so it
 * costs a step for each grant that is needed and not for each key.
 */
static bool
covers_lease(Caller *caller, AccessNeed need, const LeaseEntry *lease)
{
	const PermTree *const *trees;
	LeaseKeyCursor cursor;
	const KvVersion *kv;

	if (lease == NULL)
		return true;
	collect_roles(caller);
	trees = need == NEED_LEASE_WRITE ? caller->roles.write :
		caller->roles.read;
	kv = lease_keys_seek(lease, &cursor, BYTES_EMPTY);
	while (kv != NULL)
	{
		Bytes		key = kvversion_key(kv);
		PermReach	reach = furthest_reach(trees, caller->roles.n, key);

		if (reach.kind == REACH_NOTHING)
			return false;
		if (reach.kind == REACH_OPEN)
			return true;
		if (bytes_equal(reach.end, key))
			kv = lease_keys_next(&cursor);
		else
			kv = lease_keys_seek(lease, &cursor, reach.end);
		/* the end of a grant of one key lies behind that key */
		if (kv != NULL && reach.end_plus_zero &&
			bytes_equal(kvversion_key(kv), reach.end))
			kv = lease_keys_next(&cursor);
	}
	return true;
}

/* how far grants that hold the key reach; REACH_NOTHING: none holds it */
static PermReach
furthest_reach(const PermTree *const *trees, uint32_t n, Bytes key)
{
	PermReach	best = {.kind = REACH_NOTHING};

	for (uint32_t i = 0; i < n && best.kind != REACH_OPEN; i++)
	{
		PermReach	reach = permtree_reach(trees[i], key, false);
		int			c;

		if (reach.kind == REACH_OPEN)
			best = reach;
		if (reach.kind != REACH_END)
			continue;
		c = bytes_compare(reach.end, key);
		/* it ends before the key, or where the key begins */
		if (c < 0 || (c == 0 && !reach.end_plus_zero))
			continue;
		c = best.kind == REACH_NOTHING ? 1 :
			bytes_compare(reach.end, best.end);
		if (c > 0 || (c == 0 && reach.end_plus_zero))
			best = reach;
	}
	return best;
}

/* a role that does not exist (root need not) gives nothing */
static void
collect_roles(Caller *caller)
{
	RoleTrees  *roles = &caller->roles;
	uint32_t	nroles = caller->user->nroles;
	RoleNameCursor cursor = user_roles(caller->user);
	Bytes		name;

	if (roles->collected)
		return;
	roles->collected = true;
	roles->n = 0;
	roles->read = roles->few_read;
	roles->write = roles->few_write;
	if (nroles > FEW_ROLES)
	{
		roles->read = xmalloc(nroles * sizeof(*roles->read));
		roles->write = xmalloc(nroles * sizeof(*roles->write));
	}
	while (user_roles_next(&cursor, &name))
	{
		const RoleEntry *role = auth_role(caller->v, name);

		if (role == NULL)
			continue;
		roles->read[roles->n] = &role->read;
		roles->write[roles->n] = &role->write;
		roles->n++;
	}
}

static ErrCode
allowed_if(bool condition)
{
	return condition ? ERR_NONE : ERR_PERMISSION_DENIED;
}
