/*
 * log.c
 *	  The raft log: a directory of segments.
 *
 *	<data>/log/0000000000000001.log    segments, numbered without a gap
 *	<data>/log/spare-0000000000000007  full size, for the next segment
 *	<data>/log/new.tmp                 being made; removed at start
 *	<data>/log/vote                    raft/vote.c
 *
 * A batch is one pwrite() and one fdatasync().  The place it goes to was
 * written with zeros when the file was made, or with another log's bytes
 * before the file was recycled, so that the sync carries no change of the
 * file's size or extents: 1.2 to 5 times faster than a growing file.
 *
 * Nothing is ever written over.  When a suffix has to go because another
 * leader's entries take its place, or because the last write was torn, the
 * next batch begins a new segment: a segment whose first index is not beyond
 * what stands before it replaces that from there on.  A new segment gets its
 * name only after its first batch has been synced, so that at any moment the
 * directory holds either the old suffix or the new one.
 *
 * After any error the disk's content is unknown (a second fdatasync() may
 * report success for pages that the kernel has dropped): the log refuses
 * everything from then on, and the caller ends the process.
 */
#include "server.h"

/* system */
#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* lib and utils */
#include "lib/buf.h"
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "raft/log.h"
#include "raft/segment.h"

#define PATH_BYTES 4096
#define MAX_SPARES 3
#define NEW_FILE "new.tmp"
#define SPARE_STEP_BYTES ((size_t) 1024 * 1024)
/* a write buffer larger than this is given back after use */
#define KEEP_BUFFER_BYTES ((size_t) 4 * 1024 * 1024)
#define FILE_MODE 0600

typedef struct SegmentInfo
{
	uint64_t	number;
	uint64_t	first_index;
	uint64_t	size;
} SegmentInfo;

struct RaftLog
{
	char	   *dir;
	uint64_t	segment_bytes;
	uint64_t	cluster_id;
	const LogIo *io;

	SegmentInfo *segments;		/* by number; at least one */
	uint32_t	nsegments;
	uint32_t	cap;

	/* the last segment */
	int			fd;
	bool		is_closed;		/* the next batch begins a new one */
	SegmentChain chain;

	uint64_t	next_index;

	uint64_t	spares[MAX_SPARES]; /* numbers in their names */
	uint32_t	nspares;
	uint64_t	next_spare;
	int			spare_fd;		/* being filled; -1: none */
	uint64_t	spare_filled;

	Buf			buf;
	bool		has_failed;
};

/* What log_load() carries through the reading of one segment. */
typedef struct Loader
{
	void		(*fn) (void *arg, const LogEntry *entry);
	void	   *arg;
	uint64_t	limit;			/* entries above were replaced later */
} Loader;

static RaftLog *log_make(const LogOptions *options);
static bool list_dir(RaftLog *log, char *error, size_t error_size);
static void add_spare(RaftLog *log, uint64_t number);
static bool read_headers(RaftLog *log, char *error, size_t error_size);
static bool read_segment(RaftLog *log, uint32_t i, Loader *loader,
						 char *error, size_t error_size);
static bool check_bounds(const RaftLog *log, uint64_t min_index, char *error,
						 size_t error_size);
static uint64_t lowest_first_index(const RaftLog *log, uint32_t from);
static void deliver(void *arg, const LogEntry *entry);
static int	check_batch(const RaftLog *log, const LogEntry *entries,
						uint32_t n);
static uint32_t count_fitting(const LogEntry *entries, uint32_t n,
							  uint64_t room, uint64_t *bytes);
static int	append_here(RaftLog *log, const LogEntry *entries, uint32_t n);
static int	append_new_segment(RaftLog *log, const LogEntry *entries,
							   uint32_t n, uint64_t bytes);
static int	open_new_file(RaftLog *log, uint64_t size, char *path, int *fd);
static int	write_zeros(const LogIo *io, int fd, uint64_t from, uint64_t to);
static int	write_records(const RaftLog *log, int fd, uint64_t offset);
static int	write_all(const LogIo *io, int fd, const uint8_t *data, size_t n,
					  uint64_t offset);
