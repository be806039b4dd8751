/*
 * store.c
 *	  The memory of the store: one writer maps it, all others only look.
 *
 *	base                2 MB                                  reserved size
 *	| StoreHeader       | extents: versions, trees, items ... |  never used |
 *	                                            high mark ----^   ^
 *	                            populated ahead, up to 64 MB -----'
 *
 * A memfd of the reserved size.  The read-only mapping comes from a second,
 * O_RDONLY open of the same memfd, so the kernel refuses to make it writable
 * by mprotect(), whoever asks; the one descriptor that may write goes to the
 * raft worker alone.  The mode of the memfd is 0400 besides, so that it is
 * not simply opened again through /proc.
 *
 * Pages of a memfd appear when they are touched, which costs time, and a
 * SIGBUS when there is no memory.  So nothing is touched first by the writer:
 * a thread populates ahead of the high mark, and what it has not reached (or
 * was given back in between) the writer populates itself, where a lack of
 * memory is an error.  A kernel before 5.14 cannot do that; then we go
 * without.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "storage/snap/slab.h"
#include "storage/snap/store.h"
#include "storage/snap/store_private.h"

/* the headers of older systems lack it; the kernel decides */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define STORE_MAGIC UINT64_C(0x31726567697661c3)
#define HEADER_BYTES SLAB_EXTENT_BYTES
#define POPULATE_AHEAD_BYTES ((size_t) 64 * 1024 * 1024)
#define POPULATE_RETRY_MS 1000

StoreHeader *store_header;
bool		store_is_writer;

static size_t reserved_bytes;
static int	writer_fd = -1;

/* ---- of the writer ---- */
static Slab *slab;
static bool use_populate_thread = true;
static bool populate_is_supported;	/* apply thread; the other has its own */
static bool release_is_supported;

/* the populate thread, and what it shares with the apply thread */
static struct
{
	pthread_t	thread;
	bool		is_running;		/* apply thread only */

	pthread_mutex_t mutex;
	pthread_cond_t changed;
	size_t		wanted;			/* mutex: populate up to this offset */
	bool		stop;			/* mutex */

	/* atomic: written by the thread, read by the writer */
	_Atomic size_t done;		/* populated up to this offset */
	_Atomic bool failed;		/* no memory at the last attempt */
} populate;

static void *reserve_address_range(size_t bytes);
static bool write_header(int fd, void *base, size_t bytes);
static void advise_mapping(void);
static bool populate_range(size_t offset, size_t bytes);
static bool commit_extent(void *arg, size_t offset, bool is_fresh);
static bool release_extent(void *arg, size_t offset);
static void populate_start(void);
static void populate_stop(void);
static void populate_want(size_t offset);
static void *populate_main(void *arg);

static const SlabOps slab_ops = {
	.commit = commit_extent,
	.release = release_extent,
};

bool
store_create(size_t reserve_bytes)
{
	size_t		bytes = align_up(reserve_bytes, SLAB_EXTENT_BYTES);
	char		path[64];
	void	   *base = NULL;
	int			read_fd = -1;
	int			saved_errno;

	Assert(store_header == NULL);
	if (bytes < reserve_bytes || bytes > SSIZE_MAX)
	{
		errno = ENOMEM;
		return false;
	}
	/* the header has an extent, and something is to be stored besides */
	bytes = size_max(bytes, HEADER_BYTES + SLAB_EXTENT_BYTES);

	writer_fd = memfd_create("claviger-store", MFD_CLOEXEC);
	if (writer_fd < 0)
		return false;
	if (ftruncate(writer_fd, (off_t) bytes) != 0 ||
		fchmod(writer_fd, S_IRUSR) != 0)
		goto fail;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", writer_fd);
	read_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (read_fd < 0)
		goto fail;
	base = reserve_address_range(bytes);
	if (base == NULL || !write_header(writer_fd, base, bytes))
		goto fail;
	if (mmap(base, bytes, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
			 read_fd, 0) == MAP_FAILED)
		goto fail;
	close(read_fd);
	store_header = base;
	reserved_bytes = bytes;
	advise_mapping();
	return true;

fail:
	saved_errno = errno;
	if (base != NULL)
		munmap(base, bytes);
	if (read_fd >= 0)
		close(read_fd);
	store_close_writer_fd();
	errno = saved_errno;
	return false;
}

void
store_attach_writer(void)
{
	if (store_header == NULL || writer_fd < 0)
		elog_fatal("the store cannot be attached for writing: it was not "
				   "created, or its descriptor is closed");
	if (mmap(store_header, reserved_bytes, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, writer_fd,
			 0) == MAP_FAILED)
		elog_fatal("could not map the store for writing: %s", strerror(errno));
	store_close_writer_fd();
	advise_mapping();
	Assert(store_header->magic == STORE_MAGIC);

	store_is_writer = true;
	populate_is_supported = true;
	release_is_supported = true;
	slab = slab_create((uint8_t *) store_header + HEADER_BYTES,
					   reserved_bytes - HEADER_BYTES, &slab_ops, NULL);
	if (use_populate_thread)
		populate_start();
	store_open_draft();
}

