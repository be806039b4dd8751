/*
 * world.c
 *	  Virtual time, chance and events; all from the seed.
 */
#include "server.h"

/* system */
#include <stdarg.h>
#include <unistd.h>

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "sim.h"

uint64_t	now_us;

static uint64_t rng;
static Event *heap;
static size_t heap_n;
static size_t heap_cap;
static uint64_t next_seq;

static bool comes_before(const Event *a, const Event *b);

void
world_seed(uint64_t seed)
{
	rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (int i = 0; i < 10; i++)
		(void) rnd();
}

uint64_t
rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

uint64_t
between(uint64_t a, uint64_t b)
{
	return a + rnd() % (b - a + 1);
}

bool
chance(uint32_t permille)
{
	return rnd() % 1000 < permille;
}

void
event_at(uint64_t at, EventKind kind, uint32_t slot, uint32_t life,
		 uint64_t number, void *data)
{
	Event		event = {at, next_seq++, kind, slot, life, number, data};
	size_t		i;

	if (heap_n == heap_cap)
	{
		heap_cap = heap_cap == 0 ? 1024 : heap_cap * 2;
		heap = xrealloc(heap, heap_cap * sizeof(*heap));
	}
	for (i = heap_n++; i > 0 && comes_before(&event, &heap[(i - 1) / 2]);
		 i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = event;
}

bool
event_next(Event *event)
{
	Event		last;
	size_t		i = 0;

	if (heap_n == 0)
		return false;
	*event = heap[0];
	last = heap[--heap_n];
	for (;;)
	{
		size_t		child = 2 * i + 1;

		if (child >= heap_n)
			break;
		if (child + 1 < heap_n && comes_before(&heap[child + 1], &heap[child]))
			child++;
		if (comes_before(&last, &heap[child]))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return true;
}

static bool
comes_before(const Event *a, const Event *b)
{
	return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}

void
violation(const char *fmt,...)
{
	va_list		args;

	printf("VIOLATION at %.6f s: ", (double) now_us / SEC);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(SIM_VIOLATION);
}

void
trace(const char *fmt,...)
{
	va_list		args;

	if (!options.verbose)
		return;
	printf("%12.6f ", (double) now_us / SEC);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
}
