/*
 * rpcstats.c
 *	  How often each RPC was called and how it ended.
 *
 * Cells of one RPC, one after the other:
 *
 *	started | received | sent | handled[17] | bucket[16 + 1] | sum of us
 *
 * Of a unary call the messages are not counted: one comes with each call that
 * is started, one goes with each that ends well.  An addition is cheap, but each
 * Get is made of few microseconds.
 *
 * What is no RPC of a client (the read of a health page) has no row here.
 */
#include "server.h"

/* this layer and below */
#include "dispatch/dispatch.h"
#include "dispatch/rpcstats.h"

enum
{
	CELL_STARTED,
	CELL_RECEIVED,
	CELL_SENT,
	CELL_HANDLED,
	CELL_BUCKETS = CELL_HANDLED + RPCSTATS_CODES,
	CELL_SUM_US = CELL_BUCKETS + RPCSTATS_BUCKETS + 1,
	CELLS_PER_RPC
};

static_assert(RPC_COUNT * CELLS_PER_RPC <= STAT_CELLS,
			  "the cells of the control area are too few for the RPCs");
static_assert(RPCSTATS_BUCKETS <= HISTOGRAM_MAX_BUCKETS, "too many buckets");

static const char *const code_names[RPCSTATS_CODES] = {
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded",
	"NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
	"FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
	"Unavailable", "DataLoss", "Unauthenticated"
};

static void add(const Request *req, uint32_t cell, uint64_t n);
static uint64_t get(RpcId id, uint32_t cell);

void
rpcstats_started(const Request *req)
{
	add(req, CELL_STARTED, 1);
}

void
rpcstats_received(const Request *req, size_t bytes)
{
	if (req->rpc->kind != RPC_UNARY)
		add(req, CELL_RECEIVED, 1);
	counter_add(COUNTER_CLIENT_RECEIVED_BYTES, bytes);
}

void
rpcstats_sent(const Request *req, size_t bytes)
{
	if (req->rpc->kind != RPC_UNARY)
		add(req, CELL_SENT, 1);
	counter_add(COUNTER_CLIENT_SENT_BYTES, bytes);
}

void
rpcstats_handled(const Request *req, int code, int64_t took_us)
{
	if (code < 0 || code >= RPCSTATS_CODES)
		code = 2;				/* as gRPC shows what it does not know */
	add(req, CELL_HANDLED + (uint32_t) code, 1);
	if (took_us < 0)
		return;
	add(req, CELL_BUCKETS + histogram_bucket(RPCSTATS_FIRST_US,
											 RPCSTATS_BUCKETS,
											 (uint64_t) took_us), 1);
	add(req, CELL_SUM_US, (uint64_t) took_us);
}

void
rpcstats_get(RpcId id, RpcStats *stats)
{
	stats->started = get(id, CELL_STARTED);
	stats->received = get(id, CELL_RECEIVED);
	stats->sent = get(id, CELL_SENT);
	for (uint32_t i = 0; i < RPCSTATS_CODES; i++)
		stats->handled[i] = get(id, CELL_HANDLED + i);
	for (uint32_t i = 0; i <= RPCSTATS_BUCKETS; i++)
		stats->times.counts[i] = get(id, CELL_BUCKETS + i);
	stats->times.sum_us = get(id, CELL_SUM_US);
	if (rpc_info(id)->kind == RPC_UNARY)
	{
		stats->received = stats->started;
		stats->sent = stats->handled[0];
	}
}

const char *
rpcstats_code_name(int code)
{
	Assert(code >= 0 && code < RPCSTATS_CODES);
	return code_names[code];
}

static void
add(const Request *req, uint32_t cell, uint64_t n)
{
	if (req->rpc->id != RPC_NONE)
		stat_add((uint32_t) req->rpc->id * CELLS_PER_RPC + cell, n);
}

static uint64_t
get(RpcId id, uint32_t cell)
{
	return stat_get((uint32_t) id * CELLS_PER_RPC + cell);
}
