/*
 * secret.h
 *	  Passwords in decoded messages: for command's own files.
 */
#ifndef COMMAND_SECRET_H
#define COMMAND_SECRET_H

#include "dispatch/request.h"

/*
 * The password in a string field of the request's message.  It is wiped when
 * the request ends, whichever way that is.
 */
extern Bytes secret_take(Request *req, char *field);

/* wipe it now; it is then as long as before, and all zero */
extern void secret_forget(Bytes secret);

#endif							/* COMMAND_SECRET_H */
