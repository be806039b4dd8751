/*
 * client.c
 *	  One connection of clav_bench: socket, TLS, HTTP/2 client session.
 *
 * Connecting blocks, because it is not what is measured; afterwards nothing
 * blocks.  A stream keeps when it was sent; its latency ends with its trailers.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

/* libraries */
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/mmgr.h"

/* this program */
#include "bench.h"

#define READ_BYTES (64 * 1024)
#define WINDOW_BYTES (16 * 1024 * 1024)
#define FRAME_PREFIX_BYTES 5

typedef struct Stream
{
	Client	   *client;
	int64_t		sent_us;
	Buf			request;		/* prefix and message */
	size_t		request_sent;
	Buf			response;
	int			status;			/* gRPC code; -1: none seen */
	char		message[256];
	bool		stays_open;		/* client_repeat(), client_listen() */
	bool		listens;		/* client_listen() */
	int32_t		id;
	struct Stream *next_free;
	struct Stream *next_made;
} Stream;

struct Client
{
	int			fd;
	SSL		   *ssl;
	nghttp2_session *session;
	char		authority[300];
	char		token[4096];
	bool		use_tls;
	uint32_t	outstanding;
	AnswerFn	on_answer;
	void	   *arg;
	Stream	   *made_streams;	/* all of them */
	Stream	   *free_streams;	/* those that are not in use */
	bool		is_repeating;
	const uint8_t *pending;		/* from nghttp2, not yet sent */
	size_t		pending_len;
	bool		wants_write;
	bool		is_broken;
};

static int	connect_socket(const BenchOptions *options);
static SSL *connect_tls(const BenchOptions *options, SSL_CTX *tls, int fd);
static nghttp2_session *open_session(Client *client);
static Stream *stream_take(Client *client);
static void stream_give(Stream *stream);
static bool stream_open(Stream *stream, const char *path, Bytes message);
static void stream_take_answers(Stream *stream);
static ssize_t transport_read(Client *client, void *data, size_t size);
static ssize_t transport_write(Client *client, const void *data, size_t size);
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

Client *
client_open(const BenchOptions *options, SSL_CTX *tls, AnswerFn on_answer,
			void *arg)
{
	Client	   *client;
	int			fd = connect_socket(options);
	SSL		   *ssl = NULL;

	if (fd < 0)
		return NULL;
	if (options->use_tls)
	{
		ssl = connect_tls(options, tls, fd);
		if (ssl == NULL)
		{
			close(fd);
			return NULL;
		}
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	client = xcalloc(1, sizeof(*client));
	client->fd = fd;
	client->ssl = ssl;
	client->use_tls = options->use_tls;
	client->on_answer = on_answer;
	client->arg = arg;
	snprintf(client->authority, sizeof(client->authority), "%s:%s",
			 options->host, options->port);
	client->session = open_session(client);
	return client;
}

void
client_close(Client *client)
{
	nghttp2_session_del(client->session);
	if (client->ssl != NULL)
		SSL_free(client->ssl);
	close(client->fd);
	while (client->made_streams != NULL)
	{
		Stream	   *stream = client->made_streams;

		client->made_streams = stream->next_made;
		buf_free(&stream->request);
		buf_free(&stream->response);
		free(stream);
	}
	free(client);
}

int
client_fd(const Client *client)
{
	return client->fd;
}

void
client_set_token(Client *client, const char *token)
{
	snprintf(client->token, sizeof(client->token), "%s", token);
}

uint32_t
client_outstanding(const Client *client)
{
	return client->outstanding;
}

bool
client_wants_write(const Client *client)
{
	return client->wants_write;
}

#define NV(name, value, value_len) \
	{(uint8_t *) (name), (uint8_t *) (value), sizeof(name) - 1, (value_len), \
	 NGHTTP2_NV_FLAG_NO_COPY_NAME}

bool
client_send(Client *client, const char *path, Bytes message)
{
	return stream_open(stream_take(client), path, message);
}

bool
client_repeat(Client *client, const char *path, Bytes message)
{
	Stream	   *stream = stream_take(client);

	stream->stays_open = true;
	client->is_repeating = true;
	return stream_open(stream, path, message);
}

bool
client_listen(Client *client, const char *path, Bytes framed)
{
	Stream	   *stream = stream_take(client);

	stream->stays_open = stream->listens = true;
	if (!stream_open(stream, path, BYTES_EMPTY))
		return false;
	stream->request.len = 0;
	buf_append(&stream->request, framed.data, framed.len);
	client->outstanding--;
	return true;
}

void
client_stop_repeating(Client *client)
{
	client->is_repeating = false;
}

/* Send what the session has, as far as the socket takes it. */
bool
client_flush(Client *client)
{
	client->wants_write = false;
	for (;;)
	{
		ssize_t		n;

		if (client->pending_len == 0)
		{
			n = nghttp2_session_mem_send(client->session, &client->pending);
			if (n < 0)
				return false;
			if (n == 0)
				return true;
			client->pending_len = (size_t) n;
		}
		n = transport_write(client, client->pending, client->pending_len);
		if (n == 0)
		{
			client->wants_write = true;
			return true;
		}
		if (n < 0)
			return false;
		client->pending += n;
		client->pending_len -= (size_t) n;
	}
}

bool
client_on_ready(Client *client)
{
	uint8_t		data[READ_BYTES];

	for (;;)
	{
		ssize_t		n = transport_read(client, data, sizeof(data));

		if (n < 0)
			return false;
		if (n == 0)
			break;
		if (nghttp2_session_mem_recv(client->session, data, (size_t) n) < 0)
			return false;
	}
	return client_flush(client) && !client->is_broken;
}

static int
connect_socket(const BenchOptions *options)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	int			fd = -1;
	int			rc = getaddrinfo(options->host, options->port, &hints, &list);

	if (rc != 0)
	{
		fprintf(stderr, "clav_bench: %s: %s\n", options->host,
				gai_strerror(rc));
		return -1;
	}
	for (struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next)
	{
		fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC,
					ai->ai_protocol);
		if (fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen) != 0)
		{
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	if (fd < 0)
		fprintf(stderr, "clav_bench: could not connect to %s:%s: %s\n",
				options->host, options->port, strerror(errno));
	else
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int) {1}, sizeof(int));
	return fd;
}

