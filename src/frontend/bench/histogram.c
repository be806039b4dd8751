/*
 * histogram.c
 *	  Log-linear latency histogram: exact below 32 us, then 32 buckets for
 *	  each power of two.
 */
#include "server.h"

/* this program */
#include "histogram.h"

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)

static uint32_t bucket_of(uint64_t us);
static uint64_t bucket_top(uint32_t bucket);

void
histogram_add(Histogram *h, uint64_t us)
{
	h->buckets[bucket_of(us)]++;
	h->count++;
	h->sum_us += us;
	if (us > h->max_us)
		h->max_us = us;
}

uint64_t
histogram_quantile(const Histogram *h, double fraction)
{
	uint64_t	want = (uint64_t) (fraction * (double) h->count);
	uint64_t	seen = 0;

	if (h->count == 0)
		return 0;
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		seen += h->buckets[i];
		if (seen > want)
		{
			uint64_t	top = bucket_top(i);

			return top < h->max_us ? top : h->max_us;
		}
	}
	return h->max_us;
}

static uint32_t
bucket_of(uint64_t us)
{
	uint32_t	shift;

	if (us < SUB_COUNT)
		return (uint32_t) us;
	shift = 63 - (uint32_t) __builtin_clzll(us) - HISTOGRAM_SUB_BITS;
	return ((shift + 1) << HISTOGRAM_SUB_BITS) +
		(uint32_t) (us >> shift) - SUB_COUNT;
}

static uint64_t
bucket_top(uint32_t bucket)
{
	uint32_t	shift;

	if (bucket < SUB_COUNT)
		return bucket;
	shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
	return (((uint64_t) (bucket & (SUB_COUNT - 1)) + SUB_COUNT + 1) << shift)
		- 1;
}
