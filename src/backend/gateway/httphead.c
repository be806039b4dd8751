/*
 * httphead.c
 *	  The head of an HTTP/1.x request: from bytes to fields, or a refusal.
 *
 * The head is collected until its empty line and then looked at as a whole.
 * http-parser reads it; but Debian builds that without its strict mode, and
 * what two programs on one road read differently is how requests are smuggled
 * past the first of them.  So whatever is not plainly what RFC 9112 says is
 * refused: lines that do not end in CR LF, folded fields, blanks before the
 * colon, control characters, both Content-Length and Transfer-Encoding, either
 * of them twice, an encoding other than "chunked" alone, absolute URIs, two
 * Host or Authorization fields, HTTP/1.1 without Host.
 */
#include "server.h"

/* libraries */
#include <http_parser.h>

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "gateway/httphead.h"

#define MAX_TARGET_BYTES 8192

typedef struct HeadParse
{
	HttpHead1  *head;
	MemContext *mcx;
	HttpField	fields[HTTP_MAX_FIELDS];
	uint32_t	nfields;
	bool		is_complete;
	int			status;			/* of the refusal; 0: none */
	const char *why;
} HeadParse;

static int	on_url(http_parser *parser, const char *at, size_t len);
static int	on_field(http_parser *parser, const char *at, size_t len);
static int	on_value(http_parser *parser, const char *at, size_t len);
static int	on_complete(http_parser *parser);
static int	refuse(HeadParse *parse, int status, const char *why);
static bool has_sound_lines(Bytes data, HeadParse *parse);
static bool is_sound_line(Bytes line);
static bool check_version(HeadParse *parse, const http_parser *parser);
static bool check_target(HeadParse *parse);
static bool take_fields(HeadParse *parse);
static bool take_field(HeadParse *parse, HttpField *field, unsigned *seen);
static bool take_length(HeadParse *parse, Bytes value);
static void take_connection(HeadParse *parse, Bytes value);
static bool lists_word(Bytes list, const char *word);
static Bytes lower_dup(MemContext *mcx, Bytes text);
static bool equal_nocase(Bytes text, const char *word);

size_t
httphead_length(Bytes data, size_t *from)
{
	/* the end may straddle what was seen */
	size_t		at = *from > 3 ? *from - 3 : 0;
	const uint8_t *end = data.len - at < 4 ? NULL :
		memmem(data.data + at, data.len - at, "\r\n\r\n", 4);

	*from = data.len;
	return end == NULL ? 0 : (size_t) (end - data.data) + 4;
}

int
httphead_parse(Bytes data, MemContext *mcx, HttpHead1 *head, const char **why)
{
	static const http_parser_settings settings = {
		.on_url = on_url,
		.on_header_field = on_field,
		.on_header_value = on_value,
		.on_headers_complete = on_complete,
	};
	HeadParse  *parse = mcx_alloc0(mcx, sizeof(*parse));
	http_parser parser;

	*head = (HttpHead1) {.head.body_bytes = 0};
	parse->head = head;
	parse->mcx = mcx;
	http_parser_init(&parser, HTTP_REQUEST);
	parser.data = parse;
	if (has_sound_lines(data, parse))
	{
		http_parser_execute(&parser, &settings, (const char *) data.data,
							data.len);
		if (!parse->is_complete && parse->status == 0)
			refuse(parse, 400, "malformed request");
	}
	if (parse->status == 0)
	{
		head->head.method = bytes_from_cstr(http_method_str(parser.method));
		if (check_version(parse, &parser) && check_target(parse))
			take_fields(parse);
	}
	*why = parse->why;
	return parse->status;
}

bool
httphead_is_token(Bytes name)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	for (size_t i = 0; i < name.len; i++)
	{
		uint8_t		c = name.data[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
			  (c >= 'A' && c <= 'Z') ||
			  (c != '\0' && strchr(others, c) != NULL)))
			return false;
	}
	return name.len > 0;
}

