/*
 * tls.c
 *	  The TLS settings of the client port as one checked context.
 *
 * Everything that a file can get wrong is found when the context is made, so
 * that a handshake fails only for what the client sent.
 *
 * Decisions that are ours:
 *	- TLS 1.2 and 1.3; for 1.2 only ECDHE with AES-GCM or ChaCha20, because
 *	  HTTP/2 forbids the rest (RFC 9113, 9.2.2), unless cipher_suites says else.
 *	- A client certificate is checked in every handshake: with client
 *	  certificates there is neither session cache nor ticket, since a resumed
 *	  session would not look at the revocation list again.
 *	- The revocation list must cover the client's own certificate.  For the CA
 *	  certificates above it a list is used where client_crl_file has one.
 *	- What was revoked, or is not trusted any more, ends with the reload that says
 *	  so: connections that are there are asked again (tls_session_is_still_good).
 *	- What the verify callback needs hangs on the SSL_CTX and lives as long,
 *	  because connections outlive the TlsContext over a reload.
 */
#include "server.h"

/* system */
#include <arpa/inet.h>
#include <stdarg.h>
#include <sys/stat.h>

/* libraries */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* lib and utils */
#include "lib/bytes.h"
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "comm/tls.h"

#define DEFAULT_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"
#define SESSION_CONTEXT "claviger"

struct TlsContext
{
	SSL_CTX    *ctx;
};

/* on the SSL_CTX, for the verify callback */
typedef struct TlsPolicy
{
	bool		takes_common_name;	/* client_cert_auth */
	char	   *hostnames;		/* allowed names, each with its zero */
	size_t		hostnames_len;
} TlsPolicy;

/* one call of tls_context_create() */
typedef struct TlsJob
{
	const TlsOptions *options;
	SSL_CTX    *ctx;
	TlsPolicy  *policy;
	char	   *error;
	size_t		error_size;
} TlsJob;

static int	policy_index = -1;

static bool set_versions(TlsJob *job);
static bool version_number(TlsJob *job, const char *setting, const char *text,
						   int *version);
static bool set_ciphers(TlsJob *job);
static bool add_cipher(TlsJob *job, const char *name, char *tls12,
					   char *tls13, size_t size);
static bool is_strong(SSL_CTX *ctx, const char *name);
static bool load_certificate(TlsJob *job);
static bool check_validity(TlsJob *job, X509 *cert);
static bool load_key(TlsJob *job);
static int	refuse_passphrase(char *buf, int size, int rwflag, void *asked);
static bool set_client_verification(TlsJob *job);
static bool load_trusted_ca(TlsJob *job);
static bool load_crls(TlsJob *job);
static bool add_crl(TlsJob *job, X509_CRL *crl);
static X509 *find_trusted(SSL_CTX *ctx, const X509_NAME *name);
static void set_hostnames(TlsJob *job);
static void set_resumption(TlsJob *job, bool has_client_certs);
static bool verifies_now(SSL_CTX *now, X509 *cert, const SSL *ssl);
static int	choose_alpn(SSL *ssl, const unsigned char **out,
						unsigned char *out_len, const unsigned char *in,
						unsigned in_len, void *arg);
static int	verify_client(int is_ok, X509_STORE_CTX *store);
static bool matches_hostname(X509 *cert, const TlsPolicy *policy);
static bool last_common_name(X509 *cert, uint8_t **name, size_t *len);
static void policy_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx,
						long argl, void *argp);
static BIO *open_file(TlsJob *job, const char *setting, const char *path);
static void format_time(char *out, size_t size, const ASN1_TIME *time);
static bool is_set(const char *s);
static bool complain(TlsJob *job, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));
static bool complain_openssl(TlsJob *job, const char *setting,
							 const char *path);

