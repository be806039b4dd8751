/*
 * snapfile.h
 *	  The snapshot file: what Maintenance.Snapshot streams, clav_restore reads.
 *
 *	file   := "CLAVSNAP", format u32, block ..., SHA-256 of all before it
 *	block  := kind u8, payload bytes u32, CRC32C u32, payload
 *	          (the CRC is of kind, length and payload)
 *
 *	kind 1	meta, the first: cluster id, member id, created (ms since 1970),
 *			revision, compacted revision, applied index, applied term (u64 each)
 *	kind 2	records: table u8, key, value (length varint and bytes each)
 *	kind 3	end, the last: number of records (u64), and zeros until the file is
 *			a multiple of 512 bytes long
 *
 * Fixed-width numbers are little-endian.  Records are those of the tables in
 * Berkeley DB (storage/bdb/tables.h).  The length with its 32 bytes of hash is
 * what etcd's clients look at to see whether there is a hash.
 *
 * Pure: bytes in, bytes out, no file is opened here.
 */
#ifndef COMMON_SNAPFILE_H
#define COMMON_SNAPFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/bytes.h"

#define SNAPFILE_MAGIC "CLAVSNAP"
#define SNAPFILE_FORMAT 1
#define SNAPFILE_ALIGN 512
#define SNAPFILE_HASH_BYTES 32

/* these numbers are in the file: never renumber */
typedef enum SnapTable
{
	SNAP_AUTH = 1,
	SNAP_ROLES = 2,
	SNAP_USERS = 3,
	SNAP_LEASES = 4,
	SNAP_KEYS = 5
} SnapTable;

typedef struct SnapMeta
{
	uint64_t	cluster_id;
	uint64_t	member_id;
	int64_t		created_ms;
	int64_t		revision;
	int64_t		compacted_revision; /* 0: never compacted */
	uint64_t	applied_index;
	uint64_t	applied_term;
} SnapMeta;

typedef struct SnapRecord
{
	SnapTable	table;
	Bytes		key;
	Bytes		value;
} SnapRecord;

/* the name of a table, or NULL */
extern const char *snaptable_name(uint32_t table);

/* ---- writing: each call appends to out what is complete ---- */

typedef struct SnapWriter
{
	Buf			block;			/* payload of the records' block being filled */
	uint64_t	nbytes;			/* appended so far */
	uint64_t	nrecords;
} SnapWriter;

extern void snapwriter_begin(SnapWriter *w, const SnapMeta *meta,
							 MemContext *mcx, Buf *out);
extern void snapwriter_add(SnapWriter *w, const SnapRecord *record, Buf *out);
/* all but the hash */
extern void snapwriter_end(SnapWriter *w, Buf *out);

/* ---- reading ---- */

typedef struct SnapReader
{
	SnapMeta	meta;
	const char *error;			/* what is wrong; NULL: nothing */
	uint64_t	offset;			/* where, in the file */

	/* snapfile.c only */
	const uint8_t *start;
	Cursor		file;
	Cursor		block;
	uint64_t	nrecords;
	bool		is_over;
} SnapReader;

/* The whole file, hash included.  False: r->error. */
extern bool snapreader_open(SnapReader *r, Bytes file);

/*
 * The next record, borrowed from the file; false at the end, or with r->error.
 * Only after false without an error is the file known to be complete.
 */
extern bool snapreader_next(SnapReader *r, SnapRecord *record);

#endif							/* COMMON_SNAPFILE_H */
