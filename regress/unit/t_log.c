/*
 * t_log.c
 *	  The raft log: there and back, recycling, torn writes, damage, failing
 *	  system calls.
 */
/* needs: raft utils/injection */
#include "server.h"

/* system */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "raft/engine.h"
#include "raft/log.h"
#include "raft/segment.h"

#define SEGMENT_BYTES 4096
#define CLUSTER_ID 77
#define MAX_ENTRIES 4000
#define MAX_DATA 9000

/* ---- a directory for each test ---- */

static char dir[256];
static char error[4096];

static void
remove_files(const char *path)
{
	DIR		   *d = opendir(path);
	struct dirent *e;

	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL)
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static int
set_up(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/t_log.XXXXXX");
	assert_non_null(mkdtemp(dir));
	return 0;
}

static int
tear_down(void **state)
{
	remove_files(dir);
	rmdir(dir);
	return 0;
}

static uint32_t
count_files(const char *prefix, const char *suffix)
{
	DIR		   *d = opendir(dir);
	struct dirent *e;
	uint32_t	n = 0;

	while ((e = readdir(d)) != NULL)
	{
		size_t		len = strlen(e->d_name);

		n += strncmp(e->d_name, prefix, strlen(prefix)) == 0 &&
			len >= strlen(suffix) &&
			strcmp(e->d_name + len - strlen(suffix), suffix) == 0;
	}
	closedir(d);
	return n;
}

static void
file_path(char *path, size_t size, unsigned number)
{
	snprintf(path, size, "%s/%016x.log", dir, number);
}

/* ---- entries whose data follows from index and term ---- */

static uint8_t data_buffer[MAX_ENTRIES][512];
static uint8_t large_data[MAX_DATA];

static LogEntry
make_entry(uint64_t index, uint64_t term)
{
	uint8_t    *data = data_buffer[index % MAX_ENTRIES];
	size_t		len = index * 37 % 300;

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t) (index * 7 + term * 13 + i);
	return (LogEntry) {
		.index = index,
		.term = term,
		.type = index % 5 == 0 ? ENTRY_BARRIER : ENTRY_COMMAND,
		.data = bytes_make(data, len),
	};
}

static LogOptions
make_options(const LogIo *io)
{
	return (LogOptions) {
		.dir = dir,
		.segment_bytes = SEGMENT_BYTES,
		.io = io,
		.cluster_id = CLUSTER_ID,
	};
}

static int
append_range(RaftLog *log, uint64_t from, uint64_t to, uint64_t term)
{
	LogEntry	entries[256];
	uint32_t	n = 0;

	for (uint64_t i = from; i <= to; i++)
		entries[n++] = make_entry(i, term);
	return log_append(log, entries, n);
}

/* ---- what a load found ---- */

typedef struct Found
{
	uint64_t	first;			/* 0: nothing */
	uint64_t	last;
	uint64_t	terms[MAX_ENTRIES];
} Found;

static Found found;

static void
check_entry(void *arg, const LogEntry *entry)
{
	LogEntry	want;

	if (found.first == 0)
		found.first = entry->index;
	else
		assert_int_equal(entry->index, found.last + 1);
	found.last = entry->index;
	found.terms[entry->index] = entry->term;
	if (entry->data.len == MAX_DATA)
	{
		assert_memory_equal(entry->data.data, large_data, MAX_DATA);
		return;
	}
	want = make_entry(entry->index, entry->term);
	assert_int_equal(entry->type, want.type);
	assert_true(bytes_equal(entry->data, want.data));
}

static RaftLog *
load(uint64_t min_index)
{
	LogOptions	options = make_options(NULL);

	memset(&found, 0, sizeof(found));
	error[0] = '\0';
	return log_load(&options, min_index, check_entry, NULL, error,
					sizeof(error));
}

static void
load_and_close(uint64_t min_index)
{
	RaftLog    *log = load(min_index);

	if (log == NULL)
		fail_msg("%s", error);
	log_close(log);
}

