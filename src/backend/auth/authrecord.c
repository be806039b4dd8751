/*
 * authrecord.c
 *	  How the tables and a streamed snapshot keep a user or a role.
 *
 *	user record := version u8, flags u8, credential revision u64,
 *		phc bytes, number of roles varint, role names bytes ..., crc u32
 *	role record := version u8, number of permissions varint,
 *		(type varint, key bytes, range_end bytes) ..., crc u32
 *
 *	bytes := length varint, that many bytes		flags: 1 no password
 *
 * Role names are sorted, permissions are sorted by (key, range_end); no two
 * alike.  crc is CRC32C over the name that the record stands under and the
 * record up to it, so that a record that was damaged, cut, or put under
 * another name is refused, and with it the start: a right must never come out
 * wider than it was granted.  It guards against accidents, not against
 * somebody who may write the files.
 *
 * What is derived (is_admin, the interval trees) is not stored.
 */
#include "server.h"

/* libraries */
#include <isa-l/crc.h>

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/authentry.h"
#include "auth/authstate.h"

#define AUTH_RECORD_VERSION 1
#define CRC_BYTES 4
#define CRC_CHUNK_BYTES (1u << 30)

/* the shortest a counted thing can be: bounds arrays before they are made */
#define ROLE_NAME_MIN_BYTES 2
#define PERM_MIN_BYTES 4

enum
{
	USER_RECORD_NO_PASSWORD = 1,
	USER_RECORD_ALL_FLAGS = 1
};

static void put_crc(Buf *out, size_t start, Bytes name);
static bool open_record(Bytes name, Bytes record, Cursor *cur);
static uint32_t record_crc(Bytes name, Bytes body);
static uint32_t crc_add(uint32_t crc, Bytes b);

static bool get_user(Cursor *cur, UserParts *parts);
static bool get_role_names(Cursor *cur, Bytes *names, uint32_t n);
static bool get_perms(Cursor *cur, RolePerm *perms, size_t n);
static bool get_perm(Cursor *cur, RolePerm *perm);
static bool perm_is_behind(const RolePerm *perm, const RolePerm *before);
static bool get_count(Cursor *cur, size_t min_bytes, uint64_t max,
					  uint64_t *n);
static bool get_varint(Cursor *cur, uint64_t *v);
static bool get_bytes(Cursor *cur, size_t max, Bytes *b);
static bool name_is_sound(Bytes name);

void
user_encode(const UserEntry *user, Buf *out)
{
	size_t		start = out->len;
	RoleNameCursor cursor = user_roles(user);
	Bytes		role;

	buf_put_u8(out, AUTH_RECORD_VERSION);
	buf_put_u8(out, user->no_password ? USER_RECORD_NO_PASSWORD : 0);
	buf_put_u64(out, user->cred_rev);
	buf_put_bytes(out, user_phc(user));
	buf_put_varint(out, user->nroles);
	while (user_roles_next(&cursor, &role))
		buf_put_bytes(out, role);
	put_crc(out, start, cowitem_key(&user->item));
}

void
role_encode(const RoleEntry *role, Buf *out)
{
	size_t		start = out->len;
	RolePermCursor cursor;
	uint32_t	perm_type;
	KeyRange	range;

	buf_put_u8(out, AUTH_RECORD_VERSION);
	buf_put_varint(out, role->perms.nitems);
	role_perms_begin(role, &cursor);
	while (role_perms_next(&cursor, &perm_type, &range))
	{
		buf_put_varint(out, perm_type);
		buf_put_bytes(out, range.begin);
		buf_put_bytes(out, keyrange_wire_end(&range));
	}
	put_crc(out, start, cowitem_key(&role->item));
}

bool
user_load(StoreVersion *draft, Bytes name, Bytes record)
{
	UserParts	parts = {.name = name};
	Cursor		cur;
	uint64_t	nroles;
	Bytes	   *roles;
	bool		sound;

	if (!open_record(name, record, &cur) ||
		auth_user(draft, name) != NULL ||
		!get_user(&cur, &parts) ||
		!get_count(&cur, ROLE_NAME_MIN_BYTES, AUTH_MAX_USER_ROLES, &nroles))
		return false;

	roles = xmalloc(nroles * sizeof(*roles) + 1);
	parts.roles = roles;
	parts.nroles = (uint32_t) nroles;
	sound = get_role_names(&cur, roles, parts.nroles) &&
		cursor_left(&cur) == 0;
	if (sound)
		cowtree_put(&draft->users, &user_make(&parts)->item);
	free(roles);
	return sound;
}

bool
role_load(StoreVersion *draft, Bytes name, Bytes record)
{
	Cursor		cur;
	uint64_t	nperms;
	RolePerm   *perms;
	bool		sound;

	if (!open_record(name, record, &cur) ||
		auth_role(draft, name) != NULL ||
		!get_count(&cur, PERM_MIN_BYTES, UINT64_MAX, &nperms))
		return false;

	perms = xmalloc((size_t) nperms * sizeof(*perms) + 1);
	sound = get_perms(&cur, perms, (size_t) nperms) && cursor_left(&cur) == 0;
	if (sound)
	{
		RoleEntry  *role = role_make(name);

		role_fill(role, perms, (size_t) nperms);
		cowtree_put(&draft->roles, &role->item);
	}
	free(perms);
	return sound;
}

