/*
 * alarmentry.c
 *	  Alarms as items of the tree "alarms": raising and clearing them.
 *
 * Thread: apply, or the loader before it.
 */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "alarm/alarm.h"

static bool type_is_known(uint32_t type);

bool
alarm_raise(StoreVersion *draft, uint64_t member_id, uint32_t type)
{
	AlarmEntry *entry;
	uint8_t		key[ALARM_KEY_BYTES];

	Assert(type_is_known(type));
	alarm_key(member_id, type, key);
	if (cowtree_get(&draft->alarms, bytes_make(key, sizeof(key))) != NULL)
		return false;
	entry = store_alloc(sizeof(*entry));
	*entry = (AlarmEntry) {
		.item.key_len = ALARM_KEY_BYTES,
		.item.key_offset = offsetof(AlarmEntry, key),
		.member_id = member_id,
		.type = type,
	};
	memcpy(entry->key, key, sizeof(key));
	cowtree_put(&draft->alarms, &entry->item);
	return true;
}

bool
alarm_clear(StoreVersion *draft, uint64_t member_id, uint32_t type)
{
	const CowItem *item;
	uint8_t		key[ALARM_KEY_BYTES];

	alarm_key(member_id, type, key);
	item = cowtree_delete(&draft->alarms, bytes_make(key, sizeof(key)));
	if (item == NULL)
		return false;
	store_retire(item, sizeof(AlarmEntry));
	return true;
}

void
alarm_key(uint64_t member_id, uint32_t type, uint8_t key[ALARM_KEY_BYTES])
{
	for (int i = 0; i < 8; i++)
		key[i] = (uint8_t) (member_id >> (56 - 8 * i));
	for (int i = 0; i < 4; i++)
		key[8 + i] = (uint8_t) (type >> (24 - 8 * i));
}

bool
alarm_key_decode(Bytes key, uint64_t *member_id, uint32_t *type)
{
	Cursor		cur = cursor_make(key);

	return key.len == ALARM_KEY_BYTES && cursor_get_u64be(&cur, member_id) &&
		cursor_get_u32be(&cur, type) && type_is_known(*type);
}

static bool
type_is_known(uint32_t type)
{
	return type == ALARM_NO_SPACE || type == ALARM_CORRUPT;
}
