/*
 * ring_backend.c
 *	  A backend's side of the rings: submit, and take answers.
 *
 * One thread of the process uses this (the event loop).  See ring.c for the
 * protocol and for why its races are harmless.
 */
#include "server.h"

/* system */
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"

/* this layer and below */
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "storage/ipc/ring_shmem.h"

#define ATTACH_TIMEOUT_MS 10000
#define ATTACH_RETRY_MS 5

static uint32_t slot;
static uint64_t generation;
static RingControl *control;
static int	completion_fd = -1;
static uint64_t head;
static uint64_t consumed;
static uint32_t outstanding;
static bool is_armed;

static void send_eventfd(void);
static bool send_once(struct msghdr *message);
static bool is_passing_error(int error);
static uint64_t consumer_tail(void);
static uint64_t restart_skip(uint64_t tail, uint64_t record_bytes);
static void put_record(SubmitKind kind, uint64_t request_id, Bytes payload);
static void wake_worker(void);
static void disarm(void);
static void check_not_rejected(void);

void
ring_attach_backend(void)
{
	Assert(control_own_slot() >= 0);
	slot = (uint32_t) control_own_slot();
	generation = atomic_load(&control_self()->generation);
	control = &ring_places.controls[slot];
	head = 0;
	outstanding = 0;
	is_armed = false;
	/* whatever has been posted is not for us */
	consumed = atomic_load(&control->posted);
	atomic_store(&control->consumed, consumed);

	completion_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (completion_fd < 0)
		elog_fatal("could not create an eventfd: %s", strerror(errno));
	(void) INJECTION_POINT("ring-before-attach");
	send_eventfd();
	(void) INJECTION_POINT("ring-after-attach");
	for (int i = 0; i < 2; i++)
	{
		close(ring_places.attach_fds[i]);
		ring_places.attach_fds[i] = -1;
	}
}

int
ring_completion_fd(void)
{
	return completion_fd;
}

bool
ring_submit(SubmitKind kind, uint64_t request_id, Bytes payload)
{
	uint64_t	record_bytes = ring_record_bytes(payload.len);
	uint64_t	tail = consumer_tail();

	Assert(payload.len <= ring_places.max_payload);
	check_not_rejected();
	if (payload.len > ring_places.max_payload ||
		outstanding >= RING_MAX_OUTSTANDING)
		return false;
	head += restart_skip(tail, record_bytes);
	if (head + record_bytes - tail > ring_places.submission_bytes)
		return false;
	put_record(kind, request_id, payload);
	outstanding++;
	wake_worker();
	return true;
}

bool
ring_completion_next(Completion *completion)
{
	if (is_armed)
		disarm();
	while (consumed != atomic_load(&control->posted))
	{
		const RingEntry *entry = ring_entry(slot, consumed);

		if (entry->generation != generation)
		{
			/* for the owner before us */
			atomic_store(&control->consumed, ++consumed);
			continue;
		}
		(void) INJECTION_POINT("ring-completion-taken");
		completion->request_id = entry->request_id;
		completion->error = (ErrCode) entry->error;
		completion->revision = entry->revision;
		completion->count = entry->count;
		completion->index = entry->index;
		completion->body = entry->body;
		completion->body_len = entry->body_len;
		return true;
	}
	check_not_rejected();
	return false;
}

void
ring_completion_done(void)
{
	Assert(outstanding > 0);
	outstanding--;
	atomic_store(&control->consumed, ++consumed);
	(void) INJECTION_POINT("ring-completion-done");
}

bool
ring_arm_completions(void)
{
	atomic_store(&control_self()->completions_armed, 1);
	is_armed = true;
	if (consumed == atomic_load(&control->posted) &&
		atomic_load(&control_self()->watch_from) == 0 &&
		atomic_load(&control->rejected_generation) != generation)
		return true;
	disarm();
	return false;
}

/* ---- attaching ---- */

/*
 * The worker answers nothing here: submissions may begin at once, and the
 * worker wakes us when the eventfd arrives, in case an answer was earlier.
 */
