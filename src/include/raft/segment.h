/*
 * segment.h
 *	  The bytes of one segment of the raft log, without any I/O.
 *
 * raft/log.c reads and writes the files; here is what stands in them, so
 * that it can be tested and fuzzed from memory.  The format is drawn in
 * raft/segment.c.
 */
#ifndef RAFT_SEGMENT_H
#define RAFT_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/bytes.h"
#include "raft/log.h"

#define SEGMENT_HEADER_BYTES 64
#define SEGMENT_RECORD_BYTES 40 /* before the data */
#define SEGMENT_FORMAT_VERSION 1

/* a record's data; ours are bounded by max_request_bytes, far below */
#define SEGMENT_MAX_DATA_BYTES (1u << 30)

typedef struct SegmentHeader
{
	uint64_t	number;			/* counts up by one from segment to segment */
	uint64_t	cluster_id;
	uint64_t	first_index;	/* of the first record */
	uint64_t	size;			/* of the whole file */
	uint64_t	salt;			/* random, new each time a file is used */
	uint32_t	crc;			/* of the above; set by encode and decode */
} SegmentHeader;

/* Where the next record goes and what it is chained on. */
typedef struct SegmentChain
{
	uint32_t	crc;
	uint32_t	tag;
	uint32_t	batch;			/* of the last record */
	uint64_t	offset;
} SegmentChain;

typedef enum SegmentEnd
{
	SEGMENT_CLEAN,				/* nothing was ever written behind the last */
	SEGMENT_TORN,				/* the last write did not get to the disk whole */
	SEGMENT_DAMAGED				/* bytes that had been synced are gone */
} SegmentEnd;

typedef struct SegmentScan
{
	SegmentEnd	end;
	SegmentChain chain;			/* behind the last sound record */
	uint64_t	next_index;		/* first_index when there is no record */
	uint64_t	last_term;		/* 0 when there is no record */
	uint32_t	end_batch;		/* what would have come next belongs to it */
	const char *why;			/* SEGMENT_DAMAGED: a literal */
} SegmentScan;

/* sets header->crc */
extern void segment_header_encode(SegmentHeader *header,
								  uint8_t out[SEGMENT_HEADER_BYTES]);
/* false: *why is a literal */
extern bool segment_header_decode(Bytes file, SegmentHeader *header,
								  const char **why);
extern SegmentChain segment_chain_begin(const SegmentHeader *header);

/* bytes that a record takes */
extern size_t segment_record_size(size_t data_len);

/*
 * Encode one write's records, all of the same batch; moves the chain behind
 * them.
 */
extern void segment_batch_encode(SegmentChain *chain, const LogEntry *entries,
								 uint32_t n, Buf *out);

/*
 * Walk the records of a whole file whose header has been decoded.  fn (may be
 * NULL) gets each sound entry; its data borrows from file.
 */
extern void segment_scan(Bytes file, const SegmentHeader *header,
						 void (*fn) (void *arg, const LogEntry *entry),
						 void *arg, SegmentScan *scan);

#endif							/* RAFT_SEGMENT_H */
