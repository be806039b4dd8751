/*
 * elog.h
 *	  The log, and the two ways for a process to end itself.
 *
 * A log line says what happened; the detail gives facts and the hint what to
 * do, both as full sentences.  Never a password, a token or a stored value.
 *
 * FATAL ends this process.  PANIC is for "shared memory or the log may be
 * wrong": the process aborts with exit status ELOG_EXIT_PANIC and the
 * postmaster starts everything over from disk.  Each use of PANIC says in a
 * comment why FATAL is not enough.
 *
 * Safe to call from any thread; a line is written with one write().
 */
#ifndef UTILS_ELOG_H
#define UTILS_ELOG_H

#include <stdbool.h>

typedef enum LogLevel
{
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_INFO,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_FATAL,
	LOG_LEVEL_PANIC
} LogLevel;

#define ELOG_EXIT_FATAL 1
#define ELOG_EXIT_PANIC 3

/* lines below this level are dropped; setting log_level */
extern void elog_set_level(LogLevel level);
extern LogLevel elog_level(void);

/* "postmaster", "backend", "raft worker": shown in each line */
extern void elog_set_process_name(const char *name);

/*
 * Append log lines to fd from now on (default 2).  The caller keeps the
 * descriptor open.
 */
extern void elog_set_fd(int fd);

/* called by FATAL before the process exits; NULL for none */
extern void elog_on_fatal(void (*fn) (void));

extern void elog_write(LogLevel level, const char *detail, const char *hint,
					   const char *fmt,...)
			__attribute__((format(printf, 4, 5)));

extern void elog_fatal(const char *fmt,...)
			__attribute__((format(printf, 1, 2), noreturn));
extern void elog_fatal_hint(const char *detail, const char *hint,
							const char *fmt,...)
			__attribute__((format(printf, 3, 4), noreturn));
extern void elog_panic(const char *fmt,...)
			__attribute__((format(printf, 1, 2), noreturn));

#define elog_debug(...) \
	do { \
		if (elog_level() <= LOG_LEVEL_DEBUG) \
			elog_write(LOG_LEVEL_DEBUG, NULL, NULL, __VA_ARGS__); \
	} while (0)
#define elog_info(...) elog_write(LOG_LEVEL_INFO, NULL, NULL, __VA_ARGS__)
#define elog_warning(...) elog_write(LOG_LEVEL_WARNING, NULL, NULL, __VA_ARGS__)
#define elog_error(...) elog_write(LOG_LEVEL_ERROR, NULL, NULL, __VA_ARGS__)

#endif							/* UTILS_ELOG_H */
