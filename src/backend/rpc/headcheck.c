/*
 * headcheck.c
 *	  Is the head of an HTTP/2 request well-formed?
 *
 * See headcheck.h for why nghttp2 does not do this here.  Whoever reads
 * :authority must be ready for any bytes that a header may have.
 */
#include "server.h"

/* libraries */
#include <nghttp2/nghttp2.h>

/* this layer and below */
#include "rpc/headcheck.h"

static bool pseudo_field(HeadCheck *check, Bytes name, Bytes value);
static bool once(bool *has);
static bool is_of_connection(Bytes name);
static bool content_length(HeadCheck *check, Bytes value);

bool
headcheck_field(HeadCheck *check, Bytes name, Bytes value)
{
	if (!nghttp2_check_header_name(name.data, name.len) ||
		!nghttp2_check_header_value(value.data, value.len))
		return false;
	if (name.data[0] == ':')
		return !check->has_regular && pseudo_field(check, name, value);
	check->has_regular = true;
	if (bytes_equal_cstr(name, "te"))
		return bytes_equal_cstr(value, "trailers");
	if (bytes_equal_cstr(name, "content-length"))
		return content_length(check, value);
	return !is_of_connection(name);
}

bool
headcheck_complete(const HeadCheck *check)
{
	return check->has_method && check->has_scheme && check->has_path;
}

bool
headcheck_data(HeadCheck *check, size_t len)
{
	check->received += len;
	return !check->has_length || check->received <= check->length;
}

bool
headcheck_end(const HeadCheck *check)
{
	return !check->has_length || check->received == check->length;
}

static bool
pseudo_field(HeadCheck *check, Bytes name, Bytes value)
{
	if (bytes_equal_cstr(name, ":method"))
		return once(&check->has_method) &&
			nghttp2_check_method(value.data, value.len);
	if (bytes_equal_cstr(name, ":scheme"))
		return once(&check->has_scheme) && value.len > 0;
	if (bytes_equal_cstr(name, ":path"))
		return once(&check->has_path) && value.len > 0 &&
			(value.data[0] == '/' || bytes_equal_cstr(value, "*")) &&
			nghttp2_check_path(value.data, value.len);
	if (bytes_equal_cstr(name, ":authority"))
		return once(&check->has_authority);
	return false;
}

/* false if it was there already */
static bool
once(bool *has)
{
	bool		is_first = !*has;

	*has = true;
	return is_first;
}

/* what speaks of an HTTP/1.1 connection has no place here */
static bool
is_of_connection(Bytes name)
{
	return bytes_equal_cstr(name, "connection") ||
		bytes_equal_cstr(name, "proxy-connection") ||
		bytes_equal_cstr(name, "keep-alive") ||
		bytes_equal_cstr(name, "transfer-encoding") ||
		bytes_equal_cstr(name, "upgrade");
}

static bool
content_length(HeadCheck *check, Bytes value)
{
	if (!once(&check->has_length) || value.len == 0 || value.len > 18)
		return false;
	for (size_t i = 0; i < value.len; i++)
	{
		if (value.data[i] < '0' || value.data[i] > '9')
			return false;
		check->length = check->length * 10 + (uint64_t) (value.data[i] - '0');
	}
	return true;
}
