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

/* random salt; false if memory or randomness is not to be had */
extern bool password_hash(Bytes password, const PasswordCost *cost,
						  char phc[PASSWORD_PHC_BYTES]);

/* constant-time compare; false also for an empty or malformed PHC string */
extern bool password_verify(Bytes password, Bytes phc);

/* is this a well-formed argon2id PHC string with a cost within bounds? */
extern bool password_phc_is_sound(Bytes phc);

/* ---- hash slots: shared memory ---- */
extern size_t hashslot_shmem_size(const ControlSizes *sizes);
extern void hashslot_shmem_init(void *memory, const ControlSizes *sizes);
/* give back what a dead process held; postmaster */
extern void hashslot_reap(int slot);

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
	char	   *password;		/* heap; wiped and freed by hashpool_collect() */
	size_t		password_len;
	PasswordCost cost;			/* MAKE */
	char		phc[PASSWORD_PHC_BYTES];	/* MAKE: result; VERIFY: input,
											 * empty = nobody can match */
	ErrCode		error;			/* result */
	bool		matches;		/* VERIFY: result */
	struct HashJob *next;
} HashJob;

/* create the eventfd; the thread starts with the first job */
extern void hashpool_init(const PasswordCost *dummy_cost);
extern int	hashpool_fd(void);		/* readable when jobs are done */

/*
 * Queue a job; it belongs to the pool until hashpool_collect() returns it.
 * ERR_TOO_MANY_LOGINS if the machine-wide queue is full (the job stays with
 * the caller).
 */
extern ErrCode hashpool_submit(HashJob *job);

/* a finished job with its password wiped, or NULL */
extern HashJob *hashpool_collect(void);

#endif							/* AUTH_PASSWORD_H */
