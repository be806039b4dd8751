/*
 * http_feed.h
 *	  How an input of a fuzz target goes into the HTTP/1.1 door.
 *
 * choice, bit by bit: 0, one byte at a time; 1, output is pulled only at the
 * end (by the caller); 2, timers fire between the pieces, ms_per_byte further
 * on for each byte; 3, the server is told to stop in the middle.
 */
#ifndef HTTP_FEED_H
#define HTTP_FEED_H

#include "gateway/http.h"
#include "utils/clock.h"

#include "../unit/gateway_double.h"

#define PIECE_BYTES 41

typedef void (*PullFn) (HttpSession *session);

static void
http_feed(HttpSession *session, PullFn pull_all, Bytes data, unsigned choice,
		  int64_t ms_per_byte)
{
	size_t		piece = choice & 1 ? 1 : PIECE_BYTES;

	for (size_t at = 0; at < data.len; at += piece)
	{
		Bytes		part = bytes_make(data.data + at,
									  size_min(piece, data.len - at));

		if (http_session_wants_input(session) &&
			!http_session_receive(session, part))
			break;
		if (!(choice & 2))
			pull_all(session);
		if (choice & 4)
		{
			if (doubled.npending > 0)
				double_finish(doubled.pending[0]);
			http_session_on_timer(session,
								  clock_coarse_ms() + (int64_t) at * ms_per_byte);
		}
		if ((choice & 8) && at > data.len / 2)
			http_session_shutdown(session);
	}
}

#endif							/* HTTP_FEED_H */
