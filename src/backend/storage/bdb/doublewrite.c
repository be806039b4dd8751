/*
 * doublewrite.c
 *	  Pages of the tables reach their place only after they stand elsewhere.
 *
 * Berkeley DB writes a page over its old self and logs changes, not pages.  A
 * power failure in the middle leaves half of each: the checksum refuses the
 * page, recovery cannot read what it should change, and the tables cannot be
 * opened any more.  A disk promises to write 512 or 4096 bytes whole, a page
 * has 16 KB.  So, as InnoDB does it:
 *
 *	pwrite of a page ->  pending (memory)
 *	sync of a file   ->  1. all that is pending, as one batch, to the file
 *	                        "doublewrite", and sync that
 *	                     2. each page to its place, and sync those files
 *
 * At any moment a page is whole in its place or whole in the batch: in step 1
 * no place has been touched, in step 2 the batch is durable.  At the start the
 * batch, if it is whole, is put in place once more.  An older batch does no
 * harm there: its pages are still what is in their places, because the next
 * batch is written over it before anything else is written anywhere.
 *
 * Berkeley DB lets a program stand in for the system calls (db_env_set_func).
 * Reads must see what is pending; so must the size of a file that is opened,
 * so everything is written before one is.  Log files are left alone: their
 * records have checksums, and recovery knows how to find their end.  But the
 * library syncs a new log file and not its directory: where names are not
 * durable with the file, a page could be in its place whose log is gone, and
 * the tables could not be opened.  So the name is made durable when the file is
 * made, before anything is in it.  Left alone are, too, the few writes that
 * make a new table, which go another way: making the tables is begun again if
 * it does not come to its end.
 *
 * Errors.  When pwrite fails the library writes the page by itself, to its
 * place; when fdatasync fails it tries again, and would believe the second
 * answer, though the kernel has dropped what it could not write.  So our
 * pwrite never fails: it keeps the page, and after a first error no sync
 * succeeds any more, so that no checkpoint does.
 *
 * The file (little-endian; room for it is made in advance, so that a full disk
 * is met by the one who adds data, not in the middle of a checkpoint):
 *	u64 magic, u64 bytes of the body, u32 CRC32C of the body, body
 *	body, for each page: name, u64 offset, page (varint length and bytes each)
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

/* libraries */
#include <db.h>
#include <isa-l/crc.h>

/* lib and utils */
#include "lib/buf.h"
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "storage/bdb/doublewrite.h"

#define MAGIC 0x3157424456414c43u	/* "CLAVDBW1" */
#define HEADER_BYTES 20
/* written when so much is pending, though nobody has asked for a sync */
#define BATCH_BYTES ((size_t) 4 * 1024 * 1024)
/* the batch with names and numbers, and a page that came on top */
#define FILE_BYTES (BATCH_BYTES + BATCH_BYTES / 4)
#define MAX_NAME_BYTES 64

typedef struct OpenFile
{
	struct OpenFile *next;
	int			fd;
	bool		is_touched;		/* pages of this batch went to it */
	char		name[MAX_NAME_BYTES];
} OpenFile;

/* No two of them overlap. */
typedef struct PendingPage
{
	struct PendingPage *next;	/* in the order in which they came */
	OpenFile   *file;			/* stays: closing it writes its pages */
	off_t		offset;
	size_t		len;
	uint8_t		data[];
} PendingPage;

static struct
{
	int			dir_fd;
	int			fd;				/* of the file "doublewrite" */
	OpenFile   *files;			/* tables that the library has open */
	PendingPage *first;
	PendingPage **last;
	size_t		pending_bytes;
	int			error;			/* the first; nothing succeeds after it */
} dw = {.dir_fd = -1, .fd = -1};

static int	hook_open(const char *path, int flags,...);
static int	hook_close(int fd);
static ssize_t hook_pread(int fd, void *data, size_t n, off_t offset);
static ssize_t hook_pwrite(int fd, const void *data, size_t n, off_t offset);
static int	hook_fsync(int fd);
static int	hook_ftruncate(int fd, off_t size);
static void set_hooks(bool ours);
static int	open_batch_file(const char *dir);
static int	put_back(void);
static bool put_back_page(void *arg, Bytes name, uint64_t offset, Bytes page);
static OpenFile *find_file(int fd);
static bool is_table(const char *name);
static PendingPage *find_overlap(const OpenFile *file, off_t offset,
								 size_t n);
