/*
 * hashpool.c
 *	  The thread of a backend that computes password hashes.
 *
 *	event loop				hashing thread
 *	hashpool_submit() --> waiting --> hash slot, argon2 --> done
 *	hashpool_collect() <----------------- eventfd <----------'
 *
 * One thread, started with the first job, runs the jobs one after another:
 * more would not help, since the machine computes only as many hashes at one
 * time as it has hash slots.  It runs at a lower priority than the event
 * loops, so that logins do not slow down those who are logged in.
 *
 * A VERIFY without a sound hash to compare with (unknown user, no password)
 * runs against an unmatchable one of the same cost, and never matches.
 */
#include "server.h"

/* system */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/password.h"
#include "storage/lmgr/lwlock.h"

#define NICE_STEP 10

typedef struct JobQueue
{
	HashJob    *first;
	HashJob    *last;
} JobQueue;

/* protected by lock */
static LwLock lock;
static JobQueue waiting;
static JobQueue done;

/* posted once for each job put into waiting */
static sem_t waiting_count;

/* event loop only, but for the number in done_fd */
static int	done_fd = -1;
static bool thread_runs;

/* set before the thread starts */
static PasswordCost unmatchable_cost;

/* hashing thread only; empty until first needed */
static char unmatchable[PASSWORD_PHC_BYTES];

static bool start_thread(void);
static void *run_jobs(void *unused);
static void lower_priority(void);
static HashJob *take_waiting(void);
static void put_done(HashJob *job);
static void run_job(HashJob *job);
static void make_hash(HashJob *job);
static void verify_hash(HashJob *job);
static PasswordResult check_unmatchable(Bytes password);
static void wipe_password(HashJob *job);
static void queue_put(JobQueue *queue, HashJob *job);
static HashJob *queue_take(JobQueue *queue);

void
hashpool_init(const PasswordCost *dummy_cost)
{
	Assert(done_fd < 0);
	unmatchable_cost = *dummy_cost;
	lwlock_init(&lock, LWLOCK_HASH_POOL);
	done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (done_fd < 0 || sem_init(&waiting_count, 0, 0) != 0)
		elog_fatal("could not prepare the hashing thread: %s",
				   strerror(errno));
}

int
hashpool_fd(void)
{
	return done_fd;
}

ErrCode
hashpool_submit(HashJob *job)
{
	if (!hashslot_enter())
		return ERR_TOO_MANY_LOGINS;
	if (!thread_runs && !start_thread())
	{
		hashslot_leave();
		return ERR_INTERNAL;
	}
	(void) INJECTION_POINT("hashpool-entered");
	job->error = ERR_NONE;
	job->matches = false;
	lwlock_acquire(&lock);
	queue_put(&waiting, job);
	lwlock_release(&lock);
	sem_post(&waiting_count);
	return ERR_NONE;
}

HashJob *
hashpool_collect(void)
{
	HashJob    *job;
	uint64_t	count;

	lwlock_acquire(&lock);
	job = queue_take(&done);
	lwlock_release(&lock);
	if (job != NULL)
		return job;

	/*
	 * Nothing there: now the eventfd may be emptied.  A job that was put there
	 * meanwhile is found below; one that comes later makes it readable again.
	 */
	if (read(done_fd, &count, sizeof(count)) < 0)
		return NULL;
	lwlock_acquire(&lock);
	job = queue_take(&done);
	lwlock_release(&lock);
	return job;
}

/* ---- the thread ---- */

