/*
 * segment.c
 *	  The bytes of one segment of the raft log.
 *
 * A segment is a file of fixed size, written from front to back and never
 * twice at the same place.  All numbers are little-endian.
 *
 *	header, 64 bytes
 *	   0  u64  magic "CLVGRLOG"        40  u64  size of the file
 *	   8  u32  format version          48  u64  salt (random)
 *	  12  u32  header bytes            56  u32  0
 *	  16  u64  segment number          60  u32  CRC32C of bytes 0 to 59
 *	  24  u64  cluster id
 *	  32  u64  first index
 *
 *	record, 40 bytes and data, padded with zeros to a multiple of 8
 *	   0  u32  CRC32C of bytes 4 .. 39 and the data, begun with the CRC of
 *	           the record before (the first: with the header's CRC)
 *	   4  u32  length of the data      28  u32  records that follow in its batch
 *	   8  u64  index                   32  u32  tag: low half of the salt
 *	  16  u64  term                    36  u8   type; then 3 zero bytes
 *	  24  u32  batch, from 1 in each segment
 *
 * Chaining the CRCs makes old bytes harmless: what a recycled file held in an
 * earlier life was chained on another header with another salt.
 *
 * Where the records end
 * ---------------------
 * The first record that does not check out ends the segment.  There are three
 * reasons, and telling them apart decides between going on and refusing to
 * start:
 *
 *	clean    nothing was written there since the file was taken into use.
 *	torn     a batch was being written when the machine stopped.  The disk
 *	         may have kept any part of it, also a later part without an earlier
 *	         one.  Nobody was told that it was stored, so it is cut.
 *	damaged  the batch had been synced: entries that we promised are gone.
 *
 * A batch is written only after the one before it has been synced.  So a
 * record of a later batch behind the bad place proves damage, and nothing
 * else does.  The tag finds such records without trusting the bytes between:
 * it is random and never leaves the disk, so neither an earlier life of the
 * file nor a value chosen by a client can look like one.
 *
 * XXX Damage inside the very last batch looks like a torn write.  Only a
 * second copy could tell.
 */
#include "server.h"

/* system */
#include <endian.h>

/* libraries */
#include <isa-l/crc.h>

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "raft/engine.h"
#include "raft/segment.h"

#define SEGMENT_MAGIC UINT64_C(0x474f4c5247564c43)	/* "CLVGRLOG" */
#define RECORD_ALIGN 8

typedef struct RecordHeader
{
	uint32_t	crc;
	uint32_t	length;
	uint64_t	index;
	uint64_t	term;
	uint32_t	batch;
	uint32_t	left;
	uint32_t	tag;
	uint8_t		type;
} RecordHeader;

static uint32_t crc_of(const uint8_t *data, size_t len, uint32_t seed);
static void record_encode(SegmentChain *chain, const LogEntry *entry,
						  uint32_t left, Buf *out);
static bool record_peek(Bytes file, uint64_t offset, RecordHeader *h);
static bool record_is_sound(Bytes file, const SegmentChain *chain,
							const RecordHeader *h);
static void judge_end(Bytes file, SegmentScan *scan);

void
segment_header_encode(SegmentHeader *header, uint8_t out[SEGMENT_HEADER_BYTES])
{
	Buf			buf;

	buf_init(&buf, NULL);
	buf_put_u64(&buf, SEGMENT_MAGIC);
	buf_put_u32(&buf, SEGMENT_FORMAT_VERSION);
	buf_put_u32(&buf, SEGMENT_HEADER_BYTES);
	buf_put_u64(&buf, header->number);
	buf_put_u64(&buf, header->cluster_id);
	buf_put_u64(&buf, header->first_index);
	buf_put_u64(&buf, header->size);
	buf_put_u64(&buf, header->salt);
	buf_put_u32(&buf, 0);
	header->crc = crc_of(buf.data, buf.len, 0);
	buf_put_u32(&buf, header->crc);
	Assert(buf.len == SEGMENT_HEADER_BYTES);
	memcpy(out, buf.data, SEGMENT_HEADER_BYTES);
	buf_free(&buf);
}

