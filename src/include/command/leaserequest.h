/*
 * leaserequest.h
 *	  What a grant asks for: for the handlers that make leases.
 */
#ifndef COMMAND_LEASEREQUEST_H
#define COMMAND_LEASEREQUEST_H

#include <stdint.h>

#include "storage/snap/store.h"

/* seconds that are granted for what was asked for, the minimum at least */
extern int64_t lease_effective_ttl(int64_t asked_sec);

/* random, positive, and not in use on this version */
extern int64_t lease_choose_id(const StoreVersion *v);

#endif							/* COMMAND_LEASEREQUEST_H */