static int	sync_file(const LogIo *io, int fd);
static int	rename_file(const RaftLog *log, const char *from, const char *to);
static int	retire_first_segment(RaftLog *log);
static void add_segment(RaftLog *log, SegmentInfo info);
static void segment_path(const RaftLog *log, uint64_t number, char *path);
static void spare_path(const RaftLog *log, uint64_t number, char *path);
static void release_buffer(RaftLog *log);
static uint64_t random_salt(void);
static int	fail_spare(RaftLog *log, const char *path, int rc);
static int	fail(RaftLog *log, int rc);

bool
log_create(const LogOptions *options, uint64_t first_index, char *error,
		   size_t error_size)
{
	RaftLog    *log = log_make(options);
	SegmentHeader header = {
		.number = 1,
		.cluster_id = options->cluster_id,
		.first_index = first_index,
		.size = log->segment_bytes,
		.salt = random_salt(),
	};
	uint8_t		bytes[SEGMENT_HEADER_BYTES];
	char		from[PATH_BYTES];
	char		to[PATH_BYTES];
	int			fd = -1;
	int			rc;

	segment_header_encode(&header, bytes);
	buf_append(&log->buf, bytes, sizeof(bytes));
	segment_path(log, header.number, to);
	if ((rc = open_new_file(log, header.size, from, &fd)) == 0 &&
		(rc = write_records(log, fd, 0)) == 0 &&
		(rc = sync_file(log->io, fd)) == 0)
		rc = rename_file(log, from, to);
	if (fd >= 0)
		close(fd);
	if (rc != 0)
		snprintf(error, error_size, "could not make log segment \"%s\": %s",
				 to, strerror(rc));
	log_close(log);
	return rc == 0;
}

RaftLog *
log_load(const LogOptions *options, uint64_t min_index,
		 void (*fn) (void *arg, const LogEntry *entry), void *arg,
		 char *error, size_t error_size)
{
	RaftLog    *log = log_make(options);
	Loader		loader = {.fn = fn,.arg = arg};
	int			rc;

	if (!list_dir(log, error, error_size) ||
		!read_headers(log, error, error_size))
		goto failed;
	log->next_index = log->segments[0].first_index;
	for (uint32_t i = 0; i < log->nsegments; i++)
	{
		if (!read_segment(log, i, &loader, error, error_size))
			goto failed;
		(void) INJECTION_POINT("log-segment-read");
	}
	if (!check_bounds(log, min_index, error, error_size))
		goto failed;
	/*
	 * What was read may come from the page cache, written by a process that
	 * died before its sync.  From here on it counts as durable.
	 */
	rc = sync_file(log->io, log->fd);
	if (rc == 0 && log->io->fsync_dir(log->dir) != 0)
		rc = errno;
	if (rc != 0)
	{
		snprintf(error, error_size, "could not sync the log in \"%s\": %s",
				 log->dir, strerror(rc));
		goto failed;
	}
	return log;

failed:
	log_close(log);
	return NULL;
}

void
log_close(RaftLog *log)
{
	if (log == NULL)
		return;
	if (log->fd >= 0)
		close(log->fd);
	if (log->spare_fd >= 0)
		close(log->spare_fd);
	buf_free(&log->buf);
	free(log->segments);
	free(log->dir);
	free(log);
}

int
log_append(RaftLog *log, const LogEntry *entries, uint32_t n)
{
	int			rc;

	if (log->has_failed)
		return EIO;
	if (n == 0)
		return 0;
	rc = check_batch(log, entries, n);
	if (rc != 0)
		return rc;
	if (entries[0].index < log->next_index)
		log->is_closed = true;	/* what follows is replaced: a new segment */
	while (n > 0)
	{
		const SegmentInfo *last = &log->segments[log->nsegments - 1];
		uint64_t	room = log->is_closed ? 0 : last->size - log->chain.offset;
		uint64_t	bytes;
		uint32_t	k = count_fitting(entries, n, room, &bytes);

		if (k > 0)
			rc = append_here(log, entries, k);
		else
		{
			room = log->segment_bytes - SEGMENT_HEADER_BYTES;
			k = count_fitting(entries, n, room, &bytes);
			if (k == 0)
			{
				/* larger than a segment: one of its own size */
				k = 1;
				bytes = segment_record_size(entries[0].data.len);
			}
			rc = append_new_segment(log, entries, k, bytes);
		}
		if (rc != 0)
			return fail(log, rc);
		log->next_index = entries[k - 1].index + 1;
		entries += k;
		n -= k;
	}
	release_buffer(log);
	return 0;
}

