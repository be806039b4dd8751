/*
 * injection.h
 *	  Named points where a test can make a process die, stop or fail.
 *
 * CLAVIGER_INJECT="point=kill,other=error:28,third=sleep:50" in the
 * environment of a build with USE_INJECTION; "point@3=kill" fires at the
 * third passage.  In other builds the macro is nothing.
 */
#ifndef UTILS_INJECTION_H
#define UTILS_INJECTION_H

#ifdef USE_INJECTION
/* returns the errno to fail with, or 0 to go on */
extern int	injection_run(const char *point);
#define INJECTION_POINT(point) injection_run(point)
#else
#define INJECTION_POINT(point) 0
#endif

#endif							/* UTILS_INJECTION_H */
