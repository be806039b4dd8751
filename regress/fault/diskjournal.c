/*
 * diskjournal.c
 *	  Writes down what a server does to its files, so that a test can make the
 *	  disk that a power cut would have left.
 *
 * For tests, as LD_PRELOAD of a whole server.  DISKJOURNAL_DIR is the absolute
 * path of the directory that is watched, DISKJOURNAL_FILE the journal, outside
 * of it.  A record is one write() to a file opened with O_APPEND, so that
 * those of all threads and processes, and the test's own, stand in one order.
 *
 * What the order means.  A change is recorded after it was made, and a sync
 * twice, before and after the call.  So a change that stands before the first
 * record of a sync whose second record is there was made durable by it; of any
 * other change nobody knows.  What the test records after an answer came is
 * behind the sync that the answer waited for.
 *
 * A file is named by its inode, a change of a directory by paths.  What a file
 * held before the journal began is not known: the directory has to be made
 * under it.  Format: regress/fault/powercut.py.
 */
#define _GNU_SOURCE

/* system */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* this directory */
#include "preload.h"

typedef enum RecordKind
{
	RECORD_CREATE = 1,			/* path, inode: a file that was not there */
	RECORD_WRITE,				/* inode, offset, data */
	RECORD_ZEROS,				/* inode, offset; length instead of data */
	RECORD_TRUNCATE,			/* inode, offset: the new size */
	RECORD_SYNC_BEGIN,			/* inode, offset: a number of this sync */
	RECORD_SYNC_END,
	RECORD_RENAME,				/* two paths */
	RECORD_UNLINK,				/* path */
	RECORD_MKDIR				/* path, inode */
} RecordKind;

typedef struct Record
{
	uint32_t	kind;
	uint32_t	path_bytes;		/* both paths, each with its zero byte */
	uint64_t	inode;
	int64_t		offset;
	uint64_t	length;			/* data follow the paths, but for zeros */
} Record;

static int	journal = -1;
static const char *watched;
static size_t watched_len;

static int	(*real_openat) (int, const char *, int,...);
static ssize_t (*real_write) (int, const void *, size_t);
static ssize_t (*real_pwrite) (int, const void *, size_t, off_t);
static int	(*real_ftruncate) (int, off_t);
static int	(*real_posix_fallocate) (int, off_t, off_t);
static int	(*real_fsync) (int);
static int	(*real_fdatasync) (int);
static int	(*real_rename) (const char *, const char *);
static int	(*real_unlink) (const char *);
static int	(*real_unlinkat) (int, const char *, int);
static int	(*real_mkdir) (const char *, mode_t);

static void begin(void);
static int	open_and_record(int dirfd, const char *path, int flags,
							mode_t mode);
static bool is_watched(const char *path);
static bool is_watched_file(int fd, struct stat *st, bool or_directory);
static const char *whole_path(int dirfd, const char *path, char *buffer);
static void record(Record *r, const char *path, const char *to,
				   const void *data);
static bool is_zeros(const void *data, size_t n);
static int	sync_with(int (*fn) (int), int fd);

