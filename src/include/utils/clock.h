/*
 * clock.h
 *	  Time, in milliseconds; the only place where clocks are read.
 */
#ifndef UTILS_CLOCK_H
#define UTILS_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t
clock_ms(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline int64_t
clock_monotonic_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

/*
 * The same clock as of the kernel's last tick: up to 10 ms behind (4 with
 * HZ=250), and several times cheaper where reading the time stamp counter is
 * slow, as on many virtual machines.  For ages and deadlines on the road of a
 * request, which asks for the time a dozen times.
 */
static inline int64_t
clock_coarse_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC_COARSE);
}

static inline int64_t
clock_realtime_ms(void)
{
	return clock_ms(CLOCK_REALTIME);
}

static inline int64_t
clock_monotonic_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* of two moments, either of which may be none (-1) */
static inline int64_t
clock_earlier(int64_t a, int64_t b)
{
	if (a < 0 || b < 0)
		return a < 0 ? b : a;
	return a < b ? a : b;
}

#endif							/* UTILS_CLOCK_H */
