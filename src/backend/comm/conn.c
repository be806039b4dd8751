/*
 * conn.c
 *	  One client connection as a stream of bytes, plain or TLS.
 *
 * OpenSSL reads and writes through a BIO of our own, because its socket BIO
 * uses write(), and a peer that has gone would then cost the process a
 * SIGPIPE.
 */
#include "server.h"

/* system */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

/* libraries */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "comm/conn.h"
#include "comm/tls.h"

/* bytes thrown away at the end so that close() does not reset */
#define DRAIN_BYTES 65536

struct Conn
{
	int			fd;
	SSL		   *ssl;			/* NULL: plain */
	bool		is_tls;
	bool		is_established; /* handshake done */
	bool		is_broken;		/* no close_notify may follow */
	bool		has_pending;	/* the last read left decryptable bytes */
	bool		has_certificate;	/* the handshake checks the client's */
	uint8_t    *common_name;
	size_t		common_name_len;
	char		alpn[16];
	char		peer[INET6_ADDRSTRLEN + 10];
	char		error[256];
};

static bool attach_tls(Conn *conn, TlsContext *tls);
static void remember_handshake(Conn *conn);
static ConnResult read_plain(Conn *conn, void *data, size_t size, size_t *got);
static ConnResult write_plain(Conn *conn, const void *data, size_t size,
							  size_t *sent);
static ConnResult tls_result(Conn *conn, int rc);
static ConnResult failed(Conn *conn, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));
static void name_peer(Conn *conn);
static void drain(int fd);

static BIO_METHOD *socket_bio_method(void);
static int	socket_bio_read(BIO *bio, char *data, int size);
static int	socket_bio_write(BIO *bio, const char *data, int size);
static long socket_bio_ctrl(BIO *bio, int cmd, long num, void *ptr);

Conn *
conn_create(int fd, TlsContext *tls)
{
	Conn	   *conn = xcalloc(1, sizeof(*conn));
	const int	on = 1;

	conn->fd = fd;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	name_peer(conn);
	/* these fail on a Unix socket, which needs neither */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	conn->is_tls = tls != NULL;
	if (tls == NULL)
		conn->is_established = true;
	else if (!attach_tls(conn, tls))
		failed(conn, "OpenSSL could not make a session");
	return conn;
}

void
conn_destroy(Conn *conn)
{
	if (conn == NULL)
		return;
	if (conn->ssl != NULL)
	{
		if (conn->is_established && !conn->is_broken)
			SSL_shutdown(conn->ssl);
		SSL_free(conn->ssl);
		ERR_clear_error();
	}
	drain(conn->fd);
	close(conn->fd);
	free(conn->common_name);
	free(conn);
}

int
conn_fd(const Conn *conn)
{
	return conn->fd;
}

ConnResult
conn_handshake(Conn *conn)
{
	ConnResult	result;
	int			rc;

	if (conn->is_established)
		return CONN_OK;
	if (conn->is_broken)
		return CONN_FAILED;
	ERR_clear_error();
	rc = SSL_do_handshake(conn->ssl);
	if (rc == 1)
	{
		remember_handshake(conn);
		return CONN_OK;
	}
	result = tls_result(conn, rc);
	if (result == CONN_FAILED &&
		SSL_get_verify_result(conn->ssl) != X509_V_OK)
		return failed(conn, "client certificate refused: %s",
					  X509_verify_cert_error_string(SSL_get_verify_result(conn->ssl)));
	return result;
}

ConnResult
conn_read(Conn *conn, void *data, size_t size, size_t *got)
{
	ConnResult	result;
	int			rc;

	*got = 0;
	conn->has_pending = false;
	if (conn->is_broken)
		return CONN_FAILED;
	if (!conn->is_tls)
		return read_plain(conn, data, size, got);
	result = conn_handshake(conn);
	if (result != CONN_OK)
		return result;
	ERR_clear_error();
	rc = SSL_read_ex(conn->ssl, data, size, got);
	if (rc != 1)
		return tls_result(conn, rc);
	/*
	 * SSL_has_pending() is also true for half a record; only after a read
	 * that gave something is there reason to try again.
	 */
	conn->has_pending = SSL_has_pending(conn->ssl) != 0;
	return CONN_OK;
}

