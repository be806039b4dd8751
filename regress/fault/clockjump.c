/*
 * clockjump.c
 *	  Moves the clock of the day of a whole server.
 *
 * For tests, as LD_PRELOAD.  CLOCKJUMP_CONTROL names a file with one signed
 * 64-bit number in the machine's order, seconds to add; it is mapped when the
 * first process starts and stays mapped in its children, so that a test lets
 * the clock of a running server jump by writing to the file.  The monotonic
 * clocks go on as they are: the kernel does not let them jump.
 */
#define _GNU_SOURCE

/* system */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const _Atomic int64_t *control;
static int	(*real_clock_gettime) (clockid_t, struct timespec *);

static void __attribute__((constructor))
start(void)
{
	const char *path = getenv("CLOCKJUMP_CONTROL");
	void	   *found = dlsym(RTLD_NEXT, "clock_gettime");
	void	   *memory;
	int			fd;

	if (found == NULL)
		abort();
	__builtin_memcpy(&real_clock_gettime, &found, sizeof(found));
	if (path == NULL)
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		abort();
	memory = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (memory == MAP_FAILED)
		abort();
	control = memory;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	int			rc;

	/* another library's constructor may come before ours */
	if (real_clock_gettime == NULL)
		start();
	rc = real_clock_gettime(clock, now);
	if (rc == 0 && control != NULL &&
		(clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += (time_t) atomic_load(control);
	return rc;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec t;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &t) != 0)
		return -1;
	now->tv_sec = t.tv_sec;
	now->tv_usec = t.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *where)
{
	struct timespec t;

	if (clock_gettime(CLOCK_REALTIME, &t) != 0)
		return (time_t) -1;
	if (where != NULL)
		*where = t.tv_sec;
	return t.tv_sec;
}
