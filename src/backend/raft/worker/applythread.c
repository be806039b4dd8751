/*
 * applythread.c
 *	  The thread that carries out committed entries: the only writer of store
 *	  memory after the start.
 *
 * What is committed is taken in batches: all entries of a batch go into one
 * draft, the draft is published, then everybody who waits is answered, then
 * the changes go on their way to the tables.  Answering after publishing is
 * what makes a read of the published version see every acknowledged write.
 *
 * When there is nothing to apply, the remains of a compaction are removed
 * step by step, and memory that backends have finished with is collected.
 */
#include "server.h"

/* system */
#include <malloc.h>
#include <pthread.h>
#include <time.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "mvcc/mvcc.h"
#include "storage/bdb/persist.h"
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "storage/snap/store.h"
#include "watch/registry.h"
#include "worker_internal.h"

/* one publish and one transaction for so many entries at most */
#define BATCH_ENTRIES 1024
/* dear entries end it before: who came first is not answered after all others */
#define BATCH_MS 20
/* between steps of background removal, and while readers are waited for */
#define BUSY_IDLE_MS 1
#define QUIET_IDLE_MS 20
#define LONG_IDLE_MS 1000
/* so many quiet rounds, and the thread sleeps long */
#define QUIET_ROUNDS 50

typedef struct Applied
{
	RaftEntry  *entry;
	ApplyResult result;
} Applied;

/* ranges that a backend watches, between consensus and apply */
typedef struct WatchJob
{
	struct WatchJob *next;
	uint32_t	slot;
	uint64_t	generation;
	uint64_t	request_id;
	size_t		len;
	uint8_t		ops[];
} WatchJob;

static void persist_put_change(void *arg, int table, Bytes key, Bytes value);
static void persist_remove_change(void *arg, int table, Bytes key);

const ApplyPersist applythread_persist = {
	.put = persist_put_change,
	.remove = persist_remove_change,
};

static pthread_t thread;
static ApplyState *apply_state;

/* protected by lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t has_work;
static RaftEntry *head;
static RaftEntry *tail;
static WatchJob *first_job;
static WatchJob *last_job;
static bool is_stopping;
static bool wants_trim;
static Buf	configuration;		/* the newest applied and not yet taken */
static uint64_t configuration_index;	/* 0: none */

/* atomic: written by apply (and, the counts, by consensus) */
static _Atomic uint64_t applied_index;
static _Atomic uint64_t pending_entries;
static _Atomic uint64_t pending_bytes;
static _Atomic bool wants_wakeups;

/* apply thread only */
static Applied applied[BATCH_ENTRIES];
static bool has_changes;		/* given to persist since the last submit */

static void *applythread_main(void *arg);
static bool take_entries(RaftEntry **first, WatchJob **jobs, int64_t idle_ms);
static void take_watches(WatchJob *job);
static void apply_batch(RaftEntry *first);
static void apply_one(RaftEntry *entry, ApplyResult *result);
static void answer(const Applied *a);
static void submit_changes(void);
static int64_t idle_round(uint32_t *quiet);
static void trim_if_asked(void);

void
applythread_start(ApplyState *apply, uint64_t index)
{
	pthread_condattr_t attr;
	int			rc;

	apply_state = apply;
	atomic_store(&applied_index, index);
	buf_init(&configuration, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&has_work, &attr);
	pthread_condattr_destroy(&attr);
	rc = pthread_create(&thread, NULL, applythread_main, NULL);
	if (rc != 0)
		elog_fatal("could not start the apply thread: %s", strerror(rc));
}

void
applythread_submit(RaftEntry *first, RaftEntry *last)
{
	Assert(last->next == NULL);
	pthread_mutex_lock(&lock);
	if (tail == NULL)
		head = first;
	else
		tail->next = first;
	tail = last;
	pthread_mutex_unlock(&lock);
	/* after it, or the thread would wake only to wait for the lock */
	pthread_cond_signal(&has_work);
}

void
applythread_watch(uint32_t slot, uint64_t generation, uint64_t request_id,
				  Bytes ops)
{
	WatchJob   *job = xmalloc(sizeof(*job) + ops.len);

	*job = (WatchJob) {
		.slot = slot,
		.generation = generation,
		.request_id = request_id,
		.len = ops.len,
	};
	if (ops.len > 0)
		memcpy(job->ops, ops.data, ops.len);
	pthread_mutex_lock(&lock);
	if (last_job == NULL)
		first_job = job;
	else
		last_job->next = job;
	last_job = job;
	pthread_mutex_unlock(&lock);
	pthread_cond_signal(&has_work);
}

