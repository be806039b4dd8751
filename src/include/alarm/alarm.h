/*
 * alarm.h
 *	  Alarms of members: what may not be done while one is on.
 *
 * An alarm is raised and cleared through the log and is part of the replicated
 * state, so that apply may refuse by it where the quota, a setting, may not
 * speak.
 *
 *	NOSPACE		nothing that adds to the store: puts, transactions with puts in
 *				either branch, leases.  Deletes, compaction and all of auth go on.
 *	CORRUPT		no change of keys and leases at all, and no compaction.
 */
#ifndef ALARM_ALARM_H
#define ALARM_ALARM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/logop.h"
#include "lib/buf.h"
#include "storage/snap/cowtree.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"

/* etcd's numbers; they stand in log and tables */
typedef enum AlarmType
{
	ALARM_NONE = 0,
	ALARM_NO_SPACE = 1,
	ALARM_CORRUPT = 2
} AlarmType;

/* member id (u64 big-endian) and type (u32 big-endian) */
#define ALARM_KEY_BYTES 12

typedef struct AlarmEntry
{
	CowItem		item;
	uint64_t	member_id;
	uint32_t	type;
	uint8_t		key[ALARM_KEY_BYTES];
} AlarmEntry;

/* is it on, for any member? */
extern bool alarm_is_on(const StoreVersion *v, AlarmType type);

/*
 * May this operation be carried out under the alarms that are on?  Asked by the
 * backend before it proposes, and by apply.
 */
extern ErrCode alarm_check(const StoreVersion *v, const LogOp *op);

/* one AlarmMember message as field `field`; AlarmResponse.alarms is field 2 */
#define ALARM_RESPONSE_ALARMS 2
extern void alarm_put_field(Buf *out, unsigned field, uint64_t member_id,
							uint32_t type);

/* "NOSPACE", "CORRUPT"; "NONE" for all that is no alarm */
extern const char *alarm_name(uint32_t type);

/* Thread: apply or loader.  False if nothing changed. */
extern bool alarm_raise(StoreVersion *draft, uint64_t member_id,
						uint32_t type);
extern bool alarm_clear(StoreVersion *draft, uint64_t member_id,
						uint32_t type);

extern void alarm_key(uint64_t member_id, uint32_t type,
					  uint8_t key[ALARM_KEY_BYTES]);
/* false for what is not the key of an alarm that we know */
extern bool alarm_key_decode(Bytes key, uint64_t *member_id, uint32_t *type);

#endif							/* ALARM_ALARM_H */