static RaftLog *
create(uint64_t first)
{
	LogOptions	options = make_options(NULL);
	RaftLog    *log;

	remove_files(dir);
	if (!log_create(&options, first, error, sizeof(error)))
		fail_msg("%s", error);
	log = load(first - 1);
	if (log == NULL)
		fail_msg("%s", error);
	return log;
}

/* ---- bytes on disk ---- */

static uint8_t *
read_file(unsigned number, size_t *size)
{
	char		path[300];
	uint8_t    *data = xmalloc(SEGMENT_BYTES * 4);
	ssize_t		n;
	int			fd;

	file_path(path, sizeof(path), number);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	n = read(fd, data, SEGMENT_BYTES * 4);
	assert_true(n > 0);
	close(fd);
	*size = (size_t) n;
	return data;
}

static void
write_file(unsigned number, const uint8_t *data, size_t size)
{
	char		path[300];
	int			fd;

	file_path(path, sizeof(path), number);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
}

static size_t
entry_size(uint64_t index)
{
	return segment_record_size(make_entry(index, 1).data.len);
}

/* where an entry begins in segment 1 of a log that begins at index 1 */
static size_t
entry_offset(uint64_t index)
{
	size_t		at = SEGMENT_HEADER_BYTES;

	for (uint64_t i = 1; i < index; i++)
		at += entry_size(i);
	return at;
}

/* ---- there and back ---- */

static void
test_round_trip(void **state)
{
	RaftLog    *log = create(2);
	uint64_t	next = 2;

	assert_int_equal(log_first_index(log), 2);
	assert_int_equal(log_last_index(log), 1);
	for (unsigned round = 0; round < 60; round++)
	{
		uint64_t	n = 1 + round * 7 % 40;

		assert_int_equal(append_range(log, next, next + n - 1, 1 + round / 9),
						 0);
		next += n;
		assert_int_equal(log_last_index(log), next - 1);
		if (round % 10 == 3)
		{
			log_close(log);
			log = load(1);
			assert_non_null(log);
			assert_int_equal(found.first, 2);
			assert_int_equal(found.last, next - 1);
		}
	}
	log_close(log);
	load_and_close(next - 1);
	assert_int_equal(found.last, next - 1);
	assert_true(count_files("", ".log") > 20);
}

static void
test_wrong_batches_are_refused(void **state)
{
	RaftLog    *log = create(5);
	LogEntry	gap[2] = {make_entry(5, 1), make_entry(7, 1)};
	LogEntry	no_term = make_entry(5, 0);

	assert_int_equal(append_range(log, 6, 6, 1), EINVAL);
	assert_int_equal(append_range(log, 4, 4, 1), EINVAL);
	assert_int_equal(log_append(log, gap, 2), EINVAL);
	assert_int_equal(log_append(log, &no_term, 1), EINVAL);
	/* nothing was written, so the log is still good */
	assert_int_equal(append_range(log, 5, 5, 1), 0);
	assert_int_equal(log_append(log, NULL, 0), 0);
	log_close(log);
	load_and_close(5);
}

static void
test_record_larger_than_a_segment(void **state)
{
	RaftLog    *log = create(1);
	LogEntry	large = {
		.index = 2,.term = 1,.type = ENTRY_COMMAND,
		.data = bytes_make(large_data, MAX_DATA),
	};

	for (size_t i = 0; i < MAX_DATA; i++)
		large_data[i] = (uint8_t) (i * 31);
	assert_int_equal(append_range(log, 1, 1, 1), 0);
	assert_int_equal(log_append(log, &large, 1), 0);
	assert_int_equal(append_range(log, 3, 20, 1), 0);
	log_close(log);
	log = load(20);
	assert_non_null(log);
	assert_int_equal(found.last, 20);
	/* its file has another size, so it is no spare */
	assert_int_equal(log_trim(log, 15), 0);
	assert_int_equal(count_files("spare-", ""), 1);
	log_close(log);
	load_and_close(14);
}

