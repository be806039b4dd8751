/*
 * ring.c
 *	  The rings' memory and descriptors, and the rules that both sides keep.
 *
 * This file is the postmaster's part: layout, descriptors, reaping.  The two
 * sides are ring_backend.c and ring_worker.c.
 *
 * Sleeping and waking.  Both directions use the same protocol, and all its
 * steps are sequentially consistent:
 *
 *	sleeper									waker
 *	1. flag := asleep						1. state := something to do
 *	2. look at the state again				2. take the flag (exchange with 0)
 *	3. sleep if there is nothing to do		3. if it was set: write the eventfd
 *
 * In any order of the four steps either the sleeper sees the state in his
 * step 2, or the waker sees the flag in his: no wake-up is lost, and a busy
 * partner costs no system call.  A wake-up too many does no harm.  A
 * backend does not read its eventfd but waits for an edge (EPOLLET), which each
 * write makes anew; 2^64 writes do not happen.  The worker reads its own when
 * it is readable: all backends have it, and one that has gone mad could
 * otherwise fill it up for ever.  The
 * worker's state is the bitmap of slots with submissions, a backend's state
 * is its position "posted".
 *
 * A backend may be killed after it took the worker's flag and before it wrote:
 * then the worker sleeps, and nobody else wakes it.  So the postmaster wakes
 * the worker whenever it reaps a slot.
 *
 * The bitmap works the same way: the producer moves head, then sets the bit if
 * he does not see it set; the consumer clears the bit, then looks at head.
 *
 * A slot changes hands.  The owner is dead before the postmaster counts up the
 * generation, puts head to 0, and later counts up again for the successor; so
 * who sees head at 0 sees the generation changed as well.  Then:
 * - The worker may be copying a record of the dead owner while the successor
 *	 writes over it.  It looks at the generation after the copy and throws the
 *	 copy away if it has changed.
 * - The worker notices a new generation when it first looks at the slot, puts
 *	 its tail to 0, and says so in tail_generation.  Until then the successor
 *	 takes tail as 0: a ring of which nothing has been consumed.
 * - The worker may have looked at the generation, and write an answer for the
 *	 dead owner just after the successor has attached.  The entry carries the
 *	 generation, so the successor passes over it.  It can be only one, because
 *	 the next one looks at the generation again; RING_ENTRIES has room for it.
 *	 posted is never put back, so the successor begins where it stands.
 * - Pages punched out under a late write or read of the worker read as zeros
 *	 and come back when written.
 *
 * What a backend writes is checked by the worker like input from outside; the
 * worker is believed.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* this layer and below */
#include "storage/ipc/ring.h"
#include "storage/ipc/ring_shmem.h"

#define PAGE_BYTES 4096

/*
 * A slot whose last owner wrote no further than this keeps its pages for the
 * next one.
 */
#define KEEP_BYTES (2 * RING_RESTART_BYTES)

RingPlaces	ring_places = {
	.worker_eventfd = -1,
	.attach_fds = {-1, -1},
};

static size_t submission_bytes(const ControlSizes *sizes);
static size_t entries_bytes(void);
static size_t shared_bytes(const ControlSizes *sizes);
static size_t controls_bytes(const ControlSizes *sizes);

size_t
ring_shmem_size(const ControlSizes *sizes)
{
	return shared_bytes(sizes) + controls_bytes(sizes) +
		sizes->nslots * (entries_bytes() + submission_bytes(sizes));
}

void
ring_shmem_init(void *memory, const ControlSizes *sizes)
{
	uint8_t    *at = memory;

	ring_places.nslots = sizes->nslots;
	ring_places.npending_words = (sizes->nslots + 63) / 64;
	ring_places.max_payload = sizes->max_request_bytes + RING_PAYLOAD_SLACK;
	ring_places.submission_bytes = submission_bytes(sizes);
	ring_places.entries_bytes = entries_bytes();
	ring_places.shared = (RingShared *) at;
	at += shared_bytes(sizes);
	ring_places.controls = (RingControl *) at;
	at += controls_bytes(sizes);
	ring_places.slot_memory = at;
}

bool
ring_create_fds(void)
{
	int			saved_errno;

	ring_places.worker_eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ring_places.worker_eventfd >= 0 &&
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				   ring_places.attach_fds) == 0)
		return true;
	saved_errno = errno;
	ring_close_fds();
	errno = saved_errno;
	return false;
}

void
ring_close_fds(void)
{
	if (ring_places.worker_eventfd >= 0)
		close(ring_places.worker_eventfd);
	for (int i = 0; i < 2; i++)
	{
		if (ring_places.attach_fds[i] >= 0)
			close(ring_places.attach_fds[i]);
		ring_places.attach_fds[i] = -1;
	}
	ring_places.worker_eventfd = -1;
}

/* Postmaster; the generation has been counted up already. */
void
ring_reap(int slot)
{
	RingControl *control = &ring_places.controls[slot];
	uint64_t	head = atomic_load(&control->head);

	uint64_t	one = 1;

	Assert(atomic_load(&control_slot(slot)->generation) % 2 == 0);
	atomic_store(&control->head, 0);
	/* the dead owner may have died with the worker's flag in his hand */
	if (write(ring_places.worker_eventfd, &one, sizeof(one)) < 0)
		(void) 0;
	/* the dead owner may have written nonsense; then pages are only kept */
	if (head > KEEP_BYTES)
		ring_release_memory(slot);
}

void
ring_release_memory(int slot)
{
	/* best effort: without it the pages stay until the next owner is gone */
	(void) madvise(ring_entry((uint32_t) slot, 0),
				   ring_places.entries_bytes + ring_places.submission_bytes,
				   MADV_REMOVE);
}

/* ---- for the two sides ---- */

void
ring_copy_in(uint32_t slot, uint64_t position, const void *data, size_t len)
{
	uint8_t    *memory = ring_submission_memory(slot);
	size_t		offset = position & (ring_places.submission_bytes - 1);
	size_t		first = size_min(len, ring_places.submission_bytes - offset);

	if (len == 0)
		return;
	memcpy(memory + offset, data, first);
	memcpy(memory, (const uint8_t *) data + first, len - first);
}

void
ring_copy_out(uint32_t slot, uint64_t position, void *data, size_t len)
{
	const uint8_t *memory = ring_submission_memory(slot);
	size_t		offset = position & (ring_places.submission_bytes - 1);
	size_t		first = size_min(len, ring_places.submission_bytes - offset);

	if (len == 0)
		return;
	memcpy(data, memory + offset, first);
	memcpy((uint8_t *) data + first, memory, len - first);
}

/* ---- static ---- */

/*
 * Room for two of the greatest records, so that one can be written while the
 * other waits, and so that a full record fits wherever the ring stands.
 */
static size_t
submission_bytes(const ControlSizes *sizes)
{
	size_t		wanted = 2 * ((size_t) sizes->max_request_bytes +
							  RING_PAYLOAD_SLACK + sizeof(RingRecord));
	size_t		bytes = PAGE_BYTES;

	while (bytes < wanted)
		bytes *= 2;
	return bytes;
}

static size_t
entries_bytes(void)
{
	return align_up(RING_ENTRIES * sizeof(RingEntry), PAGE_BYTES);
}

static size_t
shared_bytes(const ControlSizes *sizes)
{
	return align_up(sizeof(RingShared) +
					(sizes->nslots + 63) / 64 * sizeof(uint64_t),
					PAGE_BYTES);
}

static size_t
controls_bytes(const ControlSizes *sizes)
{
	return align_up(sizes->nslots * sizeof(RingControl), PAGE_BYTES);
}
