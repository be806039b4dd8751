/*
 * ctl_certs.c
 *	  A CA and certificates for a first start with TLS.
 *
 *	ca.key, ca.crt           the CA: keep the key elsewhere afterwards
 *	server.key, server.crt   for the hosts given
 *	root.key, root.crt       client certificate with CN=root
 *
 * ECDSA on P-256; the CA for ten years, the others for one.
 */
#include "server.h"

/* system */
#include <arpa/inet.h>
#include <fcntl.h>
#include <unistd.h>

/* libraries */
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

/* this program */
#include "ctl.h"

#define CA_DAYS 3650
#define LEAF_DAYS 365

typedef struct Issue
{
	const char *name;			/* of the files */
	const char *common_name;
	const char *alternative_names;	/* NULL: none */
	const char *usage;			/* extended key usage; NULL: a CA */
	long		days;
} Issue;

static bool issue(const char *dir, const Issue *what, X509 *ca, EVP_PKEY *ca_key,
				  X509 **out, EVP_PKEY **out_key);
static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value);
static bool write_pem(const char *dir, const char *name, const char *suffix,
					  X509 *cert, EVP_PKEY *key);
static bool alternative_names(const char *hosts, char *text, size_t size);

bool
ctl_make_certificates(const char *dir, const char *hosts)
{
	char		names[2048];
	X509	   *ca = NULL;
	EVP_PKEY   *ca_key = NULL;
	bool		ok;

	if (!alternative_names(hosts, names, sizeof(names)))
	{
		fprintf(stderr, "clav_ctl: the list of hosts is too long or empty\n");
		return false;
	}
	ok = issue(dir, &(Issue) {"ca", "Claviger CA", NULL, NULL, CA_DAYS},
			   NULL, NULL, &ca, &ca_key) &&
		issue(dir, &(Issue) {"server", "claviger", names,
							 "serverAuth,clientAuth", LEAF_DAYS},
			  ca, ca_key, NULL, NULL) &&
		issue(dir, &(Issue) {"root", "root", NULL, "clientAuth", LEAF_DAYS},
			  ca, ca_key, NULL, NULL);
	if (!ok)
	{
		fprintf(stderr, "clav_ctl: could not make certificates in %s: %s\n",
				dir, errno != 0 ? strerror(errno)
				: ERR_reason_error_string(ERR_peek_last_error()));
	}
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	return ok;
}

/* Make a key and a certificate signed by ca (by itself if NULL); write both. */
static bool
issue(const char *dir, const Issue *what, X509 *ca, EVP_PKEY *ca_key,
	  X509 **out, EVP_PKEY **out_key)
{
	EVP_PKEY   *key = EVP_EC_gen("P-256");
	X509	   *cert = X509_new();
	uint64_t	serial;
	bool		is_ca = what->usage == NULL;
	bool		ok;

	errno = 0;
	ok = key != NULL && cert != NULL &&
		RAND_bytes((unsigned char *) &serial, sizeof(serial)) == 1 &&
		X509_set_version(cert, 2) == 1 &&
		ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1) &&
		X509_gmtime_adj(X509_getm_notBefore(cert), -300) != NULL &&
		X509_gmtime_adj(X509_getm_notAfter(cert),
						what->days * 24 * 3600) != NULL &&
		X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN",
								   MBSTRING_UTF8,
								   (const unsigned char *) what->common_name,
								   -1, -1, 0) == 1 &&
		X509_set_issuer_name(cert, X509_get_subject_name(ca != NULL ? ca
														 : cert)) == 1 &&
		X509_set_pubkey(cert, key) == 1;
	ok = ok && add_extension(cert, ca, NID_basic_constraints,
							 is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE")
		&& add_extension(cert, ca, NID_key_usage,
						 is_ca ? "critical,keyCertSign,cRLSign"
						 : "critical,digitalSignature");
	if (ok && what->usage != NULL)
		ok = add_extension(cert, ca, NID_ext_key_usage, what->usage);
	if (ok && what->alternative_names != NULL)
		ok = add_extension(cert, ca, NID_subject_alt_name,
						   what->alternative_names);
	ok = ok && X509_sign(cert, ca_key != NULL ? ca_key : key,
						 EVP_sha256()) > 0 &&
		write_pem(dir, what->name, "key", NULL, key) &&
		write_pem(dir, what->name, "crt", cert, NULL);
	if (ok && out != NULL)
	{
		*out = cert;
		*out_key = key;
		return true;
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

static bool
add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX	context;
	X509_EXTENSION *extension;
	bool		ok;

	X509V3_set_ctx(&context, issuer != NULL ? issuer : cert, cert, NULL, NULL,
				   0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return ok;
}

/* Never overwrites: a CA's key that is in use must not go away. */
static bool
write_pem(const char *dir, const char *name, const char *suffix, X509 *cert,
		  EVP_PKEY *key)
{
	char		path[PATH_MAX];
	int			fd;
	FILE	   *file;
	bool		ok;

	snprintf(path, sizeof(path), "%s/%s.%s", dir, name, suffix);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (file == NULL)
		return false;
	ok = cert != NULL ? PEM_write_X509(file, cert) == 1
		: PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1;
	return fclose(file) == 0 && ok;
}

/* "a,10.0.0.1" to "DNS:a,IP:10.0.0.1" */
static bool
alternative_names(const char *hosts, char *text, size_t size)
{
	char	   *list = strdup(hosts);
	char	   *rest = list;
	char	   *host;
	size_t		used = 0;

	text[0] = '\0';
	while (list != NULL && (host = strsep(&rest, ",")) != NULL && used < size)
	{
		unsigned char address[16];
		bool		is_ip = inet_pton(AF_INET, host, address) == 1 ||
			inet_pton(AF_INET6, host, address) == 1;

		if (host[0] != '\0')
			used += (size_t) snprintf(text + used, size - used, "%s%s:%s",
									  used == 0 ? "" : ",",
									  is_ip ? "IP" : "DNS", host);
	}
	free(list);
	return used > 0 && used < size;
}