static void
test_recycling(void **state)
{
	RaftLog    *log = create(1);
	uint64_t	next = 1;

	for (unsigned round = 0; round < 40; round++)
	{
		assert_int_equal(append_range(log, next, next + 49, round + 1), 0);
		next += 50;
		assert_int_equal(log_trim(log, next - 30), 0);
		assert_true(log_first_index(log) <= next - 30);
		assert_true(log_first_index(log) + 80 > next - 30);
		assert_true(count_files("spare-", "") <= 3);
		assert_true(count_files("", ".log") <= 8);
		if (round % 3 == 0)
		{
			log_close(log);
			log = load(next - 31);
			if (log == NULL)
				fail_msg("%s", error);
			assert_int_equal(found.last, next - 1);
		}
	}
	log_close(log);
}

static void
test_spare_is_made_in_steps(void **state)
{
	LogOptions	options = make_options(NULL);
	RaftLog    *log;
	int			rc;
	uint32_t	steps = 0;

	options.segment_bytes = 3 * 1024 * 1024;
	assert_true(log_create(&options, 1, error, sizeof(error)));
	log = log_load(&options, 0, NULL, NULL, error, sizeof(error));
	assert_non_null(log);
	while ((rc = log_prepare_spare(log)) == EAGAIN)
		steps++;
	assert_int_equal(rc, 0);
	assert_int_equal(steps, 2);
	assert_int_equal(count_files("spare-", ""), 1);
	assert_int_equal(log_prepare_spare(log), 0);
	log_close(log);
	/* what was not finished goes at the next start */
	remove_files(dir);
	assert_true(log_create(&options, 1, error, sizeof(error)));
	log = log_load(&options, 0, NULL, NULL, error, sizeof(error));
	assert_int_equal(log_prepare_spare(log), EAGAIN);
	log_close(log);
	assert_int_equal(count_files("spare.tmp", ""), 1);
	log_close(log_load(&options, 0, NULL, NULL, error, sizeof(error)));
	assert_int_equal(count_files("spare.tmp", ""), 0);
}

/* ---- another leader's entries ---- */

static void
check_terms(uint64_t last, uint64_t from, uint64_t term)
{
	assert_int_equal(found.last, last);
	for (uint64_t i = from; i <= last; i++)
		assert_int_equal(found.terms[i], term);
	if (from > found.first)
		assert_true(found.terms[from - 1] < term);
}

static void
test_writing_on_truncates(void **state)
{
	RaftLog    *log = create(1);
	uint32_t	segments;

	assert_int_equal(append_range(log, 1, 100, 1), 0);
	assert_int_equal(append_range(log, 60, 65, 2), 0);
	assert_int_equal(log_last_index(log), 65);
	log_close(log);
	log = load(65);
	assert_non_null(log);
	check_terms(65, 60, 2);

	/* again and again, also to before the last time, and back */
	assert_int_equal(append_range(log, 64, 90, 3), 0);
	assert_int_equal(append_range(log, 20, 20, 4), 0);
	log_close(log);
	log = load(20);
	assert_non_null(log);
	check_terms(20, 20, 4);
	assert_int_equal(append_range(log, 21, 80, 4), 0);
	log_close(log);
	log = load(80);
	assert_non_null(log);
	check_terms(80, 20, 4);

	/* 1 to 19 still lie in the first segment, and what is dead behind them */
	segments = count_files("", ".log");
	assert_int_equal(log_trim(log, 19), 0);
	assert_int_equal(count_files("", ".log"), segments);
	assert_int_equal(log_trim(log, 20), 0);
	assert_true(count_files("", ".log") < segments);
	log_close(log);
	log = load(19);
	if (log == NULL)
		fail_msg("%s", error);
	assert_int_equal(found.first, 20);
	check_terms(80, 20, 4);
	/* the very first entry that is left may be replaced, no earlier one */
	assert_int_equal(append_range(log, 19, 19, 5), EINVAL);
	assert_int_equal(append_range(log, 20, 20, 5), 0);
	log_close(log);
	load_and_close(20);
	assert_int_equal(found.first, 20);
	assert_int_equal(found.last, 20);
}

