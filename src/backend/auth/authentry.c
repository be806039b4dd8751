/*
 * authentry.c
 *	  Users, roles and permissions in store memory: made, copied, looked at.
 *
 *	UserEntry   header | name | password hash | roles: (u32 length, bytes)...
 *	RoleEntry   header | name          and three trees:
 *		perms   exactly what was granted, by (key, range_end)
 *		read    the intervals of READ and READWRITE
 *		write   the intervals of WRITE and READWRITE
 *
 * Items are immutable once they stand in a published version.  The trees of a
 * role are values in its item: a changed role is a copy of the item whose
 * trees share all that did not change.
 *
 * permentry: the key of a permission in `perms` is key and range_end in one,
 * made so that byte order is the order of the pair: each 0x00 in the key is
 * written 00 ff, then 00 00 ends the key, then range_end as it is.  Keys
 * without a zero byte, almost all, lie there in clear; for others the key is
 * kept once more behind it.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/authentry.h"

static PermEntry *permentry_make(uint32_t perm_type, const KeyRange *range);
static void permentry_retire(const PermEntry *perm);
static size_t pair_size(const KeyRange *range);
static void pair_write(const KeyRange *range, uint8_t *out);
static size_t count_zeros(Bytes b);
static void move_interval(PermTree *tree, const KeyRange *range, bool was_in,
						  bool is_in);
static void build_intervals(PermTree *tree, const RolePerm *perms, size_t n,
							bool (*wanted) (uint32_t perm_type));
static bool perm_reads(uint32_t perm_type);
static bool perm_writes(uint32_t perm_type);
static const CowItem *get_named(const CowTree *tree, Bytes name);
static uint8_t *put(uint8_t *out, Bytes b);

/* ---- looking ---- */

const UserEntry *
auth_user(const StoreVersion *v, Bytes name)
{
	/* the item is the first member */
	return (const UserEntry *) get_named(&v->users, name);
}

const RoleEntry *
auth_role(const StoreVersion *v, Bytes name)
{
	return (const RoleEntry *) get_named(&v->roles, name);
}

Bytes
user_phc(const UserEntry *user)
{
	return bytes_make((const uint8_t *) user + user->phc_offset,
					  user->phc_len);
}

RoleNameCursor
user_roles(const UserEntry *user)
{
	return (RoleNameCursor) {
		(const uint8_t *) user + user->roles_offset, user->nroles};
}

bool
user_roles_next(RoleNameCursor *cursor, Bytes *name)
{
	uint32_t	len;

	if (cursor->left == 0)
		return false;
	memcpy(&len, cursor->pos, sizeof(len));
	*name = bytes_make(cursor->pos + sizeof(len), len);
	cursor->pos += sizeof(len) + len;
	cursor->left--;
	return true;
}

bool
user_has_role(const UserEntry *user, Bytes role)
{
	RoleNameCursor cursor = user_roles(user);
	Bytes		name;

	while (user_roles_next(&cursor, &name))
	{
		int			c = bytes_compare(name, role);

		if (c >= 0)
			return c == 0;
	}
	return false;
}

void
role_perms_begin(const RoleEntry *role, RolePermCursor *cursor)
{
	cursor->item = cowtree_seek(&role->perms, &cursor->cursor, BYTES_EMPTY);
}

bool
role_perms_next(RolePermCursor *cursor, uint32_t *perm_type, KeyRange *range)
{
	const PermEntry *perm = (const PermEntry *) cursor->item;

	if (perm == NULL)
		return false;
	*perm_type = perm->perm_type;
	*range = permentry_range(perm);
	cursor->item = cowtree_next(&cursor->cursor);
	return true;
}

/* ---- users ---- */

