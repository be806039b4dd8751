/*
 * metadata.c
 *	  What the headers of a request say, and nothing else of them.
 *
 * Here, below the doors, because gRPC and JSON must read a token alike.
 * etcd-v3-wire.md sections 1 and 6.  A field that we have no use for costs
 * its place in the limits and no memory.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "dispatch/metadata.h"

#define FIELD_OVERHEAD_BYTES 32
#define TIMEOUT_MAX_DIGITS 8
#define BEARER "Bearer "

/* of a secret to be overwritten with its request */
typedef struct SecretCopy
{
	void	   *data;
	size_t		len;
} SecretCopy;

static void wipe_copy(void *arg);
static bool begins_with(Bytes text, const char *prefix);
static void keep_first(Bytes *field, bool *has_field, MemContext *mcx,
					   Bytes value);

void
metadata_add(GrpcHead *head, MemContext *mcx, Bytes name, Bytes value)
{
	bool		seen;

	head->bytes += name.len + value.len + FIELD_OVERHEAD_BYTES;
	head->fields++;
	if (head->bytes > METADATA_MAX_BYTES || head->fields > METADATA_MAX_FIELDS)
	{
		head->is_too_large = true;
		return;
	}

	/* HTTP/2 has seen to it that pseudo fields come once */
	if (bytes_equal_cstr(name, ":path"))
		head->path = mcx_bytes_dup(mcx, value);
	else if (bytes_equal_cstr(name, ":method"))
		head->method = mcx_bytes_dup(mcx, value);
	else if (bytes_equal_cstr(name, "content-type"))
		head->content_type = mcx_bytes_dup(mcx, value);
	else if (bytes_equal_cstr(name, "grpc-encoding"))
		head->encoding = mcx_bytes_dup(mcx, value);
	else if (bytes_equal_cstr(name, "grpc-timeout"))
		keep_first(&head->timeout, &head->has_timeout, mcx, value);
	else if (bytes_equal_cstr(name, "token"))
		keep_first(&head->token, &head->has_token, mcx, value);
	else if (bytes_equal_cstr(name, "authorization"))
		keep_first(&head->authorization, &head->has_authorization, mcx, value);
	else if (bytes_equal_cstr(name, "client-api-version"))
	{
		seen = head->client_api_version.data != NULL;
		keep_first(&head->client_api_version, &seen, mcx, value);
	}
	else if (bytes_equal_cstr(name, "hasleader"))
		head->require_leader |= bytes_equal_cstr(value, "true");
	else if (begins_with(name, "grpcgateway-"))
		head->is_from_gateway = true;
}

void
metadata_credentials(const GrpcHead *head, Bytes common_name,
					 Credentials *credentials)
{
	Bytes		token = head->has_token ? head->token : head->authorization;

	if (begins_with(token, BEARER))
		token = bytes_make(token.data + strlen(BEARER),
						   token.len - strlen(BEARER));
	credentials->has_token = head->has_token || head->has_authorization;
	credentials->token = token;
	credentials->common_name = head->is_from_gateway ? BYTES_EMPTY :
		common_name;
}

void
metadata_fill_request(const GrpcHead *head, Bytes common_name, Request *req)
{
	Credentials *credentials = &req->credentials;

	metadata_credentials(head, common_name, credentials);
	credentials->common_name = mcx_bytes_dup(req->mcx,
											 credentials->common_name);
	if (credentials->token.len > 0)
	{
		SecretCopy *copy = mcx_alloc(req->mcx, sizeof(*copy));

		copy->len = credentials->token.len;
		copy->data = mcx_memdup(req->mcx, credentials->token.data, copy->len);
		credentials->token = bytes_make(copy->data, copy->len);
		mcx_on_reset(req->mcx, wipe_copy, copy);
	}
	req->client_api_version = mcx_bytes_dup(req->mcx,
											head->client_api_version);
	req->require_leader = head->require_leader;
}

bool
metadata_timeout_ms(Bytes text, int64_t *ms, const char **why)
{
	uint64_t	n = 0;
	size_t		digits;

	if (text.len < 2)
	{
		*why = "transport: timeout string is too short";
		return false;
	}
	digits = text.len - 1;
	if (digits > TIMEOUT_MAX_DIGITS)
	{
		*why = "transport: timeout string is too long";
		return false;
	}
	for (size_t i = 0; i < digits; i++)
	{
		if (text.data[i] < '0' || text.data[i] > '9')
		{
			*why = "transport: timeout is not a number";
			return false;
		}
		n = n * 10 + (uint64_t) (text.data[i] - '0');
	}
	switch (text.data[digits])
	{
		case 'H':
			*ms = (int64_t) n * 3600 * 1000;
			return true;
		case 'M':
			*ms = (int64_t) n * 60 * 1000;
			return true;
		case 'S':
			*ms = (int64_t) n * 1000;
			return true;
		case 'm':
			*ms = (int64_t) n;
			return true;
		case 'u':
			*ms = (int64_t) (n + 999) / 1000;
			return true;
		case 'n':
			*ms = (int64_t) (n + 999999) / 1000000;
			return true;
		default:
			*why = "transport: timeout unit is not recognized";
			return false;
	}
}

bool
metadata_is_grpc(Bytes content_type)
{
	static const char base[] = "application/grpc";

	if (!begins_with(content_type, base))
		return false;
	if (content_type.len == sizeof(base) - 1)
		return true;
	return content_type.data[sizeof(base) - 1] == '+' ||
		content_type.data[sizeof(base) - 1] == ';';
}

bool
metadata_split_path(Bytes path, Bytes *service, Bytes *method)
{
	const uint8_t *slash;

	if (path.len == 0 || path.data[0] != '/')
		return false;
	slash = memrchr(path.data + 1, '/', path.len - 1);
	if (slash == NULL)
		return false;
	*service = bytes_make(path.data + 1, (size_t) (slash - path.data) - 1);
	*method = bytes_make(slash + 1, path.len - service->len - 2);
	return true;
}

static void
wipe_copy(void *arg)
{
	SecretCopy *copy = arg;

	secret_wipe(copy->data, copy->len);
}

static bool
begins_with(Bytes text, const char *prefix)
{
	size_t		n = strlen(prefix);

	return text.len >= n && memcmp(text.data, prefix, n) == 0;
}

static void
keep_first(Bytes *field, bool *has_field, MemContext *mcx, Bytes value)
{
	if (*has_field)
		return;
	*field = mcx_bytes_dup(mcx, value);
	*has_field = true;
}
