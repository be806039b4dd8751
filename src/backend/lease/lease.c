/*
 * lease.c
 *	  Looks leases up.
 *
 * draft->leases holds one item for each lease under its id, eight bytes
 * big-endian.  Nothing puts one there yet; see lease.h.
 */
#include "server.h"

/* system */
#include <endian.h>

/* this layer and below */
#include "lease/lease.h"

bool
lease_exists(const StoreVersion *v, int64_t lease_id)
{
	uint64_t	key = htobe64((uint64_t) lease_id);

	return cowtree_get(&v->leases, bytes_make(&key, sizeof(key))) != NULL;
}
