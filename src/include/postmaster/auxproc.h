/*
 * auxproc.h
 *	  The postmaster's side of the auxiliary processes (worker/auxlist.h).
 *
 * Started when the raft worker is ready, started again when they die, after a
 * pause that grows from 0.1 s to a minute, so that one that cannot live costs
 * a line and a fork a minute and not more.
 */
#ifndef POSTMASTER_AUXPROC_H
#define POSTMASTER_AUXPROC_H

#include <stdbool.h>

#include "postmaster/children.h"
#include "worker/auxiliary.h"

/* fork those that are not there and whose time has come; PM_RUNNING only */
extern void auxproc_start_due(void);

/* ms until auxproc_start_due() has something to do; -1: nothing */
extern int	auxproc_next_start_ms(void);

/* a child of kind CHILD_AUXILIARY is gone; is_running: it should not be */
extern void auxproc_on_exit(const Child *child, int status, bool is_running);

extern void auxproc_signal_all(int signo);

#endif							/* POSTMASTER_AUXPROC_H */