static void add_page(OpenFile *file, const void *data, size_t n,
					 off_t offset);
static int	drain(void);
static int	write_batch(void);
static int	write_places(void);
static void forget_pages(void);
static int	write_all(int fd, const void *data, size_t n, off_t offset);

int
doublewrite_begin(const char *dir)
{
	int			rc;

	Assert(dw.fd < 0);
	dw.last = &dw.first;
	rc = open_batch_file(dir);
	if (rc == 0)
		rc = put_back();
	if (rc != 0)
	{
		doublewrite_end();
		return rc;
	}
	set_hooks(true);
	return 0;
}

void
doublewrite_end(void)
{
	set_hooks(false);
	/* all is in its place: the next start need not do it again */
	if (dw.fd >= 0 && dw.first == NULL && dw.error == 0)
	{
		static const uint8_t nothing[HEADER_BYTES];

		if (write_all(dw.fd, nothing, sizeof(nothing), 0) == 0)
			(void) fdatasync(dw.fd);
	}
	forget_pages();
	while (dw.files != NULL)
	{
		OpenFile   *file = dw.files;

		dw.files = file->next;
		free(file);
	}
	if (dw.fd >= 0)
		close(dw.fd);
	if (dw.dir_fd >= 0)
		close(dw.dir_fd);
	dw.fd = dw.dir_fd = -1;
	dw.error = 0;
}

bool
doublewrite_decode(Bytes batch, bool (*fn) (void *arg, Bytes name,
											uint64_t offset, Bytes page),
				   void *arg)
{
	Cursor		cur = cursor_make(batch);
	uint64_t	magic;
	uint64_t	body_bytes;
	uint32_t	crc;
	Bytes		body;

	if (!cursor_get_u64(&cur, &magic) || magic != MAGIC ||
		!cursor_get_u64(&cur, &body_bytes) || body_bytes > FILE_BYTES ||
		!cursor_get_u32(&cur, &crc) ||
		!cursor_get_raw(&cur, (size_t) body_bytes, &body) ||
		crc32_iscsi((unsigned char *) (uintptr_t) body.data, (int) body.len,
					0) != crc)
		return false;
	cur = cursor_make(body);
	while (cursor_left(&cur) > 0)
	{
		Bytes		name;
		uint64_t	offset;
		Bytes		page;

		if (!cursor_get_bytes(&cur, &name) || name.len == 0 ||
			name.len >= MAX_NAME_BYTES ||
			memchr(name.data, '/', name.len) != NULL ||
			memchr(name.data, '\0', name.len) != NULL ||
			!cursor_get_u64(&cur, &offset) || offset > INT64_MAX ||
			!cursor_get_bytes(&cur, &page))
			return false;
		if (!fn(arg, name, offset, page))
			return true;
	}
	return true;
}

/* ---- start ---- */

static int
open_batch_file(const char *dir)
{
	int			rc;

	dw.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dw.dir_fd < 0)
		return errno;
	dw.fd = openat(dw.dir_fd, DOUBLEWRITE_NAME, O_RDWR | O_CREAT | O_CLOEXEC,
				   0600);
	if (dw.fd < 0)
		return errno;
	rc = posix_fallocate(dw.fd, 0, (off_t) FILE_BYTES);
	if (rc == 0 && (fdatasync(dw.fd) != 0 || fsync(dw.dir_fd) != 0))
		rc = errno;
	return rc;
}

static int
put_back(void)
{
	uint8_t    *batch = xmalloc(FILE_BYTES);
	ssize_t		n = pread(dw.fd, batch, FILE_BYTES, 0);
	int			rc = n < 0 ? errno : 0;

	if (rc == 0 && doublewrite_decode(bytes_make(batch, (size_t) n),
									  put_back_page, &rc))
		elog_debug("the pages that were written last have been put in place");
	free(batch);
	return rc;
}

