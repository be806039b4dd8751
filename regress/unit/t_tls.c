/*
 * t_tls.c
 *	  TLS contexts and handshakes: who gets in, as whom, and why not.
 *
 * Makes its own CAs, certificates and revocation lists in a directory of its
 * own; the client is plain OpenSSL on the other end of a socket pair.
 */
/* needs: comm */
#include "server.h"

/* system */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* libraries */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "comm/conn.h"
#include "comm/tls.h"

#define DAY 86400
#define ALPN_H2 "\x02h2"
#define ALPN_HTTP1 "\x08http/1.1"

typedef struct Pair
{
	X509	   *cert;
	EVP_PKEY   *key;
} Pair;

/* what a certificate shall say */
typedef struct Wish
{
	const char *cn;
	size_t		cn_len;			/* 0: strlen */
	const char *second_cn;
	const char *san;
	const char *usage;			/* extended key usage */
	long		from;			/* seconds from now */
	long		until;
	bool		is_ca;
} Wish;

static char dir[64];
static Pair ca;
static Pair other_ca;
static Pair middle_ca;			/* signed by ca */
static Pair server;
static long serial = 1;
static char error[512];

/* one handshake, as seen from both ends */
typedef struct Result
{
	ConnResult	result;
	char		error[256];
	char		common_name[64];
	size_t		common_name_len;
	char		alpn[16];
	bool		client_ok;		/* got the server's greeting */
	bool		is_resumed;
	const char *cipher;
} Result;

/* what the client brings */
typedef struct ClientSide
{
	const Pair *pair;			/* NULL: no certificate */
	const Pair *chain;			/* sent behind it */
	const char *alpn;
	int			max_version;
	SSL_SESSION **session;		/* in: to resume; out: the new one */
} ClientSide;

static const char *
path(const char *name)
{
	static char paths[256][128];
	static int	next;
	char	   *p = paths[next++ % (int) lengthof(paths)];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

/* ---- certificates ---- */

static void
add_extension(X509 *cert, const Pair *issuer, int nid, const char *value)
{
	X509V3_CTX	ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, issuer->cert, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(ext);
	X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
}

/* issuer NULL: signs itself */
static Pair
make_pair(const Pair *issuer, Wish wish)
{
	Pair		pair = {X509_new(), EVP_EC_gen("P-256")};
	X509_NAME  *name = X509_get_subject_name(pair.cert);

	if (issuer == NULL)
		issuer = &pair;
	X509_set_version(pair.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(pair.cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(pair.cert), wish.from);
	X509_gmtime_adj(X509_getm_notAfter(pair.cert),
					wish.until != 0 ? wish.until : DAY);
	X509_set_pubkey(pair.cert, pair.key);
	X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8,
							   (const unsigned char *) "test", -1, -1, 0);
	if (wish.cn != NULL)
		X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
								   (const unsigned char *) wish.cn,
								   wish.cn_len > 0 ? (int) wish.cn_len : -1, -1, 0);
	if (wish.second_cn != NULL)
		X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
								   (const unsigned char *) wish.second_cn, -1, -1, 0);
	X509_set_issuer_name(pair.cert, X509_get_subject_name(issuer->cert));
	if (wish.is_ca)
		add_extension(pair.cert, issuer, NID_basic_constraints, "critical,CA:TRUE");
	if (wish.san != NULL)
		add_extension(pair.cert, issuer, NID_subject_alt_name, wish.san);
	if (wish.usage != NULL)
		add_extension(pair.cert, issuer, NID_ext_key_usage, wish.usage);
	assert_true(X509_sign(pair.cert, issuer->key, EVP_sha256()) > 0);
	return pair;
}

static void
free_pair(Pair *pair)
{
	X509_free(pair->cert);
	EVP_PKEY_free(pair->key);
}

static FILE *
create(const char *name)
{
	FILE	   *file = fopen(path(name), "w");

	assert_non_null(file);
	return file;
}

static void
write_pair(const Pair *pair, const char *cert_name, const char *key_name)
{
	FILE	   *file = create(cert_name);

	PEM_write_X509(file, pair->cert);
	fclose(file);
	if (key_name == NULL)
		return;
	file = create(key_name);
	PEM_write_PrivateKey(file, pair->key, NULL, NULL, 0, NULL, NULL);
	fclose(file);
}

static void
write_text(const char *name, const char *text)
{
	FILE	   *file = create(name);

	fputs(text, file);
	fclose(file);
}

