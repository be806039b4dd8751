/*
 * tables.h
 *	  The tables in Berkeley DB: what lies where, and the narrow way to it.
 *
 * One private transactional environment inside the raft worker.  Nobody else
 * opens it, and only the persist thread writes it.  Keys are big-endian, each
 * record begins with a version byte (TABLES_RECORD_VERSION), but for the two
 * of auth.
 *
 *	table      key                          record
 *	auth       "authEnabled"                u8 0 or 1
 *	           "authRevision"               u64 big-endian
 *	authUsers  user name                    user_encode()
 *	authRoles  role name                    role_encode()
 *	key        mod revision u64be, sub u32be  kvrecord.h
 *	lease      lease id u64be               lease_encode()
 *	member     member id u64be              memberrecord, member/member.h
 *	alarm      member id u64be, type u32be  version
 *	meta       "format", "clusterId", "memberId", "appliedIndex",
 *	           "appliedTerm", "kvRevision", "compactedRevision",
 *	           "configuration", "configurationIndex":
 *	                                        version, u64 big-endian; for
 *	                                        "configuration" its bytes
 */
#ifndef STORAGE_BDB_TABLES_H
#define STORAGE_BDB_TABLES_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/bytes.h"

#define TABLES_RECORD_VERSION 1
#define TABLES_FORMAT_VERSION 1

typedef enum TableId
{
	TABLE_AUTH,
	TABLE_USERS,
	TABLE_ROLES,
	TABLE_KEY,
	TABLE_LEASE,
	TABLE_MEMBER,
	TABLE_ALARM,
	TABLE_META,
	TABLE_COUNT
} TableId;

typedef struct TableEnv TableEnv;

/*
 * The interface, so that another store can stand behind it and tests can make
 * it fail.  All functions return 0 or an errno-like code (Berkeley DB's own
 * are negative); text() explains one, env may be NULL.  A code from commit or
 * checkpoint is fatal to the worker.
 *
 * open: with create the tables must not be there yet (EEXIST), without it they
 * must (ENOENT).  One transaction at a time; put, remove and commit belong to
 * it.  remove of what is not there is no error.  One thread at a time, but for
 * size_bytes and text, which any thread may call.
 */
typedef struct TableOps
{
	int			(*open) (const char *dir, bool create, TableEnv **env);
	void		(*close) (TableEnv *env);
	int			(*txn_begin) (TableEnv *env);
	int			(*put) (TableEnv *env, TableId table, Bytes key, Bytes value);
	int			(*remove) (TableEnv *env, TableId table, Bytes key);
	int			(*commit) (TableEnv *env);	/* DB_TXN_NOSYNC */
	void		(*abort) (TableEnv *env);
	int			(*checkpoint) (TableEnv *env);	/* durable when it returns */

	/*
	 * Move records together and give the file's free end back: some thousand
	 * records from *from on, in a transaction of its own.  *from becomes where
	 * to go on, and empty at the end.
	 */
	int			(*compact) (TableEnv *env, TableId table, Buf *from);
	/* value is copied into out (without transaction, before the first write) */
	int			(*get) (TableEnv *env, TableId table, Bytes key, Buf *out,
						bool *found);
	/* in key order; fn returning false stops the scan with ECANCELED */
	int			(*scan) (TableEnv *env, TableId table,
						 bool (*fn) (void *arg, Bytes key, Bytes value),
						 void *arg);
	uint64_t	(*size_bytes) (TableEnv *env);
	const char *(*text) (TableEnv *env, int code);
} TableOps;

extern const TableOps bdb_table_ops;
extern const char *table_name(TableId table);

#endif							/* STORAGE_BDB_TABLES_H */
