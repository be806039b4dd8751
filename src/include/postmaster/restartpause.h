/*
 * restartpause.h
 *	  How long to wait before the raft worker is started again.
 */
#ifndef POSTMASTER_RESTARTPAUSE_H
#define POSTMASTER_RESTARTPAUSE_H

/* all zero at first */
typedef struct RestartPause
{
	int64_t		ready_ms;		/* when the running one was ready */
	int64_t		pause_ms;		/* the last one */
} RestartPause;

extern void restartpause_ready(RestartPause *pause, int64_t now_ms);

/*
 * It has ended, after it had been ready.  Returns how long to wait, at most
 * longest_ms.
 */
extern int64_t restartpause_died(RestartPause *pause, int64_t now_ms,
								 int64_t longest_ms);

#endif							/* POSTMASTER_RESTARTPAUSE_H */
