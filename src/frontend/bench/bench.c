/*
 * bench.c
 *	  clav_bench: load on any etcd endpoint, and what it took.
 *
 * A closed loop: each connection keeps `streams` requests outstanding; a new
 * one is sent when one is answered.  Everything runs in one thread, so that
 * the load takes the same share of the machine whatever server it is for.
 */
#include "server.h"

/* system */
#include <getopt.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

/* libraries */
#include <openssl/err.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/mmgr.h"

/* this program */
#include "bench.h"

#define DRAIN_SECONDS 10

typedef struct Slot
{
	struct Bench *bench;
	Client	   *client;
	bool		polls_write;
} Slot;

typedef struct Bench
{
	const BenchOptions *options;
	SSL_CTX    *tls;
	Slot	   *slots;
	int			epoll_fd;
	Buf			message;
	uint64_t	rng;
	uint64_t	next_key;		/* BENCH load: in order */
	uint64_t	remaining;		/* load: puts still to send */
	bool		is_sending;
	bool		is_loading;
	int64_t		began_us;
	BenchResult result;
	uint64_t	progress_count;
	uint64_t	nwatches;		/* watch: created so far */
	uint64_t	nputs;			/* answered */
	uint64_t	nevents;
	int64_t		put_us;			/* when the last one was sent */
	uint64_t	first_lease;	/* keepalive: the number of the first */
	char		token[4096];
} Bench;

/* SIGINT: the load ends early, and is reported */
static volatile sig_atomic_t is_interrupted;

static void parse_options(int argc, char **argv, BenchOptions *options);
static bool parse_endpoint(BenchOptions *options);
static void raise_descriptor_limit(void);
static SSL_CTX *make_tls(const BenchOptions *options);
static bool log_in(Bench *bench);
static void on_interrupt(int signo);
static void open_connections(Bench *bench);
static void run(Bench *bench, double seconds);
static void open_connection(Slot *slot);
static void close_connections(Bench *bench);
static void run_connect(Bench *bench, double seconds);
static void run_idle(Bench *bench, double seconds);
static void run_watch(Bench *bench, double seconds);
static void make_watches(Bench *bench);
static void put_watched(Bench *bench);
static void on_event(Slot *slot, Bytes body);
static void make_leases(Bench *bench);
static void begin_asking(Slot *slot);
static void ask_and_wait(Slot *slot);
static void load_keys(Bench *bench);
static void send_next(Slot *slot);
static void on_answer(void *arg, int status, const char *message, Bytes body,
					  uint64_t latency_us);
static void poll_slot(Slot *slot);
static void wait_once(Bench *bench, int timeout_ms);
static bool all_idle(const Bench *bench);
static void show_progress(Bench *bench, int64_t now_us, int64_t *last_us);
static const char *json_safe(const char *text);
static void report(const Bench *bench);
static void print_help(FILE *out);

int
main(int argc, char **argv)
{
	BenchOptions options = {
		.endpoint = "http://127.0.0.1:2379",
		.op = BENCH_RANGE,
		.read_percent = 90,
		.connections = 1,
		.streams = 1,
		.seconds = 10,
		.keys = 10000,
		.range_keys = 1,
		.value_bytes = 256,
		.label = "",
	};
	Bench		bench = {.options = &options,.rng = 0x9E3779B97F4A7C15};

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, on_interrupt);
	parse_options(argc, argv, &options);
	if (options.use_tls)
		bench.tls = make_tls(&options);
	buf_init(&bench.message, NULL);
	bench.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	/* one more: the writer of watch */
	bench.slots = xcalloc((size_t) options.connections + 1, sizeof(Slot));
	for (int i = 0; i <= options.connections; i++)
		bench.slots[i].bench = &bench;
	raise_descriptor_limit();
	if (options.user != NULL && options.op != BENCH_LOGIN && !log_in(&bench))
	{
		secret_free(options.user);
		return 1;
	}
	if (options.op == BENCH_CONNECT)
		run_connect(&bench, options.seconds);
	else if (options.op == BENCH_IDLE)
		run_idle(&bench, options.seconds);
	else if (options.op == BENCH_WATCH)
		run_watch(&bench, options.seconds);
	else
	{
		open_connections(&bench);
		if (options.load)
			load_keys(&bench);
		if (options.op == BENCH_KEEP_ALIVE)
			make_leases(&bench);
		run(&bench, options.seconds);
	}
	report(&bench);
	close_connections(&bench);
	secret_free(options.user);
	return bench.result.errors > 0 ? 1 : 0;
}

