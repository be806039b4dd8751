/*
 * hashslot.c
 *	  How many password hashes run, and wait, on the machine at one time.
 *
 * Shared memory, and no lock in it, so that the postmaster can put right what
 * a killed backend left:
 *
 *	owners[i]	0, or generation << 16 | process slot of who computes
 *	released	counted up at each release; waiters sleep on it (futex)
 *	ProcSlot.hash_waiting	jobs of one process, waiting and running
 *
 * How many wait is added up over the process slots when it is asked: a counter
 * for all of them would stay wrong for ever if a process were killed between
 * changing it and noting that it did.
 *
 * A release wakes one waiter.  If that one is killed before it takes the slot,
 * hashslot_reap() wakes another in its place.  Waiters look again by
 * themselves every second as well, so that no mistake in this can hold up a
 * login for longer.
 */
#include "server.h"

/* system */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* lib and utils */
#include "utils/injection.h"

/* this layer and below */
#include "auth/password.h"
#include "storage/ipc/control.h"

#define LOOK_AGAIN_SEC 1

typedef struct HashSlots
{
	/* atomic: anybody counts up */
	_Atomic uint32_t released;

	/* atomic: claimed and freed by their owner, freed by the postmaster */
	_Atomic uint64_t owners[];
} HashSlots;

/* set before the first fork, the same in all processes */
static HashSlots *hash_slots;
static uint32_t nhash_slots;
static uint64_t max_jobs;

static uint64_t count_jobs(void);
static int	take_free_slot(uint64_t own);
static void wake_waiters(int n);

size_t
hashslot_shmem_size(const ControlSizes *sizes)
{
	return sizeof(HashSlots) +
		size_max(sizes->hash_slots, 1) * sizeof(uint64_t);
}

void
hashslot_shmem_init(void *memory, const ControlSizes *sizes)
{
	hash_slots = memory;
	nhash_slots = (uint32_t) size_max(sizes->hash_slots, 1);
	max_jobs = (uint64_t) nhash_slots + sizes->hash_queue;
}

/*
 * Half of the places are for processes that have none yet: one connection that
 * asks for a thousand logins at one time must not shut out all others.
 */
bool
hashslot_enter(void)
{
	_Atomic uint32_t *own = &control_self()->hash_waiting;
	bool		is_first;

	/*
	 * Counted first, then looked at: two who come at one time may both be
	 * refused the last place, but they cannot both get it.
	 */
	is_first = atomic_fetch_add(own, 1) == 0;
	if (count_jobs() <= (is_first ? max_jobs : (max_jobs + 1) / 2))
		return true;
	atomic_fetch_sub(own, 1);
	return false;
}

void
hashslot_leave(void)
{
	atomic_fetch_sub(&control_self()->hash_waiting, 1);
}

uint32_t
hashslot_acquire(void)
{
	uint64_t	own = atomic_load(&control_self()->generation) << 16 |
		(uint64_t) control_own_slot();

	for (;;)
	{
		/* read before looking: a release after the look ends the sleep */
		uint32_t	seen = atomic_load(&hash_slots->released);
		int			i = take_free_slot(own);
		struct timespec timeout = {.tv_sec = LOOK_AGAIN_SEC};

		if (i >= 0)
		{
			(void) INJECTION_POINT("hashslot-held");
			return (uint32_t) i;
		}
		/* woken, timed out, or changed meanwhile: look again */
		(void) INJECTION_POINT("hashslot-waiting");
		syscall(SYS_futex, &hash_slots->released, FUTEX_WAIT, seen, &timeout,
				NULL, 0);
	}
}

void
hashslot_release(uint32_t hash_slot)
{
	atomic_store(&hash_slots->owners[hash_slot], 0);
	wake_waiters(1);
}

void
hashslot_reap(int slot)
{
	int			nfreed = 0;

	if (atomic_exchange(&control_slot(slot)->hash_waiting, 0) == 0)
		return;
	for (uint32_t i = 0; i < nhash_slots; i++)
	{
		uint64_t	owner = atomic_load(&hash_slots->owners[i]);

		/*
		 * The dead process cannot give it back any more, and its successor
		 * does not exist yet: nobody else changes this owner.
		 */
		if (owner == 0 || (int) (owner & 0xffff) != slot)
			continue;
		atomic_store(&hash_slots->owners[i], 0);
		nfreed++;
	}
	/* one more, for a wake-up that the dead process may have swallowed */
	wake_waiters(nfreed + 1);
}

/* ---- static ---- */

static uint64_t
count_jobs(void)
{
	uint64_t	njobs = 0;

	for (uint32_t i = 0; i < control_sizes()->nslots; i++)
		njobs += atomic_load(&control_slot((int) i)->hash_waiting);
	return njobs;
}

static int
take_free_slot(uint64_t own)
{
	for (uint32_t i = 0; i < nhash_slots; i++)
	{
		uint64_t	nobody = 0;

		if (atomic_compare_exchange_strong(&hash_slots->owners[i], &nobody,
										   own))
			return (int) i;
	}
	return -1;
}

static void
wake_waiters(int n)
{
	atomic_fetch_add(&hash_slots->released, 1);
	syscall(SYS_futex, &hash_slots->released, FUTEX_WAKE, n, NULL, NULL, 0);
}