static SSL *
connect_tls(const BenchOptions *options, SSL_CTX *tls, int fd)
{
	SSL		   *ssl = SSL_new(tls);

	if (ssl != NULL)
	{
		SSL_set_tlsext_host_name(ssl, options->host);
		SSL_set_fd(ssl, fd);
		if (SSL_connect(ssl) == 1)
			return ssl;
	}
	fprintf(stderr, "clav_bench: TLS handshake failed: %s\n",
			ERR_reason_error_string(ERR_peek_last_error()));
	SSL_free(ssl);
	return NULL;
}

static nghttp2_session *
open_session(Client *client)
{
	nghttp2_session_callbacks *callbacks;
	nghttp2_session *session;
	nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	};

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		exit(1);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
															  on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
														   on_close);
	if (nghttp2_session_client_new(&session, callbacks, client) != 0)
		exit(1);
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings,
							lengthof(settings));
	nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
										  WINDOW_BYTES);
	return session;
}

static Stream *
stream_take(Client *client)
{
	Stream	   *stream = client->free_streams;

	if (stream != NULL)
		client->free_streams = stream->next_free;
	else
	{
		stream = xcalloc(1, sizeof(*stream));
		stream->client = client;
		stream->next_made = client->made_streams;
		client->made_streams = stream;
		buf_init(&stream->request, NULL);
		buf_init(&stream->response, NULL);
	}
	stream->request.len = 0;
	stream->request_sent = 0;
	stream->response.len = 0;
	stream->status = -1;
	stream->message[0] = '\0';
	stream->stays_open = stream->listens = false;
	return stream;
}

static void
stream_give(Stream *stream)
{
	stream->next_free = stream->client->free_streams;
	stream->client->free_streams = stream;
}

static bool
stream_open(Stream *stream, const char *path, Bytes message)
{
	Client	   *client = stream->client;
	const char *scheme = client->use_tls ? "https" : "http";
	nghttp2_nv	headers[] = {
		NV(":method", "POST", 4),
		NV(":scheme", scheme, strlen(scheme)),
		NV(":path", path, strlen(path)),
		NV(":authority", client->authority, strlen(client->authority)),
		NV("content-type", "application/grpc", 16),
		NV("te", "trailers", 8),
		NV("token", client->token, strlen(client->token)),
	};
	size_t		nheaders = lengthof(headers) - (client->token[0] == '\0');
	nghttp2_data_provider provider = {
		.source.ptr = stream,
		.read_callback = read_request,
	};

	buf_put_u8(&stream->request, 0);
	buf_put_u32be(&stream->request, (uint32_t) message.len);
	buf_append(&stream->request, message.data, message.len);
	stream->sent_us = clock_monotonic_us();
	stream->id = nghttp2_submit_request(client->session, NULL, headers,
										nheaders, &provider, stream);
	if (stream->id < 0)
	{
		stream_give(stream);
		return false;
	}
	client->outstanding++;
	return true;
}