/* ---- torn writes ---- */

/*
 * Any part of the last write may have reached the disk: whatever does not
 * check out is cut, and the log goes on from there.
 */
static void
test_torn_tail_at_every_byte(void **state)
{
	RaftLog    *log = create(1);
	size_t		from = entry_offset(9);
	size_t		end = from + SEGMENT_RECORD_BYTES +
		make_entry(9, 1).data.len;
	uint8_t    *sound;
	size_t		size;

	assert_int_equal(append_range(log, 1, 8, 1), 0);
	assert_int_equal(append_range(log, 9, 9, 1), 0);
	log_close(log);
	sound = read_file(1, &size);
	for (size_t cut = from; cut < end; cut++)
	{
		uint8_t    *torn = xmalloc(size);

		memcpy(torn, sound, size);
		memset(torn + cut, cut % 2 == 0 ? 0 : 0xa5, end - cut);
		remove_files(dir);
		write_file(1, torn, size);
		free(torn);

		log = load(8);
		if (log == NULL)
			fail_msg("cut at %zu: %s", cut, error);
		/* the end of the data may be what was there before */
		if (found.last != 9)
			assert_int_equal(found.last, 8);
		else
			assert_true(cut + 1 >= end);
		assert_int_equal(append_range(log, found.last + 1, 12, 2), 0);
		log_close(log);
		load_and_close(12);
		assert_int_equal(found.terms[12], 2);
	}
	free(sound);
}

/* pages of one write may arrive in any order */
static void
test_torn_batch_with_later_parts(void **state)
{
	RaftLog    *log = create(1);
	uint8_t    *sound;
	size_t		size;

	assert_int_equal(append_range(log, 1, 3, 1), 0);
	assert_int_equal(append_range(log, 4, 9, 1), 0);
	log_close(log);
	sound = read_file(1, &size);
	for (uint64_t lost = 4; lost <= 9; lost++)
	{
		uint8_t    *torn = xmalloc(size);

		memcpy(torn, sound, size);
		memset(torn + entry_offset(lost), 0, entry_size(lost));
		remove_files(dir);
		write_file(1, torn, size);
		free(torn);
		log = load(3);
		if (log == NULL)
			fail_msg("entry %d lost: %s", (int) lost, error);
		assert_int_equal(found.last, lost - 1);
		/* the rest of the torn write must not come back */
		assert_int_equal(append_range(log, lost, lost, 1), 0);
		log_close(log);
		load_and_close(lost);
		assert_int_equal(found.last, lost);
	}
	free(sound);
}

/* ---- damage ---- */

static void
expect_damage(unsigned number, const uint8_t *sound, size_t size, size_t at,
			  uint64_t index)
{
	uint8_t    *damaged = xmalloc(size);
	char		text[64];
	char		path[300];

	memcpy(damaged, sound, size);
	damaged[at] ^= 0x10;
	write_file(number, damaged, size);
	free(damaged);
	if (load(0) != NULL)
		fail_msg("damage at %zu was not noticed", at);
	file_path(path, sizeof(path), number);
	assert_non_null(strstr(error, path));
	if (index > 0)
	{
		snprintf(text, sizeof(text), "index %" PRIu64, index);
		assert_non_null(strstr(error, text));
	}
	assert_non_null(strstr(error, "restore"));
	write_file(number, sound, size);
}

