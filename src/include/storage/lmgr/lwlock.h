/*
 * lwlock.h
 *	  Mutexes with a place in one order (lwlocklist.h).
 *
 * While a lock is held: no store call, no socket, no log line, no wait.  The
 * most a lock protects is a copy in or out.  The postmaster takes none.
 */
#ifndef STORAGE_LMGR_LWLOCK_H
#define STORAGE_LMGR_LWLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum LwLockClass
{
#define LWLOCK(symbol, name, scope) symbol,
#include "storage/lmgr/lwlocklist.h"
#undef LWLOCK
	LWLOCK_CLASS_COUNT
} LwLockClass;

typedef struct LwLock
{
	pthread_mutex_t mutex;
	uint32_t	class_id;		/* LwLockClass; set at init, never changed */
} LwLock;

typedef enum LwLockResult
{
	LWLOCK_CLEAN,
	LWLOCK_OWNER_DIED			/* held now; what it protects may be half done */
} LwLockResult;

/* a SHARED lock is initialised once, before the first fork */
extern void lwlock_init(LwLock *lock, LwLockClass class_id);
extern void lwlock_fini(LwLock *lock);

/*
 * Wait for the lock and take it.  LWLOCK_OWNER_DIED (SHARED only): a process
 * was killed while it held the lock; the caller holds it now and must put
 * what it protects into a sound state before anything else.  If the caller
 * dies on that, the next one is told again.
 */
extern LwLockResult lwlock_acquire(LwLock *lock);
extern void lwlock_release(LwLock *lock);

/*
 * Does this thread hold the lock?  For assertions only: builds without them
 * always say true.
 */
extern bool lwlock_is_held(const LwLock *lock);

extern const char *lwlock_class_name(LwLockClass class_id);

#endif							/* STORAGE_LMGR_LWLOCK_H */
