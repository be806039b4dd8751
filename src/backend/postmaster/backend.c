/*
 * backend.c
 *	  One client connection, from the accepted socket to its end.
 *
 * A single event loop moves bytes between the socket and the protocol session
 * and calls dispatch when the raft worker or the hashing thread has finished
 * something.  Nothing here waits for one client's request: the loop goes on
 * with the others of the connection.
 *
 *	handshake (TLS) -> first bytes (which protocol) -> serving -> draining
 *
 * Handshake and first bytes together must be done within handshake_timeout.
 * A connection that has then not made one request that succeeds within
 * first_request_timeout, or that may wait for as long as it takes (a lock), is
 * asked to go: it holds a slot that others need.
 *
 * While the socket takes no output, nothing is read from it: a client who asks
 * and does not read finds his own sends blocked, and what he has asked for
 * already is all that he can make us hold.  If he takes nothing for
 * client_send_timeout the connection is closed.
 */
#include "server.h"

/* system */
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "comm/tls.h"
#include "dispatch/dispatch.h"
#include "postmaster/postmaster.h"
#include "postmaster/session.h"
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "watch/watch.h"

#define READ_BYTES (64 * 1024)
#define READS_PER_TURN 16
#define REFUSER_LIFETIME_MS 3000
#define SHUTDOWN_LIFETIME_MS 10000
#define LAST_WORDS_MS 1000

typedef struct Backend
{
	Conn	   *conn;
	Session    *session;
	MemContext *mcx;
	int			epoll_fd;
	int			signal_fd;
	int			hash_fd;
	bool		has_slot;
	uint32_t	polled;			/* what is asked of the socket */
	bool		is_blocked;		/* the socket takes no more output */
	int64_t		blocked_ms;		/* since when, or since it took the last bytes */
	int64_t		proof_ms;		/* when a request must have succeeded; -1: any */
	bool		is_readable;	/* so said the last wait */
	bool		peer_closed;
	bool		is_ending;		/* told to finish */
	int64_t		deadline_ms;	/* of this phase; -1: none */
	uint64_t	reload_generation;
	uint8_t		input[READ_BYTES];
	size_t		input_len;		/* first bytes before the session exists */
	Bytes		output;			/* pulled from the session, not yet sent */
} Backend;

/* a backend is one process with one connection */
static Backend backend;

static void attach(const BackendStart *start);
static void prepare_signals(void);
static void poll_fd(int fd, uint32_t events);
static bool handshake(void);
static SessionProtocol sniff_protocol(bool is_for_metrics);
static void open_session(const BackendStart *start, SessionProtocol protocol);
static void serve(void);
static bool read_input(void);
static bool give_input(size_t len);
static bool write_output(void);
static void poll_socket(uint32_t events);
static bool may_read(void);
static bool is_time_over(void);
static void wait_for_events(void);
static int	next_timeout_ms(void);
static void on_timers(void);
static void check_proof(int64_t now);
static void on_signals(void);
static void reload_if_asked(void);
static bool is_still_welcome(void);
static void end_process(int status) NORETURN;
static void say_last_words(void);

void
BackendMain(const BackendStart *start)
{
	SessionProtocol protocol;

	elog_set_process_name("backend");
	/* for top and perf */
	(void) pthread_setname_np(pthread_self(), "clav backend");
	prepare_signals();
	backend.deadline_ms = clock_coarse_ms() + guc_handshake_timeout;
	backend.conn = conn_create(start->fd, start->tls);
	attach(start);

	if (!handshake())
		end_process(0);
	protocol = sniff_protocol(start->is_for_metrics);
	if (protocol == PROTOCOL_UNKNOWN)
		end_process(0);
	open_session(start, protocol);
	serve();
	end_process(0);
}

static void
attach(const BackendStart *start)
{
	backend.mcx = mcx_create(NULL, "backend");
	backend.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (backend.epoll_fd < 0)
		elog_fatal("could not create an epoll descriptor: %s",
				   strerror(errno));
	poll_fd(conn_fd(backend.conn), EPOLLIN);
	backend.polled = EPOLLIN;
	backend.proof_ms = -1;
	backend.hash_fd = -1;
	poll_fd(backend.signal_fd, EPOLLIN);
	poll_fd(postmaster_death_fd(), 0);	/* EPOLLHUP comes unasked */
	if (start->slot < 0)
		return;

	(void) INJECTION_POINT("slot-before-attach");
	control_attach_slot(start->slot);
	(void) INJECTION_POINT("slot-after-attach");
	control_set_peer(conn_peer_name(backend.conn));
	atomic_store(&control_self()->state, SLOT_HANDSHAKE);
	backend.has_slot = true;
	backend.reload_generation = start->reload_generation;
}

