/*
 * injection.h
 *	  Named points where a test can make a process die, stop or fail.
 *
 * CLAVIGER_INJECT="point=kill,other=error:28,third=sleep:50" in the
 * environment of a build with USE_INJECTION; "point@3=kill" fires at the
 * third passage.  In other builds the macro is nothing.
 *
 *	kill		SIGKILL to the own process
 *	abort		abort()
 *	stop		SIGSTOP to the own process
 *	error:N		the point returns errno N (1 to 4095)
 *	sleep:MS	wait so many milliseconds, then go on
 *
 * "point?/path=kill" fires when the file /path or /path.PID (the pid of who
 * passes) is there, and removes it: so a test arms a point of a running
 * server, for whoever comes first or for one process, and it fires once.
 *
 * Passages are counted per process; a child goes on counting from what its
 * parent had.  The same point may be named more than once (point@1=..,
 * point@2=..).
 */
#ifndef UTILS_INJECTION_H
#define UTILS_INJECTION_H

#ifdef USE_INJECTION
/* returns the errno to fail with, or 0 to go on; any thread */
extern int	injection_run(const char *point);
/* read the environment again and count from zero; tests, while one thread runs */
extern void injection_reload(void);
#define INJECTION_POINT(point) injection_run(point)
#else
#define INJECTION_POINT(point) 0
#endif

#endif							/* UTILS_INJECTION_H */
