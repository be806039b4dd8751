/*
 * persist_internal.h
 *	  What persist.c and load.c share.
 */
#ifndef PERSIST_INTERNAL_H
#define PERSIST_INTERNAL_H

#include "storage/bdb/persist.h"

/* names of the records in meta and auth */
#define META_FORMAT BYTES_LITERAL("format")
#define META_CLUSTER_ID BYTES_LITERAL("clusterId")
#define META_MEMBER_ID BYTES_LITERAL("memberId")
#define META_APPLIED_INDEX BYTES_LITERAL("appliedIndex")
#define META_APPLIED_TERM BYTES_LITERAL("appliedTerm")
#define META_KV_REVISION BYTES_LITERAL("kvRevision")
#define META_COMPACTED_REVISION BYTES_LITERAL("compactedRevision")
#define META_CONFIGURATION BYTES_LITERAL("configuration")
#define META_CONFIGURATION_INDEX BYTES_LITERAL("configurationIndex")
/* these two without a version byte */
#define AUTH_ENABLED BYTES_LITERAL("authEnabled")
#define AUTH_REVISION BYTES_LITERAL("authRevision")

/* what an administrator can do about tables that are not sound */
#define TABLES_HINT "Restore the data directory from a backup, or remove " \
	"this member from the cluster and let it join again with an empty one."

/* version byte and a u64 big-endian */
#define NUMBER_RECORD_BYTES 9
extern void number_record_make(uint64_t number,
							   uint8_t record[NUMBER_RECORD_BYTES]);

/* all tables into the draft, and meta; FATAL if anything is not sound */
extern void load_tables(const TableOps *ops, TableEnv *env,
						PersistMeta *meta);

#endif							/* PERSIST_INTERNAL_H */
