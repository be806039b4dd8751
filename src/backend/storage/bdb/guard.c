/*
 * guard.c
 *	  What Berkeley DB may not go on after, and what it may not do.
 *
 * When the library opens an environment it looks for the end of its log by
 * reading forward until something goes wrong, whatever that is: a torn record,
 * but also memory that it does not get for a longer record, or a read that
 * fails.  It takes the log to end there and rolls back what has no commit
 * before it.  Near the front of a first log file that is the transaction in
 * which the tables were made: they are removed, auth.db first, and the end of
 * the log is written anew, so that the next start finds no more than that.
 * (Seen: one allocation in some hundred, and one read, was enough.)  Other
 * allocations that fail in a recovery end in a null pointer followed (page-in
 * without its cookie, db_env_create() that tidies up).
 *
 * So an allocation that fails ends the process on the spot, before the library
 * has drawn a conclusion: nothing is written until recovery has found what to
 * do, and the next start can be good.  The log is read once before the library
 * does, to see that it can be read at all.  (Its own reads cannot be looked
 * at: given a function for them, it takes the end of a file for an error.)  And
 * no table is ever removed or renamed but by who makes them: a log that is
 * damaged where the tables were made ends the start as it is.
 *
 * The library keeps these functions for the process, not for an environment.
 * Thread: whoever opens; later persist too, which only calls through them.
 */
#include "server.h"

/* system */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

/* libraries */
#include <db.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "guard.h"
#include "persist_internal.h"

#define READ_BYTES (1024 * 1024)

/* set while nobody is in the library */
static bool makes_tables;

static int	read_through(int dir_fd, const char *name, void *buf);
static int	guarded_unlink(const char *path);
static int	guarded_rename(const char *from, const char *to);
static void check_not_table(const char *path);

int
guard_set(bool create)
{
	int			rc;

	makes_tables = create;
	if ((rc = db_env_set_func_malloc(xmalloc)) != 0 ||
		(rc = db_env_set_func_realloc(xrealloc)) != 0 ||
		(rc = db_env_set_func_unlink(guarded_unlink)) != 0)
		return rc;
	return db_env_set_func_rename(guarded_rename);
}

int
guard_read_log(const char *dir)
{
	DIR		   *d = opendir(dir);
	void	   *buf;
	struct dirent *entry;
	int			rc = 0;

	if (d == NULL)
		return errno;
	buf = xmalloc(READ_BYTES);
	while (rc == 0 && (entry = readdir(d)) != NULL)
	{
		if (strncmp(entry->d_name, "log.", 4) != 0)
			continue;
		rc = read_through(dirfd(d), entry->d_name, buf);
		if (rc != 0)
			elog_error("could not read \"%s/%s\": %s", dir, entry->d_name,
					   strerror(rc));
	}
	free(buf);
	closedir(d);
	return rc;
}

static int
read_through(int dir_fd, const char *name, void *buf)
{
	int			fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t		n;
	int			rc = 0;

	if (fd < 0)
		return errno;
	do
	{
		n = read(fd, buf, READ_BYTES);
		if (n < 0 && errno != EINTR)
			rc = errno;
		if (rc == 0)
			rc = INJECTION_POINT("bdb-read-log");
	}
	while (rc == 0 && n != 0);
	close(fd);
	return rc;
}

static int
guarded_unlink(const char *path)
{
	check_not_table(path);
	return unlink(path);
}

/* a table that is made has another name until its pages are there */
static int
guarded_rename(const char *from, const char *to)
{
	check_not_table(from);
	return rename(from, to);
}

static void
check_not_table(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;

	if (makes_tables)
		return;
	for (int i = 0; i < TABLE_COUNT; i++)
	{
		size_t		len = strlen(table_name((TableId) i));

		if (strncmp(name, table_name((TableId) i), len) == 0 &&
			strcmp(name + len, ".db") == 0)
			elog_fatal_hint(NULL, TABLES_HINT,
							"the log of the tables is damaged: recovery would "
							"remove table \"%s\"", table_name((TableId) i));
	}
}
