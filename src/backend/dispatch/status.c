/*
 * status.c
 *	  The end of a call: gRPC status code and message.
 */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "dispatch/status.h"

/* header lists of some clients end at 8 kB; encoding may triple the length */
#define MESSAGE_MAX_BYTES 2048
#define QUOTE_MAX_BYTES 1024

GrpcStatus
status_of_error(ErrCode error)
{
	const ErrInfo *info = err_info(error);

	return (GrpcStatus) {info->grpc_code, 200, info->text};
}

GrpcStatus
status_of_request(const Request *req)
{
	GrpcStatus	status = status_of_error(req->error);

	if (req->error_text != NULL)
		status.text = req->error_text;
	if (req->error_grpc_code >= 0)
		status.code = req->error_grpc_code;
	/* an error must never look like success */
	if (status.code == GRPC_OK)
		status.code = GRPC_INTERNAL;
	return status;
}

Bytes
status_encode_message(MemContext *mcx, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t		len = size_min(strlen(text), MESSAGE_MAX_BYTES);
	uint8_t    *out = mcx_alloc(mcx, len * 3);
	size_t		n = 0;

	for (size_t i = 0; i < len; i++)
	{
		uint8_t		c = (uint8_t) text[i];

		if (c >= 0x20 && c <= 0x7e && c != '%')
		{
			out[n++] = c;
			continue;
		}
		out[n++] = '%';
		out[n++] = (uint8_t) hex[c >> 4];
		out[n++] = (uint8_t) hex[c & 15];
	}
	return bytes_make(out, n);
}

const char *
status_quote(MemContext *mcx, Bytes text)
{
	Buf			out;

	buf_init(&out, mcx);
	buf_put_u8(&out, '"');
	for (size_t i = 0; i < size_min(text.len, QUOTE_MAX_BYTES); i++)
	{
		uint8_t		c = text.data[i];

		if (c == '"' || c == '\\')
			buf_put_u8(&out, '\\');
		if (c >= 0x20 && c <= 0x7e)
			buf_put_u8(&out, c);
		else
			buf_printf(&out, "\\x%02x", c);
	}
	buf_append(&out, "\"", 2);
	return (const char *) out.data;
}
