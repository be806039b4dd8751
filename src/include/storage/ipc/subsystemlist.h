/*
 * subsystemlist.h
 *	  Who has memory in the control area:
 *	  SUBSYSTEM(symbol, size function, init function, reap function).
 *
 *	size_t size_fn(const ControlSizes *sizes)   bytes wanted
 *	void   init_fn(void *memory, const ControlSizes *sizes)   zeroed memory
 *	void   reap_fn(int slot)   the process of this slot is dead
 *
 * Size and init run in the postmaster before the first fork, reap in the
 * postmaster after the death of a child; it takes no lock.  No include guard.
 */
SUBSYSTEM(SUBSYSTEM_RINGS, ring_shmem_size, ring_shmem_init, ring_reap)
SUBSYSTEM(SUBSYSTEM_TOKENS, token_shmem_size, token_shmem_init, control_reap_nothing)
SUBSYSTEM(SUBSYSTEM_HASH_SLOTS, hashslot_shmem_size, hashslot_shmem_init, hashslot_reap)
