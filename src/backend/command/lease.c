/*
 * lease.c
 *	  LeaseGrant, LeaseRevoke, LeaseTimeToLive, LeaseLeases.
 *
 * What a lease has left is read from its clock, which only the leader's raft
 * worker moves; with one voter that is this machine's.
 */
#include "server.h"

/* system */
#include <sys/random.h>

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "command/answer.h"
#include "command/command.h"
#include "command/leaserequest.h"
#include "dispatch/dispatch.h"
#include "lease/lease.h"

/* LeaseGrantResponse, LeaseTimeToLiveResponse, LeaseLeasesResponse */
enum
{
	GRANT_ID = 2,
	GRANT_TTL = 3,

	TTL_ID = 2,
	TTL_TTL = 3,
	TTL_GRANTED = 4,
	TTL_KEYS = 5,

	LEASES_LEASES = 2,
	STATUS_ID = 1
};

typedef struct Grant
{
	int64_t		id;
	int64_t		ttl_sec;
	bool		is_ours;		/* we have chosen the id */
} Grant;

typedef struct Listed
{
	int64_t		id;
	int64_t		remaining_ms;
} Listed;

static ReqResult grant_propose(Request *req);
static ReqResult on_granted(Request *req, const Completion *done);
static ReqResult time_to_live_at_point(Request *req);
static ErrCode time_to_live_answer(Request *req, const StoreVersion *v);
static ReqResult leases_at_point(Request *req);
static ErrCode leases_answer(Request *req, const StoreVersion *v);
static int	compare_listed(const void *a, const void *b);

int64_t
lease_effective_ttl(int64_t asked_sec)
{
	/* one and a half election timeouts, in full seconds, as etcd */
	int64_t		min_sec = (guc_election_timeout * 3 / 2 + 999) / 1000;

	return asked_sec < min_sec ? min_sec : asked_sec;
}

int64_t
lease_choose_id(const StoreVersion *v)
{
	int64_t		id;

	do
	{
		if (getrandom(&id, sizeof(id), 0) != (ssize_t) sizeof(id))
			elog_fatal("could not get random bytes: %s", strerror(errno));
		id &= INT64_MAX;
	} while (id == 0 || lease_exists(v, id));
	return id;
}

/* Who may ask comes first; then the bound, and only then the quota. */
ReqResult
command_lease_grant(Request *req)
{
	const Etcdserverpb__LeaseGrantRequest *message = req->message;
	Grant	   *grant = mcx_alloc0(req->mcx, sizeof(*grant));
	ErrCode		error = answer_check_need(req, NEED_IDENTITY);

	if (error == ERR_NONE && message->ttl > LEASE_MAX_TTL_SEC)
		error = ERR_LEASE_TTL_TOO_LARGE;
	if (error != ERR_NONE)
		return request_fail(req, error);
	grant->id = message->id;
	grant->is_ours = message->id == 0;
	grant->ttl_sec = lease_effective_ttl(message->ttl);
	req->handler_state = grant;
	return grant_propose(req);
}

ReqResult
command_lease_revoke(Request *req)
{
	const Etcdserverpb__LeaseRevokeRequest *message = req->message;
	LogOp		op = {
		.kind = LOGOP_LEASE_REVOKE,
		.lease.id = message->id,
	};

	return request_propose(req, &op, NULL);
}

ReqResult
command_lease_time_to_live(Request *req)
{
	return request_read_barrier(req, time_to_live_at_point);
}

ReqResult
command_lease_leases(Request *req)
{
	return request_read_barrier(req, leases_at_point);
}

/* ---- grant ---- */

static ReqResult
grant_propose(Request *req)
{
	Grant	   *grant = req->handler_state;
	LogOp		op = {.kind = LOGOP_LEASE_GRANT};

	if (grant->is_ours)
	{
		grant->id = lease_choose_id(store_pin());
		store_unpin();
	}
	op.lease.id = grant->id;
	op.lease.ttl_sec = grant->ttl_sec;
	return request_propose(req, &op, on_granted);
}

static ReqResult
on_granted(Request *req, const Completion *done)
{
	const Grant *grant = req->handler_state;

	/* somebody has taken the number meanwhile: it was only ours */
	if (done->error == ERR_LEASE_EXIST && grant->is_ours)
		return grant_propose(req);
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	req->header_revision = done->revision;
	pbwire_put_int(&req->body, GRANT_ID, grant->id);
	pbwire_put_int(&req->body, GRANT_TTL, grant->ttl_sec);
	return REQ_DONE;
}

/* ---- time to live ---- */

static ReqResult
time_to_live_at_point(Request *req)
{
	const Etcdserverpb__LeaseTimeToLiveRequest *message = req->message;
	AccessList	access;

	access_init(&access, req->mcx);
	access_add(&access, NEED_IDENTITY);
	if (message->keys)
		access_add_lease(&access, NEED_LEASE_READ, message->id);
	return answer_pinned(req, &access, time_to_live_answer);
}

/* An unknown lease is no error here: its time is -1. */
static ErrCode
time_to_live_answer(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__LeaseTimeToLiveRequest *message = req->message;
	const LeaseEntry *lease = lease_find(v, message->id);
	LeaseKeyCursor cursor;

	pbwire_put_int(&req->body, TTL_ID, message->id);
	if (lease == NULL)
	{
		pbwire_put_int(&req->body, TTL_TTL, -1);
		return ERR_NONE;
	}
	pbwire_put_int(&req->body, TTL_TTL,
				   lease_remaining_ms(lease, clock_monotonic_ms()) / 1000);
	pbwire_put_int(&req->body, TTL_GRANTED, lease->granted_sec);
	if (!message->keys)
		return ERR_NONE;
	for (const KvVersion *kv = lease_keys_seek(lease, &cursor, BYTES_EMPTY);
		 kv != NULL; kv = lease_keys_next(&cursor))
		pbwire_put_bytes_always(&req->body, TTL_KEYS, kvversion_key(kv));
	return ERR_NONE;
}

/* ---- list ---- */

static ReqResult
leases_at_point(Request *req)
{
	AccessList	access;

	access_init(&access, req->mcx);
	access_add(&access, NEED_IDENTITY);
	access_add(&access, NEED_EVERY_LEASE_READ);
	return answer_pinned(req, &access, leases_answer);
}

/* those that end first come first */
static ErrCode
leases_answer(Request *req, const StoreVersion *v)
{
	Listed	   *listed = mcx_alloc(req->mcx,
								   v->leases.nitems * sizeof(*listed));
	int64_t		now_ms = clock_monotonic_ms();
	size_t		n = 0;
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&v->leases, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		const LeaseEntry *lease = lease_from_item(item);

		listed[n++] = (Listed) {
			.id = lease->id,
			.remaining_ms = lease_remaining_ms(lease, now_ms),
		};
	}
	qsort(listed, n, sizeof(*listed), compare_listed);
	for (size_t i = 0; i < n; i++)
	{
		pbwire_tag(&req->body, LEASES_LEASES, PBWIRE_BYTES);
		buf_put_varint(&req->body, pbwire_int_size(STATUS_ID, listed[i].id));
		pbwire_put_int(&req->body, STATUS_ID, listed[i].id);
	}
	return ERR_NONE;
}

static int
compare_listed(const void *a, const void *b)
{
	const Listed *x = a;
	const Listed *y = b;

	if (x->remaining_ms != y->remaining_ms)
		return x->remaining_ms < y->remaining_ms ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}
