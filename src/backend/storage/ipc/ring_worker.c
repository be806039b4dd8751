/*
 * ring_worker.c
 *	  The raft worker's side of the rings: take submissions, post answers.
 *
 * Submissions are taken by the consensus thread alone.  Answers come from the
 * consensus and the apply thread, under a private lock per slot.  Bodies of
 * answers wait in a queue per slot, in the worker's own heap, until the
 * backend has moved past their entry or is gone; the apply thread, which alone
 * may free store memory, collects them.
 *
 * Nothing that a backend wrote is believed: positions, kinds and lengths are
 * checked.  A backend that breaks the rules is rejected: its generation is
 * neither read nor answered any more, and it ends itself (or is ended) when it
 * looks at its rings.
 *
 * Descriptors of backends' eventfds are never closed: the number stays with
 * the slot, and a successor's eventfd is put in its place (dup3).  So a thread
 * may write to the number without a lock: at worst it wakes the successor for
 * nothing.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "storage/ipc/ring_shmem.h"
#include "storage/lmgr/lwlock.h"
#include "storage/snap/store.h"

#define TURN_RECORDS 16			/* of one slot before the next has its turn */
#define COLLECT_BODIES 64		/* taken from a slot's queue under its lock */
#define FIRST_BODIES 16

typedef struct Body
{
	void	   *data;
	size_t		len;
	uint64_t	generation;		/* of the owner it is for; 0: nobody's */
	uint64_t	position;		/* of its entry */
} Body;

typedef struct WorkerSlot
{
	/* consensus thread only */
	uint64_t	generation;		/* whose records we read */
	uint64_t	tail;

	/* atomic: stays when the owner changes; -1 until the first one came */
	_Atomic int eventfd;

	/* protected by lock */
	LwLock		lock;
	uint64_t	posted;
	Body	   *bodies;			/* circular */
	uint32_t	bodies_cap;		/* power of two, or 0 */
	uint32_t	bodies_first;
	uint32_t	bodies_count;
} WorkerSlot;

typedef enum TakeResult
{
	TAKE_GOT,
	TAKE_EMPTY
} TakeResult;

static WorkerSlot *worker_slots;

/* atomic, a bit per slot: answers posted and not yet announced */
static _Atomic uint64_t *unannounced;

/* atomic, a bit per slot: the slot's queue has bodies */
static _Atomic uint64_t *with_bodies;

/* consensus thread only */
static bool is_armed;
static int	turn_slot = -1;
static uint32_t turn_left;
static uint32_t next_slot;
static uint8_t *payload;
static size_t payload_cap;

static void raise_descriptor_limit(void);
static void disarm(void);
static bool begin_turn(void);
static void end_turn(void);
static bool find_pending(uint32_t from, uint32_t to);
static TakeResult take_record(uint32_t slot, Submission *submission);
static bool follow_generation(uint32_t slot, uint64_t generation);
static bool skip_wrap(uint32_t slot, uint64_t head);
static bool record_is_sound(const RingRecord *record, uint64_t waiting);
static bool copy_was_of(uint32_t slot, uint64_t generation);
static void move_tail(uint32_t slot, uint64_t tail);
static bool is_answerable(uint32_t slot, uint64_t generation);
static void reject(uint32_t slot, uint64_t generation, const char *what);
static void post_entry(uint32_t slot, uint64_t generation,
					   const Completion *completion);
static void keep_body(uint32_t slot, uint64_t generation,
					  const Completion *completion, uint64_t position);
static void grow_bodies(WorkerSlot *ws);
static void collect_slot(uint32_t slot);
static uint32_t take_free_bodies(uint32_t slot, Body taken[COLLECT_BODIES]);
static bool body_is_free(uint32_t slot, const Body *body);
static bool accept_one(void);
static int	received_fd(struct msghdr *message);
static void install_eventfd(const RingAttachMessage *attach, int fd);
static void wake_backend(uint32_t slot);
static void set_bit(_Atomic uint64_t *words, uint32_t i);

void
ring_attach_worker(void)
{
	uint32_t	nwords = ring_places.npending_words;

	raise_descriptor_limit();
	worker_slots = xcalloc(ring_places.nslots, sizeof(*worker_slots));
	unannounced = xcalloc(nwords, sizeof(*unannounced));
	with_bodies = xcalloc(nwords, sizeof(*with_bodies));
	for (uint32_t i = 0; i < ring_places.nslots; i++)
	{
		lwlock_init(&worker_slots[i].lock, LWLOCK_RING_SLOT);
		atomic_store(&worker_slots[i].eventfd, -1);
	}
}