void
store_use_populate_thread(bool on)
{
	use_populate_thread = on;
}

void
store_close_writer_fd(void)
{
	if (writer_fd >= 0)
		close(writer_fd);
	writer_fd = -1;
}

void
store_destroy(void)
{
	if (store_header == NULL)
		return;
	populate_stop();
	store_forget_versions();
	slab_destroy(slab);
	slab = NULL;
	store_close_writer_fd();
	munmap(store_header, reserved_bytes);
	store_header = NULL;
	store_is_writer = false;
	reserved_bytes = 0;
}

RaftStatus *
store_raft_status(void)
{
	return &store_header->raft_status;
}

size_t
store_reserved_bytes(void)
{
	return reserved_bytes;
}

const void *
store_base(void)
{
	return store_header;
}

void *
store_alloc(size_t size)
{
	void	   *p = slab_alloc(slab, size);

	/*
	 * PANIC, as the entry being applied has changed half of the draft; the
	 * restart gives back what was retired.
	 */
	if (unlikely(p == NULL))
		elog_panic("out of memory in the store: cannot get %zu bytes, "
				   "%zu of %zu bytes are in use", size, store_bytes_used(),
				   reserved_bytes);
	return p;
}

void
store_free(void *p, size_t size)
{
	const char *fault;

	if (p == NULL)
		return;
	fault = slab_free(slab, p, size);
	/*
	 * PANIC, as whoever freed this wrongly has perhaps freed something else
	 * wrongly before, and every process reads it.
	 */
	if (unlikely(fault != NULL))
		elog_panic("cannot free %zu bytes of the store at %p: %s", size, p,
				   fault);
}

size_t
store_trim(void)
{
	return slab == NULL ? 0 : slab_trim(slab);
}

size_t
store_bytes_used(void)
{
	return slab == NULL ? 0 : slab_usage(slab).used_bytes;
}

size_t
store_bytes_free(void)
{
	SlabUsage	usage;

	if (slab == NULL)
		return 0;
	usage = slab_usage(slab);
	/* the machine has no more: only what is backed already can be had */
	if (atomic_load_explicit(&populate.failed, memory_order_relaxed))
		return usage.backed_bytes - usage.run_bytes;
	return slab_total_bytes(slab) - usage.run_bytes;
}

void
store_set_wipe_freed(bool on)
{
	slab_set_wipe_freed(slab, on);
}

const char *
store_check(void)
{
	return slab_check(slab);
}

/* ---- mapping ---- */

