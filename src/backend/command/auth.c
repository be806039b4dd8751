/*
 * auth.c
 *	  Users, roles, permissions, and switching authentication on and off.
 *
 * Authenticate stands in authenticate.c.  What changes something becomes a log
 * operation; the rules about users and roles that exist are apply's
 * (auth/authstate.h), only what the log operation cannot carry is judged here.
 * The right is asked for before anything else is looked at, so that a caller
 * without it learns nothing, and above all before a password is hashed.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"

/* this layer and below */
#include "auth/authstate.h"
#include "command/answer.h"
#include "command/command.h"
#include "command/pbbytes.h"
#include "command/secret.h"
#include "dispatch/dispatch.h"

enum
{
	AUTH_STATUS_ENABLED = 2,
	AUTH_STATUS_REVISION = 3,

	USER_GET_ROLES = 2,
	USER_LIST_USERS = 2,
	ROLE_GET_PERM = 2,
	ROLE_LIST_ROLES = 2,

	PERM_TYPE = 1,
	PERM_KEY = 2,
	PERM_RANGE_END = 3
};

static ReqResult propose_kind(Request *req, LogOpKind kind);
static ErrCode check_new_user(const LogOp *op, Bytes password);
static ErrCode check_new_phc(Bytes password, Bytes phc);
static ReqResult propose_hashed(Request *req, const LogOp *op, Bytes password);
static ReqResult on_hashed(Request *req, const HashJob *job);
static ErrCode check_permission(const Etcdserverpb__AuthRoleGrantPermissionRequest *m);

static ReqResult auth_status_at_point(Request *req);
static ErrCode auth_status_answer(Request *req, const StoreVersion *v);
static ReqResult user_get_at_point(Request *req);
static ErrCode user_get_answer(Request *req, const StoreVersion *v);
static ReqResult user_list_at_point(Request *req);
static ErrCode user_list_answer(Request *req, const StoreVersion *v);
static ReqResult role_get_at_point(Request *req);
static ErrCode role_get_answer(Request *req, const StoreVersion *v);
static ReqResult role_list_at_point(Request *req);
static ErrCode role_list_answer(Request *req, const StoreVersion *v);
static void put_names(Buf *out, unsigned field, const CowTree *tree);
static void put_permission(Buf *out, MemContext *mcx, uint32_t perm_type,
						   const KeyRange *range);

/* ---- on and off ---- */

ReqResult
command_auth_enable(Request *req)
{
	return propose_kind(req, LOGOP_AUTH_ENABLE);
}

ReqResult
command_auth_disable(Request *req)
{
	return propose_kind(req, LOGOP_AUTH_DISABLE);
}

/* Open to everybody, but a bad token is still a bad token. */
ReqResult
command_auth_status(Request *req)
{
	return request_read_barrier(req, auth_status_at_point);
}

/* ---- users ---- */

/* A hash that the client made (hashedPassword) is not taken. */
ReqResult
command_user_add(Request *req)
{
	Etcdserverpb__AuthUserAddRequest *message = req->message;
	Bytes		password = secret_take(req, message->password);
	LogOp		op = {
		.kind = LOGOP_USER_ADD,
		.user.name = bytes_from_cstr(message->name),
		.user.no_password = message->options != NULL &&
		message->options->no_password,
	};
	ErrCode		error;

	(void) secret_take(req, message->hashedpassword);
	error = request_permit(req, &op);
	if (error == ERR_NONE)
		error = check_new_user(&op, password);
	if (error != ERR_NONE)
		return request_fail(req, error);
	if (op.user.no_password)
		return request_propose(req, &op, NULL);
	/* an empty password is a password */
	return propose_hashed(req, &op, password);
}

ReqResult
command_user_delete(Request *req)
{
	const Etcdserverpb__AuthUserDeleteRequest *message = req->message;
	LogOp		op = {
		.kind = LOGOP_USER_DELETE,
		.user.name = bytes_from_cstr(message->name),
	};

	return request_propose(req, &op, NULL);
}

/*
 * Without a password a hash may be brought along, but only one that this
 * server could have made; without both nobody can log in as the user.
 */
ReqResult
command_user_change_password(Request *req)
{
	Etcdserverpb__AuthUserChangePasswordRequest *message = req->message;
	Bytes		password = secret_take(req, message->password);
	Bytes		phc = secret_take(req, message->hashedpassword);
	LogOp		op = {
		.kind = LOGOP_USER_CHANGE_PASSWORD,
		.user.name = bytes_from_cstr(message->name),
	};
	ErrCode		error = request_permit(req, &op);

	if (error == ERR_NONE)
		error = check_new_phc(password, phc);
	if (error != ERR_NONE)
		return request_fail(req, error);
	if (password.len > 0)
		return propose_hashed(req, &op, password);
	op.user.phc = phc;
	return request_propose(req, &op, NULL);
}

