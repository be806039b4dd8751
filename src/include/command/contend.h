/*
 * contend.h
 *	  Waiting in a queue of keys: what Lock and Campaign have in common.
 *
 * Contenders for a name each have a key "name/lease id in hex", and whose key
 * was created first holds the name.  Made of the same log operations and reads
 * as everything else, with the caller's own rights.
 */
#ifndef COMMAND_CONTEND_H
#define COMMAND_CONTEND_H

#include "dispatch/request.h"
#include "mvcc/kvversion.h"
#include "storage/snap/store.h"

/*
 * The caller's key is the first: write the answer's fields to req->body.  own
 * is good during the call.  Called once.
 */
typedef void (*ContendHeldFn) (Request *req, const StoreVersion *v,
							   const KvVersion *own);

typedef struct ContendAsk
{
	Bytes		name;			/* must live as long as the request, like value */
	int64_t		lease;			/* 0: a lease of 60 s is granted */
	Bytes		value;
	bool		keeps_value;	/* a key that is there already keeps its value */
	ErrCode		expired;		/* the answer when the own key has gone */
	ContendHeldFn held;
} ContendAsk;

/*
 * Put the key, and wait until it is the first.  If the request goes before
 * that, whatever the reason, the key is deleted again.
 */
extern ReqResult contend(Request *req, const ContendAsk *ask);

/* "name/" and everything below it; allocated in mcx */
extern KeyRange contend_range(MemContext *mcx, Bytes name);

/*
 * Whose key in the range was created first, as of a revision (0: now); NULL:
 * nobody's.
 */
extern const KvVersion *contend_first(const StoreVersion *v,
									  const KeyRange *range, int64_t revision);

#endif							/* COMMAND_CONTEND_H */