static void
prepare_signals(void)
{
	sigset_t	signals;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGQUIT, SIG_DFL);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	backend.signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (backend.signal_fd < 0)
		elog_fatal("could not create a signal descriptor: %s",
				   strerror(errno));
}

static void
poll_fd(int fd, uint32_t events)
{
	struct epoll_event event = {.events = events,.data.fd = fd};

	if (epoll_ctl(backend.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		elog_fatal("could not poll a descriptor: %s", strerror(errno));
}

/* ---- before the session ---- */

/* False when the connection is over. */
static bool
handshake(void)
{
	for (;;)
	{
		ConnResult	result = conn_handshake(backend.conn);

		(void) INJECTION_POINT("tls-handshake");
		switch (result)
		{
			case CONN_OK:
				poll_socket(EPOLLIN);
				return true;
			case CONN_WANT_READ:
				poll_socket(EPOLLIN);
				break;
			case CONN_WANT_WRITE:
				/* his next flight can wait until he has read ours */
				poll_socket(EPOLLOUT);
				break;
			default:
				counter_add(COUNTER_HANDSHAKES_FAILED, 1);
				elog_info("TLS handshake with %s failed: %s",
						  conn_peer_name(backend.conn),
						  result == CONN_CLOSED ? "the client closed"
						  : conn_error(backend.conn));
				return false;
		}
		wait_for_events();
		if (backend.is_ending)
			return false;
		if (clock_coarse_ms() >= backend.deadline_ms)
		{
			counter_add(COUNTER_HANDSHAKES_FAILED, 1);
			elog_info("TLS handshake with %s timed out",
					  conn_peer_name(backend.conn));
			return false;
		}
	}
}

/*
 * Read until it is clear what the client speaks.  PROTOCOL_UNKNOWN when the
 * connection is over, or says nothing that we know.
 */
static SessionProtocol
sniff_protocol(bool is_for_metrics)
{
	for (;;)
	{
		size_t		got = 0;
		ConnResult	result = conn_read(backend.conn,
									   backend.input + backend.input_len,
									   sizeof(backend.input) -
									   backend.input_len, &got);

		if (result == CONN_OK)
		{
			SessionProtocol protocol;

			backend.input_len += got;
			protocol = session_sniff(bytes_make(backend.input,
												backend.input_len),
									 conn_alpn(backend.conn), is_for_metrics);
			if (protocol == PROTOCOL_UNKNOWN && backend.input[0] == 0x16 &&
				!conn_is_tls(backend.conn))
				elog_info("%s tried TLS on a plain port",
						  conn_peer_name(backend.conn));
			if (protocol != PROTOCOL_UNDECIDED)
				return protocol;
			continue;
		}
		if (result == CONN_CLOSED || result == CONN_FAILED)
			return PROTOCOL_UNKNOWN;
		wait_for_events();
		if (backend.is_ending || clock_coarse_ms() >= backend.deadline_ms)
			return PROTOCOL_UNKNOWN;
	}
}

static void
open_session(const BackendStart *start, SessionProtocol protocol)
{
	HttpConn	conn = {
		.common_name = conn_common_name(backend.conn),
		.is_tls = conn_is_tls(backend.conn),
		.has_certificate = conn_has_certificate(backend.conn),
		.is_for_metrics = start->is_for_metrics,
		.refuse_with = start->slot < 0 ? ERR_TOO_MANY_CONNECTIONS : ERR_NONE,
	};

	if (backend.has_slot)
	{
		ring_attach_backend();
		dispatch_init();
		poll_fd(dispatch_completion_fd(), EPOLLIN | EPOLLET);
		backend.hash_fd = dispatch_hash_fd();
		poll_fd(backend.hash_fd, EPOLLIN);
		atomic_store(&control_self()->state, SLOT_IDLE);
		backend.deadline_ms = -1;
		if (guc_first_request_timeout > 0)
			backend.proof_ms = clock_coarse_ms() + guc_first_request_timeout;
	}
	else
		backend.deadline_ms = clock_coarse_ms() + REFUSER_LIFETIME_MS;
	backend.session = session_create(backend.mcx, protocol, &conn);
	if (!give_input(backend.input_len))
		session_shutdown(backend.session);
	backend.input_len = 0;
}

/* ---- serving ---- */

static void
serve(void)
{
	for (;;)
	{
		if (!write_output())
			return;
		if (session_is_over(backend.session) ||
			(backend.peer_closed && backend.output.len == 0))
			return;
		if (is_time_over())
			return;
		wait_for_events();
		if (may_read() && (backend.is_readable ||
						   conn_has_pending(backend.conn)) && !read_input())
			return;
		on_timers();
	}
}

static bool
is_time_over(void)
{
	int64_t		now = clock_coarse_ms();

	if (backend.is_blocked && now >= backend.blocked_ms +
		guc_client_send_timeout)
	{
		elog_info("closing the connection of %s: it takes no answers",
				  conn_peer_name(backend.conn));
		return true;
	}
	return backend.deadline_ms >= 0 && now >= backend.deadline_ms;
}

static bool
may_read(void)
{
	return !backend.peer_closed && !backend.is_blocked &&
		!dispatch_is_congested() &&
		(backend.session == NULL || session_wants_input(backend.session));
}

/* False when the connection is broken. */
static bool
read_input(void)
{
	for (int i = 0; i < READS_PER_TURN && may_read(); i++)
	{
		size_t		got = 0;
		ConnResult	result = conn_read(backend.conn, backend.input,
									   sizeof(backend.input), &got);

		switch (result)
		{
			case CONN_OK:
				if (!give_input(got))
				{
					/* what explains the end (GOAWAY) may still be sent */
					backend.peer_closed = true;
					return true;
				}
				/* a short read has emptied the socket */
				if (got < sizeof(backend.input) &&
					!conn_has_pending(backend.conn))
					return true;
				break;
			case CONN_WANT_READ:
			case CONN_WANT_WRITE:
				return true;
			case CONN_CLOSED:
				backend.peer_closed = true;
				return true;
			case CONN_FAILED:
				elog_debug("connection of %s broke: %s",
						   conn_peer_name(backend.conn),
						   conn_error(backend.conn));
				return false;
		}
	}
	return true;
}

/*
 * To the session, which copies; what was read may be a password or a token.
 * False when the session wants no more.
 */
static bool
give_input(size_t len)
{
	bool		goes_on = session_receive(backend.session,
										  bytes_make(backend.input, len));

	secret_wipe(backend.input, len);
	return goes_on;
}

/* Send all that the session has and the socket takes; false when broken. */
static bool
write_output(void)
{
	for (;;)
	{
		size_t		sent = 0;
		ConnResult	result;

		if (backend.output.len == 0)
			backend.output = session_pull(backend.session);
		if (backend.output.len == 0)
		{
			backend.is_blocked = false;
			/* an end that was read already would wake us for ever */
			poll_socket(may_read() ? EPOLLIN : 0);
			return true;
		}
		result = conn_write(backend.conn, backend.output.data,
							backend.output.len, &sent);
		if (result == CONN_WANT_READ || result == CONN_WANT_WRITE)
		{
			if (!backend.is_blocked)
				backend.blocked_ms = clock_coarse_ms();
			backend.is_blocked = true;
			poll_socket(result == CONN_WANT_READ ? EPOLLIN : EPOLLOUT);
			return true;
		}
		if (result != CONN_OK)
			return false;
		backend.output.data += sent;
		backend.output.len -= sent;
		backend.is_blocked = false;
	}
}

static void
poll_socket(uint32_t events)
{
	struct epoll_event event = {
		.events = events,
		.data.fd = conn_fd(backend.conn),
	};

	if (events == backend.polled)
		return;
	backend.polled = events;
	epoll_ctl(backend.epoll_fd, EPOLL_CTL_MOD, conn_fd(backend.conn), &event);
}

/*
 * Sleep until something happens, and see to everything but the socket, which
 * the caller looks at himself.
 */
static void
wait_for_events(void)
{
	struct epoll_event events[8];
	int			timeout = next_timeout_ms();
	bool		has_hashes = false;
	int			n;

	if (backend.session != NULL && backend.has_slot)
	{
		atomic_store_explicit(&control_self()->nstreams,
							  session_streams(backend.session),
							  memory_order_relaxed);
		if (!ring_arm_completions() || watch_is_due())
			timeout = 0;
	}
	if (may_read() && conn_has_pending(backend.conn))
		timeout = 0;
	n = epoll_wait(backend.epoll_fd, events, lengthof(events), timeout);
	if (n < 0 && errno != EINTR)
		elog_fatal("waiting for events failed: %s", strerror(errno));
	backend.is_readable = false;
	for (int i = 0; i < n; i++)
	{
		int			fd = events[i].data.fd;

		if (fd == postmaster_death_fd())
			end_process(0);
		if (fd == backend.signal_fd)
			on_signals();
		else if (fd == conn_fd(backend.conn))
			backend.is_readable = true;
		else if (fd == backend.hash_fd)
			has_hashes = true;
	}
	if (backend.session != NULL && backend.has_slot)
	{
		dispatch_on_completions();
		if (has_hashes)
			dispatch_on_hashes();
		watch_turn();
	}
	(void) INJECTION_POINT("backend-loop");
}

static int
next_timeout_ms(void)
{
	int64_t		next = clock_earlier(backend.deadline_ms, backend.proof_ms);
	int64_t		now;

	if (backend.is_blocked)
		next = clock_earlier(next, backend.blocked_ms + guc_client_send_timeout);
	if (backend.session != NULL)
	{
		next = clock_earlier(next, session_next_timer_ms(backend.session));
		if (backend.has_slot)
			next = clock_earlier(next, dispatch_next_expiry_ms());
	}
	if (next < 0)
		return -1;
	now = clock_coarse_ms();
	if (next <= now)
		return 0;
	return next - now > INT_MAX ? INT_MAX : (int) (next - now);
}

static void
on_timers(void)
{
	int64_t		now = clock_coarse_ms();

	session_on_timer(backend.session, now);
	if (backend.proof_ms >= 0)
		check_proof(now);
	if (backend.has_slot)
	{
		dispatch_expire(now);
		reload_if_asked();
	}
}

/*
 * An honest client who connects ahead of time is not hurt: gRPC clients take a
 * GOAWAY for what it is and connect again when they have something to ask.
 */
static void
check_proof(int64_t now)
{
	if (session_has_succeeded(backend.session) ||
		(backend.has_slot && now >= backend.proof_ms && dispatch_is_awaited()))
		backend.proof_ms = -1;
	else if (now >= backend.proof_ms)
	{
		elog_debug("%s has not made a request that succeeds",
				   conn_peer_name(backend.conn));
		backend.proof_ms = -1;
		session_shutdown(backend.session);
		backend.deadline_ms = clock_earlier(backend.deadline_ms,
											now + SHUTDOWN_LIFETIME_MS);
	}
}

/*
 * SIGTERM: answer what runs, take nothing new.  SIGINT: end now, after the
 * GOAWAY that tells the client to go elsewhere.
 */
static void
on_signals(void)
{
	struct signalfd_siginfo info;

	while (read(backend.signal_fd, &info, sizeof(info)) == sizeof(info))
	{
		if (info.ssi_signo == SIGHUP)
			continue;			/* the generation tells */
		backend.is_ending = true;
		if (backend.session == NULL)
			return;
		session_shutdown(backend.session);
		if (info.ssi_signo == SIGINT)
		{
			(void) write_output();
			end_process(0);
		}
		backend.deadline_ms = clock_coarse_ms() + SHUTDOWN_LIFETIME_MS;
	}
}

static void
reload_if_asked(void)
{
	uint64_t	generation = control_reload_generation();
	char		error[512];

	if (generation == backend.reload_generation)
		return;
	backend.reload_generation = generation;
	/* the postmaster has reported mistakes already */
	if (!guc_reload(error, sizeof(error)) || is_still_welcome())
		return;
	elog_info("closing the connection of %s: its client certificate does not "
			  "count any more as it did", conn_peer_name(backend.conn));
	session_shutdown(backend.session);
	(void) write_output();
	end_process(0);
}

/* With certificates that cannot be loaded all stays as it is. */
static bool
is_still_welcome(void)
{
	char		error[512];
	TlsContext *now;
	bool		is_good = true;

	if (!conn_is_tls(backend.conn))
		return true;
	now = postmaster_load_tls(error, sizeof(error));
	if (now != NULL)
		is_good = conn_is_still_good(backend.conn, now);
	tls_context_destroy(now);
	return is_good;
}

/*
 * The postmaster puts the slot right when it reaps us; here only the client
 * is told good-bye.
 */
static void
end_process(int status)
{
	(void) INJECTION_POINT("backend-before-exit");
	if (backend.session != NULL)
		session_destroy(backend.session);
	conn_destroy(backend.conn);
	if (backend.session != NULL && backend.has_slot)
		say_last_words();
	exit(status);
}

/*
 * Requests that went with the connection may have something to take back (the
 * key of a lock that was waited for).  The rings are emptied when the
 * postmaster reaps us, so wait until the raft worker has taken it.
 */
static void
say_last_words(void)
{
	int64_t		until = clock_monotonic_ms() + LAST_WORDS_MS;

	while (dispatch_outstanding() > 0 && clock_monotonic_ms() < until)
	{
		nanosleep(&(struct timespec) {.tv_nsec = 1000000}, NULL);
		dispatch_on_completions();
	}
}