UserEntry *
user_make(const UserParts *parts)
{
	size_t		size = sizeof(UserEntry) + parts->name.len + parts->phc.len;
	UserEntry  *user;
	uint8_t    *out;

	Assert(parts->nroles <= AUTH_MAX_USER_ROLES);
	for (uint32_t i = 0; i < parts->nroles; i++)
		size += sizeof(uint32_t) + parts->roles[i].len;
	Assert(size <= UINT32_MAX);

	user = store_alloc(size);
	*user = (UserEntry) {
		.item = {(uint32_t) parts->name.len, sizeof(UserEntry)},
		.cred_rev = parts->cred_rev,
		.size = (uint32_t) size,
		.nroles = parts->nroles,
		.phc_offset = (uint32_t) (sizeof(UserEntry) + parts->name.len),
		.phc_len = (uint32_t) parts->phc.len,
		.no_password = parts->no_password};
	user->roles_offset = user->phc_offset + user->phc_len;

	out = put((uint8_t *) (user + 1), parts->name);
	out = put(out, parts->phc);
	for (uint32_t i = 0; i < parts->nroles; i++)
	{
		uint32_t	len = (uint32_t) parts->roles[i].len;

		out = put(out, bytes_make(&len, sizeof(len)));
		out = put(out, parts->roles[i]);
		if (bytes_equal_cstr(parts->roles[i], AUTH_ROOT_ROLE))
			user->is_admin = true;
	}
	return user;
}

void
user_retire(const UserEntry *user)
{
	store_retire(user, user->size);
}

/* ---- roles ---- */

RoleEntry *
role_make(Bytes name)
{
	size_t		size = sizeof(RoleEntry) + name.len;
	RoleEntry  *role = store_alloc(size);

	*role = (RoleEntry) {
		.item = {(uint32_t) name.len, sizeof(RoleEntry)},
		.size = (uint32_t) size};
	put((uint8_t *) (role + 1), name);
	return role;
}

RoleEntry *
role_copy(const RoleEntry *old)
{
	RoleEntry  *copy = store_alloc(old->size);

	memcpy(copy, old, old->size);
	return copy;
}

void
role_retire(const RoleEntry *role)
{
	store_retire(role, role->size);
}

void
role_drop(const RoleEntry *role)
{
	RoleEntry	trees = *role;
	CowCursor	cursor;
	const CowItem *item;

	item = cowtree_seek(&trees.perms, &cursor, BYTES_EMPTY);
	for (; item != NULL; item = cowtree_next(&cursor))
		permentry_retire((const PermEntry *) item);
	cowtree_drop(&trees.perms);
	permtree_drop(&trees.read);
	permtree_drop(&trees.write);
	role_retire(role);
}

void
role_put_perm(RoleEntry *mine, uint32_t perm_type, const KeyRange *range)
{
	PermEntry  *perm = permentry_make(perm_type, range);
	const PermEntry *old;
	bool		was_read = false;
	bool		was_write = false;

	old = (const PermEntry *) cowtree_put(&mine->perms, &perm->item);
	if (old != NULL)
	{
		was_read = perm_reads(old->perm_type);
		was_write = perm_writes(old->perm_type);
		permentry_retire(old);
	}
	move_interval(&mine->read, range, was_read, perm_reads(perm_type));
	move_interval(&mine->write, range, was_write, perm_writes(perm_type));
}

bool
role_has_perm(const RoleEntry *role, const KeyRange *range)
{
	size_t		len = pair_size(range);
	uint8_t    *pair = xmalloc(len);
	bool		found;

	pair_write(range, pair);
	found = cowtree_get(&role->perms, bytes_make(pair, len)) != NULL;
	free(pair);
	return found;
}

void
role_remove_perm(RoleEntry *mine, const KeyRange *range)
{
	size_t		len = pair_size(range);
	uint8_t    *pair = xmalloc(len);
	const PermEntry *old;

	pair_write(range, pair);
	old = (const PermEntry *) cowtree_delete(&mine->perms,
											 bytes_make(pair, len));
	free(pair);
	if (old == NULL)
		return;
	move_interval(&mine->read, range, perm_reads(old->perm_type), false);
	move_interval(&mine->write, range, perm_writes(old->perm_type), false);
	permentry_retire(old);
}

void
role_fill(RoleEntry *mine, const RolePerm *perms, size_t n)
{
	Assert(mine->perms.nitems == 0);
	for (size_t i = 0; i < n; i++)
	{
		PermEntry  *perm = permentry_make(perms[i].perm_type, &perms[i].range);

		cowtree_put(&mine->perms, &perm->item);
	}
	build_intervals(&mine->read, perms, n, perm_reads);
	build_intervals(&mine->write, perms, n, perm_writes);
}

