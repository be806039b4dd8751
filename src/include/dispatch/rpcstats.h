/*
 * rpcstats.h
 *	  How often each RPC was called and how it ended.
 *
 * In the cells of the control area (storage/ipc/control.h), so that every
 * backend can tell of all.  Each of these is one relaxed addition or two.
 */
#ifndef DISPATCH_RPCSTATS_H
#define DISPATCH_RPCSTATS_H

#include <stdint.h>

#include "dispatch/request.h"
#include "storage/ipc/control.h"

/* gRPC's codes: 0 to 16 */
#define RPCSTATS_CODES 17
#define RPCSTATS_FIRST_US 100
#define RPCSTATS_BUCKETS 16		/* 0.1 ms to 3.3 s */

extern void rpcstats_started(const Request *req);
extern void rpcstats_received(const Request *req, size_t bytes);
extern void rpcstats_sent(const Request *req, size_t bytes);
/* ended; code of gRPC, took_us -1: not measured */
extern void rpcstats_handled(const Request *req, int code, int64_t took_us);

typedef struct RpcStats
{
	uint64_t	started;
	uint64_t	received;		/* messages */
	uint64_t	sent;
	uint64_t	handled[RPCSTATS_CODES];
	HistogramValues times;		/* only if metrics is extensive */
} RpcStats;

extern void rpcstats_get(RpcId id, RpcStats *stats);
extern const char *rpcstats_code_name(int code);

#endif							/* DISPATCH_RPCSTATS_H */
