/*
 * postmaster.h
 *	  The first process: sockets, children, shared memory, reload, stop.
 */
#ifndef POSTMASTER_POSTMASTER_H
#define POSTMASTER_POSTMASTER_H

#include "comm/conn.h"
#include "comm/listen.h"

/* runs until told to stop; returns the exit status of the program */
extern int	PostmasterMain(void);

/* only fill an empty data directory; returns the exit status */
extern int	PostmasterInitialise(void);

typedef struct BackendStart
{
	int			fd;				/* accepted socket */
	int			slot;			/* -1: refuse every request and end */
	TlsContext *tls;			/* NULL: plain */
	uint64_t	reload_generation;	/* of the settings and of tls */
	bool		is_for_metrics; /* on one of listen_metrics_urls */
} BackendStart;

/* one client connection, start to end; never returns */
extern void BackendMain(const BackendStart *start)
			__attribute__((noreturn));

/* by the settings as they are now; NULL and a line in error */
extern TlsContext *postmaster_load_tls(char *error, size_t error_size);

/* children notice the postmaster's death by this descriptor's end of file */
extern int	postmaster_death_fd(void);

/*
 * In a child, first of all: close what is the postmaster's.  SIGTERM, SIGINT
 * and SIGHUP are blocked, and may be pending: the child's main takes them over.
 */
extern void postmaster_become_child(void);

#endif							/* POSTMASTER_POSTMASTER_H */