static void
on_interrupt(int signo UNUSED)
{
	is_interrupted = 1;
	/* the second one is meant */
	signal(SIGINT, SIG_DFL);
}

/* ---- the load ---- */

static void
run(Bench *bench, double seconds)
{
	int64_t		end_us;
	int64_t		last_us;

	memset(&bench->result, 0, sizeof(bench->result));
	bench->progress_count = 0;
	bench->is_sending = true;
	bench->began_us = last_us = clock_monotonic_us();
	end_us = bench->began_us + (int64_t) (seconds * 1e6);
	for (int i = 0; i < bench->options->connections; i++)
	{
		begin_asking(&bench->slots[i]);
		if (!client_flush(bench->slots[i].client))
		{
			fprintf(stderr, "clav_bench: a connection broke\n");
			exit(1);
		}
		poll_slot(&bench->slots[i]);
	}
	for (;;)
	{
		int64_t		now_us = clock_monotonic_us();

		if (now_us >= end_us || is_interrupted)
			break;
		show_progress(bench, now_us, &last_us);
		wait_once(bench, 100);
	}
	bench->result.seconds = (double) (clock_monotonic_us() -
									  bench->began_us) / 1e6;
	bench->is_sending = false;
	for (int i = 0; i < bench->options->connections; i++)
		client_stop_repeating(bench->slots[i].client);
	end_us = clock_monotonic_us() + DRAIN_SECONDS * 1000000;
	while (!all_idle(bench) && clock_monotonic_us() < end_us)
		wait_once(bench, 100);
}

/* One connection after the other; the time of each contains its handshake. */
static void
run_connect(Bench *bench, double seconds)
{
	int64_t		end_us;

	bench->began_us = clock_monotonic_us();
	end_us = bench->began_us + (int64_t) (seconds * 1e6);
	while (clock_monotonic_us() < end_us && !is_interrupted)
	{
		int64_t		start_us = clock_monotonic_us();
		uint64_t	errors = bench->result.errors;

		open_connection(&bench->slots[0]);
		ask_and_wait(&bench->slots[0]);
		client_close(bench->slots[0].client);
		bench->slots[0].client = NULL;
		if (bench->result.errors == errors)
			histogram_add(&bench->result.latency,
						  (uint64_t) (clock_monotonic_us() - start_us));
	}
	bench->result.seconds = (double) (clock_monotonic_us() -
									  bench->began_us) / 1e6;
}

/*
 * Hold connections that have made one request.  Says "idle" on stdout when all
 * are there, so that who measures the server knows.
 */
static void
run_idle(Bench *bench, double seconds)
{
	int64_t		end_us;

	for (int i = 0; i < bench->options->connections; i++)
	{
		open_connection(&bench->slots[i]);
		ask_and_wait(&bench->slots[i]);
	}
	printf("idle\n");
	fflush(stdout);
	end_us = clock_monotonic_us() + (int64_t) (seconds * 1e6);
	while (clock_monotonic_us() < end_us && !is_interrupted)
		wait_once(bench, 100);
	bench->result.seconds = seconds;
	bench->result.latency.count = (uint64_t) bench->options->connections;
}

/*
 * One writer, always one put under way, and on each connection a stream with
 * watches of the key that it puts.  What is counted is events; the latency is
 * from the sending of the last put to the event.  The time ends when all events
 * have come.
 */