bool
segment_header_decode(Bytes file, SegmentHeader *header, const char **why)
{
	Cursor		cur = cursor_make(file);
	uint64_t	magic;
	uint32_t	version;
	uint32_t	header_bytes;
	uint32_t	zero;

	*why = "it is shorter than a header";
	if (file.len < SEGMENT_HEADER_BYTES)
		return false;
	if (!cursor_get_u64(&cur, &magic) || !cursor_get_u32(&cur, &version) ||
		!cursor_get_u32(&cur, &header_bytes) ||
		!cursor_get_u64(&cur, &header->number) ||
		!cursor_get_u64(&cur, &header->cluster_id) ||
		!cursor_get_u64(&cur, &header->first_index) ||
		!cursor_get_u64(&cur, &header->size) ||
		!cursor_get_u64(&cur, &header->salt) || !cursor_get_u32(&cur, &zero) ||
		!cursor_get_u32(&cur, &header->crc))
		return false;
	*why = "it does not begin as a log segment does";
	if (magic != SEGMENT_MAGIC)
		return false;
	*why = "the checksum of its header is wrong";
	if (crc_of(file.data, SEGMENT_HEADER_BYTES - 4, 0) != header->crc)
		return false;
	*why = "it was written in a format that this version does not know";
	if (version != SEGMENT_FORMAT_VERSION ||
		header_bytes != SEGMENT_HEADER_BYTES)
		return false;
	*why = "its header makes no sense";
	return header->number > 0 && header->first_index > 0 &&
		header->size >= SEGMENT_HEADER_BYTES;
}

SegmentChain
segment_chain_begin(const SegmentHeader *header)
{
	return (SegmentChain) {
		.crc = header->crc,
		.tag = (uint32_t) header->salt,
		.batch = 0,
		.offset = SEGMENT_HEADER_BYTES,
	};
}

size_t
segment_record_size(size_t data_len)
{
	return align_up(SEGMENT_RECORD_BYTES + data_len, RECORD_ALIGN);
}

void
segment_batch_encode(SegmentChain *chain, const LogEntry *entries, uint32_t n,
					 Buf *out)
{
	chain->batch++;
	for (uint32_t i = 0; i < n; i++)
		record_encode(chain, &entries[i], n - 1 - i, out);
}

void
segment_scan(Bytes file, const SegmentHeader *header,
			 void (*fn) (void *arg, const LogEntry *entry), void *arg,
			 SegmentScan *scan)
{
	uint32_t	left = 0;		/* of the batch of the last sound record */
	RecordHeader h;

	*scan = (SegmentScan) {
		.end = SEGMENT_CLEAN,
		.chain = segment_chain_begin(header),
		.next_index = header->first_index,
	};
	while (record_peek(file, scan->chain.offset, &h) &&
		   record_is_sound(file, &scan->chain, &h))
	{
		LogEntry	entry = {
			.index = h.index,
			.term = h.term,
			.type = h.type,
			.data = bytes_make(file.data + scan->chain.offset +
							   SEGMENT_RECORD_BYTES, h.length),
		};

		/* the chain held, so we wrote this: it must be in order */
		if (h.index != scan->next_index || h.term < scan->last_term ||
			h.batch < scan->chain.batch)
		{
			scan->end = SEGMENT_DAMAGED;
			scan->why = "a record is out of order";
			return;
		}
		if (fn != NULL)
			fn(arg, &entry);
		scan->chain.crc = h.crc;
		scan->chain.batch = h.batch;
		scan->chain.offset += segment_record_size(h.length);
		scan->next_index = h.index + 1;
		scan->last_term = h.term;
		left = h.left;
	}
	scan->end_batch = scan->chain.batch + (left > 0 ? 0 : 1);
	judge_end(file, scan);
}

