/*
 * lwlock.c
 *	  Mutexes with a place in one order, robust where processes share them.
 *
 * A shared lock is a robust process-shared pthread mutex: the kernel hands it
 * on when its owner is killed, and the next owner is told.  Whoever is told
 * marks the mutex consistent at once and repairs afterwards; that is safe,
 * because being killed in the middle of the repair makes the mutex tell the
 * next one again.  So a mutex never becomes unrecoverable.
 *
 * An owner that has been stopped (SIGSTOP) would hold up all others until
 * somebody lets it go on, the apply thread among them.  Who waits long looks
 * at the owner, and if it finds it stopped twice, ends it: from then on it is
 * an owner that was killed.  One that is only slow, or looked at by a debugger,
 * is waited for.
 *
 * Builds with assertions keep the locks each thread holds and abort on the
 * first one taken out of order, whether or not it would have deadlocked today.
 */
#include "server.h"

/* system */
#include <linux/futex.h>
#include <signal.h>
#include <time.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "storage/lmgr/lwlock.h"

#define MAX_HELD 8
/* holders copy in or out: so long only if one is stopped, or starved */
#define LOOK_AFTER_MS 500

enum
{
	SHARED,
	PRIVATE
};

static const struct
{
	const char *name;
	int			scope;
} classes[] = {
#define LWLOCK(symbol, name, scope) {name, scope},
#include "storage/lmgr/lwlocklist.h"
#undef LWLOCK
};

#ifdef USE_ASSERT_CHECKING
static _Thread_local const LwLock *held[MAX_HELD];
static _Thread_local int nheld;
#endif

static int	acquire_shared(LwLock *lock);
static uint32_t look_at_owner(const LwLock *lock, uint32_t suspect);
static bool is_stopped(uint32_t tid);
static void note_acquired(const LwLock *lock);
static void note_released(const LwLock *lock);

void
lwlock_init(LwLock *lock, LwLockClass class_id)
{
	pthread_mutexattr_t attr;
	int			rc;

	Assert(class_id < LWLOCK_CLASS_COUNT);
	lock->class_id = (uint32_t) class_id;
	rc = pthread_mutexattr_init(&attr);
	if (rc == 0 && classes[class_id].scope == SHARED)
	{
		rc = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
		if (rc == 0)
			rc = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	}
	if (rc == 0)
		rc = pthread_mutex_init(&lock->mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	if (rc != 0)
		elog_fatal("could not initialise lock %s: %s", classes[class_id].name,
				   strerror(rc));
}

void
lwlock_fini(LwLock *lock)
{
	pthread_mutex_destroy(&lock->mutex);
}

LwLockResult
lwlock_acquire(LwLock *lock)
{
	int			rc;

	note_acquired(lock);
	rc = classes[lock->class_id].scope == SHARED ? acquire_shared(lock) :
		pthread_mutex_lock(&lock->mutex);
	if (likely(rc == 0))
		return LWLOCK_CLEAN;
	if (rc == EOWNERDEAD && pthread_mutex_consistent(&lock->mutex) == 0)
		return LWLOCK_OWNER_DIED;

	/*
	 * PANIC: the mutex word itself has been written over, so the shared
	 * memory around it cannot be trusted either, in any process.
	 */
	elog_panic("lock %s is damaged: %s",
			   lwlock_class_name((LwLockClass) lock->class_id), strerror(rc));
}

void
lwlock_release(LwLock *lock)
{
	int			rc = pthread_mutex_unlock(&lock->mutex);

	note_released(lock);
	if (unlikely(rc != 0))
	{
		/* PANIC: as in lwlock_acquire() */
		elog_panic("lock %s could not be released: %s",
				   lwlock_class_name((LwLockClass) lock->class_id),
				   strerror(rc));
	}
}

bool
lwlock_is_held(const LwLock *lock)
{
#ifdef USE_ASSERT_CHECKING
	for (int i = 0; i < nheld; i++)
	{
		if (held[i] == lock)
			return true;
	}
	return false;
#else
	return true;
#endif
}

const char *
lwlock_class_name(LwLockClass class_id)
{
	return (size_t) class_id < lengthof(classes) ? classes[class_id].name
		: "(unknown)";
}

/* ---- owners that do not go on ---- */

#ifdef __SANITIZE_THREAD__

/* ThreadSanitizer does not know pthread_mutex_clocklock(). */
static int
acquire_shared(LwLock *lock)
{
	(void) look_at_owner;
	return pthread_mutex_lock(&lock->mutex);
}

#else

static int
acquire_shared(LwLock *lock)
{
	uint32_t	suspect = 0;
	int			rc = pthread_mutex_trylock(&lock->mutex);

	while (unlikely(rc == EBUSY || rc == ETIMEDOUT))
	{
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_AFTER_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		rc = pthread_mutex_clocklock(&lock->mutex, CLOCK_MONOTONIC, &until);
		if (rc == ETIMEDOUT)
			suspect = look_at_owner(lock, suspect);
	}
	return rc;
}

#endif

/*
 * The owner if it is stopped, else 0.  Ends it if it was stopped at the last
 * look as well: when all processes were stopped and go on, who waits may do so
 * a moment before the owner does.
 */
static uint32_t
look_at_owner(const LwLock *lock, uint32_t suspect)
{
	/* the lock word is the kernel's: it holds the owner's thread id */
	uint32_t	tid = (uint32_t) __atomic_load_n(&lock->mutex.__data.__lock,
												 __ATOMIC_RELAXED) &
		FUTEX_TID_MASK;

	if (tid == 0 || !is_stopped(tid))
		return 0;
	if (tid != suspect)
		return tid;
	elog_warning("process %u was stopped while it held lock %s, which others "
				 "wait for: it is killed", tid,
				 lwlock_class_name((LwLockClass) lock->class_id));
	if (kill((pid_t) tid, SIGKILL) != 0)
		elog_error("could not kill process %u: %s", tid, strerror(errno));
	return 0;
}

static bool
is_stopped(uint32_t tid)
{
	char		path[32];
	char		line[256];
	const char *end;
	FILE	   *file;
	size_t		n;

	snprintf(path, sizeof(path), "/proc/%u/stat", tid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	n = fread(line, 1, sizeof(line) - 1, file);
	fclose(file);
	line[n] = '\0';
	/* the name, which may hold anything, ends at the last parenthesis */
	end = strrchr(line, ')');
	return end != NULL && strncmp(end, ") T", 3) == 0;
}

#ifdef USE_ASSERT_CHECKING

/* Checked before waiting, so that a wrong order is seen and not slept on. */
static void
note_acquired(const LwLock *lock)
{
	if (nheld > 0 && held[nheld - 1]->class_id >= lock->class_id)
	{
		elog_error("lock %s taken while %s is held",
				   lwlock_class_name((LwLockClass) lock->class_id),
				   lwlock_class_name((LwLockClass) held[nheld - 1]->class_id));
		abort();
	}
	Assert(nheld < MAX_HELD);
	held[nheld++] = lock;
}

static void
note_released(const LwLock *lock)
{
	int			i = nheld - 1;

	while (i >= 0 && held[i] != lock)
		i--;
	Assert(i >= 0);
	for (; i + 1 < nheld; i++)
		held[i] = held[i + 1];
	nheld--;
}

#else

static void
note_acquired(const LwLock *lock)
{
}

static void
note_released(const LwLock *lock)
{
}

#endif