static void
run_watch(Bench *bench, double seconds)
{
	uint64_t	nwatches = (uint64_t) bench->options->connections *
		(uint64_t) bench->options->streams;
	int64_t		end_us;
	int64_t		last_us;

	open_connections(bench);
	open_connection(&bench->slots[bench->options->connections]);
	make_watches(bench);
	memset(&bench->result, 0, sizeof(bench->result));
	bench->is_sending = true;
	bench->began_us = last_us = clock_monotonic_us();
	end_us = bench->began_us + (int64_t) (seconds * 1e6);
	put_watched(bench);
	while (clock_monotonic_us() < end_us && !is_interrupted)
	{
		show_progress(bench, clock_monotonic_us(), &last_us);
		wait_once(bench, 100);
	}
	bench->is_sending = false;
	end_us = clock_monotonic_us() + DRAIN_SECONDS * 1000000;
	while (clock_monotonic_us() < end_us &&
		   (client_outstanding(bench->slots[bench->options->connections].client) > 0 ||
			bench->nevents < bench->nputs * nwatches))
		wait_once(bench, 100);
	bench->result.seconds = (double) (clock_monotonic_us() -
									  bench->began_us) / 1e6;
	if (bench->nevents != bench->nputs * nwatches &&
		bench->result.errors++ == 0)
		snprintf(bench->result.first_error, sizeof(bench->result.first_error),
				 "%" PRIu64 " events of %" PRIu64 " came", bench->nevents,
				 bench->nputs * nwatches);
}

static void
make_watches(Bench *bench)
{
	uint64_t	nwatches = 0;
	int64_t		end_us = clock_monotonic_us() + DRAIN_SECONDS * 1000000;

	bench->message.len = 0;
	for (int n = 0; n < bench->options->streams; n++)
		request_add_watch(bench->options, 0, &bench->message);
	for (int i = 0; i < bench->options->connections; i++)
	{
		Slot	   *slot = &bench->slots[i];

		client_listen(slot->client, request_path(BENCH_WATCH),
					  buf_bytes(&bench->message));
		client_flush(slot->client);
		poll_slot(slot);
		nwatches += (uint64_t) bench->options->streams;
	}
	while (bench->nwatches < nwatches && clock_monotonic_us() < end_us)
		wait_once(bench, 100);
	if (bench->nwatches < nwatches)
	{
		fprintf(stderr, "clav_bench: only %" PRIu64 " watches were made\n",
				bench->nwatches);
		exit(1);
	}
}

static void
put_watched(Bench *bench)
{
	Slot	   *writer = &bench->slots[bench->options->connections];

	request_build(bench->options, BENCH_PUT, 0, &bench->message);
	bench->put_us = clock_monotonic_us();
	if (!client_send(writer->client, request_path(BENCH_PUT),
					 buf_bytes(&bench->message)) ||
		!client_flush(writer->client))
	{
		fprintf(stderr, "clav_bench: a request could not be sent\n");
		exit(1);
	}
	poll_slot(writer);
}

/* what came on a stream of watches */
static void
on_event(Slot *slot, Bytes body)
{
	Bench	   *bench = slot->bench;
	int			n = response_events(body);
	int64_t		latency_us = clock_monotonic_us() - bench->put_us;

	if (n < 0 && bench->result.errors++ == 0)
		snprintf(bench->result.first_error, sizeof(bench->result.first_error),
				 "a watch has ended");
	/* the answer to its creation */
	if (n == 0)
		bench->nwatches++;
	for (int i = 0; i < n; i++)
		histogram_add(&bench->result.latency, (uint64_t) latency_us);
	bench->nevents += n > 0 ? (uint64_t) n : 0;
}

/* One request outside of the measurement. */
static void
ask_and_wait(Slot *slot)
{
	Bench	   *bench = slot->bench;
	int64_t		end_us = clock_monotonic_us() + DRAIN_SECONDS * 1000000;

	send_next(slot);
	if (!client_flush(slot->client))
	{
		fprintf(stderr, "clav_bench: a connection broke\n");
		exit(1);
	}
	poll_slot(slot);
	while (client_outstanding(slot->client) > 0 &&
		   clock_monotonic_us() < end_us)
		wait_once(bench, 100);
	if (client_outstanding(slot->client) > 0)
	{
		fprintf(stderr, "clav_bench: no answer\n");
		exit(1);
	}
}

static void
load_keys(Bench *bench)
{
	bench->is_loading = true;
	bench->is_sending = true;
	bench->remaining = bench->options->keys;
	bench->next_key = 0;
	for (int i = 0; i < bench->options->connections; i++)
	{
		/* loading wants throughput: more streams than the run may have */
		for (int n = 0; n < 64; n++)
			send_next(&bench->slots[i]);
		client_flush(bench->slots[i].client);
		poll_slot(&bench->slots[i]);
	}
	while (bench->remaining > 0 || !all_idle(bench))
		wait_once(bench, 100);
	if (bench->result.errors > 0)
	{
		fprintf(stderr, "clav_bench: loading keys failed: %s\n",
				bench->result.first_error);
		exit(1);
	}
	bench->is_loading = false;
	if (!bench->options->quiet)
		fprintf(stderr, "%" PRIu64 " keys loaded\n", bench->options->keys);
}

