/*
 * ctl_server.c
 *	  clav_ctl start, stop, status, reload.
 *
 * A server is found by DATA/claviger.pid (postmaster/pidfile.h).  Whether the
 * process named there is really a server of this directory is told by the
 * lock file, which a living server holds: a process id alone may have been
 * given to somebody else since.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "postmaster/pidfile.h"

/* this program */
#include "ctl.h"

#define LOCK_FILE_NAME "claviger.lock"
#define POLL_MS 20
#define LOG_TAIL_BYTES 2000

static bool server_runs(const CtlOptions *options, PidFile *pidfile);
static bool lock_is_held(const char *data_dir);
static void exec_server(const CtlOptions *options, int ready_log)
			__attribute__((noreturn));
static void print_log_tail(const char *path);
static void sleep_ms(int ms);

int
ctl_start(const CtlOptions *options)
{
	PidFile		pidfile;
	const char *log_file = options->log_file != NULL ? options->log_file
		: "/dev/null";
	int64_t		deadline = clock_monotonic_ms() + options->timeout_sec * 1000;
	pid_t		pid;
	int			fd;

	if (server_runs(options, &pidfile))
	{
		fprintf(stderr, "clav_ctl: a server already runs on %s (process %d)\n",
				options->data_dir, (int) pidfile.pid);
		return CTL_FAILED;
	}
	fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
	{
		fprintf(stderr, "clav_ctl: could not open log file %s: %s\n", log_file,
				strerror(errno));
		return CTL_FAILED;
	}
	pid = fork();
	if (pid < 0)
	{
		fprintf(stderr, "clav_ctl: could not fork: %s\n", strerror(errno));
		return CTL_FAILED;
	}
	if (pid == 0)
		exec_server(options, fd);

	while (clock_monotonic_ms() < deadline)
	{
		int			status;

		if (waitpid(pid, &status, WNOHANG) == pid)
		{
			fprintf(stderr, "clav_ctl: the server ended with status %d\n",
					WIFEXITED(status) ? WEXITSTATUS(status) : -1);
			print_log_tail(log_file);
			return CTL_FAILED;
		}
		if (pidfile_read(options->data_dir, &pidfile) && pidfile.pid == pid &&
			strcmp(pidfile.state, "ready") == 0)
		{
			printf("server started (process %d), listening on %s\n", (int) pid,
				   pidfile.addresses);
			return CTL_OK;
		}
		sleep_ms(POLL_MS);
	}
	fprintf(stderr, "clav_ctl: the server (process %d) does not serve after "
			"%d seconds; it is left running\n", (int) pid,
			options->timeout_sec);
	return CTL_FAILED;
}

int
ctl_stop(const CtlOptions *options)
{
	static const struct
	{
		const char *name;
		int			signo;
	}			modes[] = {{"smart", SIGTERM}, {"fast", SIGINT},
	{"immediate", SIGQUIT}};
	PidFile		pidfile;
	int64_t		deadline = clock_monotonic_ms() + options->timeout_sec * 1000;
	int			signo = 0;

	for (size_t i = 0; i < lengthof(modes); i++)
	{
		if (strcmp(options->mode, modes[i].name) == 0)
			signo = modes[i].signo;
	}
	if (signo == 0)
	{
		fprintf(stderr, "clav_ctl: unknown mode \"%s\" (smart, fast, "
				"immediate)\n", options->mode);
		return CTL_USAGE;
	}
	if (!server_runs(options, &pidfile))
	{
		fprintf(stderr, "clav_ctl: no server runs on %s\n", options->data_dir);
		return CTL_NOT_RUNNING;
	}
	if (kill(pidfile.pid, signo) != 0)
	{
		fprintf(stderr, "clav_ctl: could not signal process %d: %s\n",
				(int) pidfile.pid, strerror(errno));
		return CTL_FAILED;
	}
	while (clock_monotonic_ms() < deadline)
	{
		if (!lock_is_held(options->data_dir))
		{
			printf("server stopped\n");
			return CTL_OK;
		}
		sleep_ms(POLL_MS);
	}
	fprintf(stderr, "clav_ctl: the server (process %d) still runs after %d "
			"seconds; try -m fast\n", (int) pidfile.pid, options->timeout_sec);
	return CTL_FAILED;
}

int
ctl_status(const CtlOptions *options)
{
	PidFile		pidfile;

	if (!server_runs(options, &pidfile))
	{
		printf("no server runs on %s\n", options->data_dir);
		return CTL_NOT_RUNNING;
	}
	printf("server runs on %s: process %d, %s, listening on %s\n",
		   options->data_dir, (int) pidfile.pid, pidfile.state,
		   pidfile.addresses);
	return CTL_OK;
}

int
ctl_reload(const CtlOptions *options)
{
	PidFile		pidfile;

	if (!server_runs(options, &pidfile))
	{
		fprintf(stderr, "clav_ctl: no server runs on %s\n", options->data_dir);
		return CTL_NOT_RUNNING;
	}
	if (kill(pidfile.pid, SIGHUP) != 0)
	{
		fprintf(stderr, "clav_ctl: could not signal process %d: %s\n",
				(int) pidfile.pid, strerror(errno));
		return CTL_FAILED;
	}
	printf("server told to reload; its log says whether all was well\n");
	return CTL_OK;
}

void
ctl_server_path(const CtlOptions *options, char *path, unsigned size)
{
	char		self[PATH_MAX];
	ssize_t		len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len <= 0)
		len = snprintf(self, sizeof(self), "%s", options->program);
	self[len] = '\0';
	snprintf(path, size, "%s/claviger", dirname(self));
}

static bool
server_runs(const CtlOptions *options, PidFile *pidfile)
{
	return lock_is_held(options->data_dir) &&
		pidfile_read(options->data_dir, pidfile);
}

static bool
lock_is_held(const char *data_dir)
{
	char		path[PATH_MAX];
	int			fd;
	bool		held;

	if (snprintf(path, sizeof(path), "%s/%s", data_dir, LOCK_FILE_NAME) >=
		(int) sizeof(path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
	close(fd);
	return held;
}

static void
exec_server(const CtlOptions *options, int ready_log)
{
	char		path[PATH_MAX];
	char	  **args = calloc((size_t) options->nserver_args + 4,
							  sizeof(char *));
	int			n = 0;
	int			null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (args == NULL)
		_exit(127);
	ctl_server_path(options, path, sizeof(path));
	args[n++] = path;
	args[n++] = (char *) "--data-dir";
	args[n++] = (char *) options->data_dir;
	for (int i = 0; i < options->nserver_args; i++)
		args[n++] = options->server_args[i];
	setsid();
	dup2(null_fd, STDIN_FILENO);
	dup2(ready_log, STDOUT_FILENO);
	dup2(ready_log, STDERR_FILENO);
	execv(path, args);
	fprintf(stderr, "clav_ctl: could not run %s: %s\n", path, strerror(errno));
	_exit(127);
}

static void
print_log_tail(const char *path)
{
	char		text[LOG_TAIL_BYTES];
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t		len;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
	{
		off_t		from = st.st_size > LOG_TAIL_BYTES
			? st.st_size - LOG_TAIL_BYTES : 0;

		len = pread(fd, text, sizeof(text), from);
		if (len > 0)
			fwrite(text, 1, (size_t) len, stderr);
	}
	close(fd);
}

static void
sleep_ms(int ms)
{
	usleep((useconds_t) ms * 1000);
}
