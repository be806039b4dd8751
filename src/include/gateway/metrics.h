/*
 * metrics.h
 *	  /metrics: for the files that write it.
 */
#ifndef GATEWAY_METRICS_H
#define GATEWAY_METRICS_H

#include "lib/buf.h"

/* all of it */
extern void metrics_write(Buf *out);

/* the lines HELP and TYPE */
extern void metrics_put_head(Buf *out, const char *name, const char *type,
							 const char *help);

/* process_...: what the system says of the raft worker */
extern void metrics_write_process(Buf *out);

#endif							/* GATEWAY_METRICS_H */
