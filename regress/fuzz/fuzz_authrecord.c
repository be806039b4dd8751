/*
 * fuzz_authrecord.c
 *	  Any bytes as record of a user or a role.
 *
 * The first byte chooses: bit 0, a role instead of a user; bit 1, the checksum
 * is put behind the rest, since no fuzzer would guess it.  What is taken must
 * be encoded to the same bytes, stand in sound trees, and go away again.
 */
/* needs: storage/bdb storage/snap storage/ipc storage/lmgr mvcc auth lease member alarm common utils/injection utils/guc */
#include "server.h"

/* libraries */
#include <isa-l/crc.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "auth/authstate.h"

#define NAME BYTES_LITERAL("fuzz")

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
start_once(void)
{
	static bool is_started;

	if (is_started)
		return;
	is_started = true;
	store_use_populate_thread(false);
	require(store_create((size_t) 1 << 30));
	store_attach_writer();
	store_draft()->auth_revision = 1;
}

/* authrecord.c: over length of the name, name and record */
static void
put_crc(Buf *record)
{
	static const uint8_t name[] = {4, 0, 'f', 'u', 'z', 'z'};
	uint32_t	crc;

	crc = crc32_iscsi((unsigned char *) (uintptr_t) name, sizeof(name),
					  UINT32_MAX);
	if (record->len > 0)
		crc = crc32_iscsi(record->data, (int) record->len, crc);
	buf_put_u32(record, ~crc);
}

static void
on_user(void *arg, Bytes name, const UserEntry *user)
{
}

static void
on_role(void *arg, Bytes name, const RoleEntry *role)
{
}

static void
on_auth(void *arg, const StoreVersion *draft)
{
}

static void
on_tokens_void(void *arg, Bytes user)
{
}

static const AuthSink sink = {
	.on_user = on_user,
	.on_role = on_role,
	.on_auth = on_auth,
	.on_tokens_void = on_tokens_void,
};

static void
delete(LogOpKind kind)
{
	LogOp		op = {.kind = kind};

	if (kind == LOGOP_USER_DELETE)
		op.user.name = NAME;
	else
		op.role.name = NAME;
	require(auth_apply(store_draft(), &op, &sink) == ERR_NONE);
	store_publish();
	store_reclaim();
}

static void
try_user(Bytes record)
{
	const UserEntry *user;
	Buf			out;

	if (!user_load(store_draft(), NAME, record))
		return;
	user = auth_user(store_draft(), NAME);
	require(user != NULL);
	buf_init(&out, NULL);
	user_encode(user, &out);
	require(bytes_equal(buf_bytes(&out), record));
	buf_free(&out);
	delete(LOGOP_USER_DELETE);
}

static void
try_role(Bytes record)
{
	const RoleEntry *role;
	Buf			out;

	if (!role_load(store_draft(), NAME, record))
		return;
	role = auth_role(store_draft(), NAME);
	require(role != NULL);
	require(cowtree_check(&role->perms) == NULL);
	require(permtree_check(&role->read) == NULL);
	require(permtree_check(&role->write) == NULL);
	buf_init(&out, NULL);
	role_encode(role, &out);
	require(bytes_equal(buf_bytes(&out), record));
	buf_free(&out);
	delete(LOGOP_ROLE_DELETE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Buf			record;

	if (size == 0)
		return 0;
	start_once();
	buf_init(&record, NULL);
	buf_append(&record, data + 1, size - 1);
	if (data[0] & 2)
		put_crc(&record);
	if (data[0] & 1)
		try_role(buf_bytes(&record));
	else
		try_user(buf_bytes(&record));
	buf_free(&record);
	return 0;
}