TlsContext *
tls_context_create(const TlsOptions *options, char *error, size_t error_size)
{
	TlsJob		job = {.options = options, .error = error, .error_size = error_size};
	TlsContext *tls;

	ERR_clear_error();
	if (policy_index < 0)
		policy_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL,
												policy_free);
	if (!is_set(options->cert_file) || !is_set(options->key_file))
	{
		complain(&job, "a TLS port needs both cert_file and key_file");
		return NULL;
	}
	job.ctx = SSL_CTX_new(TLS_server_method());
	if (job.ctx == NULL || policy_index < 0)
	{
		complain(&job, "OpenSSL could not make a context");
		SSL_CTX_free(job.ctx);
		return NULL;
	}
	job.policy = xcalloc(1, sizeof(*job.policy));
	SSL_CTX_set_ex_data(job.ctx, policy_index, job.policy);

	SSL_CTX_set_options(job.ctx, SSL_OP_CIPHER_SERVER_PREFERENCE |
						SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_RENEGOTIATION |
						SSL_OP_NO_COMPRESSION);
	/* an idle connection gives its 34 kB of buffers back */
	SSL_CTX_set_mode(job.ctx, SSL_MODE_RELEASE_BUFFERS |
					 SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* one read() per record instead of two */
	SSL_CTX_set_read_ahead(job.ctx, 1);
	SSL_CTX_set_alpn_select_cb(job.ctx, choose_alpn, NULL);

	if (!set_versions(&job) || !set_ciphers(&job) || !load_certificate(&job) ||
		!load_key(&job) || !set_client_verification(&job))
	{
		ERR_clear_error();
		SSL_CTX_free(job.ctx);
		return NULL;
	}
	tls = xcalloc(1, sizeof(*tls));
	tls->ctx = job.ctx;
	return tls;
}

void
tls_context_destroy(TlsContext *tls)
{
	if (tls == NULL)
		return;
	SSL_CTX_free(tls->ctx);
	free(tls);
}

SSL *
tls_session_create(TlsContext *tls)
{
	SSL		   *ssl = SSL_new(tls->ctx);

	if (ssl != NULL)
		SSL_set_accept_state(ssl);
	return ssl;
}

bool
tls_session_common_name(const SSL *ssl, uint8_t **name, size_t *len)
{
	const TlsPolicy *policy = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl),
												  policy_index);
	X509	   *cert = SSL_get0_peer_certificate(ssl);

	if (!policy->takes_common_name || cert == NULL ||
		SSL_get_verify_result(ssl) != X509_V_OK)
		return false;
	return last_common_name(cert, name, len);
}

bool
tls_session_is_still_good(TlsContext *now, const SSL *ssl)
{
	const TlsPolicy *before = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl),
												  policy_index);
	const TlsPolicy *policy = SSL_CTX_get_ex_data(now->ctx, policy_index);
	X509	   *cert = SSL_get0_peer_certificate(ssl);

	if (before->takes_common_name != policy->takes_common_name)
		return false;
	if (SSL_CTX_get_verify_mode(now->ctx) == SSL_VERIFY_NONE)
		return true;
	return cert != NULL && verifies_now(now->ctx, cert, ssl);
}

/* what OpenSSL does in a handshake, without one */
static bool
verifies_now(SSL_CTX *now, X509 *cert, const SSL *ssl)
{
	X509_STORE_CTX *store = X509_STORE_CTX_new();
	/* for the verify callback, which looks for the policy there */
	SSL		   *probe = SSL_new(now);
	bool		is_good = store != NULL && probe != NULL &&
		X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(now), cert,
							SSL_get_peer_cert_chain(ssl)) == 1 &&
		X509_STORE_CTX_set_default(store, "ssl_client") == 1 &&
		X509_STORE_CTX_set_ex_data(store,
								   SSL_get_ex_data_X509_STORE_CTX_idx(),
								   probe) == 1;

	if (is_good)
	{
		X509_STORE_CTX_set_verify_cb(store, verify_client);
		is_good = X509_verify_cert(store) == 1;
	}
	X509_STORE_CTX_free(store);
	SSL_free(probe);
	ERR_clear_error();
	return is_good;
}

void
tls_error_text(char *text, size_t size)
{
	/* the first is the cause, the later ones say through whom it came */
	unsigned long code = ERR_peek_error();
	const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);

	if (reason != NULL)
		snprintf(text, size, "%s", reason);
	else if (code != 0 && ERR_SYSTEM_ERROR(code))
		snprintf(text, size, "%s", strerror(ERR_GET_REASON(code)));
	else
		snprintf(text, size, "unknown TLS error %lu", code);
	ERR_clear_error();
}

static bool
set_versions(TlsJob *job)
{
	int			lowest = TLS1_2_VERSION;
	int			highest = 0;

	if (!version_number(job, "tls_min_version", job->options->min_version,
						&lowest) ||
		!version_number(job, "tls_max_version", job->options->max_version,
						&highest))
		return false;
	if (highest != 0 && highest < lowest)
		return complain(job, "tls_max_version %s is below tls_min_version",
						job->options->max_version);
	SSL_CTX_set_min_proto_version(job->ctx, lowest);
	SSL_CTX_set_max_proto_version(job->ctx, highest);
	return true;
}

