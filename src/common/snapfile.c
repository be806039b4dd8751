/*
 * snapfile.c
 *	  Blocks and records of a snapshot file; the format is in the header.
 *
 * The hash at the end guards the whole; the CRC of each block tells where the
 * damage is, and lets a file be looked at without its end.
 */
#include "server.h"

/* libraries */
#include <isa-l/crc.h>

/* this layer and below */
#include "common/snapfile.h"

#define PREAMBLE_BYTES 12
#define BLOCK_HEADER_BYTES 9
#define META_BYTES 56
/* a block of records is closed when it has so much */
#define BLOCK_BYTES (64 * 1024)
#define CRC_SEED 0xffffffffu

enum
{
	BLOCK_META = 1,
	BLOCK_RECORDS = 2,
	BLOCK_END = 3
};

static void put_block(SnapWriter *w, uint8_t kind, Bytes payload, Buf *out);
static uint32_t block_crc(const uint8_t *header, Bytes payload);
static bool next_block(SnapReader *r);
static bool take_block(SnapReader *r, uint8_t *kind, Bytes *payload);
static bool get_meta(SnapReader *r, Bytes payload);
static bool get_end(SnapReader *r, Bytes payload);
static bool get_record(SnapReader *r, SnapRecord *record);
static bool refuse(SnapReader *r, const uint8_t *at, const char *error);

const char *
snaptable_name(uint32_t table)
{
	switch (table)
	{
		case SNAP_AUTH:
			return "auth";
		case SNAP_ROLES:
			return "role";
		case SNAP_USERS:
			return "user";
		case SNAP_LEASES:
			return "lease";
		case SNAP_KEYS:
			return "key";
		default:
			return NULL;
	}
}

/* ---- writing ---- */

void
snapwriter_begin(SnapWriter *w, const SnapMeta *meta, MemContext *mcx, Buf *out)
{
	*w = (SnapWriter) {.nbytes = PREAMBLE_BYTES};
	buf_init(&w->block, mcx);
	buf_append(out, SNAPFILE_MAGIC, strlen(SNAPFILE_MAGIC));
	buf_put_u32(out, SNAPFILE_FORMAT);

	buf_put_u64(&w->block, meta->cluster_id);
	buf_put_u64(&w->block, meta->member_id);
	buf_put_u64(&w->block, (uint64_t) meta->created_ms);
	buf_put_u64(&w->block, (uint64_t) meta->revision);
	buf_put_u64(&w->block, (uint64_t) meta->compacted_revision);
	buf_put_u64(&w->block, meta->applied_index);
	buf_put_u64(&w->block, meta->applied_term);
	put_block(w, BLOCK_META, buf_bytes(&w->block), out);
	w->block.len = 0;
}

void
snapwriter_add(SnapWriter *w, const SnapRecord *record, Buf *out)
{
	buf_put_u8(&w->block, (uint8_t) record->table);
	buf_put_bytes(&w->block, record->key);
	buf_put_bytes(&w->block, record->value);
	w->nrecords++;
	if (w->block.len < BLOCK_BYTES)
		return;
	put_block(w, BLOCK_RECORDS, buf_bytes(&w->block), out);
	w->block.len = 0;
}

void
snapwriter_end(SnapWriter *w, Buf *out)
{
	size_t		used;

	if (w->block.len > 0)
		put_block(w, BLOCK_RECORDS, buf_bytes(&w->block), out);
	w->block.len = 0;
	buf_put_u64(&w->block, w->nrecords);
	used = (w->nbytes + BLOCK_HEADER_BYTES + w->block.len) % SNAPFILE_ALIGN;
	while (used++ % SNAPFILE_ALIGN != 0)
		buf_put_u8(&w->block, 0);
	put_block(w, BLOCK_END, buf_bytes(&w->block), out);
}

static void
put_block(SnapWriter *w, uint8_t kind, Bytes payload, Buf *out)
{
	uint8_t    *header;

	buf_reserve(out, BLOCK_HEADER_BYTES + payload.len);
	header = out->data + out->len;
	buf_put_u8(out, kind);
	buf_put_u32(out, (uint32_t) payload.len);
	buf_put_u32(out, block_crc(header, payload));
	buf_append(out, payload.data, payload.len);
	w->nbytes += BLOCK_HEADER_BYTES + payload.len;
}

/* of kind and length, which lie before the CRC, and the payload */
static uint32_t
block_crc(const uint8_t *header, Bytes payload)
{
	/* the library asks for pointers it might write through; it does not */
	uint32_t	crc = crc32_iscsi((uint8_t *) (uintptr_t) header, 5, CRC_SEED);

	if (payload.len > 0)
		crc = crc32_iscsi((uint8_t *) (uintptr_t) payload.data,
						  (int) payload.len, crc);
	return ~crc;
}

/* ---- reading ---- */

