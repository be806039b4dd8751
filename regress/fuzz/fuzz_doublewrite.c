/*
 * fuzz_doublewrite.c
 *	  The batch of pages that a start puts in place, from arbitrary bytes: never
 *	  a bad access, never a name that leads out of the directory.  The checksum
 *	  would keep everything out, so each input is read as it is, and once more
 *	  as the body of a batch with its header.
 */
/* needs: storage/bdb storage/snap storage/ipc storage/lmgr mvcc auth lease member alarm common utils/injection utils/guc */
#include "server.h"

/* libraries */
#include <isa-l/crc.h>

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "storage/bdb/doublewrite.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
take_page(void *arg, Bytes name, uint64_t offset, Bytes page)
{
	size_t	   *left = arg;

	if (name.len == 0 || name.len > 255 || offset > INT64_MAX ||
		memchr(name.data, '/', name.len) != NULL ||
		memchr(name.data, '\0', name.len) != NULL)
		abort();
	/* a part of the input, and none of it twice */
	if (name.len + page.len > *left)
		abort();
	*left -= name.len + page.len;
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		left = size;
	Buf			batch;

	(void) doublewrite_decode(bytes_make(data, size), take_page, &left);

	left = size;
	buf_init(&batch, NULL);
	buf_append(&batch, "CLAVDBW1", 8);
	buf_put_u64(&batch, size);
	buf_put_u32(&batch, crc32_iscsi((unsigned char *) (uintptr_t) data,
									(int) size, 0));
	buf_append(&batch, data, size);
	(void) doublewrite_decode(buf_bytes(&batch), take_page, &left);
	buf_free(&batch);
	return 0;
}
