/*
 * kvop.h
 *	  Key-value operations as the server thinks of them.
 *
 * The door turns a protobuf request into these; authorize() walks them, the
 * log carries them (common/logop.h) and apply executes them.  All Bytes
 * borrow from the request or log entry they were made from; arrays belong to
 * the memory context given to whoever made them.
 */
#ifndef COMMON_KVOP_H
#define COMMON_KVOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/keyrange.h"

/* numbers are etcd's enum values and stand in the log: never renumber */
typedef enum SortOrder
{
	SORT_NONE = 0,
	SORT_ASCEND = 1,
	SORT_DESCEND = 2
} SortOrder;

typedef enum SortTarget
{
	SORT_BY_KEY = 0,
	SORT_BY_VERSION = 1,
	SORT_BY_CREATE = 2,
	SORT_BY_MOD = 3,
	SORT_BY_VALUE = 4
} SortTarget;

typedef struct RangeOp
{
	KeyRange	range;
	int64_t		limit;			/* <= 0: none */
	int64_t		revision;		/* <= 0: current; see mvcc.h for txns */
	int64_t		min_mod_revision;	/* 0: no bound, like the next three */
	int64_t		max_mod_revision;
	int64_t		min_create_revision;
	int64_t		max_create_revision;
	SortOrder	sort_order;
	SortTarget	sort_target;
	bool		serializable;
	bool		keys_only;
	bool		count_only;
} RangeOp;

typedef struct PutOp
{
	Bytes		key;
	Bytes		value;
	int64_t		lease;			/* 0: none */
	bool		prev_kv;
	bool		ignore_value;
	bool		ignore_lease;
} PutOp;

typedef struct DeleteOp
{
	KeyRange	range;
	bool		prev_kv;
} DeleteOp;

typedef enum CompareResult
{
	COMPARE_EQUAL = 0,
	COMPARE_GREATER = 1,
	COMPARE_LESS = 2,
	COMPARE_NOT_EQUAL = 3
} CompareResult;

typedef enum CompareTarget
{
	COMPARE_VERSION = 0,
	COMPARE_CREATE = 1,
	COMPARE_MOD = 2,
	COMPARE_VALUE = 3,
	COMPARE_LEASE = 4
} CompareTarget;

typedef struct CompareOp
{
	KeyRange	range;
	uint32_t	result;			/* CompareResult, or a number we do not know */
	uint32_t	target;			/* CompareTarget, likewise */
	int64_t		number;			/* what to compare with, all but VALUE */
	Bytes		value;
} CompareOp;

typedef enum KvOpKind
{
	KVOP_RANGE = 1,
	KVOP_PUT = 2,
	KVOP_DELETE = 3,
	KVOP_TXN = 4
} KvOpKind;

typedef struct KvOp KvOp;

typedef struct TxnOp
{
	uint32_t	ncompares;
	uint32_t	nsuccess;
	uint32_t	nfailure;
	CompareOp  *compares;
	KvOp	   *success;
	KvOp	   *failure;
} TxnOp;

struct KvOp
{
	KvOpKind	kind;
	union
	{
		RangeOp		range;
		PutOp		put;
		DeleteOp	delete;
		TxnOp		txn;
	};
};

#endif							/* COMMON_KVOP_H */
