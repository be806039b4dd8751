/*
 * logthread.c
 *	  The thread that writes the log: one write and one sync for all that
 *	  has queued up meanwhile.
 *
 * A thread of its own, because a sync takes as long as the disk likes, and
 * consensus must not be late with its heartbeats.  While one sync runs the
 * next batch gathers, so batches grow by themselves under load.
 *
 * An error is a PANIC: after a failed write or sync nobody knows what is on
 * disk, entries before it may have been lost as well, and a client may be
 * told anything only by a process that has read the log again.
 */
#include "server.h"

/* system */
#include <pthread.h>
#include <time.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "storage/ipc/control.h"
#include "worker_internal.h"

/* so long without work, and a spare segment is made ready */
#define IDLE_MS 50
/*
 * A busy log takes a step after so many bytes, after the batch has been
 * reported: a few small delays, and not one of a whole segment's writing when
 * the next is needed.  A step is 1 MB.
 */
#define BUSY_STEP_BYTES (512 * 1024)

typedef struct EntryQueue
{
	RaftEntry **entries;
	uint32_t	n;
	uint32_t	cap;
} EntryQueue;

static pthread_t thread;
static RaftLog *raft_log;

/* protected by lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t has_work;
static EntryQueue queued;
static uint64_t trim_to;		/* 0: nothing to trim */
static uint64_t persisted_index;	/* 0: nothing new */
static uint64_t persisted_term;
static bool is_stopping;

/* log thread only */
static EntryQueue writing;
static LogEntry *batch;
static uint32_t batch_cap;
static bool has_spare;
static bool spare_is_missing;	/* for want of room; has been said */
static uint64_t unprepared_bytes;	/* written since the last step to a spare */

static void *logthread_main(void *arg);
static bool take_work(uint64_t *trim, bool *is_idle);
static void wait_for_work(void);
static void write_batch(void);
static void prepare_spare(void);
static void queue_add(EntryQueue *queue, RaftEntry *const *entries, uint32_t n);

void
logthread_start(RaftLog *log)
{
	pthread_condattr_t attr;
	int			rc;

	raft_log = log;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&has_work, &attr);
	pthread_condattr_destroy(&attr);
	rc = pthread_create(&thread, NULL, logthread_main, NULL);
	if (rc != 0)
		elog_fatal("could not start the log thread: %s", strerror(rc));
}

void
logthread_append(RaftEntry *const *entries, uint32_t n)
{
	pthread_mutex_lock(&lock);
	queue_add(&queued, entries, n);
	pthread_mutex_unlock(&lock);
	/* after it, or the thread would wake only to wait for the lock */
	pthread_cond_signal(&has_work);
}

void
logthread_trim(uint64_t first_kept)
{
	pthread_mutex_lock(&lock);
	trim_to = first_kept;
	pthread_cond_signal(&has_work);
	pthread_mutex_unlock(&lock);
}

bool
logthread_take_persisted(uint64_t *index, uint64_t *term)
{
	pthread_mutex_lock(&lock);
	*index = persisted_index;
	*term = persisted_term;
	persisted_index = 0;
	pthread_mutex_unlock(&lock);
	return *index != 0;
}

void
logthread_stop(void)
{
	pthread_mutex_lock(&lock);
	is_stopping = true;
	pthread_cond_signal(&has_work);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	free(queued.entries);
	free(writing.entries);
	free(batch);
}

/* Thread: log. */
static void *
logthread_main(void *arg)
{
	uint64_t	trim;
	bool		is_idle;
	int			rc;

	(void) pthread_setname_np(pthread_self(), "clav log");
	while (take_work(&trim, &is_idle))
	{
		if (writing.n > 0)
			write_batch();
		if (trim > 0 && (rc = log_trim(raft_log, trim)) != 0)
			/* PANIC: see the head of this file */
			elog_panic("could not recycle segments of the log: %s",
					   strerror(rc));
		if (is_idle)
			prepare_spare();
	}
	return NULL;
}

