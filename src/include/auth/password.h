/*
 * password.h
 *	  argon2id hashes in PHC string form, and the pool that computes them.
 *
 *	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
 *
 * Computing one takes milliseconds of CPU and the memory of the cost, so it
 * never runs in the event loop: each backend has one hashing thread, and at
 * most hash_slots of them compute at once on the machine; the rest wait, up
 * to hash_queue, beyond that ERR_TOO_MANY_LOGINS.  Unknown users and users
 * without a password are checked against a hash nobody can match, so that
 * they take as long and get the same answer as a wrong password.
 */
#ifndef AUTH_PASSWORD_H
#define AUTH_PASSWORD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/bytes.h"
#include "storage/ipc/control.h"
#include "utils/errcodes.h"

#define PASSWORD_PHC_BYTES 256

typedef struct PasswordCost
{
	uint32_t	memory_kib;
	uint32_t	iterations;
	uint32_t	parallelism;
} PasswordCost;

/*
 * What a PHC string may ask for; beyond that it is not sound.  Of the memory,
 * argon2 needs at least 8 KiB a lane.
 */
#define PASSWORD_MAX_MEMORY_KIB (4 * 1024 * 1024)
#define PASSWORD_MAX_ITERATIONS 1000
#define PASSWORD_MAX_PARALLELISM 64

/*
 * Random salt; false if memory or randomness is not to be had.  Memory below
 * what the lanes need is raised to that.
 */
extern bool password_hash(Bytes password, const PasswordCost *cost,
						  char phc[PASSWORD_PHC_BYTES]);

/*
 * A PHC string that costs as much to check as one of password_hash(), and that
 * no password matches: its hash is random.  False as above.
 */
extern bool password_make_unmatchable(const PasswordCost *cost,
									  char phc[PASSWORD_PHC_BYTES]);

typedef enum PasswordResult
{
	PASSWORD_MATCHES,
	PASSWORD_DIFFERS,
	PASSWORD_MALFORMED,			/* the PHC string is not sound */
	PASSWORD_NOT_COMPUTED		/* no memory or no thread for it */
} PasswordResult;

/* constant-time compare */
extern PasswordResult password_check(Bytes password, Bytes phc);

/* only PASSWORD_MATCHES is true */
extern bool password_verify(Bytes password, Bytes phc);

/* is this a well-formed argon2id PHC string with a cost within bounds? */
extern bool password_phc_is_sound(Bytes phc);

/* ---- hash slots: shared memory ---- */
extern size_t hashslot_shmem_size(const ControlSizes *sizes);
extern void hashslot_shmem_init(void *memory, const ControlSizes *sizes);
/* give back what a dead process held; postmaster, takes no lock */
extern void hashslot_reap(int slot);

/*
 * Count a job of this process as waiting; false if hash_slots + hash_queue are
 * counted on the machine already, or half of that when this process has some.
 * Each true is paired with a leave.
 */
extern bool hashslot_enter(void);
extern void hashslot_leave(void);

/* wait for a slot and hold it; Thread: hashing */
extern uint32_t hashslot_acquire(void);
extern void hashslot_release(uint32_t hash_slot);

/* ---- the hashing thread of this process ---- */

typedef enum HashJobKind
{
	HASH_JOB_MAKE,
	HASH_JOB_VERIFY
} HashJobKind;

typedef struct HashJob
{
	HashJobKind kind;
	void	   *owner;			/* the caller's; returned as is */
	char	   *password;		/* heap; wiped and freed by the pool */
	size_t		password_len;
	PasswordCost cost;			/* MAKE */
	char		phc[PASSWORD_PHC_BYTES];	/* MAKE: result; VERIFY: input,
											 * empty = nobody can match */
	ErrCode		error;			/* result; not ERR_NONE: nothing is known */
	bool		matches;		/* VERIFY: result; false unless error is none */
	struct HashJob *next;
} HashJob;

/*
 * Create the eventfd; the thread starts with the first job.  After
 * control_attach_slot().  VERIFY without a sound PHC string costs dummy_cost.
 */
extern void hashpool_init(const PasswordCost *dummy_cost);
extern int	hashpool_fd(void);	/* readable when jobs are done */

/*
 * Queue a job; it belongs to the pool until hashpool_collect() returns it.
 * ERR_TOO_MANY_LOGINS if the machine-wide queue is full, ERR_INTERNAL if the
 * thread cannot be started (the job stays with the caller).
 */
extern ErrCode hashpool_submit(HashJob *job);

/* a finished job with its password wiped, or NULL */
extern HashJob *hashpool_collect(void);

#endif							/* AUTH_PASSWORD_H */
