/*
 * fetch.c
 *	  A snapshot from a running server.
 *
 * One connection, one request at a time, and everything blocks: there is
 * nothing else to do.  Messages are taken as they come, so that memory does not
 * depend on the size of the snapshot.
 */
#include "server.h"

/* system */
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

/* libraries */
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* lib and utils */
#include "lib/buf.h"
#include "lib/pbwire.h"
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this program */
#include "fetch.h"

#define READ_BYTES (64 * 1024)
#define WINDOW_BYTES (4 * 1024 * 1024)
#define FRAME_PREFIX_BYTES 5
/* no message of ours is near it */
#define MESSAGE_MAX_BYTES (64 * 1024 * 1024)
/* fields of AuthenticateResponse and SnapshotResponse */
#define FIELD_TOKEN 2
#define FIELD_BLOB 3

typedef struct Fetch Fetch;
typedef void (*MessageFn) (Fetch *fetch, Bytes message);

struct Fetch
{
	const FetchOptions *options;
	bool		use_tls;
	char		host[256];
	char		port[16];
	char		authority[300];
	int			fd;
	SSL		   *ssl;
	nghttp2_session *session;

	/* the request under way */
	Buf			request;
	size_t		request_sent;
	Buf			in;				/* of messages that are not complete */
	MessageFn	on_message;
	int			status;			/* gRPC code; -1: none seen */
	char		text[256];
	bool		is_over;

	char		token[4096];
	FILE	   *file;
};

static void parse_endpoint(Fetch *fetch);
static void connect_socket(Fetch *fetch);
static void connect_tls(Fetch *fetch);
static void open_session(Fetch *fetch);
static void log_in(Fetch *fetch);
static void call(Fetch *fetch, const char *path, const Buf *message,
				 MessageFn on_message);
static void send_all(Fetch *fetch);
static void receive_some(Fetch *fetch);
static void take_token(Fetch *fetch, Bytes message);
static void take_blob(Fetch *fetch, Bytes message);
static bool find_field(Bytes message, unsigned wanted, Bytes *value);
static ssize_t read_request(nghttp2_session *session, int32_t stream_id,
							uint8_t *data, size_t length, uint32_t *flags,
							nghttp2_data_source *source, void *user_data);
static int	on_header(nghttp2_session *session, const nghttp2_frame *frame,
					  const uint8_t *name, size_t name_len,
					  const uint8_t *value, size_t value_len, uint8_t flags,
					  void *user_data);
static int	on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id,
					const uint8_t *data, size_t len, void *user_data);
static int	on_close(nghttp2_session *session, int32_t stream_id,
					 uint32_t error_code, void *user_data);

FILE *
fetch_snapshot(const FetchOptions *options)
{
	Fetch		fetch = {.options = options,.fd = -1};
	Buf			empty;

	buf_init(&empty, NULL);
	buf_init(&fetch.request, NULL);
	buf_init(&fetch.in, NULL);
	fetch.file = tmpfile();
	if (fetch.file == NULL)
		elog_fatal("could not make a temporary file: %s", strerror(errno));
	parse_endpoint(&fetch);
	connect_socket(&fetch);
	if (fetch.use_tls)
		connect_tls(&fetch);
	open_session(&fetch);
	if (options->user != NULL)
		log_in(&fetch);
	call(&fetch, "/etcdserverpb.Maintenance/Snapshot", &empty, take_blob);
	if (fflush(fetch.file) != 0)
		elog_fatal("could not write to a temporary file: %s", strerror(errno));
	nghttp2_session_del(fetch.session);
	SSL_free(fetch.ssl);
	close(fetch.fd);
	buf_free(&fetch.request);
	buf_free(&fetch.in);
	secret_wipe(fetch.token, sizeof(fetch.token));
	return fetch.file;
}

/* ---- connection ---- */

