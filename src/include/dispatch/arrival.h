/*
 * arrival.h
 *	  How large a message may be, and how slowly it may come in.
 *
 * For the doors (rpc/, gateway/), which read messages, and for the handlers
 * that answer in pieces of what a client takes.
 */
#ifndef DISPATCH_ARRIVAL_H
#define DISPATCH_ARRIVAL_H

#include <stddef.h>
#include <stdint.h>

#include "utils/guc.h"

/* etcd's allowance over max_request_bytes */
#define ARRIVAL_OVERHEAD_BYTES (512 * 1024)
/* a message has this long, and so many ms more for each kB of it */
#define ARRIVAL_MS 60000
#define ARRIVAL_MS_PER_KB 125

/* most bytes of one message */
static inline size_t
arrival_max_bytes(void)
{
	return (size_t) guc_max_request_bytes + ARRIVAL_OVERHEAD_BYTES;
}

/* when a message that began at begun_ms and of which so much is there is late */
static inline int64_t
arrival_due_ms(int64_t begun_ms, size_t bytes)
{
	return begun_ms + ARRIVAL_MS +
		(int64_t) (bytes / 1024) * ARRIVAL_MS_PER_KB;
}

#endif							/* DISPATCH_ARRIVAL_H */
