/*
 * memlimit.c
 *	  Compares the quota with the memory there is, once at start.
 *
 * The store lives in memory, and what bounds it is the quota on stored bytes.
 * A quota that the machine or the cgroup cannot hold ends in the kernel
 * killing the server, long after the mistake was made; so it is named at
 * start.  Only a warning: the data may stay far below the quota.
 *
 * A limit of a parent cgroup binds its children, so every level up to the top
 * is looked at.
 */
#include "server.h"

/* system */
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "postmaster/memlimit.h"

/* index and headers beside keys and values (doc/benchmark.md) */
#define OVERHEAD_PERCENT 30
#define LINE_BYTES 4096

static int64_t cgroup_limit(const char *root, const char *line);
static int64_t least_on_path(const char *root, const char *mount,
							 const char *path, const char *file);
static int64_t read_limit(const char *path);
static int64_t least(int64_t a, int64_t b);

int64_t
memlimit_bytes(const char *root)
{
	int64_t		limit = (int64_t) sysconf(_SC_PHYS_PAGES) *
		sysconf(_SC_PAGESIZE);
	char		path[PATH_MAX];
	char		line[LINE_BYTES];
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	file = fopen(path, "re");
	if (file == NULL)
		return limit;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		limit = least(limit, cgroup_limit(root, line));
	}
	fclose(file);
	return limit;
}

void
memlimit_check_quota(void)
{
	int64_t		limit = memlimit_bytes("");
	int64_t		quota = guc_effective_quota();
	char		detail[256];

	if (quota <= limit / (100 + OVERHEAD_PERCENT) * 100)
		return;
	snprintf(detail, sizeof(detail), "The quota is %lld MB, and %d %% more is "
			 "needed around it; the machine or its cgroup has %lld MB.",
			 (long long) (quota >> 20), OVERHEAD_PERCENT,
			 (long long) (limit >> 20));
	elog_write(LOG_LEVEL_WARNING, detail, "Lower quota_backend_bytes or give "
			   "the server more memory.", "the quota does not fit into memory");
}

/* A line of /proc/self/cgroup: "0::/a/b" or "5:memory:/a/b". */
static int64_t
cgroup_limit(const char *root, const char *line)
{
	const char *controllers = strchr(line, ':');
	const char *path = controllers == NULL ? NULL
		: strchr(controllers + 1, ':');

	if (path == NULL || path[1] != '/')
		return INT64_MAX;
	if (path == controllers + 1)
		return least_on_path(root, "/sys/fs/cgroup", path + 1, "memory.max");
	if (strncmp(controllers + 1, "memory:", 7) == 0)
		return least_on_path(root, "/sys/fs/cgroup/memory", path + 1,
							 "memory.limit_in_bytes");
	return INT64_MAX;
}

static int64_t
least_on_path(const char *root, const char *mount, const char *path,
			  const char *file)
{
	int64_t		limit = INT64_MAX;
	size_t		len = strlen(path);

	for (;;)
	{
		char		name[PATH_MAX];

		if (snprintf(name, sizeof(name), "%s%s%.*s/%s", root, mount, (int) len,
					 path, file) < (int) sizeof(name))
			limit = least(limit, read_limit(name));
		if (len == 0)
			return limit;
		while (len > 0 && path[--len] != '/')
			continue;
	}
}

/* "max", or anything that is no number: no limit. */
static int64_t
read_limit(const char *path)
{
	FILE	   *file = fopen(path, "re");
	long long	limit;
	int			nfields;

	if (file == NULL)
		return INT64_MAX;
	nfields = fscanf(file, "%lld", &limit);
	fclose(file);
	return nfields == 1 && limit > 0 ? limit : INT64_MAX;
}

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}