/* issuer's list with the given certificate on it (NULL: an empty list) */
static X509_CRL *
make_crl(const Pair *issuer, const EVP_PKEY *signer, const Pair *revoked,
		 long until)
{
	X509_CRL   *crl = X509_CRL_new();
	ASN1_TIME  *now = ASN1_TIME_new();

	X509_CRL_set_version(crl, 1);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->cert));
	X509_gmtime_adj(now, -2 * DAY);
	X509_CRL_set1_lastUpdate(crl, now);
	if (revoked != NULL)
	{
		X509_REVOKED *entry = X509_REVOKED_new();

		X509_REVOKED_set_serialNumber(entry,
									  X509_get_serialNumber(revoked->cert));
		X509_REVOKED_set_revocationDate(entry, now);
		X509_CRL_add0_revoked(crl, entry);
	}
	X509_gmtime_adj(now, until);
	X509_CRL_set1_nextUpdate(crl, now);
	ASN1_TIME_free(now);
	X509_CRL_sort(crl);
	assert_true(X509_CRL_sign(crl, (EVP_PKEY *) (uintptr_t) signer,
							  EVP_sha256()) > 0);
	return crl;
}

static void
write_crl(const char *name, X509_CRL *crl, bool is_der)
{
	FILE	   *file = create(name);

	if (is_der)
		i2d_X509_CRL_fp(file, crl);
	else
		PEM_write_X509_CRL(file, crl);
	fclose(file);
	X509_CRL_free(crl);
}