bool
perm_range_is_valid(const KeyRange *range)
{
	if (range->begin.len == 0)
		return false;
	switch (range->kind)
	{
		case KEYRANGE_POINT:
		case KEYRANGE_FROM:
			return true;
		case KEYRANGE_SPAN:
			return !keyrange_is_empty(range);
	}
	return false;
}

KeyRange
permentry_range(const PermEntry *perm)
{
	Bytes		pair = cowitem_key(&perm->item);

	return keyrange_make(
		bytes_make((const uint8_t *) perm + perm->begin_offset,
				   perm->begin_len),
		bytes_make(pair.data + pair.len - perm->end_len, perm->end_len));
}

/* ---- static: one permission ---- */

static PermEntry *
permentry_make(uint32_t perm_type, const KeyRange *range)
{
	Bytes		begin = range->begin;
	size_t		pair_len = pair_size(range);
	bool		has_zero = count_zeros(begin) > 0;
	size_t		size = sizeof(PermEntry) + pair_len +
		(has_zero ? begin.len : 0);
	PermEntry  *perm = store_alloc(size);

	Assert(size <= UINT32_MAX);
	*perm = (PermEntry) {
		.item = {(uint32_t) pair_len, sizeof(PermEntry)},
		.size = (uint32_t) size,
		.perm_type = perm_type,
		.begin_offset = (uint32_t) (sizeof(PermEntry) +
									(has_zero ? pair_len : 0)),
		.begin_len = (uint32_t) begin.len,
		.end_len = (uint32_t) keyrange_wire_end(range).len};
	pair_write(range, perm->bytes);
	if (has_zero)
		put(perm->bytes + pair_len, begin);
	return perm;
}

static void
permentry_retire(const PermEntry *perm)
{
	store_retire(perm, perm->size);
}

static size_t
pair_size(const KeyRange *range)
{
	return range->begin.len + count_zeros(range->begin) + 2 +
		keyrange_wire_end(range).len;
}

static void
pair_write(const KeyRange *range, uint8_t *out)
{
	for (size_t i = 0; i < range->begin.len; i++)
	{
		*out++ = range->begin.data[i];
		if (range->begin.data[i] == 0x00)
			*out++ = 0xff;
	}
	*out++ = 0x00;
	*out++ = 0x00;
	put(out, keyrange_wire_end(range));
}

static size_t
count_zeros(Bytes b)
{
	size_t		n = 0;

	for (size_t i = 0; i < b.len; i++)
		n += b.data[i] == 0x00;
	return n;
}

/* ---- static: intervals ---- */

static void
move_interval(PermTree *tree, const KeyRange *range, bool was_in, bool is_in)
{
	if (is_in && !was_in)
		permtree_insert(tree, range);
	else if (was_in && !is_in)
		permtree_delete(tree, range);
}

static void
build_intervals(PermTree *tree, const RolePerm *perms, size_t n,
				bool (*wanted) (uint32_t perm_type))
{
	KeyRange   *ranges = xmalloc(n * sizeof(*ranges) + 1);
	size_t		nranges = 0;

	for (size_t i = 0; i < n; i++)
	{
		if (wanted(perms[i].perm_type))
			ranges[nranges++] = perms[i].range;
	}
	permtree_build(tree, ranges, nranges);
	free(ranges);
}

static bool
perm_reads(uint32_t perm_type)
{
	return perm_type == PERM_READ || perm_type == PERM_READWRITE;
}

static bool
perm_writes(uint32_t perm_type)
{
	return perm_type == PERM_WRITE || perm_type == PERM_READWRITE;
}

/* ---- static: names and bytes ---- */

static const CowItem *
get_named(const CowTree *tree, Bytes name)
{
	if (name.len == 0 || name.len > AUTH_MAX_NAME_BYTES)
		return NULL;
	return cowtree_get(tree, name);
}

static uint8_t *
put(uint8_t *out, Bytes b)
{
	if (b.len > 0)
		memcpy(out, b.data, b.len);
	return out + b.len;
}