/* ---- the frame ---- */

/* the record began at start of out */
static void
put_crc(Buf *out, size_t start, Bytes name)
{
	buf_put_u32(out, record_crc(name, bytes_make(out->data + start,
												 out->len - start)));
}

/* name, checksum and version are good: cur stands behind the version */
static bool
open_record(Bytes name, Bytes record, Cursor *cur)
{
	Cursor		tail;
	Bytes		body;
	uint32_t	crc;
	uint8_t		version;

	if (!name_is_sound(name) || record.len < CRC_BYTES)
		return false;
	body = bytes_make(record.data, record.len - CRC_BYTES);
	tail = cursor_make(bytes_make(record.data + body.len, CRC_BYTES));
	*cur = cursor_make(body);
	return cursor_get_u32(&tail, &crc) && crc == record_crc(name, body) &&
		cursor_get_u8(cur, &version) && version == AUTH_RECORD_VERSION;
}

/* the name's length first, so that no byte can change sides */
static uint32_t
record_crc(Bytes name, Bytes body)
{
	uint8_t		len[2] = {(uint8_t) name.len, (uint8_t) (name.len >> 8)};
	uint32_t	crc = UINT32_MAX;

	crc = crc_add(crc, bytes_make(len, sizeof(len)));
	crc = crc_add(crc, name);
	return ~crc_add(crc, body);
}

static uint32_t
crc_add(uint32_t crc, Bytes b)
{
	/* the library counts in int */
	while (b.len > 0)
	{
		size_t		n = size_min(b.len, CRC_CHUNK_BYTES);

		crc = crc32_iscsi((unsigned char *) b.data, (int) n, crc);
		b = bytes_make(b.data + n, b.len - n);
	}
	return crc;
}

/* ---- the fields ---- */

/* all but the roles */
static bool
get_user(Cursor *cur, UserParts *parts)
{
	uint8_t		flags;

	if (!cursor_get_u8(cur, &flags) || (flags & ~USER_RECORD_ALL_FLAGS) != 0 ||
		!cursor_get_u64(cur, &parts->cred_rev) || parts->cred_rev == 0 ||
		!get_bytes(cur, AUTH_MAX_PHC_BYTES, &parts->phc))
		return false;
	parts->no_password = (flags & USER_RECORD_NO_PASSWORD) != 0;
	return !parts->no_password || parts->phc.len == 0;
}

static bool
get_role_names(Cursor *cur, Bytes *names, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
	{
		if (!get_bytes(cur, AUTH_MAX_NAME_BYTES, &names[i]) ||
			!name_is_sound(names[i]) ||
			(i > 0 && bytes_compare(names[i - 1], names[i]) >= 0))
			return false;
	}
	return true;
}

static bool
get_perms(Cursor *cur, RolePerm *perms, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		if (!get_perm(cur, &perms[i]) ||
			(i > 0 && !perm_is_behind(&perms[i], &perms[i - 1])))
			return false;
	}
	return true;
}

static bool
get_perm(Cursor *cur, RolePerm *perm)
{
	uint64_t	perm_type;
	Bytes		begin;
	Bytes		end;

	if (!get_varint(cur, &perm_type) || perm_type > UINT32_MAX ||
		!get_bytes(cur, AUTH_MAX_PERM_KEY_BYTES, &begin) ||
		!get_bytes(cur, AUTH_MAX_PERM_KEY_BYTES, &end))
		return false;
	perm->perm_type = (uint32_t) perm_type;
	perm->range = keyrange_make(begin, end);
	return perm_range_is_valid(&perm->range);
}

static bool
perm_is_behind(const RolePerm *perm, const RolePerm *before)
{
	int			c = bytes_compare(before->range.begin, perm->range.begin);

	if (c != 0)
		return c < 0;
	return bytes_compare(keyrange_wire_end(&before->range),
						 keyrange_wire_end(&perm->range)) < 0;
}

/* how many things of at least min_bytes each follow */
static bool
get_count(Cursor *cur, size_t min_bytes, uint64_t max, uint64_t *n)
{
	return get_varint(cur, n) && *n <= max &&
		*n <= cursor_left(cur) / min_bytes;
}

/* in its shortest form only: one encoding for one record */
static bool
get_varint(Cursor *cur, uint64_t *v)
{
	const uint8_t *start = cur->pos;

	return cursor_get_varint(cur, v) &&
		(size_t) (cur->pos - start) == pbwire_varint_size(*v);
}

static bool
get_bytes(Cursor *cur, size_t max, Bytes *b)
{
	uint64_t	len;

	return get_varint(cur, &len) && len <= max &&
		cursor_get_raw(cur, (size_t) len, b);
}

static bool
name_is_sound(Bytes name)
{
	return name.len > 0 && name.len <= AUTH_MAX_NAME_BYTES;
}
