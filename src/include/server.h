/*
 * server.h
 *	  What every .c file of the server and its tools includes first.
 *
 * Only things that belong to the language as we use it: fixed-width types,
 * the compiler extensions that we allow ourselves, and assertions.  No header
 * includes this file; each header includes what it names.
 */
#ifndef SERVER_H
#define SERVER_H

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLAVIGER_VERSION	"0.1.0"

/*
 * The etcd release whose API we speak; what Maintenance.Status calls
 * "version", because clients switch features on by it.
 */
#define ETCD_API_VERSION	"3.5.33"
/* the version of a cluster whose members all are of that release */
#define ETCD_CLUSTER_VERSION	"3.5.0"

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))
#define container_of(ptr, type, member) \
	((type *) ((char *) (ptr) - offsetof(type, member)))

#define NORETURN __attribute__((noreturn))
#define UNUSED	 __attribute__((unused))
#define CACHE_LINE_BYTES 64

/*
 * Assert what must be true.  Never judge with it what a client or a disk
 * sent, and never let it do work: release builds compile it out.
 */
#ifdef USE_ASSERT_CHECKING
#define Assert(condition) assert(condition)
#else
#define Assert(condition) ((void) sizeof(condition))
#endif

static inline size_t
align_up(size_t n, size_t alignment)
{
	return (n + alignment - 1) & ~(alignment - 1);
}

static inline size_t
size_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t
size_max(size_t a, size_t b)
{
	return a > b ? a : b;
}

#endif							/* SERVER_H */