/* leaves version alone when the setting is empty */
static bool
version_number(TlsJob *job, const char *setting, const char *text,
			   int *version)
{
	if (!is_set(text))
		return true;
	if (strcmp(text, "TLS1.2") == 0)
		*version = TLS1_2_VERSION;
	else if (strcmp(text, "TLS1.3") == 0)
		*version = TLS1_3_VERSION;
	else
		return complain(job, "%s \"%s\" must be TLS1.2 or TLS1.3", setting, text);
	return true;
}

/*
 * TLS 1.2 and 1.3 have separate lists.  Naming only suites of 1.3 means that
 * nothing else is wanted, so 1.2 goes; naming only suites of 1.2 leaves 1.3
 * as it is, since all of its suites are good.
 */
static bool
set_ciphers(TlsJob *job)
{
	char		tls12[2048] = "";
	char		tls13[2048] = "";
	char		names[2048];
	char	   *save = NULL;

	if (!is_set(job->options->cipher_suites))
	{
		if (SSL_CTX_set_cipher_list(job->ctx, DEFAULT_CIPHERS) != 1)
			return complain(job, "OpenSSL does not have the default ciphers");
		return true;
	}
	if (strlen(job->options->cipher_suites) >= sizeof(names))
		return complain(job, "cipher_suites is too long");
	strcpy(names, job->options->cipher_suites);
	for (char *name = strtok_r(names, ", ", &save); name != NULL;
		 name = strtok_r(NULL, ", ", &save))
		if (!add_cipher(job, name, tls12, tls13, sizeof(tls12)))
			return false;

	if (tls13[0] != '\0' && SSL_CTX_set_ciphersuites(job->ctx, tls13) != 1)
		return complain(job, "cipher_suites: OpenSSL refuses \"%s\"", tls13);
	if (tls12[0] != '\0' && SSL_CTX_set_cipher_list(job->ctx, tls12) != 1)
		return complain(job, "cipher_suites: OpenSSL refuses \"%s\"", tls12);
	if (tls12[0] == '\0')
	{
		if (SSL_CTX_get_max_proto_version(job->ctx) == TLS1_2_VERSION)
			return complain(job, "cipher_suites has nothing for TLS 1.2, and tls_max_version allows nothing else");
		SSL_CTX_set_min_proto_version(job->ctx, TLS1_3_VERSION);
	}
	return true;
}

static bool
add_cipher(TlsJob *job, const char *name, char *tls12, char *tls13,
		   size_t size)
{
	char		long_name[128];
	const char *known = OPENSSL_cipher_name(name);
	char	   *list = tls12;
	size_t		used;

	/* Go's old short names, which etcd's manual shows */
	if (strcmp(known, "(NONE)") == 0)
	{
		snprintf(long_name, sizeof(long_name), "%s_SHA256", name);
		known = OPENSSL_cipher_name(long_name);
	}
	if (strcmp(known, "(NONE)") == 0)
		known = name;

	if (strncmp(known, "TLS_", 4) == 0)
	{
		if (SSL_CTX_set_ciphersuites(job->ctx, known) != 1)
			return complain(job, "cipher_suites: \"%s\" is unknown", name);
		list = tls13;
	}
	/* a plain name only: "ALL" or "!x" would widen what was asked for */
	else if (strpbrk(known, ":+!@=") != NULL || strchr(known, '-') == NULL ||
			 SSL_CTX_set_cipher_list(job->ctx, known) != 1 ||
			 !is_strong(job->ctx, known))
		return complain(job, "cipher_suites: \"%s\" is unknown or insecure", name);

	used = strlen(list);
	if (used + strlen(known) + 2 > size)
		return complain(job, "cipher_suites is too long");
	snprintf(list + used, size - used, "%s%s", used > 0 ? ":" : "", known);
	return true;
}

/* encrypts, with 128 bits at least, and says who the server is */
static bool
is_strong(SSL_CTX *ctx, const char *name)
{
	STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(ctx);

	for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++)
	{
		const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ciphers, i);

		if (strcmp(SSL_CIPHER_get_name(cipher), name) == 0)
			return SSL_CIPHER_get_bits(cipher, NULL) >= 128 &&
				SSL_CIPHER_get_auth_nid(cipher) != NID_auth_null;
	}
	return false;
}

