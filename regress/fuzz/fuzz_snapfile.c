/*
 * fuzz_snapfile.c
 *	  Snapshot files from arbitrary bytes: never a bad access, never without
 *	  end.  Checksums would keep nearly everything out, so each input is read as
 *	  it is, and once more with the checksums of its blocks put right.
 */
/* needs: common */
#include "server.h"

/* libraries */
#include <isa-l/crc.h>

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "common/snapfile.h"

#define PREAMBLE_BYTES 12
#define BLOCK_HEADER_BYTES 9

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_all(const uint8_t *data, size_t size)
{
	SnapReader	r;
	SnapRecord	record;
	uint64_t	n = 0;

	if (!snapreader_open(&r, bytes_make(data, size)))
	{
		if (r.error == NULL || r.offset > size)
			abort();
		return;
	}
	while (snapreader_next(&r, &record))
	{
		/* each takes three bytes at least */
		if (++n > size || snaptable_name(record.table) == NULL)
			abort();
		if (record.key.len + record.value.len > size)
			abort();
	}
	if (snapreader_next(&r, &record))
		abort();
}

static void
mend_checksums(uint8_t *data, size_t size)
{
	size_t		at = PREAMBLE_BYTES;

	while (at + BLOCK_HEADER_BYTES <= size)
	{
		uint8_t    *header = data + at;
		size_t		len = header[1] | (size_t) header[2] << 8 |
			(size_t) header[3] << 16 | (size_t) header[4] << 24;
		uint32_t	crc;

		at += BLOCK_HEADER_BYTES;
		if (len > size - at)
			return;
		crc = crc32_iscsi(header, 5, 0xffffffffu);
		crc = ~crc32_iscsi(data + at, (int) len, crc);
		for (int i = 0; i < 4; i++)
			header[5 + i] = (uint8_t) (crc >> (8 * i));
		at += len;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t    *copy = xmalloc(size + 1);

	read_all(data, size);
	if (size > 0)
		memcpy(copy, data, size);
	mend_checksums(copy, size);
	read_all(copy, size);
	free(copy);
	return 0;
}
