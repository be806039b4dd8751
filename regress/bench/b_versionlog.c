/*
 * b_versionlog.c
 *	  What the version log adds to a Put: mvcc_put() as it is, and the appending
 *	  alone.
 */
/* needs: mvcc lease/lease storage/snap common */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "mvcc/mvcc.h"
#include "mvcc/vlog.h"

#define STORE_BYTES ((size_t) 4096 * 1024 * 1024)
#define NKEYS 100000
#define NPUTS 1000000
#define PUTS_PER_BATCH 16

static StorePinWord pin_word;

static StorePinWord *
get_pin_word(uint32_t i)
{
	return &pin_word;
}

static double
time_puts(MemContext *scratch)
{
	static const uint8_t value[256];
	int64_t		begin_us = clock_monotonic_us();

	for (uint64_t i = 0; i < NPUTS; i++)
	{
		char		key[32];
		PutOp		op = {.value = bytes_make(value, sizeof(value))};
		MvccWrite	w;

		snprintf(key, sizeof(key), "bench/%018" PRIu64, i * 7919 % NKEYS);
		op.key = bytes_from_cstr(key);
		mvcc_write_begin(&w, store_draft(), NULL, scratch);
		if (mvcc_put(&w, &op, NULL) != ERR_NONE)
			abort();
		mvcc_write_end(&w);
		if (i % PUTS_PER_BATCH == 0)
		{
			store_publish();
			store_reclaim();
		}
	}
	return (double) (clock_monotonic_us() - begin_us) * 1e3 / NPUTS;
}

static double
time_appends(const VersionLog *log)
{
	VersionLog	again = {0};
	int64_t		begin_us = clock_monotonic_us();

	for (uint64_t i = log->first; i < log->end; i++)
		vlog_append(&again, vlog_get(log, i));
	return (double) (clock_monotonic_us() - begin_us) * 1e3 /
		(double) (log->end - log->first);
}

int
main(void)
{
	MemContext *scratch = mcx_create(NULL, "scratch");

	if (!store_create(STORE_BYTES))
		return 1;
	store_attach_writer();
	store_set_pin_words(get_pin_word, 1);
	store_set_own_pin_word(&pin_word);
	mvcc_compact_resume(store_draft());
	printf("a put (256 bytes, %d keys, %d in a batch): %.0f ns\n", NKEYS,
		   PUTS_PER_BATCH, time_puts(scratch));
	store_publish();
	printf("an append to the version log, the look at the version included: %.1f ns\n",
		   time_appends(&store_draft()->log));
	store_destroy();
	return 0;
}
