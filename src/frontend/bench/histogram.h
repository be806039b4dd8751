/*
 * histogram.h
 *	  Latencies in buckets that grow with the value (about 3 % wide).
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 5	/* 32 buckets for each power of two */
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

typedef struct Histogram
{
	uint64_t	buckets[HISTOGRAM_BUCKETS];
	uint64_t	count;
	uint64_t	sum_us;
	uint64_t	max_us;
} Histogram;

extern void histogram_add(Histogram *h, uint64_t us);

/* the value below which a fraction (0..1) of all lies, in microseconds */
extern uint64_t histogram_quantile(const Histogram *h, double fraction);

#endif							/* BENCH_HISTOGRAM_H */