int
log_trim(RaftLog *log, uint64_t first_kept)
{
	bool		has_changed = false;
	int			rc;

	if (log->has_failed)
		return EIO;
	/*
	 * Oldest first, so that a crash leaves numbers without a gap.  What a
	 * segment holds from the first index of a later one on is dead.
	 */
	while (log->nsegments > 1 && lowest_first_index(log, 1) <= first_kept)
	{
		rc = retire_first_segment(log);
		if (rc != 0)
			return fail(log, rc);
		has_changed = true;
	}
	if (!has_changed)
		return 0;
	rc = INJECTION_POINT("log-before-dir-sync");
	if (rc != 0)
		return fail(log, rc);
	rc = log->io->fsync_dir(log->dir);
	return rc == 0 ? 0 : fail(log, errno);
}

int
log_prepare_spare(RaftLog *log)
{
	char		from[PATH_BYTES];
	char		to[PATH_BYTES];
	uint64_t	until;
	int			rc;

	if (log->has_failed)
		return EIO;
	if (log->nspares > 0)
		return 0;
	snprintf(from, sizeof(from), "%s/spare.tmp", log->dir);
	if (log->spare_fd < 0)
	{
		log->spare_fd = log->io->open(from, O_RDWR | O_CREAT | O_TRUNC |
									  O_CLOEXEC, FILE_MODE);
		if (log->spare_fd < 0)
			return fail_spare(log, from, errno);
		log->spare_filled = 0;
	}
	until = log->spare_filled + SPARE_STEP_BYTES;
	if (until > log->segment_bytes)
		until = log->segment_bytes;
	rc = INJECTION_POINT("log-spare-before-write");
	if (rc == 0)
		rc = write_zeros(log->io, log->spare_fd, log->spare_filled, until);
	if (rc != 0)
		return fail_spare(log, from, rc);
	rc = INJECTION_POINT("log-spare-before-sync");
	if (rc == 0 && log->io->fdatasync(log->spare_fd) != 0)
		rc = errno;
	if (rc != 0)
		return fail(log, rc);
	log->spare_filled = until;
	(void) INJECTION_POINT("log-spare-step");
	if (until < log->segment_bytes)
		return EAGAIN;
	close(log->spare_fd);
	log->spare_fd = -1;
	spare_path(log, log->next_spare, to);
	rc = rename_file(log, from, to);
	if (rc != 0)
		return fail(log, rc);
	add_spare(log, log->next_spare);
	return 0;
}

uint64_t
log_first_index(const RaftLog *log)
{
	return lowest_first_index(log, 0);
}

uint64_t
log_last_index(const RaftLog *log)
{
	return log->next_index - 1;
}

/* ---- loading ---- */

static RaftLog *
log_make(const LogOptions *options)
{
	RaftLog    *log = xcalloc(1, sizeof(*log));

	log->dir = xmalloc(strlen(options->dir) + 1);
	strcpy(log->dir, options->dir);
	log->segment_bytes = options->segment_bytes;
	log->cluster_id = options->cluster_id;
	log->io = options->io == NULL ? &log_io_system : options->io;
	log->fd = -1;
	log->spare_fd = -1;
	log->next_spare = 1;
	buf_init(&log->buf, NULL);
	Assert(log->segment_bytes > SEGMENT_HEADER_BYTES + SEGMENT_RECORD_BYTES);
	return log;
}

static int
compare_segments(const void *a, const void *b)
{
	uint64_t	x = ((const SegmentInfo *) a)->number;
	uint64_t	y = ((const SegmentInfo *) b)->number;

	return x < y ? -1 : x > y;
}

