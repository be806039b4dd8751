/*
 * maintenance.c
 *	  Status.
 */
#include "server.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/errcodes.h"
#include "utils/guc.h"

/* this layer and below */
#include "command/answer.h"
#include "command/command.h"
#include "dispatch/dispatch.h"

/*
 * The storage version is the minor release whose API we speak, as etcd says
 * it for a cluster of one version.
 */
#define STORAGE_VERSION "3.5.0"

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

static ErrCode status_answer(Request *req, const StoreVersion *v);

/* What this member knows of itself: no linearizable point. */
ReqResult
command_status(Request *req)
{
	return answer_pinned_need(req, NEED_IDENTITY, BYTES_EMPTY, status_answer);
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
	pbwire_put_uint(out, STATUS_DB_SIZE_IN_USE, v->live_bytes);
	pbwire_put_uint(out, STATUS_IS_LEARNER, atomic_load(&status->is_learner));
	pbwire_put_bytes(out, STATUS_STORAGE_VERSION,
					 BYTES_LITERAL(STORAGE_VERSION));
	pbwire_put_int(out, STATUS_DB_SIZE_QUOTA, guc_effective_quota());
	/* there is no downgrade, which is said by an empty message */
	pbwire_put_bytes_always(out, STATUS_DOWNGRADE_INFO, BYTES_EMPTY);
	return ERR_NONE;
}
