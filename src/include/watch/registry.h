/*
 * registry.h
 *	  Who watches what: kept by the raft worker's apply thread.
 *
 * Backends send their ranges through the ring (SUBMIT_WATCH), many in one
 * record.  After each batch the versions that it brought are looked up, and the
 * backends concerned are woken, once each.  What is said to a backend:
 *
 *	ProcSlot.watch_from			0: nothing; else 1 + the position in the version
 *								log of the first version that concerns it since
 *								it last took this word (exchange with 0)
 *	RaftStatus.watch_notified	all backends have been told of the versions
 *								before this position
 *
 * and by a backend: ProcSlot.watch_read, the position up to which all its
 * watches have read.
 *
 * Order (all seq_cst): the worker publishes, then sets watch_from, then wakes;
 * a backend takes the word, then pins.  So the version it pins has what the
 * word speaks of.  Words of one batch are set in the order of positions, and
 * the first one stands until it is taken.
 */
#ifndef WATCH_REGISTRY_H
#define WATCH_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/keyrange.h"
#include "lib/buf.h"
#include "storage/snap/store.h"

/* the payload of SUBMIT_WATCH is a sequence of these */
typedef enum RegistryOpKind
{
	REGISTRY_ADD = 1,
	REGISTRY_REMOVE = 2,
	/* from now on everything, and no more ADD or REMOVE */
	REGISTRY_ALL = 3
} RegistryOpKind;

extern void registry_put_op(Buf *out, RegistryOpKind kind,
							const KeyRange *range);

/* ---- Thread: apply ---- */

/* what v has need not be told; v is the published version, or its draft */
extern void registry_init(const StoreVersion *v);
extern void registry_fini(void);

/*
 * Carry out the operations of a backend.  False if they make no sense; then
 * those before the first bad one have been carried out.
 */
extern bool registry_take(uint32_t slot, uint64_t generation, Bytes ops);

/*
 * v has been published and answered: tell whom it concerns.  True if somebody
 * is to be woken: ring_flush_completions().
 */
extern bool registry_notify(const StoreVersion *v);

/* for mvcc_compact_set_gate() */
extern bool registry_gate(int64_t revision);

/* forget who has died; now and then */
extern void registry_sweep(void);

/* how many ranges, of all backends; and the tests' look at the tree */
extern uint64_t registry_count(void);
extern const char *registry_check(void);

#endif							/* WATCH_REGISTRY_H */
