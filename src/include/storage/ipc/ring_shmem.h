/*
 * ring_shmem.h
 *	  What the rings look like in shared memory: for storage/ipc/ring*.c only.
 *
 *	RingShared with the bitmap | RingControl[nslots] | slot memory[nslots]
 *
 *	slot memory:  completion entries | submission bytes     (whole pages each)
 *
 * The words that both sides look at stand apart from the bytes, so that the
 * bytes of a slot can be punched out when nobody owns it.
 */
#ifndef STORAGE_IPC_RING_SHMEM_H
#define STORAGE_IPC_RING_SHMEM_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"

/*
 * A few more than can be outstanding: an answer for a dead owner that the
 * worker had begun to write may land after its successor has attached.
 */
#define RING_ENTRIES (RING_MAX_OUTSTANDING + 64)

#define RING_RECORD_ALIGN 16
#define RING_KIND_WRAP 0x57524150	/* skip to the front; internal SubmitKind */
#define RING_KIND_LAST SUBMIT_DEFRAGMENT

/*
 * In an empty ring the producer starts at the front again once it has come
 * this far, so that a quiet backend touches few pages.
 */
#define RING_RESTART_BYTES (64 * 1024)

/* head of a record in the submission ring; payload follows, then padding */
typedef struct RingRecord
{
	uint32_t	kind;
	uint32_t	payload_bytes;
	uint64_t	request_id;
} RingRecord;

typedef struct RingEntry
{
	uint64_t	generation;		/* of the owner it is for */
	uint64_t	request_id;
	int64_t		revision;
	int64_t		count;
	uint64_t	index;
	const void *body;
	uint64_t	body_len;
	uint32_t	error;
} RingEntry;

/*
 * All positions are free-running; modulo the size they are offsets.  head and
 * tail begin at 0 for each generation, posted and consumed run on.
 */
typedef struct RingControl
{
	/* atomic: written by the owner; put to 0 by the postmaster at reaping */
	alignas(CACHE_LINE_BYTES) _Atomic uint64_t head;

	/*
	 * atomic: written by the consensus thread.  tail means something only to
	 * the generation that tail_generation names; others take it as 0.
	 */
	alignas(CACHE_LINE_BYTES) _Atomic uint64_t tail;
	_Atomic uint64_t tail_generation;

	/* atomic: written by the worker; this generation broke the rules */
	_Atomic uint64_t rejected_generation;

	/* atomic: written by the worker under the slot's private lock */
	alignas(CACHE_LINE_BYTES) _Atomic uint64_t posted;

	/* atomic: written by the owner */
	alignas(CACHE_LINE_BYTES) _Atomic uint64_t consumed;
} RingControl;

typedef struct RingShared
{
	/* atomic: 1 while the worker sleeps or is about to; see ring.c */
	alignas(CACHE_LINE_BYTES) _Atomic uint32_t worker_asleep;

	/* atomic: a bit per slot; set by owners, cleared by the worker */
	alignas(CACHE_LINE_BYTES) _Atomic uint64_t pending[];
} RingShared;

/*
 * Where everything is, and how big.  Kept in each process and not in shared
 * memory, so that a broken backend cannot change it for the worker.
 */
typedef struct RingPlaces
{
	uint32_t	nslots;
	uint32_t	npending_words;
	uint32_t	max_payload;
	size_t		submission_bytes;	/* power of two */
	size_t		entries_bytes;
	RingShared *shared;
	RingControl *controls;
	uint8_t    *slot_memory;

	/* made by ring_create_fds() */
	int			worker_eventfd;
	int			attach_fds[2];	/* worker's end, backends' end */
} RingPlaces;

extern RingPlaces ring_places;

/* what a backend sends with its eventfd */
typedef struct RingAttachMessage
{
	uint32_t	slot;
	uint32_t	unused;
	uint64_t	generation;
} RingAttachMessage;

static inline RingEntry *
ring_entry(uint32_t slot, uint64_t position)
{
	uint8_t    *memory = ring_places.slot_memory +
		slot * (ring_places.entries_bytes + ring_places.submission_bytes);

	return (RingEntry *) memory + position % RING_ENTRIES;
}

static inline uint8_t *
ring_submission_memory(uint32_t slot)
{
	return ring_places.slot_memory + ring_places.entries_bytes +
		slot * (ring_places.entries_bytes + ring_places.submission_bytes);
}

/* bytes that a record takes in the ring; no overflow for sizes checked */
static inline uint64_t
ring_record_bytes(uint64_t payload_bytes)
{
	return (sizeof(RingRecord) + payload_bytes + RING_RECORD_ALIGN - 1) &
		~(uint64_t) (RING_RECORD_ALIGN - 1);
}

/* copy in or out of the ring's bytes, around its end */
extern void ring_copy_in(uint32_t slot, uint64_t position, const void *data,
						 size_t len);
extern void ring_copy_out(uint32_t slot, uint64_t position, void *data,
						  size_t len);

#endif							/* STORAGE_IPC_RING_SHMEM_H */