uint64_t
applythread_applied(void)
{
	return atomic_load(&applied_index);
}

void
applythread_note_proposed(const RaftEntry *entry)
{
	atomic_fetch_add(&pending_entries, 1);
	atomic_fetch_add(&pending_bytes, entry_bytes(entry));
}

uint64_t
applythread_pending_entries(void)
{
	return atomic_load(&pending_entries);
}

uint64_t
applythread_pending_bytes(void)
{
	return atomic_load(&pending_bytes);
}

void
applythread_trim(void)
{
	pthread_mutex_lock(&lock);
	wants_trim = true;
	pthread_cond_signal(&has_work);
	pthread_mutex_unlock(&lock);
}

/* Turn it on first and look afterwards: apply does the two the other way. */
void
applythread_want_wakeups(bool on)
{
	atomic_store(&wants_wakeups, on);
}

bool
applythread_take_configuration(uint64_t *index, Buf *out)
{
	pthread_mutex_lock(&lock);
	*index = configuration_index;
	if (configuration_index != 0)
		buf_append(out, configuration.data, configuration.len);
	configuration_index = 0;
	pthread_mutex_unlock(&lock);
	return *index != 0;
}

void
applythread_stop(void)
{
	pthread_mutex_lock(&lock);
	is_stopping = true;
	pthread_cond_signal(&has_work);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	buf_free(&configuration);
}

RaftEntry *
entry_create(Bytes data)
{
	RaftEntry  *entry = xmalloc(sizeof(*entry) + data.len);

	memset(entry, 0, sizeof(*entry));
	if (data.len > 0)
		memcpy(entry->bytes, data.data, data.len);
	entry->log.data = bytes_make(entry->bytes, data.len);
	return entry;
}

/* Thread: apply. */
static void *
applythread_main(void *arg)
{
	int64_t		idle_ms = QUIET_IDLE_MS;
	uint32_t	quiet = 0;
	RaftEntry  *first;
	WatchJob   *jobs;

	(void) pthread_setname_np(pthread_self(), "clav apply");
	registry_init(store_draft());
	mvcc_compact_set_gate(registry_gate);
	while (take_entries(&first, &jobs, idle_ms))
	{
		take_watches(jobs);
		if (first != NULL)
		{
			apply_batch(first);
			quiet = 0;
		}
		/* after each batch too, or a busy server would never get to it */
		idle_ms = idle_round(&quiet);
	}
	mvcc_compact_set_gate(NULL);
	registry_fini();
	return NULL;
}

/*
 * All that has come, or NULL after idle_ms without anything.  False when
 * stopping and nothing is left.
 */
static bool
take_entries(RaftEntry **first, WatchJob **jobs, int64_t idle_ms)
{
	int64_t		until_ms = clock_monotonic_ms() + idle_ms;
	struct timespec until = {
		.tv_sec = until_ms / 1000,
		.tv_nsec = until_ms % 1000 * 1000000,
	};
	bool		is_time = false;
	bool		go_on;

	pthread_mutex_lock(&lock);
	while (head == NULL && first_job == NULL && !is_stopping && !is_time &&
		   !wants_trim)
		is_time = pthread_cond_timedwait(&has_work, &lock,
										 &until) == ETIMEDOUT;
	*first = head;
	head = tail = NULL;
	*jobs = first_job;
	first_job = last_job = NULL;
	go_on = *first != NULL || !is_stopping;
	pthread_mutex_unlock(&lock);
	return go_on;
}

/*
 * Between batches: from here on every version that is published is looked up
 * for them, and what was published before is in the version that they pin when
 * they have their answer.
 */
static void
take_watches(WatchJob *job)
{
	bool		has_any = job != NULL;

	while (job != NULL)
	{
		WatchJob   *next = job->next;
		bool		is_sound = registry_take(job->slot, job->generation,
											 bytes_make(job->ops, job->len));

		(void) INJECTION_POINT("apply-watch-taken");
		ring_complete(job->slot, job->generation, &(Completion) {
			.request_id = job->request_id,
			.error = is_sound ? ERR_NONE : ERR_INTERNAL,
		});
		free(job);
		job = next;
	}
	if (has_any)
		ring_flush_completions();
}