/*
 * A lease for each stream, with numbers that no earlier run had: the time in
 * microseconds and the number of the stream.
 */
static void
make_leases(Bench *bench)
{
	int			n = bench->options->connections * bench->options->streams;

	bench->first_lease = (uint64_t) clock_realtime_ms() * 1000;
	for (int i = 0; i < n; i++)
	{
		Slot	   *slot = &bench->slots[i % bench->options->connections];

		request_build(bench->options, BENCH_LEASE_GRANT,
					  bench->first_lease + (uint64_t) i, &bench->message);
		client_send(slot->client, request_path(BENCH_LEASE_GRANT),
					buf_bytes(&bench->message));
		/* a few at a time */
		if (i % 64 == 63 || i == n - 1)
		{
			for (int c = 0; c < bench->options->connections; c++)
			{
				client_flush(bench->slots[c].client);
				poll_slot(&bench->slots[c]);
			}
			while (!all_idle(bench))
				wait_once(bench, 100);
		}
	}
	if (bench->result.errors > 0)
	{
		fprintf(stderr, "clav_bench: no leases: %s\n",
				bench->result.first_error);
		exit(1);
	}
}

static void
begin_asking(Slot *slot)
{
	Bench	   *bench = slot->bench;
	const BenchOptions *options = bench->options;
	uint64_t	first = (uint64_t) (slot - bench->slots);

	for (int n = 0; n < options->streams; n++)
	{
		if (options->op != BENCH_KEEP_ALIVE)
		{
			send_next(slot);
			continue;
		}
		request_build(options, BENCH_KEEP_ALIVE, bench->first_lease + first +
					  (uint64_t) (n * options->connections), &bench->message);
		client_repeat(slot->client, request_path(BENCH_KEEP_ALIVE),
					  buf_bytes(&bench->message));
	}
}

static void
send_next(Slot *slot)
{
	Bench	   *bench = slot->bench;
	BenchOp		op;
	uint64_t	key;

	if (bench->is_loading)
	{
		if (bench->remaining == 0)
			return;
		bench->remaining--;
		op = BENCH_PUT;
		key = bench->next_key++;
	}
	else
	{
		op = request_next_op(bench->options, &bench->rng);
		key = request_random(&bench->rng);
	}
	request_build(bench->options, op, key, &bench->message);
	if (!client_send(slot->client, request_path(op), buf_bytes(&bench->message)))
	{
		fprintf(stderr, "clav_bench: a request could not be sent\n");
		exit(1);
	}
}

static void
on_answer(void *arg, int status, const char *message, Bytes body,
		  uint64_t latency_us)
{
	Slot	   *slot = arg;
	Bench	   *bench = slot->bench;

	if (bench->options->op == BENCH_WATCH &&
		slot != &bench->slots[bench->options->connections])
	{
		on_event(slot, body);
		return;
	}
	if (status != 0)
	{
		if (bench->result.errors++ == 0)
			snprintf(bench->result.first_error,
					 sizeof(bench->result.first_error), "code %d: %s", status,
					 message);
		/* an endless stream of errors is no measurement */
		if (bench->result.errors > 1000)
		{
			fprintf(stderr, "clav_bench: too many errors; the first was %s\n",
					bench->result.first_error);
			exit(1);
		}
	}
	else if (bench->is_sending && bench->options->op == BENCH_KEEP_ALIVE)
	{
		if (response_ttl(body) == 0 && bench->result.errors++ == 0)
			snprintf(bench->result.first_error,
					 sizeof(bench->result.first_error), "a lease is gone");
		histogram_add(&bench->result.latency, latency_us);
	}
	else if (bench->is_sending && bench->options->op != BENCH_WATCH)
		histogram_add(&bench->result.latency, latency_us);
	if (bench->options->op == BENCH_WATCH)
	{
		bench->nputs += status == 0;
		if (bench->is_sending)
			put_watched(bench);
		return;
	}
	/* streams that stay open repeat by themselves */
	if (bench->is_sending && bench->options->op != BENCH_KEEP_ALIVE)
		send_next(slot);
}

