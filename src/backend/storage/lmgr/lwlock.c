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
 * Builds with assertions keep the locks each thread holds and abort on the
 * first one taken out of order, whether or not it would have deadlocked today.
 */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "storage/lmgr/lwlock.h"

#define MAX_HELD 8

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
	rc = pthread_mutex_lock(&lock->mutex);
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