static void
apply_batch(RaftEntry *first)
{
	while (first != NULL)
	{
		uint64_t	bytes = 0;
		uint32_t	n = 0;
		int64_t		until_ms = clock_coarse_ms() + BATCH_MS;
		int64_t		begun_us;

		(void) INJECTION_POINT("apply-before-batch");
		begun_us = clock_monotonic_us();
		apply_batch_begin(apply_state);
		while (first != NULL && n < BATCH_ENTRIES &&
			   (n == 0 || clock_coarse_ms() < until_ms))
		{
			applied[n].entry = first;
			apply_one(first, &applied[n].result);
			(void) INJECTION_POINT("apply-entry-done");
			bytes += entry_bytes(first);
			n++;
			first = first->next;
		}
		(void) INJECTION_POINT("apply-before-publish");
		apply_batch_end(apply_state);
		histogram_observe(HISTOGRAM_APPLY_BATCH,
						  clock_monotonic_us() - begun_us);
		(void) INJECTION_POINT("apply-after-publish");
		atomic_store(&applied_index, applied[n - 1].entry->log.index);

		for (uint32_t i = 0; i < n; i++)
		{
			answer(&applied[i]);
			(void) INJECTION_POINT("apply-answered");
			free(applied[i].entry);
		}
		ring_flush_completions();
		/* watchers come after those who wait for an answer */
		if (registry_notify(store_draft()))
			ring_flush_completions();
		(void) INJECTION_POINT("apply-watchers-told");
		(void) INJECTION_POINT("apply-after-flush");
		atomic_fetch_sub(&pending_entries, n);
		atomic_fetch_sub(&pending_bytes, bytes);
		if (atomic_load(&wants_wakeups))
			consensus_wake();
		/* may wait for the disk, with everybody answered */
		submit_changes();
		(void) INJECTION_POINT("apply-after-submit");
		ring_collect_bodies();
	}
}

static void
apply_one(RaftEntry *entry, ApplyResult *result)
{
	const LogEntry *log = &entry->log;
	bool		is_command = log->type == ENTRY_COMMAND;

	apply_entry(apply_state, log->index, log->term,
				is_command ? log->data : BYTES_EMPTY, entry->has_waiter,
				result);
	if (log->type != ENTRY_CONFIGURATION)
		return;
	persist_configuration(log->data, log->index);
	pthread_mutex_lock(&lock);
	configuration.len = 0;
	buf_append(&configuration, log->data.data, log->data.len);
	configuration_index = log->index;
	pthread_mutex_unlock(&lock);
	consensus_wake();
}

static void
answer(const Applied *a)
{
	const ApplyResult *result = &a->result;

	if (!a->entry->has_waiter)
		return;
	ring_complete(a->entry->slot, a->entry->generation, &(Completion) {
		.request_id = a->entry->request_id,
		.error = result->error,
		.revision = result->revision,
		.count = result->count,
		.index = a->entry->log.index,
		.body = result->body,
		.body_len = result->body_len,
	});
}

/* the tables shall stand at the index that was just published */
static void
submit_changes(void)
{
	const StoreVersion *v = store_draft();

	persist_submit(v->applied_index, v->applied_term, v->kv_revision,
				   v->compacted_revision);
	has_changes = false;
}

/* Background work; returns how long to sleep before the next round. */
static int64_t
idle_round(uint32_t *quiet)
{
	bool		is_more = apply_idle_step(apply_state);
	size_t		waiting;

	(void) INJECTION_POINT("apply-idle");
	/* removals belong to the index that they were made at */
	if (has_changes)
		submit_changes();
	ring_collect_bodies();
	registry_sweep();
	waiting = store_reclaim();
	trim_if_asked();
	if (is_more)
		return BUSY_IDLE_MS;
	atomic_store(&store_raft_status()->removed_revision,
				 store_draft()->compacted_revision);
	if (waiting > 0 || *quiet < QUIET_ROUNDS)
	{
		(*quiet)++;
		return QUIET_IDLE_MS;
	}
	return LONG_IDLE_MS;
}

/* some milliseconds for gigabytes: the kernel takes whole huge pages */
static void
trim_if_asked(void)
{
	bool		is_asked;
	size_t		bytes;

	pthread_mutex_lock(&lock);
	is_asked = wants_trim;
	wants_trim = false;
	pthread_mutex_unlock(&lock);
	if (!is_asked)
		return;
	bytes = store_trim();
	/* the heap too: the other threads go on beside it */
	(void) malloc_trim(0);
	elog_info("defragmented memory: %zu bytes given back", bytes);
}

static void
persist_put_change(void *arg, int table, Bytes key, Bytes value)
{
	has_changes = true;
	if (value.data == NULL)
		persist_remove(table, key);
	else
		persist_put(table, key, value);
}

static void
persist_remove_change(void *arg, int table, Bytes key)
{
	has_changes = true;
	persist_remove(table, key);
}
