/*
 * logop.h
 *	  What a log entry says, and its encoding.
 *
 * An entry carries who asks (resolved by the member that received the
 * request) and what is asked.  Apply checks the right again on the state it
 * changes, so a right revoked between proposal and apply is honoured.
 *
 * Format: version byte, kind (u16), identity kind (u8), user (bytes),
 * credential revision (varint), then the operation.  No password and no token
 * is ever in it: passwords are PHC strings, tokens SHA-256 hashes.
 */
#ifndef COMMON_LOGOP_H
#define COMMON_LOGOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/kvop.h"
#include "lib/buf.h"
#include "utils/mmgr.h"

typedef enum LogOpKind
{
#define LOGOP(symbol, number, name) symbol = number,
#include "common/logoplist.h"
#undef LOGOP
} LogOpKind;

/* stands in the log: never renumber */
typedef enum IdentityKind
{
	IDENTITY_NONE = 0,			/* anonymous, or auth was off */
	IDENTITY_TOKEN = 1,
	IDENTITY_CN = 2,
	IDENTITY_INTERNAL = 3		/* the server itself; never from a client */
} IdentityKind;

/* Who asks.  cred_rev: see auth/authstate.h. */
typedef struct Identity
{
	IdentityKind kind;
	Bytes		user;
	uint64_t	cred_rev;
} Identity;

/* etcd's authpb.Permission.Type numbers; stored */
typedef enum PermType
{
	PERM_READ = 0,
	PERM_WRITE = 1,
	PERM_READWRITE = 2
} PermType;

#define TOKEN_HASH_BYTES 32

/* how much of a lease is left, for the members that start or lead next */
typedef struct LeaseCheckpoint
{
	int64_t		id;
	int64_t		remaining_sec;	/* 0: all of it */
} LeaseCheckpoint;

typedef struct LogOp
{
	LogOpKind	kind;
	Identity	identity;
	union
	{
		PutOp		put;		/* LOGOP_PUT */
		DeleteOp	delete;		/* LOGOP_DELETE */
		TxnOp		txn;		/* LOGOP_TXN */
		int64_t		compact_revision;	/* LOGOP_COMPACT */
		struct
		{
			int64_t		id;
			int64_t		ttl_sec;	/* LEASE_GRANT only */
		}			lease;		/* LEASE_GRANT, LEASE_REVOKE, LEASE_RENEW */
		struct
		{
			uint32_t	n;
			LeaseCheckpoint *leases;
		}			checkpoint; /* LEASE_CHECKPOINT */
		struct
		{
			Bytes		name;
			Bytes		phc;	/* empty: no password can match */
			bool		no_password;
		}			user;		/* USER_ADD, USER_DELETE, USER_CHANGE_PASSWORD */
		struct
		{
			Bytes		user;
			Bytes		role;
		}			grant;		/* USER_GRANT_ROLE, USER_REVOKE_ROLE */
		struct
		{
			Bytes		name;
			uint32_t	perm_type;	/* PermType, or unknown: grants nothing */
			KeyRange	range;
		}			role;		/* ROLE_* */
		struct
		{
			Bytes		user;
			uint64_t	cred_rev;	/* against which the password was checked */
			uint8_t		token_hash[TOKEN_HASH_BYTES];	/* of the random part */
			uint32_t	ttl_sec;
		}			authenticate;
		struct
		{
			uint64_t	id;
			Bytes		name;
			Bytes		client_urls;	/* comma-separated */
			Bytes		peer_urls;
		}			member;
		struct
		{
			bool		is_on;	/* raise it, or clear it */
			uint64_t	member_id;
			uint32_t	type;	/* AlarmType, or unknown: nothing happens */
		}			alarm;		/* LOGOP_ALARM; LOGOP_QUOTA_REACHED: member_id */
	};
} LogOp;

extern void logop_encode(const LogOp *op, Buf *out);

/*
 * Decode; Bytes borrow from data, arrays come from mcx.  Returns false if the
 * entry is not one that this program can have written (the caller PANICs:
 * an entry that one member skips and another executes would split them).
 * Nesting of transactions is bounded by LOGOP_MAX_TXN_DEPTH.
 */
#define LOGOP_MAX_TXN_DEPTH 64
extern bool logop_decode(Bytes data, LogOp *op, MemContext *mcx);

/* bytes the operation may add, as etcd estimates them; 0 adds nothing */
extern uint64_t logop_cost(const LogOp *op);

/* "put", "user add": for logs and clav_logdump; "unknown" outside the list */
extern const char *logop_name(uint32_t kind);

#endif							/* COMMON_LOGOP_H */