static void
test_damage_in_the_middle(void **state)
{
	RaftLog    *log = create(1);
	uint8_t    *sound;
	size_t		size;

	assert_int_equal(append_range(log, 1, 4, 1), 0);
	assert_int_equal(append_range(log, 5, 8, 1), 0);
	assert_int_equal(append_range(log, 9, 9, 1), 0);
	log_close(log);
	sound = read_file(1, &size);
	/* every byte that counts, of the first and the last of the batches */
	for (uint64_t index = 3; index <= 5; index++)
	{
		size_t		at = entry_offset(index);
		size_t		n = SEGMENT_RECORD_BYTES + make_entry(index, 1).data.len;

		for (size_t i = 0; i < n; i++)
			expect_damage(1, sound, size, at + i, index);
	}
	load_and_close(9);
	free(sound);
}

static void
test_damage_in_an_earlier_segment(void **state)
{
	RaftLog    *log = create(1);
	uint8_t    *sound;
	size_t		size;
	size_t		end;
	uint64_t	last = 0;

	assert_int_equal(append_range(log, 1, 100, 1), 0);
	log_close(log);
	assert_true(count_files("", ".log") >= 4);
	sound = read_file(1, &size);
	for (end = entry_offset(1); end + entry_size(last + 1) <= SEGMENT_BYTES;)
		end += entry_size(++last);
	/* its very last record too: the next segment says where it ends */
	expect_damage(1, sound, size, entry_offset(last) + 20, last);
	expect_damage(1, sound, size, entry_offset(last) + 42, last);
	expect_damage(1, sound, size, entry_offset(1), 1);
	for (size_t i = 0; i < SEGMENT_HEADER_BYTES; i++)
		expect_damage(1, sound, size, i, 0);
	free(sound);

	/* cut short, as a file system check may do */
	sound = read_file(2, &size);
	write_file(2, sound, size - 8);
	assert_null(load(0));
	assert_non_null(strstr(error, "shorter"));
	write_file(2, sound, 3);
	assert_null(load(0));
	write_file(2, sound, size);
	load_and_close(100);
	free(sound);
}

/* a segment gets its name when its first batch is on disk: no torn write */
static void
test_damage_in_a_first_batch(void **state)
{
	RaftLog    *log = create(1);
	uint8_t    *sound;
	size_t		size;

	assert_int_equal(append_range(log, 1, 9, 1), 0);
	assert_int_equal(append_range(log, 8, 9, 2), 0);
	log_close(log);
	assert_int_equal(count_files("", ".log"), 2);
	sound = read_file(2, &size);
	for (size_t i = 0; i < SEGMENT_RECORD_BYTES; i++)
	{
		expect_damage(2, sound, size, SEGMENT_HEADER_BYTES + i, 8);
		expect_damage(2, sound, size, SEGMENT_HEADER_BYTES + entry_size(8) + i,
					  9);
	}
	load_and_close(9);
	memset(sound + SEGMENT_HEADER_BYTES, 0, size - SEGMENT_HEADER_BYTES);
	write_file(2, sound, size);
	assert_null(load(0));
	assert_non_null(strstr(error, "first batch"));
	free(sound);
}

static void
test_missing_segments(void **state)
{
	RaftLog    *log = create(1);
	LogOptions	options = make_options(NULL);
	char		path[300];
	uint8_t    *sound;
	size_t		size;

	assert_int_equal(append_range(log, 1, 100, 1), 0);
	log_close(log);

	options.cluster_id++;
	assert_null(log_load(&options, 0, NULL, NULL, error, sizeof(error)));
	assert_non_null(strstr(error, "another cluster"));

	sound = read_file(2, &size);
	file_path(path, sizeof(path), 2);
	unlink(path);
	assert_null(load(0));
	assert_non_null(strstr(error, path));
	assert_non_null(strstr(error, "missing"));
	/* another segment in its place */
	write_file(2, sound, size);
	free(sound);
	sound = read_file(3, &size);
	write_file(2, sound, size);
	assert_null(load(0));
	assert_non_null(strstr(error, "number"));
	free(sound);

	/* the first one gone: only right if the tables have it */
	file_path(path, sizeof(path), 2);
	unlink(path);
	file_path(path, sizeof(path), 1);
	unlink(path);
	assert_null(load(0));
	assert_non_null(strstr(error, "begins at index"));
	log = load(90);
	assert_non_null(log);
	log_close(log);
	assert_null(load(101));
	assert_non_null(strstr(error, "ends at index 100"));

	remove_files(dir);
	assert_null(load(0));
	assert_non_null(strstr(error, "no segment"));
	rmdir(dir);
	assert_null(load(0));
	assert_int_equal(mkdir(dir, 0700), 0);
}

