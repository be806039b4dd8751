/*
 * lease.h
 *	  Leases as far as keys need them: does it exist, what hangs on it.
 *
 * Granting and expiring leases is not part of this release's API yet (the
 * RPCs answer Unimplemented), so draft->leases stays empty and a Put that
 * names a lease is answered "requested lease not found", which is the truth.
 */
#ifndef LEASE_LEASE_H
#define LEASE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/snap/store.h"

extern bool lease_exists(const StoreVersion *v, int64_t lease_id);

#endif							/* LEASE_LEASE_H */