void
ring_detach_worker(void)
{
	for (uint32_t i = 0; i < ring_places.nslots; i++)
	{
		int			fd = atomic_load(&worker_slots[i].eventfd);

		if (fd >= 0)
			close(fd);
		lwlock_fini(&worker_slots[i].lock);
		free(worker_slots[i].bodies);
	}
	free(worker_slots);
	free((void *) unannounced);
	free((void *) with_bodies);
	free(payload);
	worker_slots = NULL;
	unannounced = NULL;
	with_bodies = NULL;
	payload = NULL;
	payload_cap = 0;
	is_armed = false;
	turn_slot = -1;
	next_slot = 0;
}

int
ring_submission_fd(void)
{
	return ring_places.worker_eventfd;
}

int
ring_attach_fd(void)
{
	return ring_places.attach_fds[0];
}

/* ---- submissions; Thread: consensus ---- */

bool
ring_submission_next(uint32_t *slot, uint64_t *generation,
					 Submission *submission)
{
	if (is_armed)
		disarm();
	for (;;)
	{
		if (turn_slot < 0 && !begin_turn())
			return false;
		if (turn_left == 0)
		{
			/* there may be more: come back after the others */
			set_bit(ring_places.shared->pending, (uint32_t) turn_slot);
			end_turn();
			continue;
		}
		if (take_record((uint32_t) turn_slot, submission) == TAKE_GOT)
		{
			turn_left--;
			*slot = (uint32_t) turn_slot;
			*generation = worker_slots[turn_slot].generation;
			return true;
		}
		end_turn();
	}
}

bool
ring_arm_submissions(void)
{
	RingShared *shared = ring_places.shared;

	if (is_armed)
		disarm();
	if (turn_slot >= 0)
		return false;
	atomic_store(&shared->worker_asleep, 1);
	is_armed = true;
	for (uint32_t i = 0; i < ring_places.npending_words; i++)
	{
		if (atomic_load(&shared->pending[i]) != 0)
		{
			disarm();
			return false;
		}
	}
	return true;
}

/* ---- answers; Thread: consensus and apply ---- */

void
ring_complete(uint32_t slot, uint64_t generation, const Completion *completion)
{
	WorkerSlot *ws = &worker_slots[slot];
	RingControl *control = &ring_places.controls[slot];
	bool		is_overrun = false;

	Assert(slot < ring_places.nslots);
	lwlock_acquire(&ws->lock);
	if (is_answerable(slot, generation))
	{
		/* unsigned: a position beyond ours gives a huge number */
		uint64_t	unread = ws->posted - atomic_load(&control->consumed);

		is_overrun = unread >= RING_ENTRIES;
		if (!is_overrun)
			post_entry(slot, generation, completion);
	}
	else
		keep_body(slot, 0, completion, 0);
	if (is_overrun)
		keep_body(slot, 0, completion, 0);
	lwlock_release(&ws->lock);
	if (is_overrun)
		reject(slot, generation, "its position in the answers is impossible");
}

void
ring_flush_completions(void)
{
	for (uint32_t i = 0; i < ring_places.npending_words; i++)
	{
		uint64_t	word;

		if (atomic_load(&unannounced[i]) == 0)
			continue;
		word = atomic_exchange(&unannounced[i], 0);
		for (; word != 0; word &= word - 1)
		{
			uint32_t	slot = i * 64 + (uint32_t) __builtin_ctzll(word);

			if (atomic_exchange(&control_slot((int) slot)->completions_armed,
								0) != 0)
				wake_backend(slot);
		}
	}
}

void
ring_notify(uint32_t slot)
{
	Assert(slot < ring_places.nslots);
	set_bit(unannounced, slot);
}

/* Thread: apply. */
void
ring_collect_bodies(void)
{
	for (uint32_t i = 0; i < ring_places.npending_words; i++)
	{
		uint64_t	word = atomic_load(&with_bodies[i]);

		for (; word != 0; word &= word - 1)
			collect_slot(i * 64 + (uint32_t) __builtin_ctzll(word));
	}
}

/* ---- new backends; Thread: consensus ---- */

void
ring_accept_attachments(void)
{
	while (accept_one())
		continue;
}

/* ---- start ---- */

/* One descriptor for each backend, besides the worker's own. */
static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		elog_warning("could not raise the limit on open files: %s",
					 strerror(errno));
	if (limit.rlim_cur != RLIM_INFINITY &&
		limit.rlim_cur < (rlim_t) ring_places.nslots + 64)
		elog_write(LOG_LEVEL_WARNING, NULL, "Raise the hard limit on open "
				   "files, or lower max_connections.",
				   "the raft worker may open %llu files, which is too few for "
				   "%u connections", (unsigned long long) limit.rlim_cur,
				   ring_places.nslots);
}