__attribute__((constructor)) static void
begin(void)
{
	const char *path = getenv("DISKJOURNAL_FILE");

	if (real_openat != NULL)
		return;
	FIND(write);
	FIND(pwrite);
	FIND(ftruncate);
	FIND(posix_fallocate);
	FIND(fsync);
	FIND(fdatasync);
	FIND(rename);
	FIND(unlink);
	FIND(unlinkat);
	FIND(mkdir);
	FIND(openat);
	watched = getenv("DISKJOURNAL_DIR");
	if (path == NULL || watched == NULL)
		abort();
	watched_len = strlen(watched);
	journal = real_openat(AT_FDCWD, path,
						  O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (journal < 0)
		abort();
}

/* ---- the calls ---- */

int
open(const char *path, int flags,...)
{
	va_list		args;
	mode_t		mode;

	va_start(args, flags);
	mode = (flags & O_CREAT) != 0 ? (mode_t) va_arg(args, int) : 0;
	va_end(args);
	return open_and_record(AT_FDCWD, path, flags, mode);
}

int
openat(int dirfd, const char *path, int flags,...)
{
	va_list		args;
	mode_t		mode;

	va_start(args, flags);
	mode = (flags & O_CREAT) != 0 ? (mode_t) va_arg(args, int) : 0;
	va_end(args);
	return open_and_record(dirfd, path, flags, mode);
}

static int
open_and_record(int dirfd, const char *path, int flags, mode_t mode)
{
	char		buffer[PATH_MAX];
	const char *whole;
	struct stat st;
	bool		was_there;
	int			fd;

	begin();
	if ((flags & (O_CREAT | O_TRUNC)) == 0)
		return real_openat(dirfd, path, flags, mode);
	whole = whole_path(dirfd, path, buffer);
	was_there = stat (whole, &st) == 0;

	fd = real_openat(dirfd, path, flags, mode);
	if (fd < 0 || !is_watched(whole) || fstat(fd, &st) != 0 ||
		!S_ISREG(st.st_mode))
		return fd;
	if (!was_there)
		record(&(Record) {.kind = RECORD_CREATE, .inode = st.st_ino}, whole,
			   NULL, NULL);
	else if ((flags & O_TRUNC) != 0)
		record(&(Record) {.kind = RECORD_TRUNCATE, .inode = st.st_ino}, NULL,
			   NULL, NULL);
	return fd;
}

ssize_t
pwrite(int fd, const void *data, size_t n, off_t offset)
{
	ssize_t		done;
	struct stat st;

	begin();
	done = real_pwrite(fd, data, n, offset);
	if (done > 0 && is_watched_file(fd, &st, false))
		record(&(Record) {.kind = is_zeros(data, (size_t) done) ?
			   RECORD_ZEROS : RECORD_WRITE,
			   .inode = st.st_ino,
			   .offset = offset,
			   .length = (uint64_t) done}, NULL, NULL, data);
	return done;
}

ssize_t
write(int fd, const void *data, size_t n)
{
	ssize_t		done;
	struct stat st;

	begin();
	done = real_write(fd, data, n);
	if (done > 0 && fd != journal && is_watched_file(fd, &st, false))
		record(&(Record) {.kind = RECORD_WRITE,
			   .inode = st.st_ino,
			   .offset = lseek(fd, 0, SEEK_CUR) - done,
			   .length = (uint64_t) done}, NULL, NULL, data);
	return done;
}

/* a library that began to use it would go unseen */
ssize_t
writev(int fd, const struct iovec *iov, int n)
{
	ssize_t		(*real_writev) (int, const struct iovec *, int);
	struct stat st;

	begin();
	if (is_watched_file(fd, &st, false))
		abort();
	FIND(writev);
	return real_writev(fd, iov, n);
}

int
ftruncate(int fd, off_t size)
{
	struct stat st;
	int			rc;

	begin();
	rc = real_ftruncate(fd, size);
	if (rc == 0 && is_watched_file(fd, &st, false))
		record(&(Record) {.kind = RECORD_TRUNCATE, .inode = st.st_ino,
			   .offset = size}, NULL, NULL, NULL);
	return rc;
}

int
posix_fallocate(int fd, off_t offset, off_t len)
{
	struct stat before;
	struct stat after;
	int			rc;

	begin();
	if (!is_watched_file(fd, &before, false))
		return real_posix_fallocate(fd, offset, len);
	rc = real_posix_fallocate(fd, offset, len);
	if (rc == 0 && fstat(fd, &after) == 0 && after.st_size > before.st_size)
		record(&(Record) {.kind = RECORD_TRUNCATE, .inode = after.st_ino,
			   .offset = after.st_size}, NULL, NULL, NULL);
	return rc;
}

int
fsync(int fd)
{
	begin();
	return sync_with(real_fsync, fd);
}

int
fdatasync(int fd)
{
	begin();
	return sync_with(real_fdatasync, fd);
}

int
rename(const char *from, const char *to)
{
	char		from_buffer[PATH_MAX];
	char		to_buffer[PATH_MAX];
	int			rc;

	begin();
	from = whole_path(AT_FDCWD, from, from_buffer);
	to = whole_path(AT_FDCWD, to, to_buffer);
	rc = real_rename(from, to);
	if (rc == 0 && is_watched(from))
		record(&(Record) {.kind = RECORD_RENAME}, from, to, NULL);
	return rc;
}

int
unlink(const char *path)
{
	char		buffer[PATH_MAX];
	int			rc;

	begin();
	path = whole_path(AT_FDCWD, path, buffer);
	rc = real_unlink(path);
	if (rc == 0 && is_watched(path))
		record(&(Record) {.kind = RECORD_UNLINK}, path, NULL, NULL);
	return rc;
}

int
unlinkat(int dirfd, const char *path, int flags)
{
	char		buffer[PATH_MAX];
	const char *whole;
	int			rc;

	begin();
	whole = whole_path(dirfd, path, buffer);
	rc = real_unlinkat(dirfd, path, flags);
	if (rc == 0 && is_watched(whole))
		record(&(Record) {.kind = RECORD_UNLINK}, whole, NULL, NULL);
	return rc;
}

int
mkdir(const char *path, mode_t mode)
{
	char		buffer[PATH_MAX];
	struct stat st;
	int			rc;

	begin();
	path = whole_path(AT_FDCWD, path, buffer);
	rc = real_mkdir(path, mode);
	if (rc == 0 && is_watched(path) && stat (path, &st) == 0)
		record(&(Record) {.kind = RECORD_MKDIR, .inode = st.st_ino}, path,
			   NULL, NULL);
	return rc;
}

/* ---- records ---- */

static int
sync_with(int (*fn) (int), int fd)
{
	static _Atomic int64_t count;
	struct stat st;
	Record		r = {.kind = RECORD_SYNC_BEGIN};
	int			rc;

	if (!is_watched_file(fd, &st, true))
		return fn(fd);
	r.inode = st.st_ino;
	/* the process, too: each counts for itself */
	r.offset = ((int64_t) getpid() << 32) + ++count;
	record(&r, NULL, NULL, NULL);
	rc = fn(fd);
	r.kind = RECORD_SYNC_END;
	if (rc == 0)
		record(&r, NULL, NULL, NULL);
	return rc;
}

static bool
is_watched(const char *path)
{
	return strncmp(path, watched, watched_len) == 0 &&
		(path[watched_len] == '/' || path[watched_len] == '\0');
}

static bool
is_watched_file(int fd, struct stat *st, bool or_directory)
{
	char		link[64];
	char		path[PATH_MAX];
	ssize_t		n;

	if (fstat(fd, st) != 0 || (!S_ISREG(st->st_mode) &&
							   !(or_directory && S_ISDIR(st->st_mode))))
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return is_watched(path);
}

/* the path itself if it is absolute */
static const char *
whole_path(int dirfd, const char *path, char *buffer)
{
	char		link[64] = "/proc/self/cwd";
	ssize_t		n;

	if (path[0] == '/')
		return path;
	if (dirfd != AT_FDCWD)
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = readlink(link, buffer, PATH_MAX - 1);
	if (n < 0 || (size_t) n + 1 + strlen(path) >= PATH_MAX)
		abort();
	buffer[n] = '/';
	strcpy(buffer + n + 1, path);
	return buffer;
}

static void
record(Record *r, const char *path, const char *to, const void *data)
{
	struct iovec parts[4] = {{r, sizeof(*r)}};
	int			n = 1;
	size_t		whole = sizeof(*r);
	int			saved = errno;
	char	   *bytes;
	char	   *p;

	if (path != NULL)
		parts[n++] = (struct iovec) {(void *) (uintptr_t) path, strlen(path) + 1};
	if (to != NULL)
		parts[n++] = (struct iovec) {(void *) (uintptr_t) to, strlen(to) + 1};
	for (int i = 1; i < n; i++)
		r->path_bytes += (uint32_t) parts[i].iov_len;
	if (r->kind == RECORD_WRITE)
		parts[n++] = (struct iovec) {(void *) (uintptr_t) data, r->length};
	for (int i = 1; i < n; i++)
		whole += parts[i].iov_len;
	/* one write(): half a record would make the rest unreadable */
	p = bytes = malloc(whole);
	if (bytes == NULL)
		abort();
	for (int i = 0; i < n; i++)
	{
		memcpy(p, parts[i].iov_base, parts[i].iov_len);
		p += parts[i].iov_len;
	}
	if (real_write(journal, bytes, whole) != (ssize_t) whole)
		abort();
	free(bytes);
	errno = saved;
}

static bool
is_zeros(const void *data, size_t n)
{
	const char *bytes = data;

	return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}
