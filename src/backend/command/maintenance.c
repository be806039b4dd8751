/*
 * maintenance.c
 *	  Status, alarms, Defragment, and what there is to say to MoveLeader and
 *	  Downgrade.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/clock.h"
#include "utils/errcodes.h"
#include "utils/guc.h"

/* this layer and below */
#include "alarm/alarm.h"
#include "command/answer.h"
#include "command/command.h"
#include "dispatch/dispatch.h"

enum
{
	STATUS_VERSION = 2,
	STATUS_DB_SIZE = 3,
	STATUS_LEADER = 4,
	STATUS_RAFT_INDEX = 5,
	STATUS_RAFT_TERM = 6,
	STATUS_RAFT_APPLIED_INDEX = 7,
	STATUS_ERRORS = 8,
	STATUS_DB_SIZE_IN_USE = 9,
	STATUS_IS_LEARNER = 10,
	STATUS_STORAGE_VERSION = 11,
	STATUS_DB_SIZE_QUOTA = 12,
	STATUS_DOWNGRADE_INFO = 13
};

/* between looks whether it is done */
#define DEFRAGMENT_POLL_MS 10

static ReqResult defragment_begun(Request *req, const Completion *done);
static ReqResult defragment_look(Request *req);
static ErrCode status_answer(Request *req, const StoreVersion *v);
static void put_alarm_errors(Buf *out, const StoreVersion *v);
static ErrCode alarm_list(Request *req, const StoreVersion *v);
static ErrCode move_leader(Request *req, const StoreVersion *v);
static ErrCode downgrade(Request *req, const StoreVersion *v);
static bool version_is_sound(const char *version);

/* What this member knows of itself: no linearizable point. */
ReqResult
command_status(Request *req)
{
	return answer_pinned_need(req, NEED_IDENTITY, BYTES_EMPTY, status_answer);
}

/* Which are on: this member's view, open to all users (B). */
static ErrCode
alarm_list(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__AlarmRequest *message = req->message;
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&v->alarms, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		const AlarmEntry *alarm = container_of(item, AlarmEntry, item);

		if ((uint32_t) message->alarm == ALARM_NONE ||
			(uint32_t) message->alarm == alarm->type)
			alarm_put_field(&req->body, ALARM_RESPONSE_ALARMS,
							alarm->member_id, alarm->type);
	}
	return ERR_NONE;
}

ReqResult
command_alarm(Request *req)
{
	const Etcdserverpb__AlarmRequest *message = req->message;
	LogOp		op = {
		.kind = LOGOP_ALARM,
		.alarm.is_on = message->action ==
			ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE,
		.alarm.member_id = message->memberid,
		.alarm.type = (uint32_t) message->alarm,
	};

	switch ((int) message->action)
	{
		case ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET:
			return answer_pinned_need(req, NEED_IDENTITY, BYTES_EMPTY,
									  alarm_list);
		case ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE:
		case ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE:
			return request_propose(req, &op, NULL);
		default:
			return request_fail(req, ERR_UNKNOWN_METHOD);
	}
}

/*
 * Free memory of the store goes back to the system at once, tables are put
 * together bit by bit between batches; nobody has to wait for it but the one
 * who asked.
 */
ReqResult
command_defragment(Request *req)
{
	ErrCode		error = answer_check_need(req, NEED_ADMIN);

	if (error != ERR_NONE)
		return request_fail(req, error);
	return request_submit(req, SUBMIT_DEFRAGMENT, defragment_begun);
}

static ReqResult
defragment_begun(Request *req, const Completion *done)
{
	uint64_t   *ticket;

	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	ticket = mcx_alloc(req->mcx, sizeof(*ticket));
	*ticket = (uint64_t) done->count;
	req->handler_state = ticket;
	return defragment_look(req);
}

static ReqResult
defragment_look(Request *req)
{
	const uint64_t *ticket = req->handler_state;

	if (atomic_load(&store_raft_status()->defragmented) >= *ticket)
		return REQ_DONE;
	return request_wait_until(req, clock_monotonic_ms() + DEFRAGMENT_POLL_MS,
							  defragment_look);
}

/*
 * With one voter there is nobody to move to but the leader itself, where it is
 * already.
 */
