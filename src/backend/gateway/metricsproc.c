/*
 * metricsproc.c
 *	  process_..., os_fd_...: what the system says of the raft worker.
 *
 * Of all processes it is the one that holds the store, writes the log and
 * lives as long as the server; a backend is gone with its connection.  What
 * /proc does not tell is left out.
 */
#include "server.h"

/* system */
#include <dirent.h>
#include <time.h>
#include <unistd.h>

/* this layer and below */
#include "gateway/metrics.h"
#include "storage/ipc/control.h"

/* the postmaster gives the first slot of fresh memory to the raft worker */
#define WORKER_SLOT 0

/* of /proc/PID/stat, counted from the field behind the name */
enum
{
	STAT_UTIME = 11,
	STAT_STIME = 12,
	STAT_START = 19,
	STAT_VSIZE = 20,
	STAT_RSS = 21,
	STAT_FIELDS
};

static bool read_stat(int32_t pid, uint64_t *fields);
static bool read_file(const char *path, char *text, size_t size);
static int	count_fds(int32_t pid);
static bool max_fds(int32_t pid, uint64_t *max);
static double boot_time_s(void);
static void put_seconds(Buf *out, const char *name, const char *type,
						const char *help, double seconds);
static void put_number(Buf *out, const char *name, const char *help,
					   uint64_t n);

void
metrics_write_process(Buf *out)
{
	int32_t		pid = atomic_load(&control_slot(WORKER_SLOT)->pid);
	double		ticks = (double) sysconf(_SC_CLK_TCK);
	uint64_t	fields[STAT_FIELDS];
	uint64_t	max;
	int			nfds;

	if (pid <= 0 || !read_stat(pid, fields))
		return;
	put_seconds(out, "process_cpu_seconds_total", "counter",
				"Processor time of the raft worker.",
				(double) (fields[STAT_UTIME] + fields[STAT_STIME]) / ticks);
	put_seconds(out, "process_start_time_seconds", "gauge",
				"When the raft worker was started, since 1970.",
				boot_time_s() + (double) fields[STAT_START] / ticks);
	put_number(out, "process_virtual_memory_bytes",
			   "Address space of the raft worker; most of it is only reserved.",
			   fields[STAT_VSIZE]);
	put_number(out, "process_resident_memory_bytes",
			   "Resident memory of the raft worker, the shared store included.",
			   fields[STAT_RSS] * (uint64_t) sysconf(_SC_PAGESIZE));
	nfds = count_fds(pid);
	if (nfds >= 0)
	{
		put_number(out, "process_open_fds",
				   "Open descriptors of the raft worker.", (uint64_t) nfds);
		put_number(out, "os_fd_used", "The same.", (uint64_t) nfds);
	}
	if (max_fds(pid, &max))
	{
		put_number(out, "process_max_fds",
				   "Descriptors that the raft worker may open.", max);
		put_number(out, "os_fd_limit", "The same.", max);
	}
}

static bool
read_stat(int32_t pid, uint64_t *fields)
{
	char		path[64];
	char		text[1024];
	char	   *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (!read_file(path, text, sizeof(text)))
		return false;
	/* the name may hold anything, a bracket too */
	p = strrchr(text, ')');
	if (p == NULL || p[1] != ' ')
		return false;
	p += 2;
	for (int i = 0; i < STAT_FIELDS; i++)
	{
		fields[i] = strtoull(p, NULL, 10);
		p = strchr(p, ' ');
		if (p == NULL)
			return false;
		p++;
	}
	return true;
}

static bool
read_file(const char *path, char *text, size_t size)
{
	FILE	   *file = fopen(path, "re");
	size_t		n;

	if (file == NULL)
		return false;
	n = fread(text, 1, size - 1, file);
	fclose(file);
	text[n] = '\0';
	return n > 0;
}

static int
count_fds(int32_t pid)
{
	char		path[64];
	DIR		   *dir;
	int			n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (dir == NULL)
		return -1;
	for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

static bool
max_fds(int32_t pid, uint64_t *max)
{
	char		path[64];
	char		text[4096];
	const char *line;

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	if (!read_file(path, text, sizeof(text)))
		return false;
	line = strstr(text, "Max open files");
	if (line == NULL)
		return false;
	*max = strtoull(line + strlen("Max open files"), NULL, 10);
	return true;
}

static double
boot_time_s(void)
{
	struct timespec now;
	struct timespec up;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	return (double) (now.tv_sec - up.tv_sec) +
		(double) (now.tv_nsec - up.tv_nsec) / 1e9;
}

static void
put_seconds(Buf *out, const char *name, const char *type, const char *help,
			double seconds)
{
	metrics_put_head(out, name, type, help);
	buf_printf(out, "%s %.2f\n", name, seconds);
}

static void
put_number(Buf *out, const char *name, const char *help, uint64_t n)
{
	metrics_put_head(out, name, "gauge", help);
	buf_printf(out, "%s %" PRIu64 "\n", name, n);
}
