/*
 * authstate.h
 *	  Users and roles in store memory, and the operations that change them.
 *
 * Users and roles are immutable items of the trees draft->users and
 * draft->roles; a change makes a new item and retires the old.  A user holds
 * role *names*: a grant to a role changes that role's item only.
 *
 * Credential revision: each user carries the auth revision at which its
 * credentials were last set (add, password change).  A token carries the
 * credential revision of its user at login and is refused when they differ,
 * so a deleted, re-created or re-keyed user's tokens die at once and nobody
 * else's do.
 *
 * Rules and errors: etcd-auth-semantics.md A1, A2, A7, A8.
 */
#ifndef AUTH_AUTHSTATE_H
#define AUTH_AUTHSTATE_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/permtree.h"
#include "common/logop.h"
#include "lib/buf.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"

#define AUTH_ROOT_USER "root"
#define AUTH_ROOT_ROLE "root"
#define AUTH_MAX_NAME_BYTES 1024
#define AUTH_MAX_PASSWORD_BYTES 1024

typedef struct UserEntry
{
	CowItem		item;			/* the name */
	uint64_t	cred_rev;
	uint32_t	size;			/* of the whole item */
	uint32_t	nroles;
	uint32_t	phc_offset;		/* from the start of the item */
	uint32_t	phc_len;		/* 0: no password can match */
	uint32_t	roles_offset;	/* nroles times: u32 length, bytes; sorted */
	bool		no_password;
	bool		is_admin;		/* holds the role root */
} UserEntry;

typedef struct RoleEntry
{
	CowItem		item;			/* the name */
	uint32_t	size;
	CowTree		perms;			/* PermEntry, by (key, range_end) */
	PermTree	read;			/* intervals that may be read */
	PermTree	write;
} RoleEntry;

/* ---- looking ---- */
extern const UserEntry *auth_user(const StoreVersion *v, Bytes name);
extern const RoleEntry *auth_role(const StoreVersion *v, Bytes name);
extern Bytes user_phc(const UserEntry *user);
/* the i-th role name, 0 <= i < nroles; walks, so iterate with a cursor */
typedef struct RoleNameCursor
{
	const uint8_t *pos;
	uint32_t	left;
} RoleNameCursor;
extern RoleNameCursor user_roles(const UserEntry *user);
extern bool user_roles_next(RoleNameCursor *cursor, Bytes *name);
extern bool user_has_role(const UserEntry *user, Bytes role);

/* walk a role's exact permissions, sorted by key then range_end */
typedef struct RolePermCursor
{
	CowCursor	cursor;
	const CowItem *item;
} RolePermCursor;
extern void role_perms_begin(const RoleEntry *role, RolePermCursor *cursor);
extern bool role_perms_next(RolePermCursor *cursor, uint32_t *perm_type,
							KeyRange *range);

/* ---- changing (Thread: apply) ---- */

/*
 * Told about each changed user or role so that the tables follow:
 * entry NULL means deleted.  on_auth is called when enabled or the revision
 * changed.
 */
typedef struct AuthSink
{
	void		(*on_user) (void *arg, Bytes name, const UserEntry *entry);
	void		(*on_role) (void *arg, Bytes name, const RoleEntry *entry);
	void		(*on_auth) (void *arg, const StoreVersion *draft);
	/* tokens of this user (empty name: of everybody) are void */
	void		(*on_tokens_void) (void *arg, Bytes user);
	void	   *arg;
} AuthSink;

/*
 * Carry out one LOGOP_AUTH_*, LOGOP_USER_* or LOGOP_ROLE_*.  The caller has
 * authorized it.  Returns the etcd error, and then nothing is changed.
 */
extern ErrCode auth_apply(StoreVersion *draft, const LogOp *op,
						  const AuthSink *sink);

/* ---- records: how tables and the log's snapshots keep a user or a role ---- */
extern void user_encode(const UserEntry *user, Buf *out);
extern void role_encode(const RoleEntry *role, Buf *out);
/* put into the draft; false if the record is not sound (caller stops) */
extern bool user_load(StoreVersion *draft, Bytes name, Bytes record);
extern bool role_load(StoreVersion *draft, Bytes name, Bytes record);

#endif							/* AUTH_AUTHSTATE_H */