static void
send_eventfd(void)
{
	RingAttachMessage attach = {.slot = slot,.generation = generation};
	struct iovec part = {.iov_base = &attach,.iov_len = sizeof(attach)};
	union
	{
		struct cmsghdr header;
		char		bytes[CMSG_SPACE(sizeof(int))];
	}			ancillary = {.bytes = {0}};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = ancillary.bytes,
		.msg_controllen = sizeof(ancillary.bytes),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	int64_t		deadline = clock_monotonic_ms() + ATTACH_TIMEOUT_MS;

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(rights), &completion_fd, sizeof(int));
	while (!send_once(&message))
	{
		if (!is_passing_error(errno) || clock_monotonic_ms() > deadline)
			elog_fatal("could not send an eventfd to the raft worker: %s",
					   strerror(errno));
		nanosleep(&(struct timespec) {.tv_nsec = ATTACH_RETRY_MS * 1000000L},
				  NULL);
	}
}

/*
 * Never waits inside: the socket is shared by all backends that begin, and
 * its queue may be full while the worker is busy.
 */
static bool
send_once(struct msghdr *message)
{
	return sendmsg(ring_places.attach_fds[1], message,
				   MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/*
 * ETOOMANYREFS: the kernel allows a user as many descriptors in flight as one
 * process may have open; many backends that begin at once may reach that.
 */
static bool
is_passing_error(int error)
{
	return error == EAGAIN || error == EINTR || error == ENOBUFS ||
		error == ENOMEM || error == ETOOMANYREFS;
}

/* ---- submitting ---- */

static uint64_t
consumer_tail(void)
{
	/* until the worker has noticed us, its tail is about somebody else */
	if (atomic_load_explicit(&control->tail_generation,
							 memory_order_acquire) != generation)
		return 0;
	return atomic_load_explicit(&control->tail, memory_order_acquire);
}

/*
 * In an empty ring that stands far from its front: write a record that leads
 * to the front, if what comes next fits there.  Returns the bytes skipped.
 * The wrap record becomes visible together with the record that follows it.
 */
static uint64_t
restart_skip(uint64_t tail, uint64_t record_bytes)
{
	uint64_t	offset = head & (ring_places.submission_bytes - 1);
	uint64_t	skip = ring_places.submission_bytes - offset;
	RingRecord	wrap = {.kind = RING_KIND_WRAP};

	if (head != tail || offset < RING_RESTART_BYTES ||
		skip + record_bytes > ring_places.submission_bytes)
		return 0;
	ring_copy_in(slot, head, &wrap, sizeof(wrap));
	return skip;
}

static void
put_record(SubmitKind kind, uint64_t request_id, Bytes payload)
{
	RingRecord	record = {
		.kind = (uint32_t) kind,
		.payload_bytes = (uint32_t) payload.len,
		.request_id = request_id,
	};

	ring_copy_in(slot, head, &record, sizeof(record));
	(void) INJECTION_POINT("ring-half-record");
	ring_copy_in(slot, head + sizeof(record), payload.data, payload.len);
	head += ring_record_bytes(payload.len);
	(void) INJECTION_POINT("ring-before-head");
	atomic_store(&control->head, head);
	(void) INJECTION_POINT("ring-after-head");
}

static void
wake_worker(void)
{
	RingShared *shared = ring_places.shared;
	_Atomic uint64_t *word = &shared->pending[slot / 64];
	uint64_t	bit = UINT64_C(1) << slot % 64;
	uint64_t	one = 1;

	if ((atomic_load(word) & bit) == 0)
		atomic_fetch_or(word, bit);
	(void) INJECTION_POINT("ring-before-wake");
	if (atomic_load(&shared->worker_asleep) == 0 ||
		atomic_exchange(&shared->worker_asleep, 0) == 0)
		return;
	(void) INJECTION_POINT("ring-flag-taken");
	/* can fail only when the counter is full, and then it is readable */
	if (write(ring_places.worker_eventfd, &one, sizeof(one)) < 0)
		(void) 0;
}

/* ---- sleeping ---- */

/* An eventfd that was written meanwhile wakes us once for nothing. */
static void
disarm(void)
{
	atomic_store(&control_self()->completions_armed, 0);
	is_armed = false;
}

static void
check_not_rejected(void)
{
	if (unlikely(atomic_load(&control->rejected_generation) == generation))
		elog_fatal("the raft worker has closed the rings of this backend");
}
