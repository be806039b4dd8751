/*
 * t_log_io.c
 *	  What the raft log appends is what the file holds, whatever the sizes and
 *	  whichever files it turns to in between.
 */
/* needs: raft utils/injection */
#include "server.h"

/* system */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "raft/log.h"

#define FILE_BYTES ((size_t) 8 * 1024 * 1024)
#define NFILES 2

typedef struct File
{
	char		path[64];
	int			fd;
	size_t		used;
	uint8_t    *model;
} File;

static uint64_t rng = 88172645463325252;

static size_t
random_below(size_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (size_t) (rng % n);
}

/* full of other bytes, as a recycled segment is */
static File
file_make(const char *dir)
{
	File		file = {.model = xmalloc(FILE_BYTES)};

	snprintf(file.path, sizeof(file.path), "%s/t_log_io-XXXXXX", dir);
	file.fd = mkstemp(file.path);
	assert_true(file.fd >= 0);
	memset(file.model, 0xAA, FILE_BYTES);
	assert_int_equal(pwrite(file.fd, file.model, FILE_BYTES, 0), FILE_BYTES);
	close(file.fd);
	file.fd = log_io_system.open(file.path, O_RDWR | O_CLOEXEC, 0);
	assert_true(file.fd >= 0);
	return file;
}

static void
file_append(File *file, size_t n)
{
	for (size_t i = 0; i < n; i++)
		file->model[file->used + i] = (uint8_t) random_below(256);
	while (n > 0)
	{
		int64_t		done = log_io_system.pwrite(file->fd,
												file->model + file->used, n,
												(int64_t) file->used);

		assert_true(done > 0 && (size_t) done <= n);
		file->used += (size_t) done;
		n -= (size_t) done;
	}
}

static void
file_check(const File *file)
{
	uint8_t    *data = xmalloc(FILE_BYTES);
	int			fd = open(file->path, O_RDONLY);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES);
	assert_int_equal(pread(fd, data, FILE_BYTES, 0), FILE_BYTES);
	assert_memory_equal(data, file->model, file->used);
	close(fd);
	free(data);
}

static void
file_drop(File *file)
{
	close(file->fd);
	unlink(file->path);
	free(file->model);
}

static void
append_to_files(const char *dir)
{
	File		files[NFILES];

	for (int i = 0; i < NFILES; i++)
		files[i] = file_make(dir);
	for (int round = 0; round < 400; round++)
	{
		/* mostly the same file again */
		File	   *file = &files[random_below(10) == 0];
		size_t		n = 1 + random_below(random_below(20) == 0 ? 1500000 :
										 random_below(2) == 0 ? 600 : 9000);

		/* exactly to the end of a block, at times */
		if (random_below(10) == 0)
			n = 4096 - file->used % 4096;
		if (file->used + n > FILE_BYTES)
			continue;
		file_append(file, n);
		assert_int_equal(log_io_system.fdatasync(file->fd), 0);
		if (random_below(20) == 0)
		{
			/* as after a restart; the number is likely the same */
			close(file->fd);
			file->fd = log_io_system.open(file->path, O_RDWR | O_CLOEXEC, 0);
		}
		if (round % 40 == 0)
			file_check(file);
	}
	for (int i = 0; i < NFILES; i++)
	{
		file_check(&files[i]);
		file_drop(&files[i]);
	}
}

static void
test_appending(void **state)
{
	append_to_files("/tmp");
}

/* memory file systems of older kernels do not know the flag */
static void
test_appending_in_memory(void **state)
{
	append_to_files("/dev/shm");
}

/* a number that another file had must not bring that file's bytes along */
static void
test_number_of_another_file(void **state)
{
	File		a = file_make("/tmp");
	File		b;

	file_append(&a, 100);
	close(a.fd);
	b = file_make("/tmp");
	assert_int_equal(a.fd, b.fd);
	/* 100 bytes that the log knows nothing of */
	memset(b.model, 0xAA, FILE_BYTES);
	b.used = 100;
	file_append(&b, 100);
	file_check(&b);
	a.fd = dup(b.fd);
	file_check(&a);
	file_drop(&a);
	file_drop(&b);
}

static void
test_errors(void **state)
{
	uint8_t		bytes[10] = {0};
	File		file = file_make("/tmp");
	int			fd = open(file.path, O_RDONLY);

	assert_int_equal(log_io_system.pwrite(fd, bytes, sizeof(bytes), 0), -1);
	assert_int_equal(errno, EBADF);
	/* behind the end there is nothing to keep */
	assert_int_equal(log_io_system.pwrite(file.fd, bytes, sizeof(bytes),
										  (int64_t) FILE_BYTES + 50), -1);
	assert_int_equal(errno, EIO);
	close(fd);
	file_drop(&file);
}

/* A limit on the size of files makes the kernel write a part. */
static int64_t
append_limited(const File *file, size_t n, size_t limit)
{
	static const uint8_t bytes[1000];
	struct rlimit before;
	struct rlimit low;
	int64_t		done;
	int			saved;

	assert_true(n <= sizeof(bytes));
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	low = (struct rlimit) {.rlim_cur = limit,.rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	done = log_io_system.pwrite(file->fd, bytes, n, (int64_t) file->used);
	saved = errno;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	errno = saved;
	return done;
}

static void
test_short_writes(void **state)
{
	File		file = file_make("/tmp");

	file_append(&file, 600);
	/* some of the new bytes; then none of them, which has a reason */
	assert_int_equal(append_limited(&file, 1000, 1024), 1024 - 600);
	assert_int_equal(append_limited(&file, 1000, 512), -1);
	assert_int_equal(errno, EFBIG);
	file_append(&file, 3000);
	file_check(&file);
	file_drop(&file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_appending),
		cmocka_unit_test(test_appending_in_memory),
		cmocka_unit_test(test_number_of_another_file),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_short_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