static void
wait_once(Bench *bench, int timeout_ms)
{
	struct epoll_event events[256];
	int			n = epoll_wait(bench->epoll_fd, events, lengthof(events),
							   timeout_ms);

	for (int i = 0; i < n; i++)
	{
		Slot	   *slot = events[i].data.ptr;

		if (!client_on_ready(slot->client))
		{
			fprintf(stderr, "clav_bench: a connection broke\n");
			exit(1);
		}
		poll_slot(slot);
	}
}

static void
poll_slot(Slot *slot)
{
	bool		wants = client_wants_write(slot->client);

	if (wants == slot->polls_write)
		return;
	slot->polls_write = wants;
	epoll_ctl(slot->bench->epoll_fd, EPOLL_CTL_MOD, client_fd(slot->client),
			  &(struct epoll_event) {.events = EPOLLIN | (wants ? EPOLLOUT : 0),
									 .data.ptr = slot});
}

static bool
all_idle(const Bench *bench)
{
	for (int i = 0; i < bench->options->connections; i++)
	{
		if (client_outstanding(bench->slots[i].client) > 0)
			return false;
	}
	return true;
}

/* ---- connections ---- */

static void
open_connections(Bench *bench)
{
	for (int i = 0; i < bench->options->connections; i++)
		open_connection(&bench->slots[i]);
}

static void
open_connection(Slot *slot)
{
	Bench	   *bench = slot->bench;

	slot->client = client_open(bench->options, bench->tls, on_answer, slot);
	if (slot->client == NULL)
		exit(1);
	slot->polls_write = false;
	client_set_token(slot->client, bench->token);
	/* the preface: before it the server takes this for half a connection */
	(void) client_flush(slot->client);
	epoll_ctl(bench->epoll_fd, EPOLL_CTL_ADD, client_fd(slot->client),
			  &(struct epoll_event) {.events = EPOLLIN,.data.ptr = slot});
}

static void
close_connections(Bench *bench)
{
	for (int i = 0; i < bench->options->connections; i++)
		if (bench->slots[i].client != NULL)
			client_close(bench->slots[i].client);
	free(bench->slots);
	buf_free(&bench->message);
	SSL_CTX_free(bench->tls);
	close(bench->epoll_fd);
}

static void
take_token(void *arg, int status, const char *message, Bytes body,
		   uint64_t latency_us UNUSED)
{
	Bench	   *bench = arg;

	if (status == 0)
		response_token(body, bench->token, sizeof(bench->token));
	else
		fprintf(stderr, "clav_bench: login failed: %s\n", message);
}

/* One login on a connection of its own; all others carry its token. */
static bool
log_in(Bench *bench)
{
	int64_t		end_us = clock_monotonic_us() + DRAIN_SECONDS * 1000000;
	Client	   *client = client_open(bench->options, bench->tls, take_token,
									 bench);

	if (client == NULL)
		return false;
	request_build(bench->options, BENCH_LOGIN, 0, &bench->message);
	client_send(client, request_path(BENCH_LOGIN), buf_bytes(&bench->message));
	while (client_outstanding(client) > 0 && clock_monotonic_us() < end_us &&
		   client_on_ready(client))
		usleep(1000);
	client_close(client);
	return bench->token[0] != '\0';
}

static SSL_CTX *
make_tls(const BenchOptions *options)
{
	SSL_CTX    *tls = SSL_CTX_new(TLS_client_method());
	bool		ok = tls != NULL &&
		SSL_CTX_set_alpn_protos(tls, (const uint8_t *) "\x02h2", 3) == 0;

	if (ok && options->ca_file != NULL)
	{
		ok = SSL_CTX_load_verify_file(tls, options->ca_file) == 1;
		SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
	}
	if (ok && options->cert_file != NULL)
		ok = SSL_CTX_use_certificate_chain_file(tls, options->cert_file) == 1
			&& SSL_CTX_use_PrivateKey_file(tls, options->key_file,
										   SSL_FILETYPE_PEM) == 1;
	if (!ok)
	{
		fprintf(stderr, "clav_bench: TLS files: %s\n",
				ERR_reason_error_string(ERR_peek_last_error()));
		exit(1);
	}
	return tls;
}

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void) setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- output ---- */