/* address space that begins at a multiple of 2 MB, for huge pages */
static void *
reserve_address_range(size_t bytes)
{
	size_t		room = bytes + SLAB_EXTENT_BYTES;
	uint8_t    *start;
	uint8_t    *base;
	size_t		before;

	start = mmap(NULL, room, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return NULL;
	base = (uint8_t *) align_up((uintptr_t) start, SLAB_EXTENT_BYTES);
	before = (size_t) (base - start);
	if (before > 0)
		munmap(start, before);
	munmap(base + bytes, room - before - bytes);
	return base;
}

/* base: where it will be mapped */
static bool
write_header(int fd, void *base, size_t bytes)
{
	StoreHeader *where = base;
	StoreHeader header;
	ssize_t		n;

	memset(&header, 0, sizeof(header));
	header.magic = STORE_MAGIC;
	header.reserved_bytes = bytes;
	header.first.number = 1;
	header.first.kv_revision = 1;
	header.first.auth_revision = 1;
	atomic_init(&header.root, &where->first);
	atomic_init(&header.epoch, 1);
	n = pwrite(fd, &header, sizeof(header), 0);
	if (n >= 0 && n != (ssize_t) sizeof(header))
		errno = ENOSPC;
	return n == (ssize_t) sizeof(header);
}

static void
advise_mapping(void)
{
	/* neither failure matters: small pages work, and dumps are off anyway */
	(void) madvise(store_header, reserved_bytes, MADV_HUGEPAGE);
	/* password hashes and all values: not for a core file */
	(void) madvise(store_header, reserved_bytes, MADV_DONTDUMP);
}

/* ---- backing ---- */

/*
 * Thread: apply and populate.  False with errno set; EINVAL means that the
 * kernel cannot do it.
 */
static bool
populate_range(size_t offset, size_t bytes)
{
	int			rc;

	do
	{
		rc = madvise((uint8_t *) store_header + offset, bytes,
					 MADV_POPULATE_WRITE);
	} while (rc != 0 && (errno == EINTR || errno == EAGAIN));
	return rc == 0;
}

/* offsets are the slab's: they begin behind the header */
static bool
commit_extent(void *arg, size_t offset, bool is_fresh)
{
	size_t		from = HEADER_BYTES + offset;
	size_t		to = from + SLAB_EXTENT_BYTES;

	if (is_fresh)
	{
		populate_want(to + POPULATE_AHEAD_BYTES);
		if (to <= atomic_load_explicit(&populate.done, memory_order_acquire))
			return true;
	}
	if (!populate_is_supported || populate_range(from, SLAB_EXTENT_BYTES))
		return true;
	if (errno == EINVAL)
	{
		populate_is_supported = false;
		return true;
	}
	elog_error("could not get memory for the store: %s", strerror(errno));
	return false;
}

static bool
release_extent(void *arg, size_t offset)
{
	if (!release_is_supported)
		return false;
	if (madvise((uint8_t *) store_header + HEADER_BYTES + offset,
				SLAB_EXTENT_BYTES, MADV_REMOVE) == 0)
		return true;
	elog_warning("could not give memory of the store back: %s; it is kept "
				 "for use from now on", strerror(errno));
	release_is_supported = false;
	return false;
}

static void
populate_start(void)
{
	pthread_condattr_t attr;
	sigset_t	all;
	sigset_t	old;
	int			rc;

	pthread_mutex_init(&populate.mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&populate.changed, &attr);
	pthread_condattr_destroy(&attr);
	populate.stop = false;
	populate.wanted = size_min(HEADER_BYTES + POPULATE_AHEAD_BYTES,
							   reserved_bytes);
	atomic_store(&populate.done, HEADER_BYTES);
	atomic_store(&populate.failed, false);

	/* signals are for the thread that waits for them */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&populate.thread, NULL, populate_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		elog_fatal("could not start the thread that populates the store: %s",
				   strerror(rc));
	pthread_setname_np(populate.thread, "store populate");
	populate.is_running = true;
}

static void
populate_stop(void)
{
	if (!populate.is_running)
		return;
	pthread_mutex_lock(&populate.mutex);
	populate.stop = true;
	pthread_cond_signal(&populate.changed);
	pthread_mutex_unlock(&populate.mutex);
	pthread_join(populate.thread, NULL);
	pthread_cond_destroy(&populate.changed);
	pthread_mutex_destroy(&populate.mutex);
	populate.is_running = false;
	atomic_store(&populate.done, 0);
	atomic_store(&populate.failed, false);
}

static void
populate_want(size_t offset)
{
	if (!populate.is_running)
		return;
	pthread_mutex_lock(&populate.mutex);
	populate.wanted = size_max(populate.wanted,
							   size_min(offset, reserved_bytes));
	pthread_cond_signal(&populate.changed);
	pthread_mutex_unlock(&populate.mutex);
}

/*
 * Wait until there is something to populate; after a failure, for a while at
 * least.  Returns how far to go, or 0 to stop.
 */
static size_t
populate_wait(size_t done, bool failed)
{
	size_t		wanted;
	int64_t		until_ms = clock_monotonic_ms() + POPULATE_RETRY_MS;
	struct timespec until = {.tv_sec = until_ms / 1000,
							 .tv_nsec = until_ms % 1000 * 1000000};
	int			rc = 0;

	pthread_mutex_lock(&populate.mutex);
	while (!populate.stop && failed && rc == 0)
		rc = pthread_cond_timedwait(&populate.changed, &populate.mutex, &until);
	while (!populate.stop && populate.wanted <= done)
		pthread_cond_wait(&populate.changed, &populate.mutex);
	wanted = populate.stop ? 0 : populate.wanted;
	pthread_mutex_unlock(&populate.mutex);
	return wanted;
}

/* Thread: populate. */
static void *
populate_main(void *arg)
{
	size_t		done = HEADER_BYTES;
	bool		failed = false;

	while (populate_wait(done, failed) > 0)
	{
		/*
		 * One extent at a time: the kernel holds the address space for
		 * reading meanwhile, and an mmap() of another thread waits for that.
		 */
		if (populate_range(done, SLAB_EXTENT_BYTES))
		{
			done += SLAB_EXTENT_BYTES;
			failed = false;
			atomic_store_explicit(&populate.done, done, memory_order_release);
		}
		else if (errno == EINVAL)
		{
			elog_info("this kernel cannot populate memory ahead; the store "
					  "does without");
			break;
		}
		else
		{
			if (!failed)
				elog_write(LOG_LEVEL_WARNING, NULL,
						   "Lower quota_backend_bytes, or give the machine or "
						   "its cgroup more memory.",
						   "cannot get memory ahead for the store: %s",
						   strerror(errno));
			failed = true;
		}
		atomic_store_explicit(&populate.failed, failed, memory_order_relaxed);
	}
	return NULL;
}
