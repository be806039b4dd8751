/*
 * auxiliary.h
 *	  The frame of an auxiliary process: a client of the raft worker without
 *	  a client of its own.
 *
 * It has a slot and rings as a backend has, reads pinned versions, and
 * proposes log operations as the server itself (IDENTITY_INTERNAL).  It
 * changes nothing by itself, so it may be killed at any moment; the postmaster
 * starts it again.
 *
 *	void
 *	LessorMain(const AuxiliaryStart *start)
 *	{
 *		auxiliary_begin(start, "lessor");
 *		while (auxiliary_wait(timeout_ms))
 *			... look at store_pin(), auxiliary_propose() ...
 *		... a last word, with auxiliary_wait_outstanding() ...
 *		auxiliary_end();
 *	}
 *
 * One thread.  Nothing here blocks but the two waits.
 */
#ifndef WORKER_AUXILIARY_H
#define WORKER_AUXILIARY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/logop.h"
#include "storage/ipc/ring.h"

typedef enum AuxiliaryKind
{
#define AUXILIARY(symbol, name, main_fn) symbol,
#include "worker/auxlist.h"
#undef AUXILIARY
	AUX_COUNT
} AuxiliaryKind;

typedef struct AuxiliaryStart
{
	int			slot;			/* given by the postmaster, marked internal */
	int			death_fd;		/* its end of file: the postmaster is gone */
} AuxiliaryStart;

#define AUXILIARY(symbol, name, main_fn) \
	extern void main_fn(const AuxiliaryStart *start) __attribute__((noreturn));
#include "worker/auxlist.h"
#undef AUXILIARY

/*
 * What came of a proposal.  Its body is good until this returns.  Called from
 * within the waits only.
 */
typedef void (*AuxiliaryDoneFn) (void *arg, const Completion *done);

/* name the process, set signals, attach slot and rings; FATAL on failure */
extern void auxiliary_begin(const AuxiliaryStart *start, const char *name);

/*
 * Sleep until something happened, timeout_ms (-1: none) is over or results
 * came, which are delivered.  False when told to stop.  Ends the process when
 * the postmaster is gone.
 */
extern bool auxiliary_wait(int64_t timeout_ms);

/*
 * Deliver results until none is outstanding or timeout_ms is over; also after
 * being told to stop.  True if none is outstanding.
 */
extern bool auxiliary_wait_outstanding(int64_t timeout_ms);

/*
 * Encode and submit, as the server itself.  False if there is no room now, or
 * the entry is greater than a request may be: nobody is told, try later.
 * done may be NULL.
 */
extern bool auxiliary_propose(LogOp *op, AuxiliaryDoneFn done, void *arg);

/* proposals without a result so far */
extern uint32_t auxiliary_outstanding(void);

/* the store is loaded, and this member leads: proposing makes sense */
extern bool auxiliary_is_leader(void);

extern void auxiliary_end(void) __attribute__((noreturn));

#endif							/* WORKER_AUXILIARY_H */