/* Find segments and spares; remove what was not finished. */
static bool
list_dir(RaftLog *log, char *error, size_t error_size)
{
	DIR		   *dir = opendir(log->dir);
	struct dirent *e;

	if (dir == NULL)
	{
		snprintf(error, error_size, "could not open log directory \"%s\": %s",
				 log->dir, strerror(errno));
		return false;
	}
	while ((e = readdir(dir)) != NULL)
	{
		char		path[PATH_BYTES];
		uint64_t	number;
		int			end = 0;
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", log->dir, e->d_name);
		if (sscanf(e->d_name, "%16" SCNx64 ".log%n", &number, &end) == 1 &&
			end == 20 && e->d_name[end] == '\0')
			add_segment(log, (SegmentInfo) {.number = number});
		else if (sscanf(e->d_name, "spare-%16" SCNx64 "%n", &number,
						&end) == 1 &&
				 end == 22 && e->d_name[end] == '\0')
		{
			if (log->nspares < MAX_SPARES && stat(path, &st) == 0 &&
				(uint64_t) st.st_size == log->segment_bytes)
				add_spare(log, number);
			else
				unlink(path);
		}
		else if (strcmp(e->d_name, NEW_FILE) == 0 ||
				 strcmp(e->d_name, "spare.tmp") == 0)
			unlink(path);
	}
	closedir(dir);
	if (log->nsegments == 0)
	{
		snprintf(error, error_size, "log directory \"%s\" holds no segment; "
				 "restore it from a backup, or remove the data directory and "
				 "let the member join again", log->dir);
		return false;
	}
	qsort(log->segments, log->nsegments, sizeof(*log->segments),
		  compare_segments);
	return true;
}

static void
add_spare(RaftLog *log, uint64_t number)
{
	log->spares[log->nspares++] = number;
	if (number >= log->next_spare)
		log->next_spare = number + 1;
}

/* Headers come first: what a segment holds depends on where later ones begin. */
static bool
read_headers(RaftLog *log, char *error, size_t error_size)
{
	for (uint32_t i = 0; i < log->nsegments; i++)
	{
		SegmentInfo *info = &log->segments[i];
		uint8_t		bytes[SEGMENT_HEADER_BYTES];
		SegmentHeader header;
		struct stat st;
		const char *why = "it cannot be read";
		char		path[PATH_BYTES];
		int			fd;
		bool		is_sound = false;

		segment_path(log, info->number, path);
		if (i > 0 && info->number != log->segments[i - 1].number + 1)
		{
			segment_path(log, log->segments[i - 1].number + 1, path);
			snprintf(error, error_size, "log segment \"%s\" is missing; "
					 "restore the log from a backup, or remove the data "
					 "directory and let the member join again", path);
			return false;
		}
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, &st) == 0)
		{
			ssize_t		got = pread(fd, bytes, sizeof(bytes), 0);

			if (got >= 0)
				is_sound = segment_header_decode(bytes_make(bytes,
															(size_t) got),
												 &header, &why);
		}
		if (fd >= 0)
			close(fd);
		if (is_sound && header.number != info->number)
		{
			is_sound = false;
			why = "it carries another segment's number";
		}
		if (is_sound && header.cluster_id != log->cluster_id)
		{
			is_sound = false;
			why = "it belongs to another cluster";
		}
		if (is_sound && (uint64_t) st.st_size < header.size)
		{
			is_sound = false;
			why = "it is shorter than it was made";
		}
		if (!is_sound)
		{
			snprintf(error, error_size, "log segment \"%s\" is damaged: %s; "
					 "restore the log from a backup, or remove the data "
					 "directory and let the member join again", path, why);
			return false;
		}
		info->first_index = header.first_index;
		info->size = header.size;
	}
	return true;
}

/* Read a whole file; NULL with errno set. */
static uint8_t *
read_file(const char *path, uint64_t size)
{
	uint8_t    *data = xmalloc((size_t) size);
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t	got = 0;

	if (fd < 0)
		goto failed;
	while (got < size)
	{
		ssize_t		n = pread(fd, data + got, (size_t) (size - got),
							  (off_t) got);

		if (n <= 0)
		{
			if (n == 0)
				errno = EIO;
			goto failed;
		}
		got += (uint64_t) n;
	}
	close(fd);
	return data;

failed:
	if (fd >= 0)
		close(fd);
	free(data);
	return NULL;
}