/* ---- failing system calls ---- */

typedef enum Call
{
	CALL_OPEN,
	CALL_PWRITE,
	CALL_FDATASYNC,
	CALL_RENAME,
	CALL_FSYNC_DIR,
	CALL_COUNT
} Call;

static Call failing;
static uint32_t fails_at;		/* 0: never */
static uint32_t passages;
static int	fails_with = EIO;
static bool writes_are_short;

static bool
fails_now(Call call)
{
	if (call != failing || fails_at == 0)
		return false;
	passages++;
	errno = fails_with;
	return passages == fails_at;
}

static int
failing_open(const char *path, int flags, int mode)
{
	return fails_now(CALL_OPEN) ? -1 : log_io_system.open(path, flags, mode);
}

static int64_t
failing_pwrite(int fd, const void *data, size_t n, int64_t offset)
{
	if (fails_now(CALL_PWRITE))
	{
		/* half of it was written nevertheless */
		log_io_system.pwrite(fd, data, n / 2, offset);
		errno = fails_with;
		return -1;
	}
	if (writes_are_short && n > 10)
		n = n / 3;
	return log_io_system.pwrite(fd, data, n, offset);
}

static int
failing_fdatasync(int fd)
{
	return fails_now(CALL_FDATASYNC) ? -1 : log_io_system.fdatasync(fd);
}

static int
failing_rename(const char *from, const char *to)
{
	return fails_now(CALL_RENAME) ? -1 : log_io_system.rename(from, to);
}

static int
failing_fsync_dir(const char *path)
{
	return fails_now(CALL_FSYNC_DIR) ? -1 : log_io_system.fsync_dir(path);
}

static const LogIo failing_io = {
	.open = failing_open,
	.pwrite = failing_pwrite,
	.fdatasync = failing_fdatasync,
	.rename = failing_rename,
	.fsync_dir = failing_fsync_dir,
};

/* what was acknowledged when the log failed */
static uint64_t acked;
static uint64_t trimmed;

/* returns the first error, or 0 */
static int
run_workload(RaftLog *log)
{
	int			rc;

	for (unsigned round = 0; round < 12; round++)
	{
		rc = append_range(log, acked + 1, acked + 9, round + 1);
		if (rc != 0)
			return rc;
		acked += 9;
		if (round % 2 == 1)
		{
			trimmed = acked - 5;
			rc = log_trim(log, trimmed);
			if (rc != 0)
				return rc;
		}
		rc = log_prepare_spare(log);
		if (rc != 0 && rc != EAGAIN)
			return rc;
	}
	return 0;
}

/* true if the call was reached */
static bool
fail_call(Call call, uint32_t at)
{
	LogOptions	options = make_options(&failing_io);
	RaftLog    *log;
	bool		was_reached;
	int			rc = 0;

	remove_files(dir);
	failing = call;
	fails_at = 0;
	passages = 0;
	acked = trimmed = 0;
	assert_true(log_create(&options, 1, error, sizeof(error)));
	fails_at = at;
	log = log_load(&options, 0, NULL, NULL, error, sizeof(error));
	if (log != NULL)
	{
		rc = run_workload(log);
		if (rc != 0)
		{
			assert_int_equal(rc, fails_with);
			/* nobody knows what is on disk: no second try */
			assert_int_equal(append_range(log, acked + 1, acked + 1, 99), EIO);
			assert_int_equal(log_trim(log, 1), EIO);
			assert_int_equal(log_prepare_spare(log), EIO);
		}
		log_close(log);
	}
	was_reached = passages >= at;
	assert_true(was_reached ? log == NULL || rc != 0 : rc == 0);

	/* whatever failed, what was acknowledged is there */
	log = load(trimmed > 0 ? trimmed - 1 : 0);
	if (log == NULL)
		fail_msg("call %d, passage %u: %s", call, at, error);
	assert_true(log_last_index(log) >= acked);
	assert_true(log_last_index(log) <= acked + 9);
	log_close(log);
	return was_reached;
}

