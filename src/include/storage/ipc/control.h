/*
 * control.h
 *	  The control area: shared memory that every process may write.
 *
 * Process slots, submission and completion rings, counters, and what other
 * modules ask for in subsystemlist.h (the token cache, the hash slots).  All
 * sizes are fixed at start.  A process writes only its own slot and rings and
 * what the module's own rules allow; a backend that dies leaves nothing that
 * the postmaster cannot put right with control_reap_slot().
 */
#ifndef STORAGE_IPC_CONTROL_H
#define STORAGE_IPC_CONTROL_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/bytes.h"
#include "storage/snap/store.h"

typedef enum SlotState
{
	SLOT_FREE,					/* postmaster may give it away */
	SLOT_STARTING,				/* given to a child that has not yet attached */
	SLOT_HANDSHAKE,
	SLOT_IDLE,
	SLOT_ACTIVE,
	SLOT_DEAD					/* its process is gone; being put right */
} SlotState;

#define SLOT_USER_BYTES 64
#define SLOT_PEER_BYTES 64

typedef struct ProcSlot
{
	/* written by the postmaster while no process owns the slot */
	alignas(64) _Atomic uint32_t state; /* SlotState; the owner moves it
										 * afterwards */
	_Atomic int32_t pid;		/* set by control_attach_slot() */

	/*
	 * atomic: +1 by the postmaster when the slot is given away (odd: owned) and
	 * +1 when its process is dead (even: nobody's).  Whoever acts for an owner
	 * compares this with what he was told, so that nothing meant for a dead
	 * process reaches its successor.
	 */
	_Atomic uint64_t generation;

	/* atomic: owner writes, raft worker reads */
	StorePinWord pin;
	StorePinWord hold;			/* of store_hold() */

	/* atomic: the owner wrote a wakeup request; see ring.h */
	_Atomic uint32_t completions_armed;

	/*
	 * atomic: what the raft worker tells the owner about its watches, and how
	 * far these have read; see watch/registry.h
	 */
	_Atomic uint64_t watch_from;
	_Atomic uint64_t watch_read;

	/* written by the owner; a torn read only shows in the activity view */
	int64_t		started_ms;		/* CLOCK_REALTIME */
	_Atomic uint32_t nstreams;
	_Atomic uint32_t nwatches;
	_Atomic uint16_t current_rpc;	/* RpcId, 0 = none */
	_Atomic uint16_t wait;		/* WaitName */
	char		user[SLOT_USER_BYTES];	/* cut, NUL-terminated */
	char		peer[SLOT_PEER_BYTES];

	/*
	 * atomic: may submit as the server itself (auxiliary processes); set by the
	 * postmaster before the fork
	 */
	_Atomic bool is_internal;

	/*
	 * atomic: hash jobs of this process that wait or run; counted by the owner,
	 * put to 0 by hashslot_reap()
	 */
	_Atomic uint32_t hash_waiting;
} ProcSlot;

/* ---- life cycle (postmaster) ---- */

typedef struct ControlSizes
{
	uint32_t	nslots;			/* backends + auxiliary processes */
	uint32_t	max_request_bytes;
	uint32_t	token_cache_entries;
	uint32_t	token_max_per_user; /* 0: no limit */
	uint32_t	hash_slots;
	uint32_t	hash_queue;		/* logins that may wait, machine-wide */
} ControlSizes;

/* creates and maps everything in subsystemlist.h; false with errno set */
extern bool control_create(const ControlSizes *sizes);
extern void control_destroy(void);
extern const ControlSizes *control_sizes(void);

/*
 * Find a free slot for a new child: marks it SLOT_STARTING with a new
 * generation.  Returns -1 when all are taken.  Postmaster only.
 */
extern int	control_claim_slot(void);

/* the slot just claimed is for an auxiliary process */
extern void control_mark_internal(int slot);

/*
 * A child is gone (waited for, so that no thread of it runs): clear its pin,
 * empty its rings, give back its hash slots, and free the slot.  Postmaster
 * only; takes no lock.
 */
extern void control_reap_slot(int slot);

/* give the memory of the slot's rings back to the kernel (hole punch) */
extern void control_release_slot_memory(int slot);

/* ---- in a child ---- */
/*
 * Sets own slot, pid, pin word and start time.  The state becomes
 * SLOT_HANDSHAKE; the owner moves it on (a process without clients at once,
 * or it counts as a handshake).
 */
extern void control_attach_slot(int slot);
extern int	control_own_slot(void); /* -1: none */
extern ProcSlot *control_slot(int slot);
extern ProcSlot *control_self(void);	/* NULL before attach */
extern void control_set_user(const char *user);
extern void control_set_peer(const char *peer);
/* watches of this process: so many more, or fewer */
extern void control_note_watches(int change);

/* reload: the postmaster counts up, everybody compares with what he loaded */
extern uint64_t control_reload_generation(void);
extern void control_bump_reload_generation(void);

/* ---- counters: one line each in counterlist.h ---- */
typedef enum CounterId
{
#define COUNTER(symbol, name, help) symbol,
#include "storage/ipc/counterlist.h"
#undef COUNTER
	COUNTER_COUNT
} CounterId;

/*
 * One relaxed atomic addition, in the shard of the own slot: backends on other
 * processors write other cache lines.
 */
extern void counter_add(CounterId id, uint64_t n);
extern uint64_t counter_get(CounterId id);
extern const char *counter_name(CounterId id);
extern const char *counter_help(CounterId id);

/*
 * Counters without names, sharded likewise, for a module that has many and
 * numbers them itself: dispatch/rpcstats.c.
 */
#define STAT_CELLS 4096
extern void stat_add(uint32_t cell, uint64_t n);
extern uint64_t stat_get(uint32_t cell);

/* ---- histograms: one line each in histogramlist.h ---- */
typedef enum HistogramId
{
#define HISTOGRAM(symbol, name, first_us, buckets, help) symbol,
#include "storage/ipc/histogramlist.h"
#undef HISTOGRAM
	HISTOGRAM_COUNT
} HistogramId;

#define HISTOGRAM_MAX_BUCKETS 20

typedef struct HistogramInfo
{
	const char *name;
	const char *help;
	uint64_t	first_us;		/* bound of the first bucket */
	uint32_t	nbuckets;		/* without the one that has no bound */
} HistogramInfo;

/* counts are of each bucket alone; the last has no bound */
typedef struct HistogramValues
{
	uint64_t	counts[HISTOGRAM_MAX_BUCKETS + 1];
	uint64_t	sum_us;
} HistogramValues;

/* two relaxed atomic additions */
extern void histogram_observe(HistogramId id, int64_t us);
extern void histogram_get(HistogramId id, HistogramValues *values);
extern const HistogramInfo *histogram_info(HistogramId id);
/* which bucket: for histograms kept elsewhere */
extern uint32_t histogram_bucket(uint64_t first_us, uint32_t nbuckets,
								 uint64_t us);

/* memory of a subsystem (see subsystemlist.h), by its position */
typedef enum SubsystemId
{
#define SUBSYSTEM(symbol, size_fn, init_fn, reap_fn) symbol,
#include "storage/ipc/subsystemlist.h"
#undef SUBSYSTEM
	SUBSYSTEM_COUNT
} SubsystemId;

extern void *control_subsystem(SubsystemId id);

#endif							/* STORAGE_IPC_CONTROL_H */