static bool
read_segment(RaftLog *log, uint32_t i, Loader *loader, char *error,
			 size_t error_size)
{
	SegmentInfo *info = &log->segments[i];
	bool		is_last = i + 1 == log->nsegments;
	SegmentHeader header;
	SegmentScan scan;
	const char *why;
	char		path[PATH_BYTES];
	uint8_t    *data;
	Bytes		file;

	segment_path(log, info->number, path);
	data = read_file(path, info->size);
	if (data == NULL)
	{
		snprintf(error, error_size, "could not read log segment \"%s\": %s",
				 path, strerror(errno));
		return false;
	}
	file = bytes_make(data, (size_t) info->size);
	if (info->first_index > log->next_index)
	{
		char		before[PATH_BYTES];

		segment_path(log, log->segments[i - 1].number, before);
		snprintf(error, error_size, "log segment \"%s\" is damaged: it ends "
				 "before index %" PRIu64 ", but \"%s\" begins at index %" PRIu64
				 "; restore the log from a backup, or remove the data "
				 "directory and let the member join again", before,
				 log->next_index, path, info->first_index);
		free(data);
		return false;
	}
	loader->limit = is_last ? UINT64_MAX : lowest_first_index(log, i + 1) - 1;
	if (!segment_header_decode(file, &header, &why))
		scan = (SegmentScan) {.end = SEGMENT_DAMAGED,.why = why};
	else
		segment_scan(file, &header, deliver, loader, &scan);
	free(data);
	/*
	 * All but the one that log_create() made were named when their first batch
	 * had been synced.
	 */
	if (scan.end != SEGMENT_DAMAGED && scan.end_batch == 1 && info->number > 1)
	{
		scan.end = SEGMENT_DAMAGED;
		scan.why = "its first batch is not whole, and was once";
	}

	/* damage behind what a later segment replaced harms nobody */
	if (scan.end == SEGMENT_DAMAGED && scan.next_index <= loader->limit)
	{
		snprintf(error, error_size, "log segment \"%s\" is damaged at offset %"
				 PRIu64 ", index %" PRIu64 ": %s; restore the log from a "
				 "backup, or remove the data directory and let the member "
				 "join again", path, scan.chain.offset, scan.next_index,
				 scan.why);
		return false;
	}
	log->next_index = scan.next_index;
	if (!is_last)
		return true;

	if (scan.end == SEGMENT_TORN)
		elog_warning("the last write to log segment \"%s\" was not finished: "
					 "cut at offset %" PRIu64 ", the log ends at index %" PRIu64,
					 path, scan.chain.offset, scan.next_index - 1);
	/* nothing is written over: after a torn write goes a new segment */
	log->is_closed = scan.end != SEGMENT_CLEAN;
	log->chain = scan.chain;
	log->fd = log->io->open(path, O_RDWR | O_CLOEXEC, 0);
	if (log->fd < 0)
	{
		snprintf(error, error_size, "could not open log segment \"%s\": %s",
				 path, strerror(errno));
		return false;
	}
	return true;
}

static void
deliver(void *arg, const LogEntry *entry)
{
	Loader	   *loader = arg;

	if (entry->index <= loader->limit && loader->fn != NULL)
		loader->fn(loader->arg, entry);
}

static bool
check_bounds(const RaftLog *log, uint64_t min_index, char *error,
			 size_t error_size)
{
	uint64_t	first = lowest_first_index(log, 0);

	if (log->next_index - 1 < min_index)
	{
		snprintf(error, error_size, "the log in \"%s\" ends at index %" PRIu64
				 ", but the tables hold everything up to index %" PRIu64
				 "; part of the log is gone: restore both from one backup, or "
				 "remove the data directory and let the member join again",
				 log->dir, log->next_index - 1, min_index);
		return false;
	}
	if (first > min_index + 1)
	{
		snprintf(error, error_size, "the log in \"%s\" begins at index %" PRIu64
				 ", but the tables end at index %" PRIu64 "; what lies between "
				 "is gone: restore both from one backup, or remove the data "
				 "directory and let the member join again",
				 log->dir, first, min_index);
		return false;
	}
	return true;
}

static uint64_t
lowest_first_index(const RaftLog *log, uint32_t from)
{
	uint64_t	lowest = UINT64_MAX;

	for (uint32_t i = from; i < log->nsegments; i++)
	{
		if (log->segments[i].first_index < lowest)
			lowest = log->segments[i].first_index;
	}
	return lowest;
}

/* ---- appending ---- */

