/*
 * authentry.h
 *	  How users, roles and permissions lie in store memory: making them.
 *
 * For auth/authstate.c (which knows the rules) and auth/authrecord.c (which
 * knows the records); everybody else looks through auth/authstate.h.
 *
 * Thread: apply, or the loader before it.
 */
#ifndef AUTH_AUTHENTRY_H
#define AUTH_AUTHENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/authstate.h"

/*
 * Bounds, so that lengths and sizes fit their 32 bits.  They are part of the
 * state machine: every member must have the same.
 */
#define AUTH_MAX_PHC_BYTES 255
#define AUTH_MAX_PERM_KEY_BYTES (1u << 28)
#define AUTH_MAX_USER_ROLES (1u << 20)

/* what a user is made of; roles sorted by bytes, no two alike */
typedef struct UserParts
{
	Bytes		name;
	uint64_t	cred_rev;
	bool		no_password;
	Bytes		phc;
	const Bytes *roles;
	uint32_t	nroles;
} UserParts;

/* copies everything */
extern UserEntry *user_make(const UserParts *parts);
extern void user_retire(const UserEntry *user);

/* one exact permission of a role; read-only outside authentry.c */
typedef struct PermEntry
{
	CowItem		item;			/* see permentry in authentry.c */
	uint32_t	size;			/* of the whole item */
	uint32_t	perm_type;		/* PermType, or unknown: grants nothing */
	uint32_t	begin_offset;
	uint32_t	begin_len;
	uint32_t	end_len;		/* etcd's range_end: the end of the item's key */
	uint8_t		bytes[];
} PermEntry;

extern KeyRange permentry_range(const PermEntry *perm);

/* a range that a permission may have (etcd-auth-semantics.md A6) */
extern bool perm_range_is_valid(const KeyRange *range);

/* a role without permissions */
extern RoleEntry *role_make(Bytes name);

/* one that may be changed until it stands in the draft; retire the old one */
extern RoleEntry *role_copy(const RoleEntry *old);

/* the old item only: its trees went over to the copy */
extern void role_retire(const RoleEntry *role);

/* the item and all its trees */
extern void role_drop(const RoleEntry *role);

/* add, or replace the type of the same (key, range_end) */
extern void role_put_perm(RoleEntry *mine, uint32_t perm_type,
						  const KeyRange *range);
extern bool role_has_perm(const RoleEntry *role, const KeyRange *range);
extern void role_remove_perm(RoleEntry *mine, const KeyRange *range);

typedef struct RolePerm
{
	uint32_t	perm_type;
	KeyRange	range;
} RolePerm;

/* fill an empty role; perms sorted by (key, range_end), no two alike */
extern void role_fill(RoleEntry *mine, const RolePerm *perms, size_t n);

#endif							/* AUTH_AUTHENTRY_H */
