/*
 * failnth.c
 *	  Makes the nth allocation, write, sync or send of a process fail.
 *
 * For tests, as LD_PRELOAD of a whole server.  FAILNTH_CONTROL names a file
 * that is mapped when the first process starts and stays mapped in its
 * children, so that a test arms a running server by writing to the file:
 * which process (or all but some), which kind of call, from which call on,
 * for how many calls, with which error.  Nothing is counted before that.
 *
 * Writes and syncs are those of regular files; the log on standard error is
 * left out, because a line of it that is lost is allowed.  A write may also
 * do half of its work first, as a disk does that becomes full.
 */
#define _GNU_SOURCE

/* system */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* this directory */
#include "preload.h"

#define MAX_SPARED 4

typedef enum FailKind
{
	FAIL_NOTHING,
	FAIL_ALLOCATION,
	FAIL_WRITE,
	FAIL_SYNC,
	FAIL_SEND
} FailKind;

/* written by the test while kind is FAIL_NOTHING; all little-endian words */
typedef struct Control
{
	_Atomic uint32_t kind;
	_Atomic uint32_t pid;		/* only this process; 0: all but the spared */
	_Atomic uint32_t spared[MAX_SPARED];
	_Atomic uint32_t nth;		/* the first that fails, from 1 */
	_Atomic uint32_t times;		/* so many fail */
	_Atomic uint32_t error;
	_Atomic uint32_t is_half;	/* a write does half of it, once, then fails */

	/* written here */
	_Atomic uint32_t count;		/* calls counted */
	_Atomic uint32_t fired;		/* calls that failed */
	_Atomic uint32_t fired_pid;
} Control;

static Control *control;

static void *(*real_malloc) (size_t);
static void *(*real_calloc) (size_t, size_t);
static void *(*real_realloc) (void *, size_t);
static int	(*real_posix_memalign) (void **, size_t, size_t);
static void *(*real_aligned_alloc) (size_t, size_t);
static ssize_t (*real_write) (int, const void *, size_t);
static ssize_t (*real_writev) (int, const struct iovec *, int);
static ssize_t (*real_pwrite) (int, const void *, size_t, off_t);
static int	(*real_fsync) (int);
static int	(*real_fdatasync) (int);
static ssize_t (*real_send) (int, const void *, size_t, int);
static ssize_t (*real_sendmsg) (int, const struct msghdr *, int);
static ssize_t (*real_sendto) (int, const void *, size_t, int,
							   const struct sockaddr *, socklen_t);

/* dlsym() allocates before there is an allocator to call */
static char early[16384];
static size_t early_used;

static bool should_fail(FailKind kind);
static bool fd_is_file(int fd);

static void
find_all(void)
{
	static bool is_finding;

	if (real_sendto != NULL || is_finding)
		return;
	is_finding = true;
	FIND(malloc);
	FIND(calloc);
	FIND(realloc);
	FIND(posix_memalign);
	FIND(aligned_alloc);
	FIND(write);
	FIND(writev);
	FIND(pwrite);
	FIND(fsync);
	FIND(fdatasync);
	FIND(send);
	FIND(sendmsg);
	FIND(sendto);
	is_finding = false;
}

static void __attribute__((constructor))
start(void)
{
	const char *path = getenv("FAILNTH_CONTROL");
	void	   *memory;
	int			fd;

	find_all();
	if (path == NULL)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		abort();
	memory = mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED,
				  fd, 0);
	close(fd);
	if (memory == MAP_FAILED)
		abort();
	control = memory;
}

static void *
early_alloc(size_t size)
{
	size_t		at = (early_used + 15) & ~(size_t) 15;

	if (at + size > sizeof(early))
		abort();
	early_used = at + size;
	return early + at;
}

static bool
is_early(const void *p)
{
	return (const char *) p >= early && (const char *) p < early + sizeof(early);
}

