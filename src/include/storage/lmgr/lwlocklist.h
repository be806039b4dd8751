/*
 * lwlocklist.h
 *	  Every lock, in the order in which they may be taken:
 *	  LWLOCK(symbol, name, scope).
 *
 * A thread may take a lock only if all locks it holds stand earlier in this
 * list; so two of one class are never held together.  Scope: SHARED lies in
 * the control area and survives the death of its owner; PRIVATE lies in the
 * heap of one process.
 *
 * No include guard: expanded where needed.
 */
LWLOCK(LWLOCK_TOKEN_PARTITION, "TokenPartition", SHARED)
LWLOCK(LWLOCK_RING_SLOT, "RingSlot", PRIVATE)
LWLOCK(LWLOCK_HASH_POOL, "HashPool", PRIVATE)
