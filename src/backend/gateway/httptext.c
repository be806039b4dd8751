/*
 * httptext.c
 *	  The words of an HTTP/1.1 answer.
 */
#include "server.h"

/* system */
#include <ctype.h>
#include <time.h>

/* libraries */
#include <http_parser.h>

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "gateway/httptext.h"

const char *
httptext_reason(int status)
{
	switch (status)
	{
		case 499:
			return "Client Closed Request";
#define STATUS(number, symbol, text) case number: return #text;
			HTTP_STATUS_MAP(STATUS)
#undef STATUS
		default:
			return "Unknown";
	}
}

void
httptext_put_name(Buf *out, Bytes name)
{
	bool		is_first = true;

	for (size_t i = 0; i < name.len; i++)
	{
		buf_put_u8(out, is_first ? (uint8_t) toupper(name.data[i]) :
				   name.data[i]);
		is_first = name.data[i] == '-';
	}
}

void
httptext_put_value(Buf *out, Bytes value)
{
	for (size_t i = 0; i < value.len; i++)
		if ((value.data[i] >= 0x20 && value.data[i] != 0x7f) ||
			value.data[i] == '\t')
			buf_put_u8(out, value.data[i]);
}

void
httptext_put_date(Buf *out)
{
	static char line[64];
	static int64_t line_s = -1;
	int64_t		now_s = clock_realtime_ms() / 1000;

	if (now_s != line_s)
	{
		time_t		t = (time_t) now_s;
		struct tm	tm;

		gmtime_r(&t, &tm);
		/* the locale is C: nobody has called setlocale() */
		strftime(line, sizeof(line), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n",
				 &tm);
		line_s = now_s;
	}
	buf_append(out, line, strlen(line));
}
