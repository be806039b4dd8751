/*
 * log_io.c
 *	  The system calls of the raft log.
 *
 * Writes go past the page cache (O_DIRECT) where the file system allows it: a
 * small write and its sync take half the processor time then, and the pages
 * of a log that nobody reads do not push out others.  It wants whole blocks,
 * so what the last block holds already is kept here and written again with
 * what follows it, as the page cache would do; behind the new bytes the block
 * is filled with zeros.  So this is for appending only: log.c writes each
 * segment from front to back.  A block that is torn by a power failure keeps
 * its synced beginning, because both versions have the same bytes there.
 *
 * The log thread uses it, and before that thread starts, who makes and loads
 * the log; never two at a time.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <unistd.h>

/* this layer and below */
#include "raft/log.h"

/* satisfies all devices; and one call writes so much at most */
#define BLOCK_BYTES 4096
#define BUFFER_BYTES ((size_t) 1024 * 1024)

/*
 * The file written last.  While tail_bytes is not 0, the buffer begins with so
 * many bytes of it, from offset tail_start on: the block that is not full.
 */
typedef struct LastFile
{
	int			fd;				/* -1: none */
	bool		is_direct;
	uint64_t	tail_start;
	size_t		tail_bytes;
} LastFile;

static LastFile last = {.fd = -1};
static alignas(BLOCK_BYTES) uint8_t buffer[BUFFER_BYTES];

static int	system_open(const char *path, int flags, int mode);
static int64_t system_pwrite(int fd, const void *data, size_t n,
							 int64_t offset);
static int	system_fsync_dir(const char *path);
static void turn_to(int fd);
static bool set_direct(int fd, bool on);
static bool read_tail(int fd, uint64_t start, size_t n);
static int64_t write_blocks(int fd, uint64_t start, size_t kept, size_t n);

const LogIo log_io_system = {
	.open = system_open,
	.pwrite = system_pwrite,
	.fdatasync = fdatasync,
	.rename = rename,
	.fsync_dir = system_fsync_dir,
};

static int
system_open(const char *path, int flags, int mode)
{
	int			fd = open(path, flags, mode);

	/* the number may have been another file's */
	if (fd == last.fd)
		last.fd = -1;
	return fd;
}

/* May write less than n, as pwrite() may. */
static int64_t
system_pwrite(int fd, const void *data, size_t n, int64_t offset)
{
	size_t		kept = (size_t) offset % BLOCK_BYTES;
	uint64_t	start = (uint64_t) offset - kept;
	int64_t		done;

	if (fd != last.fd)
		turn_to(fd);
	if (!last.is_direct)
		return pwrite(fd, data, n, offset);
	if (kept > 0 && !read_tail(fd, start, kept))
		return -1;
	n = size_min(n, BUFFER_BYTES - kept);
	memcpy(buffer + kept, data, n);
	done = write_blocks(fd, start, kept, n);
	if (done < 0 && errno == EINVAL)
	{
		/* the file system takes the flag, and not the writes */
		last.is_direct = false;
		return set_direct(fd, false) ? pwrite(fd, data, n, offset) : -1;
	}
	return done;
}

static int
system_fsync_dir(const char *path)
{
	int			fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int			saved;
	int			rc;

	if (fd < 0)
		return -1;
	rc = fsync(fd);
	saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

/* Somebody else's file system may not know the flag; then as ever. */
static void
turn_to(int fd)
{
	last = (LastFile) {.fd = fd, .is_direct = set_direct(fd, true)};
}

static bool
set_direct(int fd, bool on)
{
	int			flags = fcntl(fd, F_GETFL);

	return flags >= 0 &&
		fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

/* The first n bytes of the block at start into the buffer; false with errno. */
static bool
read_tail(int fd, uint64_t start, size_t n)
{
	ssize_t		got;

	if (last.tail_bytes == n && last.tail_start == start)
		return true;
	last.tail_bytes = 0;
	got = pread(fd, buffer, BLOCK_BYTES, (off_t) start);
	if (got >= 0 && (size_t) got < n)
		errno = EIO;
	return got >= (ssize_t) n;
}

/* The buffer holds what was kept and n new bytes; how many of the n went. */
static int64_t
write_blocks(int fd, uint64_t start, size_t kept, size_t n)
{
	size_t		bytes = kept + n;
	size_t		whole = align_up(bytes, BLOCK_BYTES);
	size_t		tail = bytes % BLOCK_BYTES;
	size_t		written = 0;

	memset(buffer + bytes, 0, whole - bytes);
	last.tail_bytes = 0;
	/* a short write that went no further than what was kept: the next tells why */
	while (written <= kept)
	{
		ssize_t		done = pwrite(fd, buffer + written, whole - written,
								  (off_t) (start + written));

		if (done <= 0)
			return done;
		written += (size_t) done;
	}
	if (written < bytes)
		return (int64_t) (written - kept);
	if (tail > 0)
	{
		memmove(buffer, buffer + bytes - tail, tail);
		last.tail_start = start + bytes - tail;
		last.tail_bytes = tail;
	}
	return (int64_t) n;
}
