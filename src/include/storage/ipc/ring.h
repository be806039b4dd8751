/*
 * ring.h
 *	  The two rings between a backend and the raft worker.
 *
 * Submission (backend to worker): a byte ring of records, one producer, one
 * consumer.  The worker copies a record out, so its bytes are free again at
 * once.  When the ring is empty the producer starts again at the front, so
 * that a quiet backend touches few pages.  What comes out is checked like
 * input from outside: a backend may be broken.
 *
 * Completion (worker to backend): fixed entries, as many as a backend may
 * have outstanding (RING_MAX_OUTSTANDING), so it can never be full.  An
 * answer that does not fit in the entry lies in store memory (read-only for
 * the backend); it is freed once the backend has moved past the entry.
 *
 * Wakeups: the worker sleeps on one eventfd made by the postmaster before any
 * fork.  A backend makes its own eventfd and sends it to the worker through a
 * socketpair (ring_attach_*).  Both sides tell "I am going to sleep" in
 * shared memory so that a busy partner costs no system call.
 */
#ifndef STORAGE_IPC_RING_H
#define STORAGE_IPC_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/bytes.h"
#include "storage/ipc/control.h"
#include "utils/errcodes.h"

#define RING_MAX_OUTSTANDING 1024

typedef enum SubmitKind
{
	SUBMIT_LOGOP = 1,			/* payload: an encoded LogOp; replicate it */
	SUBMIT_READ = 2,			/* no payload: answer when a linearizable read
								 * may be served from the published version */
	SUBMIT_CLUSTER = 3,			/* member change, transfer: raft/worker.h */
	SUBMIT_LEASE_RENEW = 4,		/* payload: lease/renewal.h; no log entry */
	SUBMIT_WATCH = 5,			/* ranges that it watches: watch/registry.h; any
								 * member, answered by the apply thread */
	SUBMIT_DEFRAGMENT = 6		/* no payload: answered at once, with a ticket
								 * as count; RaftStatus.defragmented tells when
								 * it is done */
} SubmitKind;

typedef struct Submission
{
	uint64_t	request_id;		/* the backend's own, returned as is */
	SubmitKind	kind;
	Bytes		payload;		/* good until the next ring_submission_next() */
} Submission;

typedef struct Completion
{
	uint64_t	request_id;
	ErrCode		error;			/* ERR_NONE: done */
	int64_t		revision;		/* header revision */
	int64_t		count;			/* what the operation says; see apply.h */
	uint64_t	index;			/* log index, 0 for reads */
	const void *body;			/* store memory, or NULL */
	size_t		body_len;
} Completion;

/* bytes that a payload may be longer than max_request_bytes */
#define RING_PAYLOAD_SLACK (64 * 1024)

/* subsystemlist.h */
extern size_t ring_shmem_size(const ControlSizes *sizes);
extern void ring_shmem_init(void *memory, const ControlSizes *sizes);
extern void ring_reap(int slot);
/* punch out the pages of a slot that nobody owns */
extern void ring_release_memory(int slot);

/* ---- postmaster, before the first fork ---- */

/* eventfd of the worker and the attach socketpair; false with errno set */
extern bool ring_create_fds(void);
extern void ring_close_fds(void);

/* ---- backend side ---- */

/*
 * After control_attach_slot(): make the own eventfd and send it to the worker;
 * FATAL if that fails.  Submissions may follow at once.
 */
extern void ring_attach_backend(void);
/* an eventfd; wait for an edge (EPOLLET): nobody ever reads it */
extern int	ring_completion_fd(void);

/*
 * Queue a record.  Returns false if the ring has no room now or
 * RING_MAX_OUTSTANDING are outstanding: the caller tries again when answers
 * have come, of which at least one is on its way.  A payload over
 * max_request_bytes + 64 KB is a programming error.
 */
extern bool ring_submit(SubmitKind kind, uint64_t request_id, Bytes payload);

/*
 * The next completion, or false if none waits.  Its body is good until
 * ring_completion_done(), which must follow before the next call.  FATAL if
 * the worker has closed the rings of this process because it found rubbish in
 * them: nothing will be answered any more.
 */
extern bool ring_completion_next(Completion *completion);
extern void ring_completion_done(void);
/*
 * Before sleeping: true if the loop may sleep, false if something came in
 * (ProcSlot.watch_from included).
 */
extern bool ring_arm_completions(void);

/* ---- raft worker side (consensus thread unless said otherwise) ---- */
extern void ring_attach_worker(void);
/* gives back heap and descriptors; no other thread answers any more */
extern void ring_detach_worker(void);
/* an eventfd; the caller reads it when it is readable */
extern int	ring_submission_fd(void);
extern int	ring_attach_fd(void);	/* new backends announce themselves */
extern void ring_accept_attachments(void);

/*
 * The next record of any backend, fair between them; false when all rings are
 * empty.  *slot and *generation name whom to answer.
 */
extern bool ring_submission_next(uint32_t *slot, uint64_t *generation,
								 Submission *submission);
extern bool ring_arm_submissions(void);

/*
 * Answer.  body must be store memory from store_alloc(body_len) that nobody
 * else frees; it is given back when the backend has consumed the entry or is
 * gone.  Wakes the backend only if it sleeps and flush is called: answers of
 * a batch are posted first, then ring_flush_completions() wakes each backend
 * once.  Thread: consensus and apply (an internal mutex per slot); store
 * memory is freed by the apply thread in ring_collect_bodies().
 */
extern void ring_complete(uint32_t slot, uint64_t generation,
						  const Completion *completion);
extern void ring_flush_completions(void);
/* wake this backend with the next flush, though nothing is posted for it */
extern void ring_notify(uint32_t slot);
extern void ring_collect_bodies(void);	/* Thread: apply */

#endif							/* STORAGE_IPC_RING_H */