ConnResult
conn_write(Conn *conn, const void *data, size_t size, size_t *sent)
{
	ConnResult	result;
	int			rc;

	*sent = 0;
	if (conn->is_broken)
		return CONN_FAILED;
	if (size == 0)
		return CONN_OK;
	if (!conn->is_tls)
		return write_plain(conn, data, size, sent);
	result = conn_handshake(conn);
	if (result != CONN_OK)
		return result;
	ERR_clear_error();
	rc = SSL_write_ex(conn->ssl, data, size, sent);
	return rc == 1 ? CONN_OK : tls_result(conn, rc);
}

bool
conn_has_pending(const Conn *conn)
{
	return conn->has_pending;
}

const char *
conn_error(const Conn *conn)
{
	return conn->error;
}

bool
conn_is_tls(const Conn *conn)
{
	return conn->is_tls;
}

const char *
conn_alpn(const Conn *conn)
{
	return conn->alpn;
}

Bytes
conn_common_name(const Conn *conn)
{
	return bytes_make(conn->common_name, conn->common_name_len);
}

bool
conn_has_certificate(const Conn *conn)
{
	return conn->has_certificate;
}

bool
conn_is_still_good(const Conn *conn, TlsContext *now)
{
	return !conn->is_tls || !conn->is_established ||
		tls_session_is_still_good(now, conn->ssl);
}

const char *
conn_peer_name(const Conn *conn)
{
	return conn->peer;
}

static bool
attach_tls(Conn *conn, TlsContext *tls)
{
	BIO_METHOD *method = socket_bio_method();
	BIO		   *bio;

	conn->ssl = tls_session_create(tls);
	if (conn->ssl == NULL || method == NULL)
		return false;
	bio = BIO_new(method);
	if (bio == NULL)
		return false;
	BIO_set_data(bio, conn);
	BIO_set_init(bio, 1);
	SSL_set_bio(conn->ssl, bio, bio);
	return true;
}

static void
remember_handshake(Conn *conn)
{
	const unsigned char *alpn;
	unsigned	len;

	conn->is_established = true;
	SSL_get0_alpn_selected(conn->ssl, &alpn, &len);
	if (len > 0 && len < sizeof(conn->alpn))
		memcpy(conn->alpn, alpn, len);
	conn->has_certificate = SSL_get0_peer_certificate(conn->ssl) != NULL;
	if (!tls_session_common_name(conn->ssl, &conn->common_name,
								 &conn->common_name_len))
	{
		conn->common_name = NULL;
		conn->common_name_len = 0;
	}
	/* bytes that came with the end of the handshake */
	conn->has_pending = SSL_has_pending(conn->ssl) != 0;
}

static ConnResult
read_plain(Conn *conn, void *data, size_t size, size_t *got)
{
	ssize_t		n;

	do
		n = recv(conn->fd, data, size, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0)
	{
		*got = (size_t) n;
		return CONN_OK;
	}
	if (n == 0)
		return size == 0 ? CONN_OK : CONN_CLOSED;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return CONN_WANT_READ;
	return failed(conn, "could not receive: %s", strerror(errno));
}

