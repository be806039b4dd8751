/*
 * kvrequest.h
 *	  From protobuf requests to key-value operations: for command/kv.c.
 *
 * Each function checks the shape of the request, in etcd's order, and returns
 * the first error.  The Bytes of the result borrow from the message.
 */
#ifndef COMMAND_KVREQUEST_H
#define COMMAND_KVREQUEST_H

#include "etcdserverpb.pb-c.h"

#include "common/kvop.h"
#include "common/logop.h"
#include "utils/errcodes.h"
#include "utils/mmgr.h"

/* the top-level transaction counts as one, as in the decoder of the log */
#define KVREQUEST_MAX_TXN_DEPTH LOGOP_MAX_TXN_DEPTH

extern ErrCode kvrequest_range(const Etcdserverpb__RangeRequest *message,
							   RangeOp *op);
extern ErrCode kvrequest_put(const Etcdserverpb__PutRequest *message,
							 PutOp *op);
extern ErrCode kvrequest_delete(const Etcdserverpb__DeleteRangeRequest *message,
								DeleteOp *op);

/* nested ones included; arrays come from mcx.  max_ops: guc_max_txn_ops. */
extern ErrCode kvrequest_txn(const Etcdserverpb__TxnRequest *message,
							 uint64_t max_ops, MemContext *mcx, TxnOp *op);

/*
 * ERR_DUPLICATE_KEY if a branch of the transaction puts a key twice, or puts
 * one that it deletes too (txndup.c).
 */
extern ErrCode kvrequest_check_duplicates(const TxnOp *txn);

#endif							/* COMMAND_KVREQUEST_H */