static void
show_progress(Bench *bench, int64_t now_us, int64_t *last_us)
{
	double		elapsed = (double) (now_us - *last_us) / 1e6;

	if (bench->options->quiet || elapsed < 1.0)
		return;
	fprintf(stderr, "%5.0f s  %9.0f requests/s  p99 so far %" PRIu64 " us\n",
			(double) (now_us - bench->began_us) / 1e6,
			(double) (bench->result.latency.count - bench->progress_count) /
			elapsed, histogram_quantile(&bench->result.latency, 0.99));
	bench->progress_count = bench->result.latency.count;
	*last_us = now_us;
}

/* texts of errors are plain; what JSON would take amiss becomes a blank */
static const char *
json_safe(const char *text)
{
	static char safe[256];

	snprintf(safe, sizeof(safe), "%s", text);
	for (char *p = safe; *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || *p == '"' || *p == '\\')
			*p = ' ';
	}
	return safe;
}

static void
report(const Bench *bench)
{
	static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
	const BenchResult *r = &bench->result;
	const Histogram *h = &r->latency;
	double		rate = (double) h->count / r->seconds;
	double		mean = h->count == 0 ? 0
		: (double) h->sum_us / (double) h->count;

	if (bench->options->json)
	{
		printf("{\"label\":\"%s\",\"requests\":%" PRIu64 ",\"seconds\":%.3f,"
			   "\"rate\":%.1f,\"errors\":%" PRIu64 ",\"mean_us\":%.1f,"
			   "\"p50_us\":%" PRIu64 ",\"p90_us\":%" PRIu64 ",\"p99_us\":%"
			   PRIu64 ",\"p999_us\":%" PRIu64 ",\"max_us\":%" PRIu64
			   ",\"first_error\":\"%s\"}\n",
			   bench->options->label, h->count, r->seconds, rate, r->errors,
			   mean, histogram_quantile(h, quantiles[0]),
			   histogram_quantile(h, quantiles[1]),
			   histogram_quantile(h, quantiles[2]),
			   histogram_quantile(h, quantiles[3]), h->max_us,
			   json_safe(r->first_error));
		return;
	}
	printf("%" PRIu64 " requests in %.2f s: %.0f requests/s, %" PRIu64
		   " errors\n", h->count, r->seconds, rate, r->errors);
	if (r->errors > 0)
		printf("first error: %s\n", r->first_error);
	printf("latency: mean %.0f us", mean);
	for (size_t i = 0; i < lengthof(quantiles); i++)
		printf(", p%g %" PRIu64, quantiles[i] * 100,
			   histogram_quantile(h, quantiles[i]));
	printf(", max %" PRIu64 " us\n", h->max_us);
}

/* ---- options ---- */