ReqResult
command_move_leader(Request *req)
{
	return answer_pinned_need(req, NEED_ADMIN, BYTES_EMPTY, move_leader);
}

static ErrCode
move_leader(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__MoveLeaderRequest *message = req->message;
	const RaftStatus *status = store_raft_status();
	uint64_t	own_id = atomic_load(&status->member_id);

	if (atomic_load(&status->leader_id) != own_id)
		return ERR_NOT_LEADER;
	return message->targetid == own_id ? ERR_NONE : ERR_BAD_LEADER_TRANSFEREE;
}

/*
 * There is no earlier release that could read these tables, so no target is
 * valid, and none is ever under way.
 */
ReqResult
command_downgrade(Request *req)
{
	return answer_pinned_need(req, NEED_ADMIN, BYTES_EMPTY, downgrade);
}

static ErrCode
downgrade(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__DowngradeRequest *message = req->message;

	switch ((int) message->action)
	{
		case ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__VALIDATE:
		case ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__ENABLE:
			return version_is_sound(message->version) ?
				ERR_INVALID_DOWNGRADE_TARGET_VERSION :
				ERR_WRONG_DOWNGRADE_VERSION_FORMAT;
		case ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__CANCEL:
			return ERR_NO_INFLIGHT_DOWNGRADE;
		default:
			return ERR_UNKNOWN_METHOD;
	}
}

/* major.minor or major.minor.patch, behind which may stand -pre or +build */
static bool
version_is_sound(const char *version)
{
	int			nparts = 0;

	for (;;)
	{
		size_t		n = strspn(version, "0123456789");

		if (n == 0 || n > 9)
			return false;
		version += n;
		nparts++;
		if (*version != '.' || nparts == 3)
			break;
		version++;
	}
	return nparts >= 2 &&
		(*version == '\0' || (nparts == 3 && strchr("-+", *version) != NULL &&
							  version[1] != '\0'));
}

/* the text of each, as etcd's clients know it: with a blank at the end */
static void
put_alarm_errors(Buf *out, const StoreVersion *v)
{
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&v->alarms, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		const AlarmEntry *alarm = container_of(item, AlarmEntry, item);
		char		text[64];

		snprintf(text, sizeof(text), "memberID:%" PRIu64 " alarm:%s ",
				 alarm->member_id, alarm_name(alarm->type));
		pbwire_put_bytes(out, STATUS_ERRORS, bytes_from_cstr(text));
	}
}

static ErrCode
status_answer(Request *req, const StoreVersion *v)
{
	const RaftStatus *status = store_raft_status();
	uint64_t	leader = atomic_load(&status->leader_id);
	Buf		   *out = &req->body;

	pbwire_put_bytes(out, STATUS_VERSION, BYTES_LITERAL(ETCD_API_VERSION));
	pbwire_put_uint(out, STATUS_DB_SIZE, atomic_load(&status->db_size_bytes));
	pbwire_put_uint(out, STATUS_LEADER, leader);
	pbwire_put_uint(out, STATUS_RAFT_INDEX,
					atomic_load(&status->commit_index));
	pbwire_put_uint(out, STATUS_RAFT_TERM, atomic_load(&status->term));
	pbwire_put_uint(out, STATUS_RAFT_APPLIED_INDEX, v->applied_index);
	if (leader == 0)
		pbwire_put_bytes(out, STATUS_ERRORS,
						 bytes_from_cstr(err_info(ERR_NO_LEADER)->text));
	put_alarm_errors(out, v);
	pbwire_put_uint(out, STATUS_DB_SIZE_IN_USE, v->live_bytes);
	pbwire_put_uint(out, STATUS_IS_LEARNER, atomic_load(&status->is_learner));
	pbwire_put_bytes(out, STATUS_STORAGE_VERSION,
					 BYTES_LITERAL(ETCD_CLUSTER_VERSION));
	pbwire_put_int(out, STATUS_DB_SIZE_QUOTA, guc_effective_quota());
	/* there is no downgrade, which is said by an empty message */
	pbwire_put_bytes_always(out, STATUS_DOWNGRADE_INFO, BYTES_EMPTY);
	return ERR_NONE;
}
