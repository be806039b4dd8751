/*
 * httptext.h
 *	  The words of an HTTP/1.1 answer.
 */
#ifndef GATEWAY_HTTPTEXT_H
#define GATEWAY_HTTPTEXT_H

#include "lib/buf.h"

/* "Not Found" for 404; never NULL */
extern const char *httptext_reason(int status);

/* content-type becomes Content-Type, for those who like it so */
extern void httptext_put_name(Buf *out, Bytes name);
/* what would end the line is left out */
extern void httptext_put_value(Buf *out, Bytes value);
/* the line "Date: ...", made anew once a second */
extern void httptext_put_date(Buf *out);

#endif							/* GATEWAY_HTTPTEXT_H */