static bool
load_certificate(TlsJob *job)
{
	const char *path = job->options->cert_file;
	BIO		   *bio = open_file(job, "cert_file", path);
	bool		is_good;

	if (bio == NULL)
		return false;
	BIO_free(bio);
	if (SSL_CTX_use_certificate_chain_file(job->ctx, path) != 1)
		return complain_openssl(job, "cert_file", path);
	is_good = check_validity(job, SSL_CTX_get0_certificate(job->ctx));
	return is_good;
}

static bool
check_validity(TlsJob *job, X509 *cert)
{
	const ASN1_TIME *from = X509_get0_notBefore(cert);
	const ASN1_TIME *until = X509_get0_notAfter(cert);
	bool		is_expired = X509_cmp_current_time(until) <= 0;
	char		from_text[64];
	char		until_text[64];

	if (!is_expired && X509_cmp_current_time(from) < 0)
		return true;
	format_time(from_text, sizeof(from_text), from);
	format_time(until_text, sizeof(until_text), until);
	return complain(job, "cert_file \"%s\": the certificate %s (it is valid from %s to %s)",
					job->options->cert_file,
					is_expired ? "has expired" : "is not valid yet",
					from_text, until_text);
}

static bool
load_key(TlsJob *job)
{
	const char *path = job->options->key_file;
	BIO		   *bio = open_file(job, "key_file", path);
	bool		is_encrypted = false;
	struct stat st;
	EVP_PKEY   *key;
	bool		is_good;

	if (bio == NULL)
		return false;
	key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &is_encrypted);
	BIO_free(bio);
	if (is_encrypted)
	{
		EVP_PKEY_free(key);
		return complain(job, "key_file \"%s\": the private key has a passphrase, which nobody is there to type; remove it with \"openssl pkey -in FILE -out FILE\"",
						path);
	}
	if (key == NULL)
		return complain_openssl(job, "key_file", path);
	is_good = SSL_CTX_use_PrivateKey(job->ctx, key) == 1 &&
		SSL_CTX_check_private_key(job->ctx) == 1;
	EVP_PKEY_free(key);
	if (!is_good)
		return complain(job, "key_file \"%s\": the key does not belong to the certificate in cert_file \"%s\"",
						path, job->options->cert_file);
	if (stat(path, &st) == 0 && (st.st_mode & S_IROTH) != 0)
		elog_warning("key_file \"%s\" can be read by everybody", path);
	return true;
}

static int
refuse_passphrase(char *buf, int size, int rwflag, void *asked)
{
	*(bool *) asked = true;
	return -1;
}

static bool
set_client_verification(TlsJob *job)
{
	const TlsOptions *options = job->options;
	bool		has_ca = is_set(options->trusted_ca_file);

	job->policy->takes_common_name = options->client_cert_auth;
	if (!has_ca)
	{
		if (options->client_cert_auth)
			return complain(job, "client_cert_auth needs trusted_ca_file");
		if (is_set(options->crl_file))
			return complain(job, "client_crl_file needs trusted_ca_file");
		if (is_set(options->allowed_hostnames))
			return complain(job, "client_cert_allowed_hostname needs trusted_ca_file");
		set_resumption(job, false);
		return true;
	}
	if (!load_trusted_ca(job) || !load_crls(job))
		return false;
	set_hostnames(job);
	set_resumption(job, true);
	SSL_CTX_set_verify(job->ctx, SSL_VERIFY_PEER |
					   SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify_client);
	return true;
}