static void
parse_endpoint(Fetch *fetch)
{
	const char *text = fetch->options->endpoint;
	const char *port;
	const char *host;
	size_t		host_len;

	if (strncmp(text, "https://", 8) == 0)
		fetch->use_tls = true;
	else
		fetch->use_tls = fetch->options->ca_file != NULL ||
			fetch->options->cert_file != NULL;
	host = strstr(text, "://") != NULL ? strstr(text, "://") + 3 : text;
	port = strrchr(host, ':');
	if (port == NULL || port == host || port[1] == '\0' ||
		strlen(port + 1) >= sizeof(fetch->port))
		elog_fatal("endpoint \"%s\" is not host:port", text);
	snprintf(fetch->authority, sizeof(fetch->authority), "%s", host);
	strcpy(fetch->port, port + 1);
	host_len = (size_t) (port - host);
	if (host[0] == '[' && port[-1] == ']')
	{
		host++;
		host_len -= 2;
	}
	if (host_len >= sizeof(fetch->host))
		elog_fatal("endpoint \"%s\" is not host:port", text);
	memcpy(fetch->host, host, host_len);
}

static void
connect_socket(Fetch *fetch)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	int			rc = getaddrinfo(fetch->host, fetch->port, &hints, &list);

	if (rc != 0)
		elog_fatal("endpoint \"%s\": %s", fetch->options->endpoint,
				   gai_strerror(rc));
	for (struct addrinfo *ai = list; ai != NULL && fetch->fd < 0;
		 ai = ai->ai_next)
	{
		fetch->fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC,
						   ai->ai_protocol);
		if (fetch->fd >= 0 &&
			connect(fetch->fd, ai->ai_addr, ai->ai_addrlen) != 0)
		{
			close(fetch->fd);
			fetch->fd = -1;
		}
	}
	if (fetch->fd < 0)
		elog_fatal("could not connect to \"%s\": %s", fetch->options->endpoint,
				   strerror(errno));
	freeaddrinfo(list);
}

/* The server's certificate must be of the CA and for the name we asked for. */
static void
connect_tls(Fetch *fetch)
{
	static const uint8_t h2[] = "\x02h2";
	const FetchOptions *options = fetch->options;
	SSL_CTX    *tls = SSL_CTX_new(TLS_client_method());
	X509_VERIFY_PARAM *param;

	if (tls == NULL || SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) != 1)
		elog_fatal("OpenSSL could not be set up");
	SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
	if (options->ca_file == NULL ? SSL_CTX_set_default_verify_paths(tls) != 1
		: SSL_CTX_load_verify_locations(tls, options->ca_file, NULL) != 1)
		elog_fatal("could not read the CA certificates: %s",
				   ERR_reason_error_string(ERR_peek_last_error()));
	if (options->cert_file != NULL &&
		(SSL_CTX_use_certificate_chain_file(tls, options->cert_file) != 1 ||
		 SSL_CTX_use_PrivateKey_file(tls, options->key_file,
									 SSL_FILETYPE_PEM) != 1))
		elog_fatal("could not read the certificate or its key: %s",
				   ERR_reason_error_string(ERR_peek_last_error()));
	fetch->ssl = SSL_new(tls);
	SSL_CTX_free(tls);
	if (fetch->ssl == NULL || SSL_set_fd(fetch->ssl, fetch->fd) != 1 ||
		SSL_set_alpn_protos(fetch->ssl, h2, sizeof(h2) - 1) != 0)
		elog_fatal("OpenSSL could not be set up");
	param = SSL_get0_param(fetch->ssl);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, fetch->host) != 1 &&
		(X509_VERIFY_PARAM_set1_host(param, fetch->host, 0) != 1 ||
		 SSL_set_tlsext_host_name(fetch->ssl, fetch->host) != 1))
		elog_fatal("OpenSSL could not be set up");
	if (SSL_connect(fetch->ssl) != 1)
		elog_fatal("TLS handshake with \"%s\" failed: %s", options->endpoint,
				   ERR_reason_error_string(ERR_peek_last_error()));
}