static int
check_batch(const RaftLog *log, const LogEntry *entries, uint32_t n)
{
	if (entries[0].index > log->next_index ||
		entries[0].index < log_first_index(log))
		return EINVAL;
	for (uint32_t i = 0; i < n; i++)
	{
		if (entries[i].index != entries[0].index + i || entries[i].term == 0 ||
			entries[i].data.len > SEGMENT_MAX_DATA_BYTES)
			return EINVAL;
	}
	return 0;
}

/* how many of the entries fit into room, and their bytes */
static uint32_t
count_fitting(const LogEntry *entries, uint32_t n, uint64_t room,
			  uint64_t *bytes)
{
	uint32_t	k;

	*bytes = 0;
	for (k = 0; k < n; k++)
	{
		size_t		size = segment_record_size(entries[k].data.len);

		if (*bytes + size > room)
			break;
		*bytes += size;
	}
	return k;
}

static int
append_here(RaftLog *log, const LogEntry *entries, uint32_t n)
{
	uint64_t	offset = log->chain.offset;
	int			rc;

	log->buf.len = 0;
	segment_batch_encode(&log->chain, entries, n, &log->buf);
	rc = write_records(log, log->fd, offset);
	return rc != 0 ? rc : sync_file(log->io, log->fd);
}

/*
 * Begin the next segment with these entries.  It has another name until it
 * is on disk with all that was asked for.
 */
static int
append_new_segment(RaftLog *log, const LogEntry *entries, uint32_t n,
				   uint64_t bytes)
{
	SegmentHeader header = {
		.number = log->segments[log->nsegments - 1].number + 1,
		.cluster_id = log->cluster_id,
		.first_index = entries[0].index,
		.size = log->segment_bytes,
		.salt = random_salt(),
	};
	SegmentChain chain;
	uint8_t		header_bytes[SEGMENT_HEADER_BYTES];
	char		from[PATH_BYTES];
	char		to[PATH_BYTES];
	int			fd = -1;
	int			rc;

	if (SEGMENT_HEADER_BYTES + bytes > header.size)
		header.size = SEGMENT_HEADER_BYTES + bytes;
	segment_header_encode(&header, header_bytes);
	chain = segment_chain_begin(&header);
	log->buf.len = 0;
	buf_append(&log->buf, header_bytes, sizeof(header_bytes));
	segment_batch_encode(&chain, entries, n, &log->buf);

	segment_path(log, header.number, to);
	if ((rc = open_new_file(log, header.size, from, &fd)) != 0 ||
		(rc = write_records(log, fd, 0)) != 0 ||
		(rc = sync_file(log->io, fd)) != 0 ||
		(rc = rename_file(log, from, to)) != 0)
	{
		if (fd >= 0)
			close(fd);
		return rc;
	}
	close(log->fd);
	log->fd = fd;
	log->chain = chain;
	log->is_closed = false;
	add_segment(log, (SegmentInfo) {header.number, header.first_index,
									header.size});
	return 0;
}

/*
 * A file of this size to write to: a spare, or a fresh one.  A segment for
 * one large record is not filled with zeros first, it is written once.
 */
static int
open_new_file(RaftLog *log, uint64_t size, char *path, int *fd)
{
	bool		is_standard = size == log->segment_bytes;
	int			rc = 0;

	if (is_standard && log->nspares > 0)
	{
		spare_path(log, log->spares[--log->nspares], path);
		*fd = log->io->open(path, O_RDWR | O_CLOEXEC, 0);
		return *fd < 0 ? errno : 0;
	}
	snprintf(path, PATH_BYTES, "%s/%s", log->dir, NEW_FILE);
	*fd = log->io->open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC,
						FILE_MODE);
	if (*fd < 0)
		return errno;
	if (is_standard)
		rc = write_zeros(log->io, *fd, 0, size);
	return rc;
}

static int
write_zeros(const LogIo *io, int fd, uint64_t from, uint64_t to)
{
	uint8_t    *zeros = xcalloc(1, SPARE_STEP_BYTES);
	int			rc = 0;

	while (rc == 0 && from < to)
	{
		size_t		n = size_min(SPARE_STEP_BYTES, (size_t) (to - from));

		rc = write_all(io, fd, zeros, n, from);
		from += n;
	}
	free(zeros);
	return rc;
}