/* Wait; false when stopping and nothing is left.  Entries come in `writing`. */
static bool
take_work(uint64_t *trim, bool *is_idle)
{
	EntryQueue	empty = writing;
	bool		go_on;

	empty.n = 0;
	pthread_mutex_lock(&lock);
	if (queued.n == 0 && trim_to == 0 && !is_stopping)
		wait_for_work();
	writing = queued;
	queued = empty;
	*trim = trim_to;
	trim_to = 0;
	*is_idle = writing.n == 0 && *trim == 0 && !is_stopping;
	go_on = writing.n > 0 || !is_stopping;
	pthread_mutex_unlock(&lock);
	return go_on;
}

/* with lock held; may return for nothing */
static void
wait_for_work(void)
{
	int64_t		until_ms = clock_monotonic_ms() + IDLE_MS;
	struct timespec until = {
		.tv_sec = until_ms / 1000,
		.tv_nsec = until_ms % 1000 * 1000000,
	};

	while (queued.n == 0 && trim_to == 0 && !is_stopping)
	{
		if (has_spare)
			pthread_cond_wait(&has_work, &lock);
		else if (pthread_cond_timedwait(&has_work, &lock, &until) == ETIMEDOUT)
			return;
	}
}

static void
write_batch(void)
{
	uint64_t	bytes = 0;
	uint32_t	n = writing.n;
	int64_t		begun_us;
	int			rc;

	if (n > batch_cap)
	{
		batch_cap = n;
		free(batch);
		batch = xmalloc(n * sizeof(*batch));
	}
	for (uint32_t i = 0; i < n; i++)
	{
		batch[i] = writing.entries[i]->log;
		bytes += batch[i].data.len;
	}
	(void) INJECTION_POINT("logthread-before-append");
	begun_us = clock_monotonic_us();
	rc = log_append(raft_log, batch, n);
	/* PANIC: see the head of this file */
	if (rc != 0)
		elog_panic("could not write %u entries from index %" PRIu64
				   " to the log: %s", n, batch[0].index, strerror(rc));
	histogram_observe(HISTOGRAM_LOG_SYNC, clock_monotonic_us() - begun_us);
	counter_add(COUNTER_LOG_SYNCS, 1);
	counter_add(COUNTER_LOG_BYTES, bytes);
	/* a segment may have been taken into use */
	has_spare = false;

	pthread_mutex_lock(&lock);
	persisted_index = batch[n - 1].index;
	persisted_term = batch[n - 1].term;
	pthread_mutex_unlock(&lock);
	(void) INJECTION_POINT("logthread-persisted");
	consensus_wake();

	unprepared_bytes += bytes;
	if (unprepared_bytes >= BUSY_STEP_BYTES)
		prepare_spare();
}

static void
prepare_spare(void)
{
	int			rc = log_prepare_spare(raft_log);

	unprepared_bytes = 0;
	if (rc == ENOSPC || rc == EDQUOT)
	{
		if (!spare_is_missing)
			elog_write(LOG_LEVEL_WARNING, NULL, "Make room before the running "
					   "segment is full, or the server will stop.",
					   "could not prepare a segment of the log: %s",
					   strerror(rc));
		spare_is_missing = true;
		/* not again before something has been written */
		has_spare = true;
		return;
	}
	/* PANIC: see the head of this file */
	if (rc != 0 && rc != EAGAIN)
		elog_panic("could not prepare a segment of the log: %s", strerror(rc));
	has_spare = rc == 0;
	spare_is_missing = spare_is_missing && !has_spare;
}

static void
queue_add(EntryQueue *queue, RaftEntry *const *entries, uint32_t n)
{
	if (queue->n + n > queue->cap)
	{
		queue->cap = (queue->n + n) * 2;
		queue->entries = xrealloc(queue->entries,
								  queue->cap * sizeof(*queue->entries));
	}
	memcpy(queue->entries + queue->n, entries, n * sizeof(*entries));
	queue->n += n;
}
