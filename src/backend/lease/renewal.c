/*
 * renewal.c
 *	  Keepalives between backend and raft worker.
 *
 * Payload: id, auth revision, changed; u64 little-endian each.
 */
#include "server.h"

/* this layer and below */
#include "lease/lease.h"
#include "lease/renewal.h"

LeaseRenewal
lease_renewal_make(const StoreVersion *v, int64_t id)
{
	LeaseRenewal renewal = {.id = id};
	const LeaseEntry *lease;

	if (!v->auth_enabled)
		return renewal;
	renewal.auth_revision = v->auth_revision;
	lease = lease_find(v, id);
	renewal.changed = lease == NULL ? 0 : lease->changed;
	return renewal;
}

void
lease_renewal_encode(const LeaseRenewal *renewal, Buf *out)
{
	buf_put_u64(out, (uint64_t) renewal->id);
	buf_put_u64(out, renewal->auth_revision);
	buf_put_u64(out, renewal->changed);
}

bool
lease_renewal_decode(Bytes payload, LeaseRenewal *renewal)
{
	Cursor		cur = cursor_make(payload);
	uint64_t	id;

	if (!cursor_get_u64(&cur, &id) ||
		!cursor_get_u64(&cur, &renewal->auth_revision) ||
		!cursor_get_u64(&cur, &renewal->changed))
		return false;
	renewal->id = (int64_t) id;
	return cursor_left(&cur) == 0;
}

ErrCode
lease_renewal_execute(const StoreVersion *v, const LeaseRenewal *renewal,
					  int64_t now_ms, int64_t *ttl_sec)
{
	const LeaseEntry *lease = lease_find(v, renewal->id);

	*ttl_sec = 0;
	if (renewal->auth_revision != (v->auth_enabled ? v->auth_revision : 0))
		return ERR_AUTH_OLD_REVISION;
	if (lease == NULL)
		return ERR_NONE;
	if (v->auth_enabled && lease->changed != renewal->changed)
		return ERR_AUTH_OLD_REVISION;
	*ttl_sec = lease_renew(lease, now_ms);
	return ERR_NONE;
}
