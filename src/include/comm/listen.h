/*
 * listen.h
 *	  Listening sockets from a list of URLs.
 *
 * http://HOST:PORT, https://HOST:PORT, unix://PATH, unixs://PATH.  HOST is an
 * IPv4 address, an IPv6 address in brackets, or a name; [::] takes IPv4 as
 * well, as etcd does.  One URL may give several listeners (localhost is
 * 127.0.0.1 and, where there is IPv6, ::1).
 */
#ifndef COMM_LISTEN_H
#define COMM_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct Listener
{
	int			fd;
	bool		is_tls;			/* https, unixs */
	bool		is_for_metrics; /* the opener says so: no API on it */
	char		url[256];		/* as given */
	char		address[256];	/* what it is bound to: "127.0.0.1:2379" */
	char		unix_path[108]; /* to unlink at the end; empty for TCP */
	pid_t		owner;			/* the process that opened it */
} Listener;

/*
 * Open all of a comma-separated list.  Returns how many, or -1 with a line
 * that names URL and reason ("port in use": and what to do) in error.
 */
extern int	listen_open(const char *urls, Listener *listeners, int max,
						char *error, size_t error_size);

/*
 * Close them all.  The files of Unix sockets are removed by the process that
 * opened them only, so a child may call this for its copies.
 */
extern void listen_close(Listener *listeners, int n);

#endif							/* COMM_LISTEN_H */
