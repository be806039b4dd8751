/*
 * bench.h
 *	  What the parts of clav_bench share.
 *
 *	bench.c      options, the loop, progress and report
 *	client.c     one connection: socket, TLS, HTTP/2, streams
 *	requests.c   what is asked: messages of put, range, cas, mixed, login, leases
 *	histogram.c  latencies
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "histogram.h"
#include "lib/buf.h"

typedef enum BenchOp
{
	BENCH_PUT,
	BENCH_RANGE,
	BENCH_LOGIN,
	BENCH_CAS,					/* if the value is still the same, put it */
	BENCH_LEASE_GRANT,			/* key number: the id */
	BENCH_KEEP_ALIVE,			/* on streams that stay open, each its lease */
	/* options only; each request is one of the above */
	BENCH_MIXED,
	BENCH_CONNECT,				/* a range on a new connection each time */
	BENCH_IDLE,					/* a range on each connection, then nothing */
	BENCH_WATCH					/* one writer, and watches of what it writes */
} BenchOp;

typedef struct BenchOptions
{
	char		host[256];
	char		port[16];
	const char *endpoint;		/* as given */
	bool		use_tls;
	const char *ca_file;
	const char *cert_file;
	const char *key_file;
	char	   *user;			/* "name:password", or NULL; heap */
	BenchOp		op;
	int			read_percent;	/* of BENCH_MIXED */
	int			connections;
	int			streams;		/* at one time, on each connection */
	double		seconds;
	uint64_t	warmup_requests;
	uint64_t	keys;
	uint64_t	range_keys;		/* in one range; at most keys */
	uint32_t	value_bytes;
	bool		serializable;
	bool		json;
	bool		quiet;
	bool		load;			/* first put every key once */
	const char *label;
} BenchOptions;

typedef struct BenchResult
{
	Histogram	latency;
	uint64_t	errors;
	char		first_error[256];
	double		seconds;
} BenchResult;

/* ---- client.c ---- */
typedef struct Client Client;

/* called for each answer; status is the gRPC code, message its text */
typedef void (*AnswerFn) (void *arg, int status, const char *message,
						  Bytes body, uint64_t latency_us);

/* connect and shake hands (blocking); NULL after a message on stderr */
extern Client *client_open(const BenchOptions *options, SSL_CTX *tls,
						   AnswerFn on_answer, void *arg);
extern void client_close(Client *client);
extern int	client_fd(const Client *client);
extern void client_set_token(Client *client, const char *token);
extern bool client_send(Client *client, const char *path, Bytes message);
/*
 * Open a stream that stays open, and send the message on it again as soon as
 * it is answered, until client_stop_repeating(); each answer is told of.
 */
extern bool client_repeat(Client *client, const char *path, Bytes message);
extern void client_stop_repeating(Client *client);
/*
 * Open a stream that stays open, send these messages on it (with their five
 * bytes), and tell of each that comes; none of them counts as outstanding.
 */
extern bool client_listen(Client *client, const char *path, Bytes framed);
/* requests, and messages on streams, without an answer */
extern uint32_t client_outstanding(const Client *client);
/* move bytes; false when the connection is broken */
extern bool client_on_ready(Client *client);
extern bool client_wants_write(const Client *client);
extern bool client_flush(Client *client);

/* ---- requests.c ---- */
extern const char *request_path(BenchOp op);
/* build the next message of this kind into out (emptied first) */
extern void request_build(const BenchOptions *options, BenchOp op,
						  uint64_t key_number, Buf *out);
extern BenchOp request_next_op(const BenchOptions *options, uint64_t *rng);
extern uint64_t request_random(uint64_t *rng);
/* the token of an AuthenticateResponse; false if it has none */
extern bool response_token(Bytes body, char *token, size_t size);
/* a WatchRequest for this key, with its five bytes, behind what is in out */
extern void request_add_watch(const BenchOptions *options,
							  uint64_t key_number, Buf *out);
/* how many events a WatchResponse has; -1: it ends a watch */
extern int	response_events(Bytes body);
/* the time of a LeaseKeepAliveResponse; 0: the lease is gone */
extern uint64_t response_ttl(Bytes body);

#endif							/* BENCH_H */