static void
open_session(Fetch *fetch)
{
	nghttp2_session_callbacks *callbacks;
	nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	};

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		elog_fatal("out of memory");
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
															  on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
														   on_close);
	if (nghttp2_session_client_new(&fetch->session, callbacks, fetch) != 0 ||
		nghttp2_submit_settings(fetch->session, NGHTTP2_FLAG_NONE, settings,
								lengthof(settings)) != 0 ||
		nghttp2_session_set_local_window_size(fetch->session, NGHTTP2_FLAG_NONE,
											  0, WINDOW_BYTES) != 0)
		elog_fatal("out of memory");
	nghttp2_session_callbacks_del(callbacks);
}

/* ---- calls ---- */

static void
log_in(Fetch *fetch)
{
	const char *user = fetch->options->user;
	const char *colon = strchr(user, ':');
	Buf			message;

	if (colon == NULL)
		elog_fatal("--user must be name:password");
	buf_init(&message, NULL);
	pbwire_put_bytes(&message, 1, bytes_make(user, (size_t) (colon - user)));
	pbwire_put_bytes(&message, 2, bytes_from_cstr(colon + 1));
	call(fetch, "/etcdserverpb.Auth/Authenticate", &message, take_token);
	secret_wipe(message.data, message.len);
	buf_free(&message);
	if (fetch->token[0] == '\0')
		elog_fatal("the server gave no token");
}

#define NV(name, value) \
	{(uint8_t *) (name), (uint8_t *) (value), sizeof(name) - 1, \
	 strlen(value), NGHTTP2_NV_FLAG_NONE}

/* Send, and give each message of the answer to on_message, until it is over. */
static void
call(Fetch *fetch, const char *path, const Buf *message, MessageFn on_message)
{
	nghttp2_nv	headers[] = {
		NV(":method", "POST"),
		NV(":scheme", fetch->use_tls ? "https" : "http"),
		NV(":path", path),
		NV(":authority", fetch->authority),
		NV("content-type", "application/grpc"),
		NV("te", "trailers"),
		NV("token", fetch->token),
	};
	size_t		nheaders = lengthof(headers) - (fetch->token[0] == '\0');
	nghttp2_data_provider provider = {.read_callback = read_request};

	fetch->request.len = 0;
	buf_put_u8(&fetch->request, 0);
	buf_put_u32be(&fetch->request, (uint32_t) message->len);
	buf_append(&fetch->request, message->data, message->len);
	fetch->request_sent = 0;
	fetch->in.len = 0;
	fetch->on_message = on_message;
	fetch->status = -1;
	fetch->is_over = false;
	if (nghttp2_submit_request(fetch->session, NULL, headers, nheaders,
							   &provider, NULL) < 0)
		elog_fatal("out of memory");
	while (!fetch->is_over)
	{
		send_all(fetch);
		receive_some(fetch);
	}
	if (fetch->status != 0)
		elog_fatal("\"%s\" answered %s: %s", fetch->options->endpoint,
				   strrchr(path, '/') + 1,
				   fetch->status < 0 ? "no status" : fetch->text);
}

static void
send_all(Fetch *fetch)
{
	const uint8_t *data;
	ssize_t		left;

	while ((left = nghttp2_session_mem_send(fetch->session, &data)) > 0)
	{
		while (left > 0)
		{
			ssize_t		n = fetch->ssl != NULL ?
				SSL_write(fetch->ssl, data, (int) left) :
				send(fetch->fd, data, (size_t) left, MSG_NOSIGNAL);

			if (n <= 0)
				elog_fatal("the connection to \"%s\" broke",
						   fetch->options->endpoint);
			data += n;
			left -= n;
		}
	}
}