static void
test_each_call_fails(void **state)
{
	for (int call = 0; call < CALL_COUNT; call++)
	{
		uint32_t	at = 1;

		while (fail_call((Call) call, at))
			at++;
		assert_true(at > 2);
	}
	fails_at = 0;
}

static void
test_create_fails(void **state)
{
	LogOptions	options = make_options(&failing_io);

	for (int call = 0; call < CALL_COUNT; call++)
	{
		remove_files(dir);
		failing = (Call) call;
		passages = 0;
		fails_at = 1;
		assert_false(log_create(&options, 1, error, sizeof(error)));
		assert_non_null(strstr(error, strerror(fails_with)));
	}
	fails_at = 0;
}

/* a spare is a convenience: no room for it is no reason to stop */
static void
test_no_room_for_a_spare(void **state)
{
	LogOptions	options = make_options(&failing_io);
	char		path[PATH_MAX];
	RaftLog    *log;

	assert_true(log_create(&options, 1, error, sizeof(error)));
	log = log_load(&options, 0, NULL, NULL, error, sizeof(error));
	assert_non_null(log);
	assert_int_equal(append_range(log, 1, 9, 1), 0);
	fails_with = ENOSPC;
	for (int call = CALL_OPEN; call <= CALL_PWRITE; call++)
	{
		failing = (Call) call;
		passages = 0;
		fails_at = 1;
		assert_int_equal(log_prepare_spare(log), ENOSPC);
		/* what it had taken is given back */
		snprintf(path, sizeof(path), "%s/spare.tmp", dir);
		assert_int_not_equal(access(path, F_OK), 0);
	}
	fails_at = 0;
	fails_with = EIO;
	assert_int_equal(append_range(log, 10, 30, 2), 0);
	while (log_prepare_spare(log) == EAGAIN)
		continue;
	assert_int_equal(log_prepare_spare(log), 0);
	log_close(log);
	load_and_close(30);
}

static void
test_short_writes_are_carried_on(void **state)
{
	LogOptions	options = make_options(&failing_io);
	RaftLog    *log;

	writes_are_short = true;
	assert_true(log_create(&options, 1, error, sizeof(error)));
	log = log_load(&options, 0, NULL, NULL, error, sizeof(error));
	assert_non_null(log);
	assert_int_equal(append_range(log, 1, 60, 1), 0);
	log_close(log);
	writes_are_short = false;
	load_and_close(60);
}

int
main(void)
{
#define LOG_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		LOG_TEST(test_round_trip),
		LOG_TEST(test_wrong_batches_are_refused),
		LOG_TEST(test_record_larger_than_a_segment),
		LOG_TEST(test_recycling),
		LOG_TEST(test_spare_is_made_in_steps),
		LOG_TEST(test_writing_on_truncates),
		LOG_TEST(test_torn_tail_at_every_byte),
		LOG_TEST(test_torn_batch_with_later_parts),
		LOG_TEST(test_damage_in_the_middle),
		LOG_TEST(test_damage_in_an_earlier_segment),
		LOG_TEST(test_damage_in_a_first_batch),
		LOG_TEST(test_missing_segments),
		LOG_TEST(test_each_call_fails),
		LOG_TEST(test_create_fails),
		LOG_TEST(test_no_room_for_a_spare),
		LOG_TEST(test_short_writes_are_carried_on),
	};

	/* torn writes are reported, hundreds of times */
	elog_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
