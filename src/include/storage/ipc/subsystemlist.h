/*
 * subsystemlist.h
 *	  Who has memory in the control area:
 *	  SUBSYSTEM(symbol, size function, init function).
 *
 *	size_t size_fn(const ControlSizes *sizes)   bytes wanted
 *	void   init_fn(void *memory, const ControlSizes *sizes)   zeroed memory
 *
 * Both run in the postmaster before the first fork.  No include guard.
 */
SUBSYSTEM(SUBSYSTEM_RINGS, ring_shmem_size, ring_shmem_init)
SUBSYSTEM(SUBSYSTEM_TOKENS, token_shmem_size, token_shmem_init)
SUBSYSTEM(SUBSYSTEM_HASH_SLOTS, hashslot_shmem_size, hashslot_shmem_init)