static void
receive_some(Fetch *fetch)
{
	static uint8_t data[READ_BYTES];
	ssize_t		n;

	if (fetch->is_over)
		return;
	n = fetch->ssl != NULL ? SSL_read(fetch->ssl, data, sizeof(data)) :
		recv(fetch->fd, data, sizeof(data), 0);
	if (n <= 0)
		elog_fatal("the connection to \"%s\" broke before the end",
				   fetch->options->endpoint);
	if (nghttp2_session_mem_recv(fetch->session, data, (size_t) n) < 0)
		elog_fatal("\"%s\" does not speak gRPC", fetch->options->endpoint);
}

static void
take_token(Fetch *fetch, Bytes message)
{
	Bytes		token;

	if (find_field(message, FIELD_TOKEN, &token) &&
		token.len < sizeof(fetch->token))
		memcpy(fetch->token, token.data, token.len);
}

static void
take_blob(Fetch *fetch, Bytes message)
{
	Bytes		blob;

	if (find_field(message, FIELD_BLOB, &blob) &&
		fwrite(blob.data, 1, blob.len, fetch->file) != blob.len)
		elog_fatal("could not write to a temporary file: %s", strerror(errno));
}

/* the first field of this number that has bytes */
static bool
find_field(Bytes message, unsigned wanted, Bytes *value)
{
	Cursor		cur = cursor_make(message);
	uint64_t	tag;
	uint64_t	number;

	while (cursor_get_varint(&cur, &tag))
	{
		if ((tag & 7) == PBWIRE_VARINT)
		{
			if (!cursor_get_varint(&cur, &number))
				return false;
			continue;
		}
		if ((tag & 7) != PBWIRE_BYTES || !cursor_get_bytes(&cur, value))
			return false;
		if (tag >> 3 == wanted)
			return true;
	}
	return false;
}

/* ---- what nghttp2 calls ---- */

static ssize_t
read_request(nghttp2_session *session, int32_t stream_id, uint8_t *data,
			 size_t length, uint32_t *flags, nghttp2_data_source *source,
			 void *user_data)
{
	Fetch	   *fetch = user_data;
	size_t		n = size_min(length, fetch->request.len - fetch->request_sent);

	memcpy(data, fetch->request.data + fetch->request_sent, n);
	fetch->request_sent += n;
	if (fetch->request_sent == fetch->request.len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t) n;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame,
		  const uint8_t *name, size_t name_len, const uint8_t *value,
		  size_t value_len, uint8_t flags, void *user_data)
{
	Fetch	   *fetch = user_data;
	Bytes		key = bytes_make(name, name_len);
	char		number[16];

	if (bytes_equal_cstr(key, "grpc-status"))
	{
		snprintf(number, sizeof(number), "%.*s", (int) value_len,
				 (const char *) value);
		fetch->status = atoi(number);
	}
	else if (bytes_equal_cstr(key, "grpc-message"))
		snprintf(fetch->text, sizeof(fetch->text), "%.*s", (int) value_len,
				 (const char *) value);
	return 0;
}

/* Whole messages go on, the rest waits. */
static int
on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id,
		const uint8_t *data, size_t len, void *user_data)
{
	Fetch	   *fetch = user_data;
	size_t		at = 0;

	buf_append(&fetch->in, data, len);
	while (fetch->in.len - at >= FRAME_PREFIX_BYTES)
	{
		const uint8_t *p = fetch->in.data + at;
		size_t		n = (size_t) p[1] << 24 | (size_t) p[2] << 16 |
			(size_t) p[3] << 8 | p[4];

		if (p[0] != 0 || n > MESSAGE_MAX_BYTES)
			elog_fatal("\"%s\" sent what is no message",
					   fetch->options->endpoint);
		if (fetch->in.len - at < FRAME_PREFIX_BYTES + n)
			break;
		fetch->on_message(fetch, bytes_make(p + FRAME_PREFIX_BYTES, n));
		at += FRAME_PREFIX_BYTES + n;
	}
	memmove(fetch->in.data, fetch->in.data + at, fetch->in.len - at);
	fetch->in.len -= at;
	return 0;
}

static int
on_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
		 void *user_data)
{
	Fetch	   *fetch = user_data;

	fetch->is_over = true;
	return 0;
}
