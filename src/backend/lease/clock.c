/*
 * clock.c
 *	  The clocks of leases: renewing, expiring, starting over.
 *
 * The order of the two that compete, a keepalive and the lessor's revoke, is
 * decided by one compare-and-swap on the deadline: whoever finds it as he read
 * it wins, and the other one looks again.
 *
 * Times are CLOCK_MONOTONIC, which does not move when somebody sets the clock
 * of the machine; it stands still while the machine sleeps, and so do leases.
 */
#include "server.h"

/* this layer and below */
#include "lease/lease.h"

static int64_t full_ms(const LeaseEntry *lease);

int64_t
lease_remaining_ms(const LeaseEntry *lease, int64_t now_ms)
{
	int64_t		deadline_ms = atomic_load(&lease->clock->deadline_ms);

	return deadline_ms <= now_ms ? 0 : deadline_ms - now_ms;
}

int64_t
lease_renew(const LeaseEntry *lease, int64_t now_ms)
{
	int64_t		deadline_ms = atomic_load(&lease->clock->deadline_ms);
	int64_t		renewed_ms = now_ms + lease->granted_sec * 1000;

	do
	{
		if (deadline_ms <= now_ms)
			return 0;
		if (lease->remaining_sec > 0)
			return LEASE_NEEDS_LOG;
		/* somebody read a later clock than we did */
		if (renewed_ms <= deadline_ms)
			break;
	} while (!atomic_compare_exchange_weak(&lease->clock->deadline_ms,
										   &deadline_ms, renewed_ms));
	return lease->granted_sec;
}

bool
lease_expire(const LeaseEntry *lease, int64_t now_ms)
{
	int64_t		deadline_ms = atomic_load(&lease->clock->deadline_ms);

	do
	{
		if (deadline_ms == LEASE_OVER)
			return true;
		if (deadline_ms > now_ms)
			return false;
	} while (!atomic_compare_exchange_weak(&lease->clock->deadline_ms,
										   &deadline_ms, LEASE_OVER));
	return true;
}

void
lease_promote(const StoreVersion *v, int64_t now_ms)
{
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&v->leases, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		const LeaseEntry *lease = lease_from_item(item);

		atomic_store(&lease->clock->deadline_ms, now_ms + full_ms(lease));
	}
}

/* all that is known to be left */
static int64_t
full_ms(const LeaseEntry *lease)
{
	return (lease->remaining_sec > 0 ? lease->remaining_sec :
			lease->granted_sec) * 1000;
}