static bool
load_trusted_ca(TlsJob *job)
{
	const char *path = job->options->trusted_ca_file;
	BIO		   *bio = open_file(job, "trusted_ca_file", path);
	X509_STORE *store = SSL_CTX_get_cert_store(job->ctx);
	X509	   *cert;
	int			n = 0;

	if (bio == NULL)
		return false;
	while ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
	{
		bool		is_added = X509_STORE_add_cert(store, cert) == 1 &&
			SSL_CTX_add_client_CA(job->ctx, cert) == 1;

		X509_free(cert);
		if (!is_added)
		{
			BIO_free(bio);
			return complain_openssl(job, "trusted_ca_file", path);
		}
		n++;
	}
	BIO_free(bio);
	/* the end of the file is an error too: "no start line" */
	if (n == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return complain_openssl(job, "trusted_ca_file", path);
	ERR_clear_error();
	/* what the administrator put there is trusted, a root or not (as in Go) */
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	return true;
}

static bool
load_crls(TlsJob *job)
{
	const char *path = job->options->crl_file;
	BIO		   *bio;
	X509_CRL   *crl;
	int			n = 0;

	if (!is_set(path))
		return true;
	bio = open_file(job, "client_crl_file", path);
	if (bio == NULL)
		return false;
	while ((crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL)
	{
		bool		is_added = add_crl(job, crl);

		X509_CRL_free(crl);
		if (!is_added)
		{
			BIO_free(bio);
			return false;
		}
		n++;
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
	{
		BIO_free(bio);
		return complain_openssl(job, "client_crl_file", path);
	}
	ERR_clear_error();
	if (n == 0 && BIO_reset(bio) == 0 &&
		(crl = d2i_X509_CRL_bio(bio, NULL)) != NULL)
	{
		bool		is_added = add_crl(job, crl);

		X509_CRL_free(crl);
		if (!is_added)
		{
			BIO_free(bio);
			return false;
		}
		n++;
	}
	BIO_free(bio);
	ERR_clear_error();
	if (n == 0)
		return complain(job, "client_crl_file \"%s\": there is no revocation list in it (PEM or DER)",
						path);
	X509_STORE_set_flags(SSL_CTX_get_cert_store(job->ctx),
						 X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return true;
}

/*
 * A list that would make every handshake fail is refused here, where the
 * administrator sees it.  One by an intermediate CA that is not in
 * trusted_ca_file can only be checked when a client sends that CA.
 */
static bool
add_crl(TlsJob *job, X509_CRL *crl)
{
	const char *path = job->options->crl_file;
	const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);
	X509	   *issuer = find_trusted(job->ctx, X509_CRL_get_issuer(crl));

	if (next != NULL && X509_cmp_current_time(next) <= 0)
	{
		char		text[64];

		format_time(text, sizeof(text), next);
		return complain(job, "client_crl_file \"%s\": the revocation list was to be replaced by %s",
						path, text);
	}
	if (issuer != NULL && X509_CRL_verify(crl, X509_get0_pubkey(issuer)) != 1)
	{
		ERR_clear_error();
		return complain(job, "client_crl_file \"%s\": the signature of the revocation list is wrong",
						path);
	}
	if (X509_STORE_add_crl(SSL_CTX_get_cert_store(job->ctx), crl) != 1)
		return complain_openssl(job, "client_crl_file", path);
	return true;
}

static X509 *
find_trusted(SSL_CTX *ctx, const X509_NAME *name)
{
	STACK_OF(X509_OBJECT) *objects =
		X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx));

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509	   *cert = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (cert != NULL &&
			X509_NAME_cmp(X509_get_subject_name(cert), name) == 0)
			return cert;
	}
	return NULL;
}

/* "a, b" becomes a\0b\0 */
static void
set_hostnames(TlsJob *job)
{
	const char *text = job->options->allowed_hostnames;
	TlsPolicy  *policy = job->policy;
	char	   *copy;
	char	   *save = NULL;

	if (!is_set(text))
		return;
	copy = xmalloc(strlen(text) + 1);
	strcpy(copy, text);
	policy->hostnames = xmalloc(strlen(text) + 2);
	for (char *name = strtok_r(copy, ", ", &save); name != NULL;
		 name = strtok_r(NULL, ", ", &save))
	{
		strcpy(policy->hostnames + policy->hostnames_len, name);
		policy->hostnames_len += strlen(name) + 1;
	}
	free(copy);
}

static void
set_resumption(TlsJob *job, bool has_client_certs)
{
	SSL_CTX_set_session_id_context(job->ctx,
								   (const unsigned char *) SESSION_CONTEXT,
								   sizeof(SESSION_CONTEXT) - 1);
	/* a process serves one connection: its own cache would never be hit */
	SSL_CTX_set_session_cache_mode(job->ctx, SSL_SESS_CACHE_OFF);
	if (has_client_certs)
	{
		SSL_CTX_set_options(job->ctx, SSL_OP_NO_TICKET);
		SSL_CTX_set_num_tickets(job->ctx, 0);
	}
	else
		SSL_CTX_set_num_tickets(job->ctx, 1);
}

/*
 * h2 before http/1.1, whatever the client prefers.  A client without ALPN does
 * not come here; the first bytes tell what it speaks.
 */
static int
choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
			const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1,
							  in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static int