/* ---- submissions ---- */

/* An eventfd that was written meanwhile wakes us once for nothing. */
static void
disarm(void)
{
	atomic_store(&ring_places.shared->worker_asleep, 0);
	is_armed = false;
}

/* Choose the next slot with submissions, going round; false if none has. */
static bool
begin_turn(void)
{
	return find_pending(next_slot, ring_places.nslots) ||
		find_pending(0, next_slot);
}

static void
end_turn(void)
{
	next_slot = (uint32_t) turn_slot + 1;
	if (next_slot == ring_places.nslots)
		next_slot = 0;
	turn_slot = -1;
}

/*
 * A set bit in [from, to): clear it and open the slot's turn.  The bit is
 * cleared before head is looked at; see ring.c.
 */
static bool
find_pending(uint32_t from, uint32_t to)
{
	_Atomic uint64_t *pending = ring_places.shared->pending;

	while (from < to)
	{
		uint64_t	word = atomic_load(&pending[from / 64]) >> from % 64;

		if (word != 0)
		{
			uint32_t	slot = from + (uint32_t) __builtin_ctzll(word);

			if (slot >= to)
				return false;
			atomic_fetch_and(&pending[slot / 64],
							 ~(UINT64_C(1) << slot % 64));
			turn_slot = (int) slot;
			turn_left = TURN_RECORDS;
			return true;
		}
		from = (from / 64 + 1) * 64;
	}
	return false;
}

/*
 * Copy out one record of the slot's owner.  TAKE_EMPTY also when the slot
 * changes hands meanwhile, or when the owner is rejected: whatever the
 * successor submits sets the slot's bit again.
 */
static TakeResult
take_record(uint32_t slot, Submission *submission)
{
	WorkerSlot *ws = &worker_slots[slot];
	RingControl *control = &ring_places.controls[slot];
	uint64_t	generation = atomic_load(&control_slot((int) slot)->generation);
	RingRecord	record;
	uint64_t	head;

	if (!follow_generation(slot, generation))
		return TAKE_EMPTY;
	head = atomic_load(&control->head);
	while (head != ws->tail)
	{
		uint64_t	waiting = head - ws->tail;

		if (waiting >= sizeof(record) &&
			waiting <= ring_places.submission_bytes)
		{
			ring_copy_out(slot, ws->tail, &record, sizeof(record));
			if (record.kind == RING_KIND_WRAP && skip_wrap(slot, head))
				continue;
			if (record_is_sound(&record, waiting))
				break;
		}
		if (copy_was_of(slot, generation))
			reject(slot, generation, "its submissions make no sense");
		return TAKE_EMPTY;
	}
	if (head == ws->tail)
		return TAKE_EMPTY;
	if (record.payload_bytes > payload_cap)
	{
		payload_cap = align_up(record.payload_bytes, 4096);
		payload = xrealloc(payload, payload_cap);
	}
	(void) INJECTION_POINT("ring-copying");
	ring_copy_out(slot, ws->tail + sizeof(record), payload,
				  record.payload_bytes);
	if (!copy_was_of(slot, generation))
		return TAKE_EMPTY;
	move_tail(slot, ws->tail + ring_record_bytes(record.payload_bytes));
	submission->request_id = record.request_id;
	submission->kind = (SubmitKind) record.kind;
	submission->payload = bytes_make(payload, record.payload_bytes);
	return TAKE_GOT;
}

/* False if nobody owns the slot, or its owner is rejected. */
static bool
follow_generation(uint32_t slot, uint64_t generation)
{
	WorkerSlot *ws = &worker_slots[slot];
	RingControl *control = &ring_places.controls[slot];

	if (!is_answerable(slot, generation))
		return false;
	if (ws->generation == generation)
		return true;
	ws->generation = generation;
	ws->tail = 0;
	atomic_store(&control->tail, 0);
	/* who sees this sees the tail above as well */
	atomic_store(&control->tail_generation, generation);
	return true;
}

/* The record at tail leads to the front, if the producer has gone there. */
static bool
skip_wrap(uint32_t slot, uint64_t head)
{
	uint64_t	mask = ring_places.submission_bytes - 1;
	uint64_t	front = (worker_slots[slot].tail | mask) + 1;

	if (head - worker_slots[slot].tail < front - worker_slots[slot].tail)
		return false;
	move_tail(slot, front);
	return true;
}

