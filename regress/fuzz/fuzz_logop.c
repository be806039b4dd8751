/*
 * fuzz_logop.c
 *	  Log entries from arbitrary bytes: never a bad access, and what decodes
 *	  encodes to the very same bytes (there is one encoding of an operation).
 */
/* needs: common */
#include "server.h"

/* this layer and below */
#include "common/logop.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	MemContext *mcx = mcx_create(NULL, "fuzz");
	LogOp		op;
	Buf			again;

	buf_init(&again, mcx);
	if (logop_decode(bytes_make(data, size), &op, mcx))
	{
		logop_encode(&op, &again);
		if (!bytes_equal(buf_bytes(&again), bytes_make(data, size)))
			abort();
	}
	mcx_destroy(mcx);
	return 0;
}
