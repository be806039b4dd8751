/*
 * elog.c
 *	  Writes the log, one line and one write() per event.
 *
 * The format is fixed and easy to split: time in UTC, process id and name,
 * level, message, then detail and hint after their labels.  Control
 * characters in what a client sent are shown as \xNN so that nobody can forge
 * a line.
 */
#include "server.h"

/* system */
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"

#define LINE_MAX_BYTES 4096

static const char *const level_names[] = {
	[LOG_LEVEL_DEBUG] = "DEBUG",
	[LOG_LEVEL_INFO] = "LOG",
	[LOG_LEVEL_WARNING] = "WARNING",
	[LOG_LEVEL_ERROR] = "ERROR",
	[LOG_LEVEL_FATAL] = "FATAL",
	[LOG_LEVEL_PANIC] = "PANIC",
};

static LogLevel min_level = LOG_LEVEL_INFO;
static const char *process_name = "claviger";
static int	log_fd = STDERR_FILENO;
static void (*fatal_callback) (void);

static void write_line(LogLevel level, const char *detail, const char *hint,
					   const char *fmt, va_list args);
static size_t put_clean(char *line, size_t used, const char *text);

void
elog_set_level(LogLevel level)
{
	min_level = level;
}

LogLevel
elog_level(void)
{
	return min_level;
}

void
elog_set_process_name(const char *name)
{
	process_name = name;
}

void
elog_set_fd(int fd)
{
	log_fd = fd;
}

void
elog_on_fatal(void (*fn) (void))
{
	fatal_callback = fn;
}

void
elog_write(LogLevel level, const char *detail, const char *hint,
		   const char *fmt,...)
{
	va_list		args;

	if (level < min_level)
		return;
	va_start(args, fmt);
	write_line(level, detail, hint, fmt, args);
	va_end(args);
}

void
elog_fatal(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	write_line(LOG_LEVEL_FATAL, NULL, NULL, fmt, args);
	va_end(args);
	if (fatal_callback != NULL)
		fatal_callback();
	_exit(ELOG_EXIT_FATAL);
}

void
elog_fatal_hint(const char *detail, const char *hint, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	write_line(LOG_LEVEL_FATAL, detail, hint, fmt, args);
	va_end(args);
	if (fatal_callback != NULL)
		fatal_callback();
	_exit(ELOG_EXIT_FATAL);
}

void
elog_panic(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	write_line(LOG_LEVEL_PANIC, NULL, NULL, fmt, args);
	va_end(args);
	_exit(ELOG_EXIT_PANIC);
}

static void
write_line(LogLevel level, const char *detail, const char *hint,
		   const char *fmt, va_list args)
{
	char		line[LINE_MAX_BYTES + 1];
	char		message[LINE_MAX_BYTES / 2];
	struct timespec now;
	struct tm	utc;
	size_t		used;
	int			saved_errno = errno;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	used = strftime(line, LINE_MAX_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
	used += (size_t) snprintf(line + used, LINE_MAX_BYTES - used,
							  ".%03ldZ [%d] %s %s: ", now.tv_nsec / 1000000,
							  (int) getpid(), process_name, level_names[level]);
	vsnprintf(message, sizeof(message), fmt, args);
	used = put_clean(line, used, message);
	if (detail != NULL)
	{
		used = put_clean(line, used, "; DETAIL: ");
		used = put_clean(line, used, detail);
	}
	if (hint != NULL)
	{
		used = put_clean(line, used, "; HINT: ");
		used = put_clean(line, used, hint);
	}
	line[used++] = '\n';
	/* a log that cannot be written must not stop the server */
	if (write(log_fd, line, used) < 0)
		(void) 0;
	errno = saved_errno;
}

/* Append text, control characters made visible; cuts at the line's end. */
static size_t
put_clean(char *line, size_t used, const char *text)
{
	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;
		bool		plain = c >= 0x20 && c != 0x7f;

		if (used + (plain ? 1 : 4) > LINE_MAX_BYTES)
			break;
		if (plain)
			line[used++] = (char) c;
		else
			used += (size_t) snprintf(line + used, LINE_MAX_BYTES - used + 1,
									  "\\x%02x", c);
	}
	return used;
}