static bool
record_is_sound(const RingRecord *record, uint64_t waiting)
{
	return record->kind >= SUBMIT_LOGOP && record->kind <= RING_KIND_LAST &&
		record->payload_bytes <= ring_places.max_payload &&
		ring_record_bytes(record->payload_bytes) <= waiting;
}

/*
 * Did the slot keep its owner while we copied?  Only then is the copy whole;
 * the fence keeps the copying before the look.
 */
static bool
copy_was_of(uint32_t slot, uint64_t generation)
{
#ifndef __SANITIZE_THREAD__
	/* TSan knows no fences; it sees one process only, so it misses nothing */
	atomic_thread_fence(memory_order_acquire);
#endif
	return atomic_load(&control_slot((int) slot)->generation) == generation;
}

static void
move_tail(uint32_t slot, uint64_t tail)
{
	worker_slots[slot].tail = tail;
	atomic_store_explicit(&ring_places.controls[slot].tail, tail,
						  memory_order_release);
}

static bool
is_answerable(uint32_t slot, uint64_t generation)
{
	return generation % 2 == 1 &&
		atomic_load(&control_slot((int) slot)->generation) == generation &&
		atomic_load(&ring_places.controls[slot].rejected_generation) !=
		generation;
}

/*
 * Neither read nor answer this owner again.  Says so once: afterwards the
 * owner is not answerable, and nobody comes here for it.  The owner is woken
 * so that it finds out.
 */
static void
reject(uint32_t slot, uint64_t generation, const char *what)
{
	/* the slot has changed hands while we looked: nothing was wrong */
	if (!is_answerable(slot, generation))
		return;
	atomic_store(&ring_places.controls[slot].rejected_generation, generation);
	elog_write(LOG_LEVEL_ERROR, "Its requests are no longer answered.", NULL,
			   "backend %d (slot %u) broke the rules of its rings: %s",
			   (int) atomic_load(&control_slot((int) slot)->pid), slot, what);
	wake_backend(slot);
}

/* ---- answers ---- */

/* Lock of the slot held. */
static void
post_entry(uint32_t slot, uint64_t generation, const Completion *completion)
{
	WorkerSlot *ws = &worker_slots[slot];
	RingEntry  *entry = ring_entry(slot, ws->posted);

	Assert(lwlock_is_held(&ws->lock));
	entry->generation = generation;
	entry->request_id = completion->request_id;
	entry->error = (uint32_t) completion->error;
	entry->revision = completion->revision;
	entry->count = completion->count;
	entry->index = completion->index;
	entry->body = completion->body;
	entry->body_len = completion->body_len;
	keep_body(slot, generation, completion, ws->posted);
	ws->posted++;
	atomic_store(&ring_places.controls[slot].posted, ws->posted);
	set_bit(unannounced, slot);
}

/* Queue a body to be freed later; Lock of the slot held. */
static void
keep_body(uint32_t slot, uint64_t generation, const Completion *completion,
		  uint64_t position)
{
	WorkerSlot *ws = &worker_slots[slot];
	uint32_t	at;

	Assert(lwlock_is_held(&ws->lock));
	if (completion->body == NULL)
		return;
	if (ws->bodies_count == ws->bodies_cap)
		grow_bodies(ws);
	at = (ws->bodies_first + ws->bodies_count) & (ws->bodies_cap - 1);
	ws->bodies[at] = (Body) {
		.data = (void *) completion->body,
		.len = completion->body_len,
		.generation = generation,
		.position = position,
	};
	ws->bodies_count++;
	set_bit(with_bodies, slot);
}

static void
grow_bodies(WorkerSlot *ws)
{
	uint32_t	cap = ws->bodies_cap == 0 ? FIRST_BODIES : 2 * ws->bodies_cap;
	Body	   *bodies = xmalloc(cap * sizeof(*bodies));

	for (uint32_t i = 0; i < ws->bodies_count; i++)
		bodies[i] = ws->bodies[(ws->bodies_first + i) & (ws->bodies_cap - 1)];
	free(ws->bodies);
	ws->bodies = bodies;
	ws->bodies_cap = cap;
	ws->bodies_first = 0;
}

/* Free what the slot's owner has moved past; Thread: apply. */
static void
collect_slot(uint32_t slot)
{
	Body		taken[COLLECT_BODIES];
	uint32_t	n;

	do
	{
		n = take_free_bodies(slot, taken);
		for (uint32_t i = 0; i < n; i++)
			store_free(taken[i].data, taken[i].len);
	} while (n == COLLECT_BODIES);
}