static void
parse_options(int argc, char **argv, BenchOptions *options)
{
	static const struct option long_options[] = {
		{"endpoint", required_argument, NULL, 'e'},
		{"op", required_argument, NULL, 'o'},
		{"connections", required_argument, NULL, 'c'},
		{"streams", required_argument, NULL, 's'},
		{"seconds", required_argument, NULL, 't'},
		{"keys", required_argument, NULL, 'k'},
		{"range-keys", required_argument, NULL, 'n'},
		{"value-size", required_argument, NULL, 'v'},
		{"read-percent", required_argument, NULL, 'r'},
		{"user", required_argument, NULL, 'u'},
		{"cacert", required_argument, NULL, 'A'},
		{"cert", required_argument, NULL, 'C'},
		{"key", required_argument, NULL, 'K'},
		{"load", no_argument, NULL, 'L'},
		{"serializable", no_argument, NULL, 'S'},
		{"json", no_argument, NULL, 'j'},
		{"label", required_argument, NULL, 'l'},
		{"quiet", no_argument, NULL, 'q'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}
	};
	/* in the order of BenchOp */
	static const char *const ops[] = {"put", "range", "login", "cas", "",
	"keepalive", "mixed", "connect", "idle", "watch"};
	int			c;
	bool		ok = true;

	while ((c = getopt_long(argc, argv, "e:o:c:s:t:k:n:v:r:u:Ljqh", long_options,
							NULL)) != -1)
	{
		switch (c)
		{
			case 'e':
				options->endpoint = optarg;
				break;
			case 'o':
				ok = false;
				for (size_t i = 0; i < lengthof(ops); i++)
				{
					if (strcmp(ops[i], optarg) == 0)
					{
						options->op = (BenchOp) i;
						ok = true;
					}
				}
				break;
			case 'c':
				options->connections = atoi(optarg);
				break;
			case 's':
				options->streams = atoi(optarg);
				break;
			case 't':
				options->seconds = atof(optarg);
				break;
			case 'k':
				options->keys = strtoull(optarg, NULL, 10);
				break;
			case 'n':
				options->range_keys = strtoull(optarg, NULL, 10);
				break;
			case 'v':
				options->value_bytes = (uint32_t) atoi(optarg);
				break;
			case 'r':
				options->read_percent = atoi(optarg);
				break;
			case 'u':
				options->user = secret_take_argument(optarg, ':');
				break;
			case 'A':
				options->ca_file = optarg;
				break;
			case 'C':
				options->cert_file = optarg;
				break;
			case 'K':
				options->key_file = optarg;
				break;
			case 'L':
				options->load = true;
				break;
			case 'S':
				options->serializable = true;
				break;
			case 'j':
				options->json = true;
				break;
			case 'l':
				options->label = optarg;
				break;
			case 'q':
				options->quiet = true;
				break;
			case 'h':
				print_help(stdout);
				exit(0);
			default:
				ok = false;
				break;
		}
	}
	ok = ok && optind == argc && options->connections > 0 &&
		options->streams > 0 && options->seconds > 0 && options->keys > 0 &&
		options->range_keys > 0 && options->range_keys <= options->keys &&
		(options->user == NULL || strchr(options->user, ':') != NULL) &&
		(options->op != BENCH_LOGIN || options->user != NULL) &&
		(options->cert_file == NULL) == (options->key_file == NULL) &&
		parse_endpoint(options);
	if (!ok)
	{
		print_help(stderr);
		exit(2);
	}
}

/* http://host:port, https://host:port or host:port */
static bool
parse_endpoint(BenchOptions *options)
{
	const char *rest = options->endpoint;
	const char *colon;

	if (strncmp(rest, "https://", 8) == 0)
	{
		options->use_tls = true;
		rest += 8;
	}
	else if (strncmp(rest, "http://", 7) == 0)
		rest += 7;
	colon = strrchr(rest, ':');
	if (colon == NULL || colon == rest)
		return false;
	return snprintf(options->host, sizeof(options->host), "%.*s",
					(int) (colon - rest), rest) < (int) sizeof(options->host)
		&& snprintf(options->port, sizeof(options->port), "%s", colon + 1) <
		(int) sizeof(options->port);
}

static void
print_help(FILE *out)
{
	fprintf(out, "Usage: clav_bench [OPTION ...]\n\n"
			"Load on an etcd v3 endpoint; works against etcd as well.\n\n"
			"  -e, --endpoint URL      http://host:port or https://host:port\n"
			"  -o, --op OP             put, range, mixed, login;\n"
			"                          cas: a Txn that puts if the value is as loaded;\n"
			"                          keepalive: of a lease on each stream, which\n"
			"                          stays open;\n"
			"                          connect: a range on a new connection each\n"
			"                          time; idle: hold connections, and say so;\n"
			"                          watch: one writer besides, and on each\n"
			"                          connection so many watches of its key (-s)\n"
			"  -r, --read-percent N    share of ranges in mixed (90)\n"
			"  -c, --connections N     connections (1)\n"
			"  -s, --streams N         requests at one time on each (1)\n"
			"  -t, --seconds S         how long (10)\n"
			"  -k, --keys N            number of different keys (10000)\n"
			"  -n, --range-keys N      keys that one range asks for (1)\n"
			"  -v, --value-size N      bytes of a value (256)\n"
			"  -u, --user NAME:PASS    log in once, send the token; for login:\n"
			"                          the credentials to check\n"
			"  -L, --load              put every key once before\n"
			"      --serializable      ranges need no quorum\n"
			"      --cacert, --cert, --key FILE\n"
			"  -j, --json              one line of JSON\n"
			"      --label TEXT        goes into the JSON\n"
			"  -q, --quiet             no progress\n"
			"\nSIGINT ends it early, with its report.  Exit status 1 if any\n"
			"request failed.\n");
}