/* What has been encoded into the buffer. */
static int
write_records(const RaftLog *log, int fd, uint64_t offset)
{
	int			rc = INJECTION_POINT("log-before-write");

	if (rc == 0)
		rc = write_all(log->io, fd, log->buf.data, log->buf.len, offset);
	return rc != 0 ? rc : INJECTION_POINT("log-after-write");
}

/* A short write is carried on, because only the next call tells why. */
static int
write_all(const LogIo *io, int fd, const uint8_t *data, size_t n,
		  uint64_t offset)
{
	while (n > 0)
	{
		int64_t		done = io->pwrite(fd, data, n, (int64_t) offset);

		if (done <= 0)
			return done == 0 ? EIO : errno;
		data += done;
		n -= (size_t) done;
		offset += (uint64_t) done;
	}
	return 0;
}

static int
sync_file(const LogIo *io, int fd)
{
	int			rc = INJECTION_POINT("log-before-sync");

	if (rc != 0)
		return rc;
	if (io->fdatasync(fd) != 0)
		return errno;
	return INJECTION_POINT("log-after-sync");
}

static int
rename_file(const RaftLog *log, const char *from, const char *to)
{
	int			rc = INJECTION_POINT("log-before-rename");

	if (rc != 0)
		return rc;
	if (log->io->rename(from, to) != 0)
		return errno;
	rc = INJECTION_POINT("log-renamed");
	if (rc != 0)
		return rc;
	if (log->io->fsync_dir(log->dir) != 0)
		return errno;
	return INJECTION_POINT("log-after-rename");
}

/* ---- recycling ---- */

static int
retire_first_segment(RaftLog *log)
{
	SegmentInfo *first = &log->segments[0];
	char		from[PATH_BYTES];
	char		to[PATH_BYTES];

	segment_path(log, first->number, from);
	if (first->size == log->segment_bytes && log->nspares < MAX_SPARES)
	{
		int			rc = INJECTION_POINT("log-before-recycle");

		if (rc != 0)
			return rc;
		spare_path(log, log->next_spare, to);
		if (log->io->rename(from, to) != 0)
			return errno;
		add_spare(log, log->next_spare);
		rc = INJECTION_POINT("log-after-recycle");
		if (rc != 0)
			return rc;
	}
	else if ((errno = INJECTION_POINT("log-before-unlink")) != 0 ||
			 unlink(from) != 0)
		return errno;
	log->nsegments--;
	memmove(log->segments, log->segments + 1,
			log->nsegments * sizeof(*log->segments));
	return 0;
}

static void
add_segment(RaftLog *log, SegmentInfo info)
{
	if (log->nsegments == log->cap)
	{
		log->cap = log->cap == 0 ? 16 : log->cap * 2;
		log->segments = xrealloc(log->segments,
								 log->cap * sizeof(*log->segments));
	}
	log->segments[log->nsegments++] = info;
}

static void
segment_path(const RaftLog *log, uint64_t number, char *path)
{
	snprintf(path, PATH_BYTES, "%s/%016" PRIx64 ".log", log->dir, number);
}

static void
spare_path(const RaftLog *log, uint64_t number, char *path)
{
	snprintf(path, PATH_BYTES, "%s/spare-%016" PRIx64, log->dir, number);
}

static void
release_buffer(RaftLog *log)
{
	if (log->buf.cap > KEEP_BUFFER_BYTES)
		buf_free(&log->buf);
}

static uint64_t
random_salt(void)
{
	uint64_t	salt = 0;

	/* a tag of zero would match the zeros of a fresh file */
	while ((uint32_t) salt == 0)
	{
		if (getrandom(&salt, sizeof(salt), 0) != (ssize_t) sizeof(salt))
			elog_fatal("could not get random bytes: %s", strerror(errno));
	}
	return salt;
}

/*
 * Nothing of the log is in a spare, and a disk that is full is no mystery: the
 * log goes on where it is, and what the spare had taken is given back.
 */
static int
fail_spare(RaftLog *log, const char *path, int rc)
{
	if (rc != ENOSPC && rc != EDQUOT)
		return fail(log, rc);
	if (log->spare_fd >= 0)
		close(log->spare_fd);
	log->spare_fd = -1;
	(void) unlink(path);
	return rc;
}

static int
fail(RaftLog *log, int rc)
{
	log->has_failed = true;
	return rc;
}