static uint32_t
take_free_bodies(uint32_t slot, Body taken[COLLECT_BODIES])
{
	WorkerSlot *ws = &worker_slots[slot];
	uint32_t	n = 0;

	lwlock_acquire(&ws->lock);
	while (ws->bodies_count > 0 && n < COLLECT_BODIES &&
		   body_is_free(slot, &ws->bodies[ws->bodies_first]))
	{
		taken[n++] = ws->bodies[ws->bodies_first];
		ws->bodies_first = (ws->bodies_first + 1) & (ws->bodies_cap - 1);
		ws->bodies_count--;
	}
	if (ws->bodies_count == 0)
		atomic_fetch_and(&with_bodies[slot / 64],
						 ~(UINT64_C(1) << slot % 64));
	lwlock_release(&ws->lock);
	return n;
}

/*
 * A generation that is over has no process that could read the body.  A
 * position that the owner cannot have reached frees nothing: the owner is
 * rejected at its next answer, and its bodies go when it does.
 */
static bool
body_is_free(uint32_t slot, const Body *body)
{
	uint64_t	consumed = atomic_load(&ring_places.controls[slot].consumed);

	if (body->generation !=
		atomic_load(&control_slot((int) slot)->generation))
		return true;
	return consumed > body->position &&
		consumed <= worker_slots[slot].posted;
}

/* ---- new backends ---- */

/* Take one announcement from the socket; false when there is none. */
static bool
accept_one(void)
{
	RingAttachMessage attach;
	struct iovec part = {.iov_base = &attach,.iov_len = sizeof(attach)};
	union
	{
		struct cmsghdr header;
		char		bytes[CMSG_SPACE(sizeof(int))];
	}			ancillary;
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = ancillary.bytes,
		.msg_controllen = sizeof(ancillary.bytes),
	};
	ssize_t		n;
	int			fd;

	do
		n = recvmsg(ring_places.attach_fds[0], &message,
					MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	fd = received_fd(&message);
	if (n != sizeof(attach) || (message.msg_flags & MSG_TRUNC) != 0 ||
		attach.slot >= ring_places.nslots ||
		!is_answerable(attach.slot, attach.generation))
	{
		/* not necessarily a broken one: it may be dead already */
		if (fd >= 0)
			close(fd);
		return true;
	}
	if (fd < 0)
		reject(attach.slot, attach.generation, "its eventfd did not arrive; "
			   "the raft worker may have no descriptor left");
	else
		install_eventfd(&attach, fd);
	return true;
}

static int
received_fd(struct msghdr *message)
{
	struct cmsghdr *rights = CMSG_FIRSTHDR(message);
	int			fd;

	if (rights == NULL || rights->cmsg_level != SOL_SOCKET ||
		rights->cmsg_type != SCM_RIGHTS ||
		rights->cmsg_len != CMSG_LEN(sizeof(int)))
		return -1;
	memcpy(&fd, CMSG_DATA(rights), sizeof(int));
	return fd;
}

static void
install_eventfd(const RingAttachMessage *attach, int fd)
{
	WorkerSlot *ws = &worker_slots[attach->slot];
	int			old = atomic_load(&ws->eventfd);
	int			flags = fcntl(fd, F_GETFL);

	/* the worker must not be made to wait, whatever has been sent */
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
	{
		close(fd);
		reject(attach->slot, attach->generation, "its eventfd is not one");
		return;
	}
	if (old < 0)
		atomic_store(&ws->eventfd, fd);
	else
	{
		int			rc;

		do
			rc = dup3(fd, old, O_CLOEXEC);
		while (rc < 0 && (errno == EINTR || errno == EBUSY));
		close(fd);
		if (rc < 0)
		{
			reject(attach->slot, attach->generation,
				   "its eventfd could not be taken over");
			return;
		}
	}

	/*
	 * An answer may have been posted, and the backend's flag taken, before we
	 * knew where to write: so wake it now, whether it sleeps or not.
	 */
	wake_backend(attach->slot);
}

static void
wake_backend(uint32_t slot)
{
	int			fd = atomic_load(&worker_slots[slot].eventfd);
	uint64_t	one = 1;

	/* not yet known: it is woken when it is */
	if (fd < 0)
		return;
	/* EAGAIN when the counter is full, and then it is readable */
	if (write(fd, &one, sizeof(one)) < 0)
		(void) 0;
}

static void
set_bit(_Atomic uint64_t *words, uint32_t i)
{
	uint64_t	bit = UINT64_C(1) << i % 64;

	if ((atomic_load(&words[i / 64]) & bit) == 0)
		atomic_fetch_or(&words[i / 64], bit);
}
