/*
 * fetch.h
 *	  A snapshot from a running server, for clav_dump.
 */
#ifndef FETCH_H
#define FETCH_H

#include <stdio.h>

typedef struct FetchOptions
{
	const char *endpoint;		/* host:port, http://host:port or https://... */
	char	   *user;			/* "name:password", or NULL; heap */
	const char *ca_file;		/* NULL: the system's */
	const char *cert_file;		/* NULL: none */
	const char *key_file;
} FetchOptions;

/*
 * Stream a snapshot into a temporary file that has no name.  Ends the program
 * with a message on failure.
 */
extern FILE *fetch_snapshot(const FetchOptions *options);

#endif							/* FETCH_H */