static int
group_setup(void **state)
{
	FILE	   *file;

	elog_set_level(LOG_LEVEL_ERROR);
	strcpy(dir, "/tmp/t_tls.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	ca = make_pair(NULL, (Wish) {.cn = "ca", .is_ca = true, .from = -30 * DAY});
	other_ca = make_pair(NULL, (Wish) {.cn = "other ca", .is_ca = true});
	middle_ca = make_pair(&ca, (Wish) {.cn = "middle ca", .is_ca = true});
	server = make_pair(&ca, (Wish) {.cn = "server", .san = "DNS:localhost"});
	write_pair(&ca, "ca.pem", NULL);
	write_pair(&other_ca, "other.pem", "other.key");
	write_pair(&server, "server.pem", "server.key");
	chmod(path("server.key"), 0600);
	file = create("both.pem");
	PEM_write_X509(file, ca.cert);
	PEM_write_X509(file, other_ca.cert);
	fclose(file);
	return 0;
}

static int
group_teardown(void **state)
{
	char		command[128];

	free_pair(&ca);
	free_pair(&other_ca);
	free_pair(&middle_ca);
	free_pair(&server);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

/* ---- handshakes ---- */

static TlsOptions
plain_options(void)
{
	return (TlsOptions) {
		.cert_file = path("server.pem"), .key_file = path("server.key"),
	};
}

static TlsOptions
auth_options(void)
{
	TlsOptions	options = plain_options();

	options.trusted_ca_file = path("ca.pem");
	options.client_cert_auth = true;
	return options;
}

static TlsContext *
make_context(TlsOptions options)
{
	TlsContext *tls;

	error[0] = '\0';
	tls = tls_context_create(&options, error, sizeof(error));
	if (tls == NULL)
		fail_msg("%s", error);
	return tls;
}

static void
assert_refused(TlsOptions options, const char *text)
{
	error[0] = '\0';
	assert_null(tls_context_create(&options, error, sizeof(error)));
	if (strstr(error, text) == NULL)
		fail_msg("error is \"%s\", expected \"%s\"", error, text);
}

static SSL *
make_client(SSL_CTX *ctx, const ClientSide *side, int fd)
{
	SSL		   *ssl;

	if (side->pair != NULL)
	{
		SSL_CTX_use_certificate(ctx, side->pair->cert);
		SSL_CTX_use_PrivateKey(ctx, side->pair->key);
	}
	if (side->chain != NULL)
		SSL_CTX_add1_chain_cert(ctx, side->chain->cert);
	if (side->max_version != 0)
		SSL_CTX_set_max_proto_version(ctx, side->max_version);
	ssl = SSL_new(ctx);
	if (side->alpn != NULL)
		SSL_set_alpn_protos(ssl, (const unsigned char *) side->alpn,
							(unsigned) strlen(side->alpn));
	if (side->session != NULL && *side->session != NULL)
	{
		SSL_set_session(ssl, *side->session);
		SSL_SESSION_free(*side->session);
		*side->session = NULL;
	}
	SSL_set_fd(ssl, fd);
	SSL_set_connect_state(ssl);
	return ssl;
}

static void
keep_server_side(Result *result, const Conn *conn)
{
	Bytes		name = conn_common_name(conn);

	snprintf(result->error, sizeof(result->error), "%s", conn_error(conn));
	snprintf(result->common_name, sizeof(result->common_name), "%.*s",
			 (int) name.len, (const char *) name.data);
	result->common_name_len = name.len;
	snprintf(result->alpn, sizeof(result->alpn), "%s", conn_alpn(conn));
}

/* both ends in turn; the server greets when it is content */
static Result
shake_hands(TlsContext *tls, ClientSide side)
{
	Result		result = {.result = CONN_WANT_READ};
	SSL_CTX    *ctx = SSL_CTX_new(TLS_client_method());
	SSL		   *ssl;
	Conn	   *conn;
	char		data[16];
	size_t		n;
	bool		has_greeted = false;
	int			fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	conn = conn_create(fds[0], tls);
	ssl = make_client(ctx, &side, fds[1]);
	for (int i = 0; i < 20; i++)
	{
		size_t		got = 0;

		if (SSL_read_ex(ssl, data, sizeof(data), &got) == 1)
		{
			result.client_ok = got == 5 && memcmp(data, "hello", 5) == 0;
			break;
		}
		if (result.result == CONN_WANT_READ)
			result.result = conn_handshake(conn);
		if (result.result == CONN_OK && !has_greeted)
			has_greeted = conn_write(conn, "hello", 5, &n) == CONN_OK;
	}
	if (result.client_ok)
	{
		/* and back, in the other direction */
		assert_int_equal(SSL_write(ssl, "world", 5), 5);
		assert_int_equal(conn_read(conn, data, sizeof(data), &n), CONN_OK);
		assert_int_equal(n, 5);
		assert_int_equal(conn_read(conn, data, sizeof(data), &n), CONN_WANT_READ);
		assert_true(conn_is_tls(conn));
	}
	keep_server_side(&result, conn);
	result.is_resumed = SSL_session_reused(ssl);
	result.cipher = SSL_get_cipher_name(ssl);
	if (side.session != NULL)
		*side.session = SSL_get1_session(ssl);
	conn_destroy(conn);
	if (result.client_ok)
	{
		/* the server said goodbye */
		assert_int_equal(SSL_read_ex(ssl, data, sizeof(data), &n), 0);
		assert_int_equal(SSL_get_error(ssl, 0), SSL_ERROR_ZERO_RETURN);
		/* else OpenSSL takes the session for broken and forgets it */
		SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fds[1]);
	ERR_clear_error();
	return result;
}

static Result
shake_once(TlsOptions options, ClientSide side)
{
	TlsContext *tls = make_context(options);
	Result		result = shake_hands(tls, side);

	tls_context_destroy(tls);
	return result;
}

static void
assert_let_in(Result result, const char *common_name)
{
	if (result.result != CONN_OK || !result.client_ok)
		fail_msg("refused: %s", result.error);
	assert_string_equal(result.common_name, common_name);
}

static void
assert_kept_out(Result result, const char *text)
{
	assert_int_equal(result.result, CONN_FAILED);
	assert_false(result.client_ok);
	assert_int_equal(result.common_name_len, 0);
	if (strstr(result.error, text) == NULL)
		fail_msg("error is \"%s\", expected \"%s\"", result.error, text);
}

/* ---- without client certificates ---- */

static void
test_plain_tls(void **state)
{
	Pair		client = make_pair(&ca, (Wish) {.cn = "root"});

	assert_let_in(shake_once(plain_options(), (ClientSide) {NULL}), "");
	assert_let_in(shake_once(plain_options(), (ClientSide) {
		.max_version = TLS1_2_VERSION
	}), "");
	/* nobody asked for the certificate: its name is nobody's */
	assert_let_in(shake_once(plain_options(), (ClientSide) {.pair = &client}), "");
	free_pair(&client);
}

static void
test_versions(void **state)
{
	TlsOptions	options = plain_options();

	assert_kept_out(shake_once(options, (ClientSide) {
		.max_version = TLS1_1_VERSION
	}), "unsupported protocol");
	options.min_version = "TLS1.3";
	assert_kept_out(shake_once(options, (ClientSide) {
		.max_version = TLS1_2_VERSION
	}), "unsupported protocol");
	assert_let_in(shake_once(options, (ClientSide) {NULL}), "");
	options.min_version = "TLS1.1";
	assert_refused(options, "tls_min_version \"TLS1.1\" must be TLS1.2 or TLS1.3");
	options.min_version = "TLS1.3";
	options.max_version = "TLS1.2";
	assert_refused(options, "tls_max_version TLS1.2 is below");
}

static void
test_ciphers(void **state)
{
	TlsOptions	options = plain_options();
	Result		result;

	/* IANA's name, as etcd takes it */
	options.cipher_suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
	result = shake_once(options, (ClientSide) {.max_version = TLS1_2_VERSION});
	assert_let_in(result, "");
	assert_string_equal(result.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");
	/* Go's short one */
	options.cipher_suites = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305";
	result = shake_once(options, (ClientSide) {.max_version = TLS1_2_VERSION});
	assert_string_equal(result.cipher, "ECDHE-ECDSA-CHACHA20-POLY1305");
	options.cipher_suites = "ECDHE-ECDSA-AES128-GCM-SHA256";
	result = shake_once(options, (ClientSide) {.max_version = TLS1_2_VERSION});
	assert_string_equal(result.cipher, "ECDHE-ECDSA-AES128-GCM-SHA256");
	/* only 1.3: then 1.2 is off */
	options.cipher_suites = "TLS_AES_256_GCM_SHA384";
	result = shake_once(options, (ClientSide) {NULL});
	assert_string_equal(result.cipher, "TLS_AES_256_GCM_SHA384");
	assert_kept_out(shake_once(options, (ClientSide) {
		.max_version = TLS1_2_VERSION
	}), "unsupported protocol");
	options.cipher_suites = "TLS_AES_256_GCM_SHA384,TLS_NO_SUCH_THING";
	assert_refused(options, "\"TLS_NO_SUCH_THING\" is unknown");
	options.cipher_suites = "ALL";
	assert_refused(options, "\"ALL\" is unknown or insecure");
	options.cipher_suites = "NULL-SHA256";
	assert_refused(options, "\"NULL-SHA256\" is unknown or insecure");
}

static void
test_alpn(void **state)
{
	TlsContext *tls = make_context(plain_options());
	Result		result;

	result = shake_hands(tls, (ClientSide) {.alpn = ALPN_H2});
	assert_let_in(result, "");
	assert_string_equal(result.alpn, "h2");
	/* ours is the preference */
	result = shake_hands(tls, (ClientSide) {.alpn = ALPN_HTTP1 ALPN_H2});
	assert_string_equal(result.alpn, "h2");
	result = shake_hands(tls, (ClientSide) {.alpn = ALPN_HTTP1});
	assert_string_equal(result.alpn, "http/1.1");
	result = shake_hands(tls, (ClientSide) {NULL});
	assert_let_in(result, "");
	assert_string_equal(result.alpn, "");
	assert_kept_out(shake_hands(tls, (ClientSide) {.alpn = "\x04spdy"}),
					"TLS handshake failed");
	tls_context_destroy(tls);
}

static void
test_resumption(void **state)
{
	TlsContext *tls = make_context(plain_options());
	Pair		client = make_pair(&ca, (Wish) {.cn = "alice"});
	int			versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

	for (int i = 0; i < 2; i++)
	{
		SSL_SESSION *session = NULL;

		assert_let_in(shake_hands(tls, (ClientSide) {
			.max_version = versions[i], .session = &session
		}), "");
		assert_true(shake_hands(tls, (ClientSide) {
			.max_version = versions[i], .session = &session
		}).is_resumed);
		SSL_SESSION_free(session);
	}
	tls_context_destroy(tls);

	/* with client certificates each handshake is a full one */
	tls = make_context(auth_options());
	for (int i = 0; i < 2; i++)
	{
		SSL_SESSION *session = NULL;
		Result		result;

		assert_let_in(shake_hands(tls, (ClientSide) {
			.pair = &client, .max_version = versions[i], .session = &session
		}), "alice");
		result = shake_hands(tls, (ClientSide) {
			.pair = &client, .max_version = versions[i], .session = &session
		});
		assert_let_in(result, "alice");
		assert_false(result.is_resumed);
		SSL_SESSION_free(session);
	}
	tls_context_destroy(tls);
	free_pair(&client);
}

static void
test_garbage(void **state)
{
	TlsContext *tls = make_context(plain_options());
	int			fds[2];
	Conn	   *conn;
	char		data[4];
	size_t		n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	conn = conn_create(fds[0], tls);
	assert_int_equal(conn_handshake(conn), CONN_WANT_READ);
	assert_int_equal(write(fds[1], "GET / HTTP/1.1\r\n\r\n", 18), 18);
	assert_int_equal(conn_handshake(conn), CONN_FAILED);
	assert_string_equal(conn_error(conn), "TLS handshake failed: http request");
	assert_int_equal(conn_read(conn, data, sizeof(data), &n), CONN_FAILED);
	assert_int_equal(conn_write(conn, "x", 1, &n), CONN_FAILED);
	conn_destroy(conn);
	close(fds[1]);

	/* gone in the middle */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	conn = conn_create(fds[0], tls);
	close(fds[1]);
	assert_int_equal(conn_handshake(conn), CONN_FAILED);
	conn_destroy(conn);
	tls_context_destroy(tls);
}

/* an established connection; the client's end stays with fds[1] alone */
static Conn *
shaken_hands(TlsContext *tls, int fds[2])
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_client_method());
	ClientSide	side = {NULL};
	Conn	   *conn;
	SSL		   *ssl;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	conn = conn_create(fds[0], tls);
	ssl = make_client(ctx, &side, fds[1]);
	for (int i = 0; i < 10; i++)
	{
		SSL_do_handshake(ssl);
		conn_handshake(conn);
	}
	assert_int_equal(conn_handshake(conn), CONN_OK);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return conn;
}

/* several records in one go: what OpenSSL has read ahead is not forgotten */
static void
test_pending(void **state)
{
	TlsContext *tls = make_context(plain_options());
	SSL_CTX    *ctx = SSL_CTX_new(TLS_client_method());
	int			fds[2];
	Conn	   *conn;
	SSL		   *ssl;
	char		data[1000];
	size_t		n;
	size_t		total = 0;
	ClientSide	side = {NULL};

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	conn = conn_create(fds[0], tls);
	ssl = make_client(ctx, &side, fds[1]);
	for (int i = 0; i < 10; i++)
	{
		SSL_do_handshake(ssl);
		conn_handshake(conn);
	}
	memset(data, 'x', sizeof(data));
	for (int i = 0; i < 5; i++)
		assert_int_equal(SSL_write(ssl, data, sizeof(data)), sizeof(data));
	/* as the event loop does it: one wake-up, then as long as it is pending */
	do
	{
		assert_int_equal(conn_read(conn, data, 300, &n), CONN_OK);
		total += n;
	} while (conn_has_pending(conn));
	assert_int_equal(total, 5000);
	assert_int_equal(conn_read(conn, data, 300, &n), CONN_WANT_READ);
	assert_false(conn_has_pending(conn));
	/* takes the tickets, else the kernel makes a reset of the close */
	SSL_read_ex(ssl, data, sizeof(data), &n);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	/* a peer that has gone without a word is gone; no SIGPIPE on writing */
	close(fds[1]);
	assert_int_equal(conn_read(conn, data, 300, &n), CONN_CLOSED);
	assert_int_equal(conn_write(conn, "x", 1, &n), CONN_FAILED);
	conn_destroy(conn);

	/* and the same when writing finds out first */
	conn = shaken_hands(tls, fds);
	close(fds[1]);
	assert_int_equal(conn_write(conn, "x", 1, &n), CONN_FAILED);
	assert_string_equal(conn_error(conn), "TLS connection broke: Broken pipe");
	conn_destroy(conn);
	tls_context_destroy(tls);
}

/* ---- client certificates ---- */

static void
test_client_certificates(void **state)
{
	Pair		good = make_pair(&ca, (Wish) {.cn = "alice"});
	Pair		foreign = make_pair(&other_ca, (Wish) {.cn = "alice"});
	Pair		self = make_pair(NULL, (Wish) {.cn = "root"});
	Pair		expired = make_pair(&ca, (Wish) {.cn = "alice", .from = -9 * DAY, .until = -DAY});
	Pair		future = make_pair(&ca, (Wish) {.cn = "alice", .from = DAY, .until = 9 * DAY});
	Pair		for_servers = make_pair(&ca, (Wish) {.cn = "alice", .usage = "serverAuth"});
	Pair		for_clients = make_pair(&ca, (Wish) {.cn = "bob", .usage = "clientAuth"});
	int			versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
	TlsContext *tls = make_context(auth_options());

	for (int i = 0; i < 2; i++)
	{
		ClientSide	side = {.max_version = versions[i]};

		assert_kept_out(shake_hands(tls, side),
						"peer did not return a certificate");
		side.pair = &good;
		assert_let_in(shake_hands(tls, side), "alice");
		side.pair = &for_clients;
		assert_let_in(shake_hands(tls, side), "bob");
		side.pair = &foreign;
		assert_kept_out(shake_hands(tls, side),
						"client certificate refused: unable to get local issuer");
		side.pair = &self;
		assert_kept_out(shake_hands(tls, side),
						"client certificate refused: self-signed certificate");
		side.pair = &expired;
		assert_kept_out(shake_hands(tls, side),
						"client certificate refused: certificate has expired");
		side.pair = &future;
		assert_kept_out(shake_hands(tls, side), "certificate is not yet valid");
		side.pair = &for_servers;
		assert_kept_out(shake_hands(tls, side),
						"client certificate refused: unsuitable certificate purpose");
	}
	tls_context_destroy(tls);
	free_pair(&good);
	free_pair(&foreign);
	free_pair(&self);
	free_pair(&expired);
	free_pair(&future);
	free_pair(&for_servers);
	free_pair(&for_clients);
}

/* a trusted_ca_file alone demands a certificate and takes no name from it */
static void
test_trusted_ca_alone(void **state)
{
	TlsOptions	options = auth_options();
	Pair		good = make_pair(&ca, (Wish) {.cn = "alice"});

	options.client_cert_auth = false;
	assert_kept_out(shake_once(options, (ClientSide) {NULL}),
					"peer did not return a certificate");
	assert_let_in(shake_once(options, (ClientSide) {.pair = &good}), "");
	free_pair(&good);
}

static void
test_common_names(void **state)
{
	static const struct
	{
		Wish		wish;
		const char *name;
	}			rows[] = {
		{{.cn = "first", .second_cn = "second"}, "second"},
		{{.cn = NULL}, ""},
		{{.cn = "m\xc3\xbcller"}, "m\xc3\xbcller"},
	};
	Pair		bad = make_pair(&ca, (Wish) {.cn = "root\0.evil.example", .cn_len = 18});
	TlsContext *tls = make_context(auth_options());

	for (size_t i = 0; i < lengthof(rows); i++)
	{
		Pair		pair = make_pair(&ca, rows[i].wish);

		assert_let_in(shake_hands(tls, (ClientSide) {.pair = &pair}),
					  rows[i].name);
		free_pair(&pair);
	}
	assert_kept_out(shake_hands(tls, (ClientSide) {.pair = &bad}),
					"client certificate refused");
	tls_context_destroy(tls);
	free_pair(&bad);
}

static void
test_chains(void **state)
{
	Pair		client = make_pair(&middle_ca, (Wish) {.cn = "alice"});
	TlsOptions	options = auth_options();

	assert_kept_out(shake_once(options, (ClientSide) {.pair = &client}),
					"unable to get local issuer");
	assert_let_in(shake_once(options, (ClientSide) {
		.pair = &client, .chain = &middle_ca
	}), "alice");
	/* an intermediate CA that is trusted itself */
	write_pair(&middle_ca, "middle.pem", NULL);
	options.trusted_ca_file = path("middle.pem");
	assert_let_in(shake_once(options, (ClientSide) {.pair = &client}), "alice");
	free_pair(&client);
}

static void
test_hostnames(void **state)
{
	static const struct
	{
		const char *san;
		const char *allowed;
		bool		is_good;
	}			rows[] = {
		{"DNS:a.example", "a.example", true},
		{"DNS:a.example", "b.example, a.example", true},
		{"DNS:a.example,DNS:c.example", "c.example", true},
		{"DNS:*.a.example", "b.a.example", true},
		{"DNS:a.example", "b.example", false},
		{"IP:10.0.0.1", "10.0.0.1", true},
		{"IP:10.0.0.1", "10.0.0.2", false},
		/* never by CN */
		{NULL, "alice", false},
	};

	for (size_t i = 0; i < lengthof(rows); i++)
	{
		Pair		pair = make_pair(&ca, (Wish) {.cn = "alice", .san = rows[i].san});
		TlsOptions	options = auth_options();
		Result		result;

		options.allowed_hostnames = rows[i].allowed;
		result = shake_once(options, (ClientSide) {.pair = &pair});
		if (rows[i].is_good)
			assert_let_in(result, "alice");
		else
			assert_kept_out(result, "client certificate refused: hostname mismatch");
		free_pair(&pair);
	}
}

static void
test_revocation(void **state)
{
	Pair		good = make_pair(&ca, (Wish) {.cn = "alice"});
	Pair		revoked = make_pair(&ca, (Wish) {.cn = "mallory"});
	TlsOptions	options = auth_options();

	write_crl("list.pem", make_crl(&ca, ca.key, &revoked, DAY), false);
	write_crl("list.der", make_crl(&ca, ca.key, &revoked, DAY), true);
	assert_let_in(shake_once(options, (ClientSide) {.pair = &revoked}), "mallory");
	for (int i = 0; i < 2; i++)
	{
		TlsContext *tls;

		options.crl_file = path(i == 0 ? "list.pem" : "list.der");
		tls = make_context(options);
		assert_let_in(shake_hands(tls, (ClientSide) {.pair = &good}), "alice");
		assert_kept_out(shake_hands(tls, (ClientSide) {.pair = &revoked}),
						"client certificate refused: certificate revoked");
		tls_context_destroy(tls);
	}
	free_pair(&good);
	free_pair(&revoked);
}

static void
test_revocation_in_chains(void **state)
{
	Pair		client = make_pair(&middle_ca, (Wish) {.cn = "alice"});
	Pair		stranger = make_pair(&other_ca, (Wish) {.cn = "bob"});
	TlsOptions	options = auth_options();
	ClientSide	side = {.pair = &client, .chain = &middle_ca};
	FILE	   *file;
	X509_CRL   *crl;

	/* the root's list does not speak of a certificate of the middle CA */
	write_crl("root.pem", make_crl(&ca, ca.key, NULL, DAY), false);
	options.crl_file = path("root.pem");
	assert_kept_out(shake_once(options, side), "unable to get certificate CRL");
	/* the middle CA's list is enough, though there is none above */
	write_crl("middle-list.pem", make_crl(&middle_ca, middle_ca.key, NULL, DAY), false);
	options.crl_file = path("middle-list.pem");
	assert_let_in(shake_once(options, side), "alice");
	/* with both, a revoked CA takes its clients along */
	write_crl("all.pem", make_crl(&ca, ca.key, &middle_ca, DAY), false);
	file = fopen(path("all.pem"), "a");
	crl = make_crl(&middle_ca, middle_ca.key, NULL, DAY);
	PEM_write_X509_CRL(file, crl);
	X509_CRL_free(crl);
	fclose(file);
	options.crl_file = path("all.pem");
	assert_kept_out(shake_once(options, side), "certificate revoked");

	/* two trusted CAs, a list of one: the other's clients stay out */
	options.trusted_ca_file = path("both.pem");
	options.crl_file = path("root.pem");
	assert_kept_out(shake_once(options, (ClientSide) {.pair = &stranger}),
					"unable to get certificate CRL");
	options.crl_file = NULL;
	assert_let_in(shake_once(options, (ClientSide) {.pair = &stranger}), "bob");
	free_pair(&client);
	free_pair(&stranger);
}

/* ---- mistakes in files ---- */

static void
test_bad_files(void **state)
{
	TlsOptions	options = plain_options();
	char		text[256];

	options.cert_file = path("none.pem");
	snprintf(text, sizeof(text), "cert_file \"%s\": No such file or directory", path("none.pem"));
	assert_refused(options, text);
	options.cert_file = "";
	assert_refused(options, "needs both cert_file and key_file");
	options.cert_file = path("server.key");
	assert_refused(options, "nothing of the expected kind in PEM format");
	options = plain_options();
	options.key_file = path("server.pem");
	assert_refused(options, "key_file");
	options.key_file = path("other.key");
	assert_refused(options, "the key does not belong to the certificate in cert_file");
	write_text("junk.pem", "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n");
	options = plain_options();
	options.cert_file = path("junk.pem");
	assert_refused(options, "junk.pem\": ");
	options = auth_options();
	options.trusted_ca_file = path("junk.pem");
	assert_refused(options, "trusted_ca_file");
	write_text("empty", "");
	options.trusted_ca_file = path("empty");
	assert_refused(options, "trusted_ca_file");
	options.trusted_ca_file = path("none");
	assert_refused(options, "No such file or directory");
	options.trusted_ca_file = NULL;
	assert_refused(options, "client_cert_auth needs trusted_ca_file");
	options.client_cert_auth = false;
	options.crl_file = path("empty");
	assert_refused(options, "client_crl_file needs trusted_ca_file");
	options.crl_file = NULL;
	options.allowed_hostnames = "a";
	assert_refused(options, "client_cert_allowed_hostname needs trusted_ca_file");
}

static void
test_half_a_ca_file(void **state)
{
	TlsOptions	options = auth_options();
	FILE	   *file = create("half.pem");

	/* one good certificate and a broken one: not silently the first only */
	PEM_write_X509(file, ca.cert);
	fputs("-----BEGIN CERTIFICATE-----\nabc\n", file);
	fclose(file);
	options.trusted_ca_file = path("half.pem");
	assert_refused(options, "trusted_ca_file");
}

static void
test_own_certificate_expired(void **state)
{
	Pair		expired = make_pair(&ca, (Wish) {.cn = "server", .from = -9 * DAY, .until = -DAY});
	Pair		future = make_pair(&ca, (Wish) {.cn = "server", .from = DAY, .until = 9 * DAY});
	TlsOptions	options = plain_options();

	write_pair(&expired, "expired.pem", "expired.key");
	write_pair(&future, "future.pem", "future.key");
	options.cert_file = path("expired.pem");
	options.key_file = path("expired.key");
	assert_refused(options, "expired.pem\": the certificate has expired (it is valid from 20");
	assert_non_null(strstr(error, " UTC)"));
	options.cert_file = path("future.pem");
	options.key_file = path("future.key");
	assert_refused(options, "the certificate is not valid yet");
	free_pair(&expired);
	free_pair(&future);
}

static void
test_encrypted_key(void **state)
{
	TlsOptions	options = plain_options();
	FILE	   *file = create("secret.key");

	PEM_write_PKCS8PrivateKey(file, server.key, EVP_aes_128_cbc(), "pass", 4,
							  NULL, NULL);
	fclose(file);
	options.key_file = path("secret.key");
	assert_refused(options, "the private key has a passphrase");
}

static void
test_bad_crls(void **state)
{
	TlsOptions	options = auth_options();

	options.crl_file = path("none");
	assert_refused(options, "client_crl_file");
	options.crl_file = path("ca.pem");
	assert_refused(options, "there is no revocation list in it (PEM or DER)");
	write_text("junk.crl", "-----BEGIN X509 CRL-----\nabc\n-----END X509 CRL-----\n");
	options.crl_file = path("junk.crl");
	assert_refused(options, "client_crl_file");
	write_crl("old.pem", make_crl(&ca, ca.key, NULL, -DAY), false);
	options.crl_file = path("old.pem");
	assert_refused(options, "the revocation list was to be replaced by 20");
	write_crl("forged.pem", make_crl(&ca, other_ca.key, NULL, DAY), false);
	options.crl_file = path("forged.pem");
	assert_refused(options, "the signature of the revocation list is wrong");
}

/* a reload: the old context goes, its connections stay and keep their rules */
static void
test_context_outlived(void **state)
{
	TlsOptions	options = auth_options();
	Pair		client = make_pair(&ca, (Wish) {.cn = "alice", .san = "DNS:a.example"});
	TlsContext *tls;
	SSL_CTX    *ctx = SSL_CTX_new(TLS_client_method());
	ClientSide	side = {.pair = &client};
	int			fds[2];
	Conn	   *conn;
	SSL		   *ssl;

	options.allowed_hostnames = "a.example";
	tls = make_context(options);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	conn = conn_create(fds[0], tls);
	tls_context_destroy(tls);
	ssl = make_client(ctx, &side, fds[1]);
	for (int i = 0; i < 10; i++)
	{
		SSL_do_handshake(ssl);
		conn_handshake(conn);
	}
	assert_int_equal(conn_handshake(conn), CONN_OK);
	assert_true(bytes_equal_cstr(conn_common_name(conn), "alice"));
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	conn_destroy(conn);
	close(fds[1]);
	free_pair(&client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_tls),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_ciphers),
		cmocka_unit_test(test_alpn),
		cmocka_unit_test(test_resumption),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_client_certificates),
		cmocka_unit_test(test_trusted_ca_alone),
		cmocka_unit_test(test_common_names),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_hostnames),
		cmocka_unit_test(test_revocation),
		cmocka_unit_test(test_revocation_in_chains),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_half_a_ca_file),
		cmocka_unit_test(test_own_certificate_expired),
		cmocka_unit_test(test_encrypted_key),
		cmocka_unit_test(test_bad_crls),
		cmocka_unit_test(test_context_outlived),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
