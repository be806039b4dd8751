/*
 * kvrecord.c
 *	  Versions of keys to records of the table "key", and back.
 */
#include "server.h"

/* this layer and below */
#include "storage/bdb/kvrecord.h"
#include "storage/bdb/tables.h"

#define FLAG_TOMBSTONE 1

static bool get_revision(Cursor *cur, int64_t *v);
static bool is_sound(const KvRecord *kv, bool is_tombstone);

void
kvrecord_key(int64_t mod_revision, uint32_t sub_revision,
			 uint8_t key[KVRECORD_KEY_BYTES])
{
	for (int i = 0; i < 8; i++)
		key[i] = (uint8_t) ((uint64_t) mod_revision >> (56 - 8 * i));
	for (int i = 0; i < 4; i++)
		key[8 + i] = (uint8_t) (sub_revision >> (24 - 8 * i));
}

bool
kvrecord_key_decode(Bytes key, int64_t *mod_revision, uint32_t *sub_revision)
{
	Cursor		cur = cursor_make(key);
	uint64_t	mod;

	if (key.len != KVRECORD_KEY_BYTES || !cursor_get_u64be(&cur, &mod) ||
		!cursor_get_u32be(&cur, sub_revision))
		return false;
	*mod_revision = (int64_t) mod;
	return *mod_revision > 0;
}

void
kvrecord_encode(const KvVersion *kv, Buf *out)
{
	Bytes		value = kvversion_value(kv);

	buf_put_u8(out, TABLES_RECORD_VERSION);
	buf_put_u8(out, kvversion_is_tombstone(kv) ? FLAG_TOMBSTONE : 0);
	buf_put_varint(out, (uint64_t) kv->create_revision);
	buf_put_varint(out, (uint64_t) kv->version);
	buf_put_varint(out, (uint64_t) kv->lease);
	buf_put_bytes(out, kvversion_key(kv));
	buf_append(out, value.data, value.len);
}

bool
kvrecord_decode(Bytes record, KvRecord *kv)
{
	Cursor		cur = cursor_make(record);
	uint8_t		version;
	uint8_t		flags;
	uint64_t	lease;

	if (!cursor_get_u8(&cur, &version) || version != TABLES_RECORD_VERSION ||
		!cursor_get_u8(&cur, &flags) || (flags & ~FLAG_TOMBSTONE) != 0 ||
		!get_revision(&cur, &kv->create_revision) ||
		!get_revision(&cur, &kv->version) ||
		!cursor_get_varint(&cur, &lease) ||
		!cursor_get_bytes(&cur, &kv->key) ||
		!cursor_get_raw(&cur, cursor_left(&cur), &kv->value))
		return false;
	kv->lease = (int64_t) lease;
	return is_sound(kv, (flags & FLAG_TOMBSTONE) != 0);
}

/* a varint that is no negative number */
static bool
get_revision(Cursor *cur, int64_t *v)
{
	uint64_t	number;

	if (!cursor_get_varint(cur, &number) || number > INT64_MAX)
		return false;
	*v = (int64_t) number;
	return true;
}

static bool
is_sound(const KvRecord *kv, bool is_tombstone)
{
	if (kv->key.len == 0 || kv->key.len > UINT32_MAX ||
		kv->value.len > UINT32_MAX)
		return false;
	if (is_tombstone)
		return kv->version == 0 && kv->create_revision == 0 &&
			kv->lease == 0 && kv->value.len == 0;
	return kv->version > 0 && kv->create_revision > 0;
}