verify_client(int is_ok, X509_STORE_CTX *store)
{
	SSL		   *ssl = X509_STORE_CTX_get_ex_data(store,
												 SSL_get_ex_data_X509_STORE_CTX_idx());
	const TlsPolicy *policy = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl),
												  policy_index);
	X509	   *cert = X509_STORE_CTX_get_current_cert(store);
	int			depth = X509_STORE_CTX_get_error_depth(store);
	uint8_t    *name;
	size_t		len;

	if (!is_ok)
	{
		/* no list for a CA above the client: see the head of this file */
		if (X509_STORE_CTX_get_error(store) == X509_V_ERR_UNABLE_TO_GET_CRL &&
			depth > 0)
		{
			X509_STORE_CTX_set_error(store, X509_V_OK);
			return 1;
		}
		return 0;
	}
	if (depth > 0 || cert == NULL)
		return 1;
	if (policy->hostnames_len > 0 && !matches_hostname(cert, policy))
	{
		X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
		return 0;
	}
	/* "root\0.evil.example" must not be read as root by anybody */
	if (policy->takes_common_name && last_common_name(cert, &name, &len))
	{
		bool		has_zero = len > 0 && memchr(name, '\0', len) != NULL;

		free(name);
		if (has_zero)
		{
			X509_STORE_CTX_set_error(store,
									 X509_V_ERR_APPLICATION_VERIFICATION);
			return 0;
		}
	}
	return 1;
}

/* one of the allowed names among the certificate's alternative names */
static bool
matches_hostname(X509 *cert, const TlsPolicy *policy)
{
	const char *end = policy->hostnames + policy->hostnames_len;

	for (const char *name = policy->hostnames; name < end;
		 name += strlen(name) + 1)
	{
		struct in6_addr unused;
		bool		is_address = inet_pton(AF_INET, name, &unused) == 1 ||
			inet_pton(AF_INET6, name, &unused) == 1;
		int			rc = is_address ? X509_check_ip_asc(cert, name, 0) :
			X509_check_host(cert, name, strlen(name),
							X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
							X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL);

		if (rc == 1)
			return true;
	}
	return false;
}

/* a subject may hold several CNs; Go, and so etcd, takes the last */
static bool
last_common_name(X509 *cert, uint8_t **name, size_t *len)
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	int			last = -1;
	int			next;
	unsigned char *utf8 = NULL;
	int			utf8_len;

	while ((next = X509_NAME_get_index_by_NID(subject, NID_commonName,
											  last)) >= 0)
		last = next;
	if (last < 0)
		return false;
	utf8_len = ASN1_STRING_to_UTF8(&utf8,
								   X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last)));
	if (utf8_len < 0)
	{
		ERR_clear_error();
		return false;
	}
	*name = xmalloc((size_t) utf8_len + 1);
	memcpy(*name, utf8, (size_t) utf8_len);
	(*name)[utf8_len] = '\0';
	*len = (size_t) utf8_len;
	OPENSSL_free(utf8);
	return true;
}

static void
policy_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
			void *argp)
{
	TlsPolicy  *policy = ptr;

	if (policy == NULL)
		return;
	free(policy->hostnames);
	free(policy);
}

/* NULL with the error set */
static BIO *
open_file(TlsJob *job, const char *setting, const char *path)
{
	BIO		   *bio;

	errno = 0;
	bio = BIO_new_file(path, "r");
	if (bio == NULL)
	{
		complain(job, "%s \"%s\": %s", setting, path,
				 errno != 0 ? strerror(errno) : "cannot be opened");
		ERR_clear_error();
	}
	return bio;
}

static void
format_time(char *out, size_t size, const ASN1_TIME *time)
{
	struct tm	tm;

	if (ASN1_TIME_to_tm(time, &tm) != 1 ||
		strftime(out, size, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		snprintf(out, size, "an unreadable date");
}

static bool
is_set(const char *s)
{
	return s != NULL && s[0] != '\0';
}

/* always false, so that a caller can return it */
static bool
complain(TlsJob *job, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(job->error, job->error_size, fmt, args);
	va_end(args);
	return false;
}

static bool
complain_openssl(TlsJob *job, const char *setting, const char *path)
{
	char		reason[256];

	/* in OpenSSL's words, "no start line" is: this is no PEM file */
	if (ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_PEM &&
		ERR_GET_REASON(ERR_peek_error()) == PEM_R_NO_START_LINE)
	{
		ERR_clear_error();
		return complain(job, "%s \"%s\": nothing of the expected kind in PEM format",
						setting, path);
	}
	tls_error_text(reason, sizeof(reason));
	return complain(job, "%s \"%s\": %s", setting, path, reason);
}