static bool
put_back_page(void *arg, Bytes name, uint64_t offset, Bytes page)
{
	int		   *rc = arg;
	char		path[MAX_NAME_BYTES];
	int			fd;

	snprintf(path, sizeof(path), "%.*s", (int) name.len,
			 (const char *) name.data);
	fd = openat(dw.dir_fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		*rc = errno;
	else
	{
		*rc = write_all(fd, page.data, page.len, (off_t) offset);
		if (*rc == 0 && fdatasync(fd) != 0)
			*rc = errno;
		close(fd);
	}
	/* whoever opens the tables says better what it means that one is gone */
	if (*rc == ENOENT)
		*rc = 0;
	return *rc == 0;
}

/* ---- in place of the system's calls ---- */

static void
set_hooks(bool ours)
{
	(void) db_env_set_func_open(ours ? hook_open : NULL);
	(void) db_env_set_func_close(ours ? hook_close : NULL);
	(void) db_env_set_func_pread(ours ? hook_pread : NULL);
	(void) db_env_set_func_pwrite(ours ? hook_pwrite : NULL);
	(void) db_env_set_func_fsync(ours ? hook_fsync : NULL);
	(void) db_env_set_func_ftruncate(ours ? hook_ftruncate : NULL);
}

static int
hook_open(const char *path, int flags,...)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;
	va_list		args;
	mode_t		mode;
	int			fd;

	va_start(args, flags);
	mode = (mode_t) va_arg(args, int);
	va_end(args);
	/* the library takes the number of pages from the size of the file */
	if (is_table(name) && (errno = drain()) != 0)
		return -1;
	fd = open(path, flags | O_CLOEXEC, mode);
	if (fd >= 0 && !is_table(name) && (flags & O_CREAT) != 0 &&
		fsync(dw.dir_fd) != 0)
	{
		if (dw.error == 0)
			dw.error = errno;
		close(fd);
		errno = dw.error;
		return -1;
	}
	if (fd >= 0 && is_table(name) && strlen(name) < MAX_NAME_BYTES)
	{
		OpenFile   *file = xcalloc(1, sizeof(*file));

		file->fd = fd;
		strcpy(file->name, name);
		file->next = dw.files;
		dw.files = file;
	}
	return fd;
}

static int
hook_close(int fd)
{
	for (OpenFile **at = &dw.files; *at != NULL; at = &(*at)->next)
	{
		OpenFile   *file = *at;

		if (file->fd != fd)
			continue;
		/* an error is remembered, and the next sync tells it */
		(void) drain();
		*at = file->next;
		free(file);
		break;
	}
	return close(fd);
}

static ssize_t
hook_pread(int fd, void *data, size_t n, off_t offset)
{
	const OpenFile *file = dw.first == NULL ? NULL : find_file(fd);
	const PendingPage *page = file == NULL ? NULL :
		find_overlap(file, offset, n);

	if (page == NULL)
		return pread(fd, data, n, offset);
	if (page->offset == offset && page->len >= n)
	{
		memcpy(data, page->data, n);
		return (ssize_t) n;
	}
	/* a part, or more than a page; only whoever opens a file does that */
	if ((errno = drain()) != 0)
		return -1;
	return pread(fd, data, n, offset);
}

static ssize_t
hook_pwrite(int fd, const void *data, size_t n, off_t offset)
{
	OpenFile   *file = find_file(fd);

	if (file == NULL)
		return pwrite(fd, data, n, offset);
	add_page(file, data, n, offset);
	if (dw.pending_bytes >= BATCH_BYTES)
		(void) drain();
	return (ssize_t) n;
}

/* 0 or an error, not -1 */
static int
hook_fsync(int fd)
{
	int			rc = find_file(fd) != NULL ? drain() : dw.error;

	if (rc == 0 && fdatasync(fd) != 0)
		rc = dw.error = errno;
	return rc;
}

/* 0 or an error, not -1 */
static int
hook_ftruncate(int fd, off_t size)
{
	int			rc = find_file(fd) != NULL ? drain() : 0;

	if (rc == 0 && ftruncate(fd, size) != 0)
		rc = errno;
	return rc;
}

/* ---- pages ---- */

