/*
 * subsystem_doubles.h
 *	  The subsystems of the control area that lie above storage/ipc, as the
 *	  tests of storage/ipc need them: they note what they are told.
 */
#ifndef SUBSYSTEM_DOUBLES_H
#define SUBSYSTEM_DOUBLES_H

#include "storage/ipc/control.h"

#define DOUBLE_BYTES 100

static void *double_memory[2];
static int	double_last_reaped = -1;
static uint64_t double_generation_at_reap;

#define DOUBLE(n, prefix) \
	extern size_t prefix##_shmem_size(const ControlSizes *sizes); \
	extern void prefix##_shmem_init(void *memory, const ControlSizes *sizes); \
	size_t prefix##_shmem_size(const ControlSizes *sizes) \
	{ \
		return DOUBLE_BYTES; \
	} \
	void prefix##_shmem_init(void *memory, const ControlSizes *sizes) \
	{ \
		double_memory[n] = memory; \
	}

DOUBLE(0, token)
DOUBLE(1, hashslot)

extern void hashslot_reap(int slot);

void
hashslot_reap(int slot)
{
	double_last_reaped = slot;
	double_generation_at_reap = atomic_load(&control_slot(slot)->generation);
}

#endif							/* SUBSYSTEM_DOUBLES_H */
