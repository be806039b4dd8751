/*
 * pidfile.h
 *	  DATA/claviger.pid: how clav_ctl finds the server.
 *
 * Four lines: process id, start (ms since 1970), state ("starting", "ready",
 * "stopping") and the addresses it listens on.  The file is information only;
 * what keeps two servers apart is the lock (raft_lock_data_dir()).
 */
#ifndef POSTMASTER_PIDFILE_H
#define POSTMASTER_PIDFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PIDFILE_NAME "claviger.pid"

typedef struct PidFile
{
	pid_t		pid;
	long long	started_ms;
	char		state[16];
	char		addresses[1024];	/* separated by blanks */
} PidFile;

/* replaces the file in one step; false with errno set */
extern bool pidfile_write(const char *data_dir, const PidFile *pidfile);
/* false if there is none or it is not sound */
extern bool pidfile_read(const char *data_dir, PidFile *pidfile);
extern void pidfile_remove(const char *data_dir);

#endif							/* POSTMASTER_PIDFILE_H */