ReqResult
command_user_grant_role(Request *req)
{
	const Etcdserverpb__AuthUserGrantRoleRequest *message = req->message;
	LogOp		op = {
		.kind = LOGOP_USER_GRANT_ROLE,
		.grant.user = bytes_from_cstr(message->user),
		.grant.role = bytes_from_cstr(message->role),
	};

	return request_propose(req, &op, NULL);
}

ReqResult
command_user_revoke_role(Request *req)
{
	const Etcdserverpb__AuthUserRevokeRoleRequest *message = req->message;
	LogOp		op = {
		.kind = LOGOP_USER_REVOKE_ROLE,
		.grant.user = bytes_from_cstr(message->name),
		.grant.role = bytes_from_cstr(message->role),
	};

	return request_propose(req, &op, NULL);
}

ReqResult
command_user_get(Request *req)
{
	return request_read_barrier(req, user_get_at_point);
}

ReqResult
command_user_list(Request *req)
{
	return request_read_barrier(req, user_list_at_point);
}

/* ---- roles ---- */

ReqResult
command_role_add(Request *req)
{
	const Etcdserverpb__AuthRoleAddRequest *message = req->message;
	LogOp		op = {
		.kind = LOGOP_ROLE_ADD,
		.role.name = bytes_from_cstr(message->name),
	};
	ErrCode		error = request_permit(req, &op);

	if (error == ERR_NONE && op.role.name.len == 0)
		error = ERR_ROLE_EMPTY;
	if (error == ERR_NONE && op.role.name.len > AUTH_MAX_NAME_BYTES)
		error = ERR_NAME_TOO_LONG;
	if (error != ERR_NONE)
		return request_fail(req, error);
	return request_propose(req, &op, NULL);
}

ReqResult
command_role_delete(Request *req)
{
	const Etcdserverpb__AuthRoleDeleteRequest *message = req->message;
	LogOp		op = {
		.kind = LOGOP_ROLE_DELETE,
		.role.name = bytes_from_cstr(message->role),
	};

	return request_propose(req, &op, NULL);
}

ReqResult
command_role_grant_permission(Request *req)
{
	const Etcdserverpb__AuthRoleGrantPermissionRequest *message = req->message;
	LogOp		op = {
		.kind = LOGOP_ROLE_GRANT_PERMISSION,
		.role.name = bytes_from_cstr(message->name),
	};
	ErrCode		error = request_permit(req, &op);

	if (error == ERR_NONE)
		error = check_permission(message);
	if (error != ERR_NONE)
		return request_fail(req, error);
	op.role.perm_type = (uint32_t) message->perm->permtype;
	op.role.range = keyrange_make(pb_bytes(message->perm->key),
								  pb_bytes(message->perm->range_end));
	return request_propose(req, &op, NULL);
}

ReqResult
command_role_revoke_permission(Request *req)
{
	const Etcdserverpb__AuthRoleRevokePermissionRequest *message =
		req->message;
	LogOp		op = {
		.kind = LOGOP_ROLE_REVOKE_PERMISSION,
		.role.name = bytes_from_cstr(message->role),
		.role.range = keyrange_make(pb_bytes(message->key),
									pb_bytes(message->range_end)),
	};

	return request_propose(req, &op, NULL);
}

ReqResult
command_role_get(Request *req)
{
	return request_read_barrier(req, role_get_at_point);
}

ReqResult
command_role_list(Request *req)
{
	return request_read_barrier(req, role_list_at_point);
}

/* ---- changing ---- */

static ReqResult
propose_kind(Request *req, LogOpKind kind)
{
	LogOp		op = {.kind = kind};

	return request_propose(req, &op, NULL);
}

static ErrCode
check_new_user(const LogOp *op, Bytes password)
{
	if (op->user.name.len == 0)
		return ERR_USER_EMPTY;
	if (op->user.name.len > AUTH_MAX_NAME_BYTES)
		return ERR_NAME_TOO_LONG;
	if (!op->user.no_password && password.len > AUTH_MAX_PASSWORD_BYTES)
		return ERR_PASSWORD_TOO_LONG;
	return ERR_NONE;
}

static ErrCode
check_new_phc(Bytes password, Bytes phc)
{
	if (password.len > AUTH_MAX_PASSWORD_BYTES)
		return ERR_PASSWORD_TOO_LONG;
	if (password.len > 0 || phc.len == 0)
		return ERR_NONE;
	if (phc.len >= PASSWORD_PHC_BYTES || !password_phc_is_sound(phc))
		return ERR_BAD_HASHED_PASSWORD;
	return ERR_NONE;
}

static ReqResult
propose_hashed(Request *req, const LogOp *op, Bytes password)
{
	ReqResult	result;

	req->handler_state = mcx_memdup(req->mcx, op, sizeof(*op));
	result = request_hash(req, HASH_JOB_MAKE, password, BYTES_EMPTY, on_hashed);
	secret_forget(password);
	return result;
}