bool
snapreader_open(SnapReader *r, Bytes file)
{
	Bytes		magic;
	uint32_t	format;
	uint8_t		kind;
	Bytes		payload;

	*r = (SnapReader) {.start = file.data};
	if (file.len < PREAMBLE_BYTES + SNAPFILE_HASH_BYTES)
		return refuse(r, file.data, "the file is too short for a snapshot");
	r->file = cursor_make(bytes_make(file.data,
									 file.len - SNAPFILE_HASH_BYTES));
	if (!cursor_get_raw(&r->file, strlen(SNAPFILE_MAGIC), &magic) ||
		!bytes_equal_cstr(magic, SNAPFILE_MAGIC))
		return refuse(r, file.data, "the file is no snapshot of claviger");
	if (!cursor_get_u32(&r->file, &format) || format != SNAPFILE_FORMAT)
		return refuse(r, r->file.pos, "the snapshot has a format that this "
					  "version cannot read");
	if (file.len % SNAPFILE_ALIGN != SNAPFILE_HASH_BYTES)
		return refuse(r, r->file.end, "the file has been cut or lengthened");
	if (!take_block(r, &kind, &payload))
		return false;
	if (kind != BLOCK_META || !get_meta(r, payload))
		return refuse(r, payload.data, "the first block does not describe the "
					  "snapshot");
	return true;
}

bool
snapreader_next(SnapReader *r, SnapRecord *record)
{
	while (!r->is_over && r->error == NULL && cursor_left(&r->block) == 0)
		(void) next_block(r);
	if (r->is_over || r->error != NULL)
		return false;
	return get_record(r, record);
}

/* the next block of records, or the end */
static bool
next_block(SnapReader *r)
{
	uint8_t		kind;
	Bytes		payload;

	if (!take_block(r, &kind, &payload))
		return false;
	if (kind == BLOCK_RECORDS)
	{
		r->block = cursor_make(payload);
		return true;
	}
	if (kind != BLOCK_END)
		return refuse(r, payload.data, "a block is of an unknown kind");
	return get_end(r, payload);
}

static bool
take_block(SnapReader *r, uint8_t *kind, Bytes *payload)
{
	const uint8_t *header = r->file.pos;
	uint32_t	len;
	uint32_t	crc;

	if (!cursor_get_u8(&r->file, kind) || !cursor_get_u32(&r->file, &len) ||
		!cursor_get_u32(&r->file, &crc) ||
		len > INT32_MAX || !cursor_get_raw(&r->file, len, payload))
		return refuse(r, header, "a block is cut short");
	if (block_crc(header, *payload) != crc)
		return refuse(r, header, "a block does not match its checksum");
	return true;
}

static bool
get_meta(SnapReader *r, Bytes payload)
{
	Cursor		cur = cursor_make(payload);
	SnapMeta   *meta = &r->meta;
	uint64_t	created;
	uint64_t	revision;
	uint64_t	compacted;

	if (payload.len != META_BYTES ||
		!cursor_get_u64(&cur, &meta->cluster_id) ||
		!cursor_get_u64(&cur, &meta->member_id) ||
		!cursor_get_u64(&cur, &created) || !cursor_get_u64(&cur, &revision) ||
		!cursor_get_u64(&cur, &compacted) ||
		!cursor_get_u64(&cur, &meta->applied_index) ||
		!cursor_get_u64(&cur, &meta->applied_term) ||
		revision < 1 || revision > INT64_MAX || compacted > revision ||
		created > INT64_MAX)
		return false;
	meta->created_ms = (int64_t) created;
	meta->revision = (int64_t) revision;
	meta->compacted_revision = (int64_t) compacted;
	return true;
}

static bool
get_end(SnapReader *r, Bytes payload)
{
	Cursor		cur = cursor_make(payload);
	uint64_t	nrecords;

	if (!cursor_get_u64(&cur, &nrecords) || cursor_left(&cur) >= SNAPFILE_ALIGN)
		return refuse(r, payload.data, "the last block is not sound");
	for (; cur.pos < cur.end; cur.pos++)
	{
		if (*cur.pos != 0)
			return refuse(r, cur.pos, "the last block is not sound");
	}
	if (nrecords != r->nrecords)
		return refuse(r, payload.data, "records are missing");
	if (cursor_left(&r->file) != 0)
		return refuse(r, r->file.pos, "there is something behind the end");
	r->is_over = true;
	return true;
}

static bool
get_record(SnapReader *r, SnapRecord *record)
{
	const uint8_t *at = r->block.pos;
	uint8_t		table;

	if (!cursor_get_u8(&r->block, &table) || snaptable_name(table) == NULL ||
		!cursor_get_bytes(&r->block, &record->key) ||
		!cursor_get_bytes(&r->block, &record->value))
		return refuse(r, at, "a record cannot be decoded");
	record->table = (SnapTable) table;
	r->nrecords++;
	return true;
}

static bool
refuse(SnapReader *r, const uint8_t *at, const char *error)
{
	r->error = error;
	r->offset = at == NULL ? 0 : (uint64_t) (at - r->start);
	return false;
}
