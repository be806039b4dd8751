/*
 * authorize.h
 *	  The one function that decides who may do what.
 *
 * Called in the backend before anything is proposed, and again in apply on
 * the state that is changed, with the same list.  A request kind without a
 * row in rpclist.h never gets here: it is refused.
 *
 * Order of checks: etcd-auth-semantics.md A9.
 */
#ifndef AUTH_AUTHORIZE_H
#define AUTH_AUTHORIZE_H

#include "common/logop.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"
#include "utils/mmgr.h"

typedef enum AccessNeed
{
	NEED_NOBODY,				/* open to everybody, also anonymous */
	NEED_IDENTITY,				/* any user who exists */
	NEED_ADMIN,
	NEED_READ,					/* on range */
	NEED_WRITE,					/* on range */
	NEED_SELF_OR_ADMIN,			/* name is the caller */
	NEED_ROLE_OR_ADMIN,			/* the caller holds the role `name` */
	NEED_LEASE_WRITE,			/* WRITE on every key attached to lease */
	NEED_LEASE_READ,
	NEED_EVERY_LEASE_READ,		/* READ on all keys attached to any lease */
	NEED_INTERNAL,				/* the server itself, also while auth is off */
	NEED_REFUSED				/* nobody at all: a kind we cannot judge; the
								 * last one */
} AccessNeed;

typedef struct AccessOp
{
	AccessNeed	need;
	KeyRange	range;
	Bytes		name;
	int64_t		lease;
} AccessOp;

typedef struct AccessList
{
	AccessOp   *ops;
	uint32_t	n;
	uint32_t	cap;
	MemContext *mcx;
} AccessList;

extern void access_init(AccessList *list, MemContext *mcx);
extern void access_add(AccessList *list, AccessNeed need);
extern void access_add_range(AccessList *list, AccessNeed need,
							 const KeyRange *range);
extern void access_add_name(AccessList *list, AccessNeed need, Bytes name);
extern void access_add_lease(AccessList *list, AccessNeed need, int64_t lease);

/*
 * What a key-value operation needs, nested transactions included (part B).
 * Never leaves the list empty; an unknown kind becomes NEED_REFUSED.
 */
extern void access_add_kvop(AccessList *list, const KvOp *op);
/* what a log operation needs; apply uses this, and so does the backend */
extern void access_add_logop(AccessList *list, const LogOp *op);

/*
 * May this identity do all of this on this version?  ERR_NONE, or the error
 * of the first check that fails.  The caller holds a pin (or is apply).
 * A token's identity whose credential revision is not the user's any more is
 * ERR_INVALID_AUTH_TOKEN; a certificate's whose user is gone is nobody.
 * IDENTITY_INTERNAL may do everything but NEED_REFUSED.  An empty list is
 * refused: say NEED_NOBODY for what is open to everybody.
 */
extern ErrCode authorize(const StoreVersion *v, const Identity *identity,
						 const AccessList *list);

#endif							/* AUTH_AUTHORIZE_H */