static ReqResult
on_hashed(Request *req, const HashJob *job)
{
	LogOp	   *op = req->handler_state;

	if (job->error != ERR_NONE)
		return request_fail(req, job->error);
	/* the job ends with this call, but the entry is encoded in it */
	op->user.phc = bytes_from_cstr(job->phc);
	return request_propose(req, op, NULL);
}

static ErrCode
check_permission(const Etcdserverpb__AuthRoleGrantPermissionRequest *m)
{
	KeyRange	range;

	if (m->perm == NULL)
		return ERR_PERMISSION_NOT_GIVEN;
	range = keyrange_make(pb_bytes(m->perm->key), pb_bytes(m->perm->range_end));
	if (m->perm->key.len == 0 || keyrange_is_empty(&range))
		return ERR_INVALID_AUTH_MGMT;
	return ERR_NONE;
}

/* ---- looking ---- */

static ReqResult
auth_status_at_point(Request *req)
{
	return answer_pinned_need(req, NEED_NOBODY, BYTES_EMPTY,
							  auth_status_answer);
}

static ErrCode
auth_status_answer(Request *req, const StoreVersion *v)
{
	pbwire_put_uint(&req->body, AUTH_STATUS_ENABLED, v->auth_enabled);
	pbwire_put_uint(&req->body, AUTH_STATUS_REVISION, v->auth_revision);
	return ERR_NONE;
}

static ReqResult
user_get_at_point(Request *req)
{
	const Etcdserverpb__AuthUserGetRequest *message = req->message;

	return answer_pinned_need(req, NEED_SELF_OR_ADMIN,
							  bytes_from_cstr(message->name), user_get_answer);
}

static ErrCode
user_get_answer(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__AuthUserGetRequest *message = req->message;
	const UserEntry *user = auth_user(v, bytes_from_cstr(message->name));
	RoleNameCursor cursor;
	Bytes		role;

	if (user == NULL)
		return ERR_USER_NOT_FOUND;
	cursor = user_roles(user);
	while (user_roles_next(&cursor, &role))
		pbwire_put_bytes_always(&req->body, USER_GET_ROLES, role);
	return ERR_NONE;
}

static ReqResult
user_list_at_point(Request *req)
{
	return answer_pinned_need(req, NEED_ADMIN, BYTES_EMPTY, user_list_answer);
}

static ErrCode
user_list_answer(Request *req, const StoreVersion *v)
{
	put_names(&req->body, USER_LIST_USERS, &v->users);
	return ERR_NONE;
}

static ReqResult
role_get_at_point(Request *req)
{
	const Etcdserverpb__AuthRoleGetRequest *message = req->message;

	return answer_pinned_need(req, NEED_ROLE_OR_ADMIN,
							  bytes_from_cstr(message->role), role_get_answer);
}

static ErrCode
role_get_answer(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__AuthRoleGetRequest *message = req->message;
	Bytes		name = bytes_from_cstr(message->role);
	const RoleEntry *role = auth_role(v, name);
	RolePermCursor cursor;
	uint32_t	perm_type;
	KeyRange	range;

	if (role == NULL)
		return ERR_ROLE_NOT_FOUND;
	if (bytes_equal_cstr(name, AUTH_ROOT_ROLE))
	{
		/* whatever was granted to it: everything */
		range = (KeyRange) {.kind = KEYRANGE_FROM,.begin = BYTES_EMPTY};
		put_permission(&req->body, req->mcx, PERM_READWRITE, &range);
		return ERR_NONE;
	}
	role_perms_begin(role, &cursor);
	while (role_perms_next(&cursor, &perm_type, &range))
		put_permission(&req->body, req->mcx, perm_type, &range);
	return ERR_NONE;
}

static ReqResult
role_list_at_point(Request *req)
{
	return answer_pinned_need(req, NEED_ADMIN, BYTES_EMPTY, role_list_answer);
}

static ErrCode
role_list_answer(Request *req, const StoreVersion *v)
{
	put_names(&req->body, ROLE_LIST_ROLES, &v->roles);
	return ERR_NONE;
}

/* the keys of the tree are the names, in byte order */
static void
put_names(Buf *out, unsigned field, const CowTree *tree)
{
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(tree, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
		pbwire_put_bytes_always(out, field, cowitem_key(item));
}

static void
put_permission(Buf *out, MemContext *mcx, uint32_t perm_type,
			   const KeyRange *range)
{
	Buf			message;

	buf_init(&message, mcx);
	pbwire_put_int(&message, PERM_TYPE, (int32_t) perm_type);
	pbwire_put_bytes(&message, PERM_KEY, range->begin);
	pbwire_put_bytes(&message, PERM_RANGE_END, keyrange_wire_end(range));
	pbwire_put_bytes_always(out, ROLE_GET_PERM, buf_bytes(&message));
}