static bool
start_thread(void)
{
	pthread_t	thread;
	pthread_attr_t attr;
	sigset_t	all;
	sigset_t	before;
	int			rc;

	/* the thread inherits the mask: signals are the event loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &attr, run_jobs, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		elog_error("could not start the hashing thread: %s", strerror(rc));
	thread_runs = rc == 0;
	return thread_runs;
}

/* Thread: hashing. */
static void *
run_jobs(void *unused)
{
	(void) pthread_setname_np(pthread_self(), "clav hash");
	lower_priority();
	for (;;)
	{
		HashJob    *job = take_waiting();
		uint32_t	hash_slot = hashslot_acquire();

		run_job(job);
		hashslot_release(hash_slot);
		(void) INJECTION_POINT("hashslot-released");
		hashslot_leave();
		put_done(job);
	}
	return NULL;
}

/* On Linux this is a thread's own; without it hashes are only less polite. */
static void
lower_priority(void)
{
	int			nice_now = getpriority(PRIO_PROCESS, 0);

	(void) setpriority(PRIO_PROCESS, 0, nice_now + NICE_STEP);
}

static HashJob *
take_waiting(void)
{
	HashJob    *job;

	while (sem_wait(&waiting_count) != 0)
		continue;
	lwlock_acquire(&lock);
	job = queue_take(&waiting);
	lwlock_release(&lock);
	return job;
}

static void
put_done(HashJob *job)
{
	uint64_t	one = 1;

	lwlock_acquire(&lock);
	queue_put(&done, job);
	lwlock_release(&lock);
	/* can fail only when the counter is full, and then it is readable */
	if (write(done_fd, &one, sizeof(one)) < 0)
		(void) 0;
}

static void
run_job(HashJob *job)
{
	if (job->kind == HASH_JOB_MAKE)
		make_hash(job);
	else
		verify_hash(job);
	if (job->error != ERR_NONE)
		elog_write(LOG_LEVEL_ERROR, NULL, "Lower argon2_memory or "
				   "auth_hash_slots if memory is short.",
				   "a password hash could not be computed");
	wipe_password(job);
}

static void
make_hash(HashJob *job)
{
	if (!password_hash(bytes_make(job->password, job->password_len),
					   &job->cost, job->phc))
		job->error = ERR_INTERNAL;
}

static void
verify_hash(HashJob *job)
{
	Bytes		password = bytes_make(job->password, job->password_len);
	size_t		phc_len = strnlen(job->phc, sizeof(job->phc));
	PasswordResult result = password_check(password,
										   bytes_make(job->phc, phc_len));
	bool		is_malformed = result == PASSWORD_MALFORMED;

	if (is_malformed)
	{
		result = check_unmatchable(password);
		if (phc_len > 0)
			elog_warning("the stored password hash of a user is malformed");
	}
	job->matches = result == PASSWORD_MATCHES && !is_malformed;
	if (result != PASSWORD_MATCHES && result != PASSWORD_DIFFERS)
		job->error = ERR_INTERNAL;
}

/* Takes as long as checking a wrong password; does not match. */
static PasswordResult
check_unmatchable(Bytes password)
{
	/* made without computing a hash, so the first use takes no longer */
	if (unmatchable[0] == '\0' &&
		!password_make_unmatchable(&unmatchable_cost, unmatchable))
		return PASSWORD_NOT_COMPUTED;
	return password_check(password, bytes_from_cstr(unmatchable));
}

/* In the thread already, so that it does not lie about until collected. */
static void
wipe_password(HashJob *job)
{
	if (job->password == NULL)
		return;
	secret_wipe(job->password, job->password_len);
	free(job->password);
	job->password = NULL;
	job->password_len = 0;
}

/* ---- queues; lock held ---- */

static void
queue_put(JobQueue *queue, HashJob *job)
{
	Assert(lwlock_is_held(&lock));
	job->next = NULL;
	if (queue->last != NULL)
		queue->last->next = job;
	else
		queue->first = job;
	queue->last = job;
}

static HashJob *
queue_take(JobQueue *queue)
{
	HashJob    *job = queue->first;

	Assert(lwlock_is_held(&lock));
	if (job == NULL)
		return NULL;
	queue->first = job->next;
	if (queue->first == NULL)
		queue->last = NULL;
	job->next = NULL;
	return job;
}