static bool
should_fail(FailKind kind)
{
	uint32_t	pid;
	uint32_t	own;
	uint32_t	count;
	uint32_t	nth;

	if (control == NULL || atomic_load(&control->kind) != kind)
		return false;
	own = (uint32_t) getpid();
	pid = atomic_load(&control->pid);
	if (pid != 0 && pid != own)
		return false;
	for (int i = 0; i < MAX_SPARED; i++)
	{
		if (atomic_load(&control->spared[i]) == own)
			return false;
	}
	count = atomic_fetch_add(&control->count, 1) + 1;
	nth = atomic_load(&control->nth);
	if (nth == 0 || count < nth || count - nth >= atomic_load(&control->times))
		return false;
	atomic_fetch_add(&control->fired, 1);
	atomic_store(&control->fired_pid, own);
	errno = (int) atomic_load(&control->error);
	return true;
}

static bool
is_armed(FailKind kind)
{
	return control != NULL && atomic_load(&control->kind) == kind;
}

static bool
fd_is_file(int fd)
{
	struct stat st;

	return fd != STDERR_FILENO && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* ---- allocations ---- */

void *
malloc(size_t size)
{
	if (real_malloc == NULL)
	{
		find_all();
		if (real_malloc == NULL)
			return early_alloc(size);
	}
	return should_fail(FAIL_ALLOCATION) ? NULL : real_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	if (real_calloc == NULL)
	{
		find_all();
		if (real_calloc == NULL)
			return early_alloc(n * size);	/* zeros, as it is static */
	}
	return should_fail(FAIL_ALLOCATION) ? NULL : real_calloc(n, size);
}

void *
realloc(void *p, size_t size)
{
	if (real_realloc == NULL)
		find_all();
	if (is_early(p))
		abort();
	return should_fail(FAIL_ALLOCATION) ? NULL : real_realloc(p, size);
}

int
posix_memalign(void **p, size_t alignment, size_t size)
{
	if (should_fail(FAIL_ALLOCATION))
		return ENOMEM;
	return real_posix_memalign(p, alignment, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
	return should_fail(FAIL_ALLOCATION) ? NULL :
		real_aligned_alloc(alignment, size);
}

void
free(void *p)
{
	static void (*real_free) (void *);

	if (is_early(p))
		return;
	if (real_free == NULL)
	{
		void	   *found = symbol("free");

		__builtin_memcpy(&real_free, &found, sizeof(found));
	}
	real_free(p);
}

/* ---- writes and syncs ---- */

ssize_t
write(int fd, const void *data, size_t n)
{
	if (is_armed(FAIL_WRITE) && fd_is_file(fd) && should_fail(FAIL_WRITE))
	{
		if (atomic_exchange(&control->is_half, 0) != 0 && n > 1)
			return real_write(fd, data, n / 2);
		errno = (int) atomic_load(&control->error);
		return -1;
	}
	return real_write(fd, data, n);
}

ssize_t
writev(int fd, const struct iovec *parts, int n)
{
	if (is_armed(FAIL_WRITE) && fd_is_file(fd) && should_fail(FAIL_WRITE))
		return -1;
	return real_writev(fd, parts, n);
}

ssize_t
pwrite(int fd, const void *data, size_t n, off_t offset)
{
	if (is_armed(FAIL_WRITE) && fd_is_file(fd) && should_fail(FAIL_WRITE))
	{
		if (atomic_exchange(&control->is_half, 0) != 0 && n > 1)
			return real_pwrite(fd, data, n / 2, offset);
		errno = (int) atomic_load(&control->error);
		return -1;
	}
	return real_pwrite(fd, data, n, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t n, off64_t offset)
{
	return pwrite(fd, data, n, offset);
}

int
fsync(int fd)
{
	return should_fail(FAIL_SYNC) ? -1 : real_fsync(fd);
}

int
fdatasync(int fd)
{
	return should_fail(FAIL_SYNC) ? -1 : real_fdatasync(fd);
}

/* ---- sends ---- */

ssize_t
send(int fd, const void *data, size_t n, int flags)
{
	return should_fail(FAIL_SEND) ? -1 : real_send(fd, data, n, flags);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
	return should_fail(FAIL_SEND) ? -1 : real_sendmsg(fd, message, flags);
}

ssize_t
sendto(int fd, const void *data, size_t n, int flags,
	   const struct sockaddr *to, socklen_t to_len)
{
	return should_fail(FAIL_SEND) ? -1 :
		real_sendto(fd, data, n, flags, to, to_len);
}
