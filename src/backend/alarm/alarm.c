/*
 * alarm.c
 *	  Which alarms are on, and what they forbid.
 *
 * There are a few at most, so looking for one walks all of them; with none on,
 * which is nearly always, that is one comparison.
 */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"
#include "lib/pbwire.h"

/* this layer and below */
#include "alarm/alarm.h"

/* fields of AlarmMember */
enum
{
	MEMBER_ID = 1,
	MEMBER_ALARM = 2
};

static bool changes_keys(LogOpKind kind);

bool
alarm_is_on(const StoreVersion *v, AlarmType type)
{
	CowCursor	cursor;
	const CowItem *item;

	if (likely(v->alarms.nitems == 0))
		return false;
	for (item = cowtree_seek(&v->alarms, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		if (container_of(item, AlarmEntry, item)->type == type)
			return true;
	}
	return false;
}

ErrCode
alarm_check(const StoreVersion *v, const LogOp *op)
{
	if (likely(v->alarms.nitems == 0))
		return ERR_NONE;
	if (changes_keys(op->kind) && alarm_is_on(v, ALARM_CORRUPT))
		return ERR_CORRUPT;
	if (logop_cost(op) > 0 && alarm_is_on(v, ALARM_NO_SPACE))
		return ERR_NO_SPACE;
	return ERR_NONE;
}

const char *
alarm_name(uint32_t type)
{
	switch (type)
	{
		case ALARM_NO_SPACE:
			return "NOSPACE";
		case ALARM_CORRUPT:
			return "CORRUPT";
		default:
			return "NONE";
	}
}

void
alarm_put_field(Buf *out, unsigned field, uint64_t member_id, uint32_t type)
{
	size_t		len = pbwire_int_size(MEMBER_ID, (int64_t) member_id) +
		pbwire_int_size(MEMBER_ALARM, type);

	pbwire_tag(out, field, PBWIRE_BYTES);
	buf_put_varint(out, len);
	pbwire_put_uint(out, MEMBER_ID, member_id);
	pbwire_put_uint(out, MEMBER_ALARM, type);
}

static bool
changes_keys(LogOpKind kind)
{
	switch (kind)
	{
		case LOGOP_PUT:
		case LOGOP_DELETE:
		case LOGOP_TXN:
		case LOGOP_COMPACT:
		case LOGOP_LEASE_GRANT:
		case LOGOP_LEASE_REVOKE:
			return true;
		default:
			return false;
	}
}