Bytes
httphead_trim(Bytes text)
{
	while (text.len > 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
		text = bytes_make(text.data + 1, text.len - 1);
	while (text.len > 0 && (text.data[text.len - 1] == ' ' ||
							text.data[text.len - 1] == '\t'))
		text.len--;
	return text;
}

/* ---- callbacks of http-parser ---- */

/* called once: the head is given in one piece; so are the others */
static int
on_url(http_parser *parser, const char *at, size_t len)
{
	HeadParse  *parse = parser->data;

	if (parse->head->head.target.len > 0)
		return refuse(parse, 400, "malformed request line");
	parse->head->head.target = mcx_bytes_dup(parse->mcx, bytes_make(at, len));
	return 0;
}

static int
on_field(http_parser *parser, const char *at, size_t len)
{
	HeadParse  *parse = parser->data;

	if (parse->nfields == HTTP_MAX_FIELDS)
		return refuse(parse, 431, "too many header fields");
	parse->fields[parse->nfields++].name = bytes_make(at, len);
	return 0;
}

static int
on_value(http_parser *parser, const char *at, size_t len)
{
	HeadParse  *parse = parser->data;

	if (parse->nfields == 0)
		return refuse(parse, 400, "malformed header field");
	parse->fields[parse->nfields - 1].value = bytes_make(at, len);
	return 0;
}

/* the body is not the parser's matter: httpbody.c is stricter */
static int
on_complete(http_parser *parser)
{
	HeadParse  *parse = parser->data;

	parse->is_complete = true;
	return 1;
}

/* ---- checks ---- */

/* always non-zero, which stops http-parser */
static int
refuse(HeadParse *parse, int status, const char *why)
{
	if (parse->status == 0)
	{
		parse->status = status;
		parse->why = why;
	}
	return -1;
}

static bool
has_sound_lines(Bytes data, HeadParse *parse)
{
	size_t		at = 0;
	bool		is_first = true;

	while (at < data.len)
	{
		const uint8_t *end = memchr(data.data + at, '\n', data.len - at);
		Bytes		line;

		if (end == NULL || end == data.data + at || end[-1] != '\r')
			return refuse(parse, 400, "malformed line") == 0;
		line = bytes_make(data.data + at, (size_t) (end - data.data) - at - 1);
		/* a line that begins with a blank would go on with the one before */
		if (!is_sound_line(line) ||
			(line.len > 0 && (line.data[0] == ' ' || line.data[0] == '\t')))
			return refuse(parse, 400, "malformed line") == 0;
		is_first = false;
		at += line.len + 2;
	}
	return !is_first;
}

static bool
is_sound_line(Bytes line)
{
	for (size_t i = 0; i < line.len; i++)
		if ((line.data[i] < 0x20 && line.data[i] != '\t') ||
			line.data[i] == 0x7f)
			return false;
	return true;
}

static bool
check_version(HeadParse *parse, const http_parser *parser)
{
	if (parser->http_major != 1 || parser->http_minor > 1)
		return refuse(parse, 505, "HTTP version not supported") == 0;
	parse->head->is_http10 = parser->http_minor == 0;
	parse->head->wants_close = parse->head->is_http10;
	return true;
}

static bool
check_target(HeadParse *parse)
{
	Bytes		target = parse->head->head.target;

	if (target.len > MAX_TARGET_BYTES)
		return refuse(parse, 414, "the request target is too long") == 0;
	if (target.len == 0 || (target.data[0] != '/' &&
							!bytes_equal_cstr(target, "*")))
		return refuse(parse, 400, "absolute request targets are not served") == 0;
	for (size_t i = 0; i < target.len; i++)
		if (target.data[i] <= 0x20 || target.data[i] >= 0x7f ||
			target.data[i] == '#')
			return refuse(parse, 400, "malformed request target") == 0;
	return true;
}

/* fields that may come only once; what they say is taken out of the list */
enum
{
	SEEN_HOST = 1,
	SEEN_LENGTH = 2,
	SEEN_ENCODING = 4,
	SEEN_AUTHORIZATION = 8
};

static bool
take_fields(HeadParse *parse)
{
	HttpHead   *head = &parse->head->head;
	unsigned	seen = 0;

	head->fields = mcx_alloc(parse->mcx,
							 (parse->nfields + 1) * sizeof(*head->fields));
	for (uint32_t i = 0; i < parse->nfields; i++)
		if (!take_field(parse, &parse->fields[i], &seen))
			return false;
	if (!(seen & SEEN_HOST) && !parse->head->is_http10)
		return refuse(parse, 400, "missing required Host header") == 0;
	if ((seen & SEEN_LENGTH) && (seen & SEEN_ENCODING))
		return refuse(parse, 400, "both Content-Length and Transfer-Encoding") == 0;
	if ((seen & SEEN_ENCODING) && parse->head->is_http10)
		return refuse(parse, 400, "Transfer-Encoding in HTTP/1.0") == 0;
	return true;
}

static bool
once(HeadParse *parse, unsigned *seen, unsigned which, const char *why)
{
	if (*seen & which)
		return refuse(parse, 400, why) == 0;
	*seen |= which;
	return true;
}

static bool
take_field(HeadParse *parse, HttpField *field, unsigned *seen)
{
	HttpHead   *head = &parse->head->head;
	Bytes		value = httphead_trim(field->value);
	Bytes		name;

	if (!httphead_is_token(field->name))
		return refuse(parse, 400, "malformed header field") == 0;
	name = lower_dup(parse->mcx, field->name);
	if (bytes_equal_cstr(name, "host"))
	{
		head->host = mcx_bytes_dup(parse->mcx, value);
		return once(parse, seen, SEEN_HOST, "too many Host headers");
	}
	if (bytes_equal_cstr(name, "content-length"))
		return once(parse, seen, SEEN_LENGTH, "Content-Length is given twice") &&
			take_length(parse, value);
	if (bytes_equal_cstr(name, "transfer-encoding"))
	{
		if (!once(parse, seen, SEEN_ENCODING, "Transfer-Encoding is given twice"))
			return false;
		if (!equal_nocase(value, "chunked"))
			return refuse(parse, 501, "unsupported transfer encoding") == 0;
		parse->head->is_chunked = true;
		head->body_bytes = -1;
		return true;
	}
	if (bytes_equal_cstr(name, "connection"))
		take_connection(parse, value);
	if (bytes_equal_cstr(name, "upgrade"))
		parse->head->names_websocket |= lists_word(value, "websocket");
	if (bytes_equal_cstr(name, "expect"))
	{
		if (!equal_nocase(value, "100-continue"))
			return refuse(parse, 417, "unknown expectation") == 0;
		parse->head->expects_continue = !parse->head->is_http10;
	}
	if (bytes_equal_cstr(name, "authorization") &&
		!once(parse, seen, SEEN_AUTHORIZATION, "too many Authorization headers"))
		return false;
	head->fields[head->nfields++] = (HttpField) {
		name, mcx_bytes_dup(parse->mcx, value)
	};
	return true;
}

static bool
take_length(HeadParse *parse, Bytes value)
{
	int64_t		n = 0;

	if (value.len == 0 || value.len > 15)
		return refuse(parse, 400, "malformed Content-Length") == 0;
	for (size_t i = 0; i < value.len; i++)
	{
		if (value.data[i] < '0' || value.data[i] > '9')
			return refuse(parse, 400, "malformed Content-Length") == 0;
		n = n * 10 + (value.data[i] - '0');
	}
	parse->head->head.body_bytes = n;
	return true;
}

/* "keep-alive" is what happens anyway */
static void
take_connection(HeadParse *parse, Bytes value)
{
	parse->head->wants_close |= lists_word(value, "close");
	parse->head->wants_upgrade |= lists_word(value, "upgrade");
}

/* ---- text ---- */

/* with commas between its words */
static bool
lists_word(Bytes list, const char *word)
{
	size_t		at = 0;

	while (at < list.len)
	{
		const uint8_t *comma = memchr(list.data + at, ',', list.len - at);
		size_t		end = comma == NULL ? list.len :
			(size_t) (comma - list.data);

		if (equal_nocase(httphead_trim(bytes_make(list.data + at, end - at)),
						 word))
			return true;
		at = end + 1;
	}
	return false;
}

static Bytes
lower_dup(MemContext *mcx, Bytes text)
{
	uint8_t    *lower = mcx_memdup(mcx, text.data, text.len);

	for (size_t i = 0; i < text.len; i++)
		if (lower[i] >= 'A' && lower[i] <= 'Z')
			lower[i] = (uint8_t) (lower[i] + 'a' - 'A');
	return bytes_make(lower, text.len);
}

static bool
equal_nocase(Bytes text, const char *word)
{
	return text.len == strlen(word) &&
		strncasecmp((const char *) text.data, word, text.len) == 0;
}