/* Records end at scan->chain.offset: why?  See the head of this file. */
static void
judge_end(Bytes file, SegmentScan *scan)
{
	uint64_t	most = file.len / SEGMENT_RECORD_BYTES;
	RecordHeader h;

	for (uint64_t at = scan->chain.offset;
		 at + SEGMENT_RECORD_BYTES <= file.len; at += RECORD_ALIGN)
	{
		uint32_t	tag;

		/* nearly all places fail here; the loop may walk many megabytes */
		memcpy(&tag, file.data + at + 32, sizeof(tag));
		if (likely(le32toh(tag) != scan->chain.tag))
			continue;
		if (!record_peek(file, at, &h) || h.index < scan->next_index ||
			h.index - scan->next_index > most || h.batch < scan->end_batch)
			continue;
		if (h.batch > scan->end_batch)
		{
			scan->end = SEGMENT_DAMAGED;
			scan->why = "a record is damaged, and later ones follow it";
			return;
		}
		scan->end = SEGMENT_TORN;
	}
}

/* A header whose fields make sense by themselves; says nothing of its CRC. */
static bool
record_peek(Bytes file, uint64_t offset, RecordHeader *h)
{
	uint8_t		zeros[3];
	Cursor		cur;
	Bytes		pad;

	if (offset > file.len || file.len - offset < SEGMENT_RECORD_BYTES)
		return false;
	cur = cursor_make(bytes_make(file.data + offset, SEGMENT_RECORD_BYTES));
	if (!cursor_get_u32(&cur, &h->crc) || !cursor_get_u32(&cur, &h->length) ||
		!cursor_get_u64(&cur, &h->index) || !cursor_get_u64(&cur, &h->term) ||
		!cursor_get_u32(&cur, &h->batch) || !cursor_get_u32(&cur, &h->left) ||
		!cursor_get_u32(&cur, &h->tag) || !cursor_get_u8(&cur, &h->type) ||
		!cursor_get_raw(&cur, sizeof(zeros), &pad))
		return false;
	memset(zeros, 0, sizeof(zeros));
	return h->type >= ENTRY_COMMAND && h->type <= ENTRY_CONFIGURATION &&
		h->length <= SEGMENT_MAX_DATA_BYTES &&
		segment_record_size(h->length) <= file.len - offset && h->batch > 0 &&
		h->index > 0 && h->term > 0 &&
		memcmp(pad.data, zeros, sizeof(zeros)) == 0;
}

static bool
record_is_sound(Bytes file, const SegmentChain *chain, const RecordHeader *h)
{
	return h->tag == chain->tag &&
		crc_of(file.data + chain->offset + 4,
			   SEGMENT_RECORD_BYTES - 4 + h->length, chain->crc) == h->crc;
}

static void
record_encode(SegmentChain *chain, const LogEntry *entry, uint32_t left,
			  Buf *out)
{
	static const uint8_t zeros[RECORD_ALIGN];
	size_t		size = segment_record_size(entry->data.len);
	size_t		start = out->len;
	uint32_t	crc;

	Assert(entry->data.len <= SEGMENT_MAX_DATA_BYTES);
	buf_put_u32(out, 0);
	buf_put_u32(out, (uint32_t) entry->data.len);
	buf_put_u64(out, entry->index);
	buf_put_u64(out, entry->term);
	buf_put_u32(out, chain->batch);
	buf_put_u32(out, left);
	buf_put_u32(out, chain->tag);
	buf_put_u8(out, entry->type);
	buf_append(out, zeros, 3);
	buf_append(out, entry->data.data, entry->data.len);
	chain->crc = crc_of(out->data + start + 4, out->len - start - 4,
						chain->crc);
	crc = htole32(chain->crc);
	memcpy(out->data + start, &crc, sizeof(crc));
	buf_append(out, zeros, size - (out->len - start));
	chain->offset += size;
}

static uint32_t
crc_of(const uint8_t *data, size_t len, uint32_t seed)
{
	/* the library takes a non-const pointer and does not write */
	return crc32_iscsi((unsigned char *) data, (int) len, seed);
}
