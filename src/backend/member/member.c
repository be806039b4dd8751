/*
 * member.c
 *	  Members of the cluster as items of the tree "members" and as records.
 *
 * Record: version byte, id (u64), learner (u8), name, peer URLs, client URLs
 * (each varint length and bytes).
 */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "member/member.h"
#include "storage/bdb/tables.h"

#define MEMBER_KEY_BYTES sizeof(uint64_t)
static uint8_t *put_run(uint8_t *pos, Bytes run);
static void put_key(uint8_t key[MEMBER_KEY_BYTES], uint64_t id);

MemberInfo
member_info(const MemberEntry *entry)
{
	const uint8_t *p = entry->bytes;
	MemberInfo	info = {.id = entry->id,.is_learner = entry->is_learner};

	info.name = bytes_make(p, entry->name_len);
	p += entry->name_len;
	info.peer_urls = bytes_make(p, entry->peer_urls_len);
	p += entry->peer_urls_len;
	info.client_urls = bytes_make(p, entry->client_urls_len);
	return info;
}

void
member_put(StoreVersion *draft, const MemberInfo *info)
{
	size_t		text = info->name.len + info->peer_urls.len +
		info->client_urls.len;
	size_t		key_offset = offsetof(MemberEntry, bytes) + text;
	size_t		size = key_offset + MEMBER_KEY_BYTES;
	MemberEntry *entry = store_alloc(size);
	const MemberEntry *old;
	uint8_t    *pos = entry->bytes;

	*entry = (MemberEntry) {
		.item.key_len = MEMBER_KEY_BYTES,
		.item.key_offset = (uint32_t) key_offset,
		.id = info->id,
		.size = (uint32_t) size,
		.is_learner = info->is_learner,
		.name_len = (uint32_t) info->name.len,
		.peer_urls_len = (uint32_t) info->peer_urls.len,
		.client_urls_len = (uint32_t) info->client_urls.len,
	};
	pos = put_run(pos, info->name);
	pos = put_run(pos, info->peer_urls);
	pos = put_run(pos, info->client_urls);
	put_key(pos, info->id);

	old = (const MemberEntry *) cowtree_put(&draft->members, &entry->item);
	if (old != NULL)
		store_retire(old, old->size);
}

void
member_encode(const MemberInfo *info, Buf *out)
{
	buf_put_u8(out, TABLES_RECORD_VERSION);
	buf_put_u64(out, info->id);
	buf_put_u8(out, info->is_learner ? 1 : 0);
	buf_put_bytes(out, info->name);
	buf_put_bytes(out, info->peer_urls);
	buf_put_bytes(out, info->client_urls);
}

bool
member_decode(Bytes record, MemberInfo *info)
{
	Cursor		cur = cursor_make(record);
	uint8_t		version;
	uint8_t		is_learner;

	if (!cursor_get_u8(&cur, &version) || version != TABLES_RECORD_VERSION ||
		!cursor_get_u64(&cur, &info->id) || !cursor_get_u8(&cur, &is_learner) ||
		!cursor_get_bytes(&cur, &info->name) ||
		!cursor_get_bytes(&cur, &info->peer_urls) ||
		!cursor_get_bytes(&cur, &info->client_urls))
		return false;
	info->is_learner = is_learner == 1;
	return cursor_left(&cur) == 0 && info->id != 0 && is_learner <= 1;
}

static uint8_t *
put_run(uint8_t *pos, Bytes run)
{
	if (run.len > 0)
		memcpy(pos, run.data, run.len);
	return pos + run.len;
}

static void
put_key(uint8_t key[MEMBER_KEY_BYTES], uint64_t id)
{
	for (size_t i = 0; i < MEMBER_KEY_BYTES; i++)
		key[i] = (uint8_t) (id >> (8 * (MEMBER_KEY_BYTES - 1 - i)));
}