/* Whole messages that have come on a stream that stays open. */
static void
stream_take_answers(Stream *stream)
{
	Client	   *client = stream->client;
	Buf		   *in = &stream->response;
	size_t		at = 0;

	while (in->len - at >= FRAME_PREFIX_BYTES)
	{
		const uint8_t *p = in->data + at;
		size_t		len = (size_t) p[1] << 24 | (size_t) p[2] << 16 |
			(size_t) p[3] << 8 | p[4];
		int64_t		now_us = clock_monotonic_us();

		if (in->len - at < FRAME_PREFIX_BYTES + len)
			break;
		at += FRAME_PREFIX_BYTES + len;
		client->outstanding -= !stream->listens;
		client->on_answer(client->arg, 0, "",
						  bytes_make(p + FRAME_PREFIX_BYTES, len),
						  (uint64_t) (now_us - stream->sent_us));
		if (stream->listens || !client->is_repeating)
			continue;
		stream->request_sent = 0;
		stream->sent_us = now_us;
		client->outstanding++;
		nghttp2_session_resume_data(client->session, stream->id);
	}
	memmove(in->data, in->data + at, in->len - at);
	in->len -= at;
}

/* Bytes moved; 0: not now; -1: broken. */
static ssize_t
transport_read(Client *client, void *data, size_t size)
{
	ssize_t		n;

	if (client->ssl != NULL)
	{
		n = SSL_read(client->ssl, data, (int) size);
		if (n > 0)
			return n;
		return SSL_get_error(client->ssl, (int) n) == SSL_ERROR_WANT_READ
			? 0 : -1;
	}
	n = recv(client->fd, data, size, 0);
	if (n > 0)
		return n;
	return n < 0 && errno == EAGAIN ? 0 : -1;
}

static ssize_t
transport_write(Client *client, const void *data, size_t size)
{
	ssize_t		n;

	if (client->ssl != NULL)
	{
		n = SSL_write(client->ssl, data, (int) size);
		if (n > 0)
			return n;
		return SSL_get_error(client->ssl, (int) n) == SSL_ERROR_WANT_WRITE
			? 0 : -1;
	}
	n = send(client->fd, data, size, MSG_NOSIGNAL);
	if (n >= 0)
		return n;
	return errno == EAGAIN ? 0 : -1;
}

static ssize_t
read_request(nghttp2_session *session UNUSED, int32_t stream_id UNUSED,
			 uint8_t *data, size_t length, uint32_t *flags,
			 nghttp2_data_source *source, void *user_data UNUSED)
{
	Stream	   *stream = source->ptr;
	size_t		n = size_min(length,
							 stream->request.len - stream->request_sent);

	memcpy(data, stream->request.data + stream->request_sent, n);
	stream->request_sent += n;
	if (stream->stays_open)
		return n == 0 ? NGHTTP2_ERR_DEFERRED : (ssize_t) n;
	if (stream->request_sent == stream->request.len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t) n;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame,
		  const uint8_t *name, size_t name_len, const uint8_t *value,
		  size_t value_len, uint8_t flags UNUSED, void *user_data UNUSED)
{
	Stream	   *stream = nghttp2_session_get_stream_user_data(
		session, frame->hd.stream_id);

	if (stream == NULL)
		return 0;
	if (name_len == 11 && memcmp(name, "grpc-status", 11) == 0)
		stream->status = atoi((const char *) value);
	else if (name_len == 12 && memcmp(name, "grpc-message", 12) == 0)
		snprintf(stream->message, sizeof(stream->message), "%.*s",
				 (int) value_len, (const char *) value);
	return 0;
}

static int
on_data(nghttp2_session *session, uint8_t flags UNUSED, int32_t stream_id,
		const uint8_t *data, size_t len, void *user_data UNUSED)
{
	Stream	   *stream = nghttp2_session_get_stream_user_data(session,
															  stream_id);

	if (stream == NULL)
		return 0;
	buf_append(&stream->response, data, len);
	if (stream->stays_open)
		stream_take_answers(stream);
	return 0;
}

static int
on_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
		 void *user_data)
{
	Client	   *client = user_data;
	Stream	   *stream = nghttp2_session_get_stream_user_data(session,
															  stream_id);
	Bytes		body = BYTES_EMPTY;

	if (stream == NULL)
		return 0;
	if (stream->stays_open)
	{
		/* it should not have ended */
		client->is_broken = true;
		fprintf(stderr, "clav_bench: a stream ended: code %d: %s\n",
				stream->status, stream->message);
		stream_give(stream);
		return 0;
	}
	client->outstanding--;
	if (stream->response.len >= FRAME_PREFIX_BYTES)
		body = bytes_make(stream->response.data + FRAME_PREFIX_BYTES,
						  stream->response.len - FRAME_PREFIX_BYTES);
	if (stream->status < 0)
		snprintf(stream->message, sizeof(stream->message),
				 "stream ended without status (HTTP/2 error %u)", error_code);
	client->on_answer(client->arg, stream->status, stream->message, body,
					  (uint64_t) (clock_monotonic_us() - stream->sent_us));
	stream_give(stream);
	return 0;
}
