/*
 * fuzz_log.c
 *	  Any bytes as a segment of the raft log.
 *
 * The first byte says how much of the input is repaired before it is read,
 * because no fuzzer guesses a checksum: bit 0 the header, bit 1 the records'
 * chain as far as it goes.  Found entries must lie inside the file and be in
 * order, and what was found must be found again when it is written anew.
 */
/* needs: raft utils/injection */
#include "server.h"

/* libraries */
#include <isa-l/crc.h>

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "raft/segment.h"

#define REPAIR_HEADER 1
#define REPAIR_RECORDS 2

typedef struct Seen
{
	Bytes		file;
	uint64_t	next_index;
	uint64_t	term;
	LogEntry   *entries;
	uint32_t	n;
} Seen;

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
put_u32(uint8_t *at, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t) (v >> (8 * i));
}

static uint32_t
get_u32(const uint8_t *at)
{
	return (uint32_t) at[0] | (uint32_t) at[1] << 8 | (uint32_t) at[2] << 16 |
		(uint32_t) at[3] << 24;
}

static void
repair_header(uint8_t *file)
{
	memcpy(file, "CLVGRLOG", 8);
	put_u32(file + 8, SEGMENT_FORMAT_VERSION);
	put_u32(file + 12, SEGMENT_HEADER_BYTES);
	put_u32(file + 60, crc32_iscsi(file, 60, 0));
}

static void
repair_records(uint8_t *file, size_t size)
{
	uint32_t	crc = get_u32(file + 60);
	size_t		at = SEGMENT_HEADER_BYTES;

	while (at + SEGMENT_RECORD_BYTES <= size)
	{
		uint32_t	length = get_u32(file + at + 4);

		if (length > size - at - SEGMENT_RECORD_BYTES)
			return;
		memcpy(file + at + 32, file + 48, 4);
		crc = crc32_iscsi(file + at + 4,
						  (int) (SEGMENT_RECORD_BYTES - 4 + length), crc);
		put_u32(file + at, crc);
		at += segment_record_size(length);
	}
}

static void
see(void *arg, const LogEntry *entry)
{
	Seen	   *seen = arg;

	require(entry->index == seen->next_index);
	require(entry->term >= seen->term);
	require(entry->data.data >= seen->file.data &&
			entry->data.data + entry->data.len <=
			seen->file.data + seen->file.len);
	seen->next_index++;
	seen->term = entry->term;
	seen->entries[seen->n++] = *entry;
}

/* written again, the same entries come out, and the end is clean */
static void
write_again(const SegmentHeader *header, const Seen *first)
{
	SegmentHeader again = *header;
	SegmentChain chain;
	SegmentScan scan;
	Seen		seen = {.next_index = header->first_index};
	uint8_t		bytes[SEGMENT_HEADER_BYTES];
	Buf			out;

	buf_init(&out, NULL);
	segment_header_encode(&again, bytes);
	buf_append(&out, bytes, sizeof(bytes));
	chain = segment_chain_begin(&again);
	if (first->n > 0)
		segment_batch_encode(&chain, first->entries, first->n, &out);
	require(chain.offset == out.len);
	seen.file = buf_bytes(&out);
	seen.entries = xcalloc(first->n, sizeof(*seen.entries));
	segment_scan(seen.file, &again, see, &seen, &scan);
	require(scan.end == SEGMENT_CLEAN && seen.n == first->n);
	for (uint32_t i = 0; i < seen.n; i++)
		require(seen.entries[i].type == first->entries[i].type &&
				bytes_equal(seen.entries[i].data, first->entries[i].data));
	free(seen.entries);
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	SegmentHeader header;
	SegmentScan scan;
	Seen		seen;
	const char *why = NULL;
	uint8_t    *file;

	if (size == 0)
		return 0;
	/* a copy of exactly this size, so that reading beyond it is seen */
	file = xmalloc(size - 1);
	memcpy(file, data + 1, size - 1);
	seen = (Seen) {.file = bytes_make(file, size - 1)};
	if (size - 1 >= SEGMENT_HEADER_BYTES)
	{
		if ((data[0] & REPAIR_HEADER) != 0)
			repair_header(file);
		if ((data[0] & REPAIR_RECORDS) != 0)
			repair_records(file, size - 1);
	}
	if (segment_header_decode(seen.file, &header, &why))
	{
		seen.next_index = header.first_index;
		seen.entries = xcalloc(size / SEGMENT_RECORD_BYTES + 1,
							   sizeof(*seen.entries));
		segment_scan(seen.file, &header, see, &seen, &scan);
		require(scan.next_index == seen.next_index);
		require(scan.chain.offset <= seen.file.len);
		require(scan.end != SEGMENT_DAMAGED || scan.why != NULL);
		write_again(&header, &seen);
		free(seen.entries);
	}
	else
		require(why != NULL);
	free(file);
	return 0;
}