static ConnResult
write_plain(Conn *conn, const void *data, size_t size, size_t *sent)
{
	ssize_t		n;

	do
		n = send(conn->fd, data, size, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
	{
		*sent = (size_t) n;
		return CONN_OK;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return CONN_WANT_WRITE;
	return failed(conn, "could not send: %s", strerror(errno));
}

/* what an OpenSSL call without success means */
static ConnResult
tls_result(Conn *conn, int rc)
{
	int			saved_errno = errno;
	char		text[200];

	switch (SSL_get_error(conn->ssl, rc))
	{
		case SSL_ERROR_WANT_READ:
			return CONN_WANT_READ;
		case SSL_ERROR_WANT_WRITE:
			return CONN_WANT_WRITE;
		case SSL_ERROR_ZERO_RETURN:
			return CONN_CLOSED;
		case SSL_ERROR_SYSCALL:
			return failed(conn, "TLS connection broke: %s", saved_errno != 0 ?
						  strerror(saved_errno) : "the peer has gone");
		default:
			break;
	}
	/*
	 * A client that exits does not always say goodbye.  HTTP frames have their
	 * own ends, so nothing can be cut off unseen.
	 */
	if (conn->is_established && ERR_GET_REASON(ERR_peek_error()) ==
		SSL_R_UNEXPECTED_EOF_WHILE_READING)
	{
		ERR_clear_error();
		conn->is_broken = true;
		return CONN_CLOSED;
	}
	tls_error_text(text, sizeof(text));
	return failed(conn, conn->is_established ? "TLS error: %s" :
				  "TLS handshake failed: %s", text);
}

static ConnResult
failed(Conn *conn, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(conn->error, sizeof(conn->error), fmt, args);
	va_end(args);
	conn->is_broken = true;
	return CONN_FAILED;
}

static void
name_peer(Conn *conn)
{
	struct sockaddr_storage addr;
	socklen_t	len = sizeof(addr);
	char		host[INET6_ADDRSTRLEN];
	const struct sockaddr_in *v4 = (const struct sockaddr_in *) &addr;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) &addr;

	if (getpeername(conn->fd, (struct sockaddr *) &addr, &len) < 0)
	{
		snprintf(conn->peer, sizeof(conn->peer), "unknown");
		return;
	}
	switch (addr.ss_family)
	{
		case AF_INET:
			inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
			snprintf(conn->peer, sizeof(conn->peer), "%s:%u", host,
					 ntohs(v4->sin_port));
			break;
		case AF_INET6:
			/* an IPv4 client on a [::] listener is shown as what he is */
			if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
			{
				inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host,
						  sizeof(host));
				snprintf(conn->peer, sizeof(conn->peer), "%s:%u", host,
						 ntohs(v6->sin6_port));
				break;
			}
			inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
			snprintf(conn->peer, sizeof(conn->peer), "[%s]:%u", host,
					 ntohs(v6->sin6_port));
			break;
		case AF_UNIX:
			snprintf(conn->peer, sizeof(conn->peer), "unix");
			break;
		default:
			snprintf(conn->peer, sizeof(conn->peer), "unknown");
			break;
	}
}

/*
 * Unread bytes at close() make the kernel send a reset, which can overtake
 * our last answer or alert at the client.  Read what is there already, and
 * not more: this must not block.
 */
static void
drain(int fd)
{
	char		waste[4096];

	shutdown(fd, SHUT_WR);
	for (int i = 0; i < DRAIN_BYTES / (int) sizeof(waste); i++)
		if (recv(fd, waste, sizeof(waste), MSG_DONTWAIT) <= 0)
			break;
}

/* ---- BIO over the connection's socket ---- */

static BIO_METHOD *
socket_bio_method(void)
{
	static BIO_METHOD *method;	/* made once; lives as long as the process */
	BIO_METHOD *fresh;

	if (method != NULL)
		return method;
	fresh = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK,
						 "claviger socket");
	if (fresh == NULL)
		return NULL;
	if (BIO_meth_set_read(fresh, socket_bio_read) != 1 ||
		BIO_meth_set_write(fresh, socket_bio_write) != 1 ||
		BIO_meth_set_ctrl(fresh, socket_bio_ctrl) != 1)
	{
		BIO_meth_free(fresh);
		return NULL;
	}
	method = fresh;
	return method;
}

static int
socket_bio_read(BIO *bio, char *data, int size)
{
	Conn	   *conn = BIO_get_data(bio);
	ssize_t		n;

	BIO_clear_retry_flags(bio);
	do
		n = recv(conn->fd, data, (size_t) size, 0);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
	else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		BIO_set_retry_read(bio);
	return (int) n;
}

static int
socket_bio_write(BIO *bio, const char *data, int size)
{
	Conn	   *conn = BIO_get_data(bio);
	ssize_t		n;

	BIO_clear_retry_flags(bio);
	do
		n = send(conn->fd, data, (size_t) size, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		BIO_set_retry_write(bio);
	return (int) n;
}

static long
socket_bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	switch (cmd)
	{
		case BIO_CTRL_EOF:
			return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
		case BIO_CTRL_FLUSH:
		case BIO_CTRL_DUP:
			return 1;
		default:
			return 0;
	}
}
