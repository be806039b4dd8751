/*
 * rpctable.c
 *	  The table of RPCs, made from rpclist.h, and finding a row by name.
 *
 * Found by a hash of service and method: each request begins here, so it is
 * one hash and, nearly always, one comparison.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"
#include "health.pb-c.h"
#include "v3electionpb.pb-c.h"
#include "v3lockpb.pb-c.h"

/* this layer and below */
#include "command/command.h"
#include "dispatch/dispatch.h"

#define NSLOTS 256				/* power of two, well above RPC_COUNT */

static_assert(RPC_COUNT < NSLOTS / 2, "the hash table of RPCs is too full");

static const RpcInfo rpc_table[RPC_COUNT] = {
#define RPC(symbol, service, method, kind, flags, request, response, handler) \
	[symbol] = {symbol, service, method, kind, flags, &request, &response, \
		handler},
#include "dispatch/rpclist.h"
#undef RPC
};

/* row numbers, 0 = free; filled at first use, then only read */
static uint8_t slots[NSLOTS];
static bool slots_are_filled;

static void fill_slots(void);
static uint32_t name_hash(Bytes service, Bytes method);
static uint32_t hash_more(uint32_t hash, Bytes b);

const RpcInfo *
rpc_info(RpcId id)
{
	return id > RPC_NONE && id < RPC_COUNT ? &rpc_table[id] : NULL;
}

const RpcInfo *
rpc_find(Bytes service, Bytes method)
{
	uint32_t	slot;

	if (!slots_are_filled)
		fill_slots();
	for (slot = name_hash(service, method) % NSLOTS; slots[slot] != 0;
		 slot = (slot + 1) % NSLOTS)
	{
		const RpcInfo *rpc = &rpc_table[slots[slot]];

		if (bytes_equal_cstr(method, rpc->method) &&
			bytes_equal_cstr(service, rpc->service))
			return rpc;
	}
	return NULL;
}

bool
rpc_service_exists(Bytes service)
{
	for (int i = RPC_NONE + 1; i < RPC_COUNT; i++)
		if (bytes_equal_cstr(service, rpc_table[i].service))
			return true;
	return false;
}

static void
fill_slots(void)
{
	for (int i = RPC_NONE + 1; i < RPC_COUNT; i++)
	{
		uint32_t	slot = name_hash(bytes_from_cstr(rpc_table[i].service),
									 bytes_from_cstr(rpc_table[i].method));

		while (slots[slot % NSLOTS] != 0)
			slot++;
		slots[slot % NSLOTS] = (uint8_t) i;
	}
	slots_are_filled = true;
}

/* FNV-1a over "service/method" */
static uint32_t
name_hash(Bytes service, Bytes method)
{
	uint32_t	hash = 2166136261u;

	hash = hash_more(hash, service);
	hash = hash_more(hash, BYTES_LITERAL("/"));
	return hash_more(hash, method);
}

static uint32_t
hash_more(uint32_t hash, Bytes b)
{
	for (size_t i = 0; i < b.len; i++)
		hash = (hash ^ b.data[i]) * 16777619u;
	return hash;
}