static OpenFile *
find_file(int fd)
{
	OpenFile   *file = dw.files;

	while (file != NULL && file->fd != fd)
		file = file->next;
	return file;
}

static bool
is_table(const char *name)
{
	size_t		len = strlen(name);

	return len > 3 && strcmp(name + len - 3, ".db") == 0;
}

/* the library may have a table open twice */
static PendingPage *
find_overlap(const OpenFile *file, off_t offset, size_t n)
{
	PendingPage *page = dw.first;

	while (page != NULL && (page->offset >= offset + (off_t) n ||
							page->offset + (off_t) page->len <= offset ||
							strcmp(page->file->name, file->name) != 0))
		page = page->next;
	return page;
}

static void
add_page(OpenFile *file, const void *data, size_t n, off_t offset)
{
	PendingPage *page = find_overlap(file, offset, n);

	if (page != NULL && page->offset == offset && page->len == n)
	{
		memcpy(page->data, data, n);
		return;
	}
	/* pages of one table have one size: this does not happen */
	if (page != NULL)
		(void) drain();
	page = xmalloc(sizeof(*page) + n);
	page->file = file;
	page->offset = offset;
	page->len = n;
	memcpy(page->data, data, n);
	page->next = NULL;
	*dw.last = page;
	dw.last = &page->next;
	dw.pending_bytes += n;
}

/* Everything that is pending to its place, durable.  0 or the first error. */
static int
drain(void)
{
	if (dw.error == 0 && dw.first != NULL)
		dw.error = write_batch();
	if (dw.error == 0 && dw.first != NULL)
		dw.error = write_places();
	if (dw.error == 0)
		forget_pages();
	return dw.error;
}

static int
write_batch(void)
{
	Buf			body;
	Buf			head;
	int			rc;

	buf_init(&body, NULL);
	for (const PendingPage *page = dw.first; page != NULL; page = page->next)
	{
		buf_put_bytes(&body, bytes_from_cstr(page->file->name));
		buf_put_u64(&body, (uint64_t) page->offset);
		buf_put_bytes(&body, bytes_make(page->data, page->len));
	}
	buf_init(&head, NULL);
	buf_put_u64(&head, MAGIC);
	buf_put_u64(&head, body.len);
	buf_put_u32(&head, crc32_iscsi(body.data, (int) body.len, 0));
	Assert(head.len == HEADER_BYTES);
	buf_append(&head, body.data, body.len);
	rc = INJECTION_POINT("doublewrite-before-batch");
	if (rc == 0)
		rc = write_all(dw.fd, head.data, head.len, 0);
	if (rc == 0)
		rc = INJECTION_POINT("doublewrite-before-sync");
	if (rc == 0 && fdatasync(dw.fd) != 0)
		rc = errno;
	if (rc == 0)
		rc = INJECTION_POINT("doublewrite-after-sync");
	buf_free(&head);
	buf_free(&body);
	return rc;
}

static int
write_places(void)
{
	int			rc = 0;

	for (const PendingPage *page = dw.first; rc == 0 && page != NULL;
		 page = page->next)
	{
		page->file->is_touched = true;
		rc = write_all(page->file->fd, page->data, page->len, page->offset);
		if (rc == 0)
			rc = INJECTION_POINT("doublewrite-page-placed");
	}
	for (OpenFile *file = dw.files; rc == 0 && file != NULL; file = file->next)
	{
		if (file->is_touched && fdatasync(file->fd) != 0)
			rc = errno;
		file->is_touched = false;
	}
	if (rc == 0)
		rc = INJECTION_POINT("doublewrite-placed");
	return rc;
}

static void
forget_pages(void)
{
	while (dw.first != NULL)
	{
		PendingPage *page = dw.first;

		dw.first = page->next;
		free(page);
	}
	dw.last = &dw.first;
	dw.pending_bytes = 0;
}

static int
write_all(int fd, const void *data, size_t n, off_t offset)
{
	const char *p = data;

	while (n > 0)
	{
		ssize_t		done = pwrite(fd, p, n, offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? errno : EIO;
		p += done;
		n -= (size_t) done;
		offset += done;
	}
	return 0;
}
