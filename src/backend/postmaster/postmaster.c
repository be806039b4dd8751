/*
 * postmaster.c
 *	  The first process: it forks, waits and decides.
 *
 * It owns the listening sockets, the children and the creation of shared
 * memory; it never reads a client's byte, opens no store and takes no lock,
 * so that it survives what its children do not.
 *
 *	STARTING --worker ready--> RUNNING --SIGTERM/SIGINT--> DRAINING
 *	    ^                         |                           |
 *	    |       raft worker died  |                 no client left
 *	    '------- CRASHED <--------'                           v
 *	         (all children gone)                     STOPPING_AUXILIARIES
 *	                                                          |
 *	                                           none of them left, or too late
 *	                                                          v
 *	                                                   STOPPING_WORKER --> end
 *
 * A backend's death costs its own connection: its slot is put right and given
 * away again.  The raft worker's death stops all backends, because the memory
 * that they read has lost its writer; everything starts over from disk, in
 * fresh memory.  A worker that dies before it was ready once is not started
 * again: the same would happen, and the log says what.  One that dies soon
 * after it was ready is started again after a pause that grows (restartpause.c):
 * a full disk would else keep the machine busy with starts.
 * None is started if a stop is asked for in CRASHED.
 *
 * Signals: SIGTERM finishes running requests (smart), SIGINT cuts them
 * (fast), SIGQUIT leaves at once without a checkpoint (immediate; the log is
 * replayed at the next start), SIGHUP reloads.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <openssl/crypto.h>
#include <openssl/rand.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/injection.h"

/* this layer and below */
#include "comm/tls.h"
#include "postmaster/auxproc.h"
#include "postmaster/children.h"
#include "postmaster/memlimit.h"
#include "postmaster/pidfile.h"
#include "postmaster/postmaster.h"
#include "postmaster/restartpause.h"
#include "raft/worker.h"
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "storage/snap/store.h"

#define MAX_LISTENERS 32
#define ACCEPTS_PER_TURN 64
#define AUXILIARY_SLOTS (1 + AUX_COUNT)	/* raft worker and auxiliaries */
/* for the last words of auxiliary processes when the server stops */
#define AUXILIARY_STOP_MS 10000
#define READY_POLL_MS 5
#define ACCEPT_PAUSE_MS 100		/* after running out of descriptors */

/*
 * With max_handshakes under way new connections stay in the kernel's backlog,
 * for this part of handshake_timeout: clients that all come at one time have
 * done by then.  Those that say nothing have not, and then it is better to
 * refuse than to let everybody queue behind them.
 */
#define HANDSHAKES_WAIT_PART 10
#define HANDSHAKES_PAUSE_MS 5	/* until they are counted again */

typedef enum PostmasterState
{
	PM_STARTING,
	PM_RUNNING,
	PM_DRAINING,
	PM_STOPPING_AUXILIARIES,
	PM_STOPPING_WORKER,
	PM_CRASHED,
	PM_ENDED
} PostmasterState;

static PostmasterState state;
static int	exit_status;
static bool worker_was_ready;
static bool is_stop_wanted;		/* came in PM_CRASHED */
static Listener listeners[MAX_LISTENERS];
static int	nlisteners;
static int	nclients;			/* so many of them, the first, are for clients */
static bool listeners_polled;
static TlsContext *tls;
static int	epoll_fd = -1;
static int	signal_fd = -1;
static int	death_pipe[2] = {-1, -1};
static sigset_t handled_signals;
static int64_t accept_paused_until;
static int64_t handshakes_full_ms;	/* since when; 0: they are not */
static int64_t auxiliaries_until;	/* in PM_STOPPING_AUXILIARIES */
static RestartPause worker_pause;
static int64_t restart_due_ms;	/* in PM_CRASHED: not before */
static PidFile pidfile;

static void prepare_data_dir(void);
static void initialise_in_child(void);
static bool any_listener_needs_tls(void);
static void open_listeners(void);
static void create_shared_memory(void);
static void start_raft_worker(void);
static void watch_listeners(bool on);
static void set_state(PostmasterState next);
static int	wait_timeout_ms(void);
static void warm_openssl(void);
static void run_loop(void);
static void check_worker_ready(void);
static void accept_clients(Listener *listener);
static void start_client(int fd, Listener *listener, bool may_begin);
static bool handshakes_have_room(void);
static void pause_accepting(int64_t ms);
static void on_signals(void);
static void on_child_exits(void);
static void on_worker_exit(int status);
static void on_client_exit(const Child *child, int status);
static void begin_stop(int signo);
static void go_on_stopping(void);
static void begin_restart(void);
static bool children_are_gone(void);
static void restart_if_due(void);
static void reload(void);
static void publish_pidfile(const char *state_name);

int
PostmasterMain(void)
{
	char		error[1024];

	elog_set_process_name("postmaster");
	umask(0077);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&handled_signals);
	sigaddset(&handled_signals, SIGCHLD);
	sigaddset(&handled_signals, SIGTERM);
	sigaddset(&handled_signals, SIGINT);
	sigaddset(&handled_signals, SIGQUIT);
	sigaddset(&handled_signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &handled_signals, NULL);

	warm_openssl();
	prepare_data_dir();
	memlimit_check_quota();
	open_listeners();
	if (any_listener_needs_tls())
	{
		tls = postmaster_load_tls(error, sizeof(error));
		if (tls == NULL)
			elog_fatal("%s", error);
		tls_context_warm(tls);
	}

	signal_fd = signalfd(-1, &handled_signals, SFD_NONBLOCK | SFD_CLOEXEC);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (signal_fd < 0 || epoll_fd < 0 || pipe2(death_pipe, O_CLOEXEC) != 0)
		elog_fatal("could not create descriptors: %s", strerror(errno));
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signal_fd,
			  &(struct epoll_event) {.events = EPOLLIN,.data.ptr = NULL});

	children_init((uint32_t) guc_max_connections + AUXILIARY_SLOTS);
	create_shared_memory();
	(void) INJECTION_POINT("postmaster-memory-made");
	start_raft_worker();
	run_loop();

	listen_close(listeners, nlisteners);
	pidfile_remove(guc_data_dir);
	children_fini();
	tls_context_destroy(tls);
	if (exit_status == 0)
		elog_info("claviger has stopped");
	return exit_status;
}

int
PostmasterInitialise(void)
{
	umask(0077);
	prepare_data_dir();
	return 0;
}

/*
 * OpenSSL sets up configuration, providers and random numbers when they are
 * first needed: milliseconds and 100s of kB that each backend would spend
 * again.  (After a fork it seeds anew by itself.)  A backend that ends has
 * nothing to tidy up either.
 */
static void
warm_openssl(void)
{
	uint8_t		random[1];

	if (OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT,
							NULL) != 1 ||
		RAND_bytes(random, sizeof(random)) != 1)
		elog_fatal("OpenSSL could not be set up");
}

TlsContext *
postmaster_load_tls(char *error, size_t error_size)
{
	TlsOptions	options = {
		.cert_file = guc_cert_file,
		.key_file = guc_key_file,
		.trusted_ca_file = guc_trusted_ca_file,
		.crl_file = guc_client_crl_file,
		.client_cert_auth = guc_client_cert_auth,
		.allowed_hostnames = guc_client_cert_allowed_hostname,
		.cipher_suites = guc_cipher_suites,
		.min_version = guc_tls_min_version,
		.max_version = guc_tls_max_version,
	};

	return tls_context_create(&options, error, error_size);
}

int
postmaster_death_fd(void)
{
	return death_pipe[0];
}

void
postmaster_become_child(void)
{
	sigset_t	at_once;

	(void) INJECTION_POINT("child-begins");
	for (int i = 0; i < nlisteners; i++)
		close(listeners[i].fd);
	close(signal_fd);
	close(epoll_fd);
	close(death_pipe[1]);
	/*
	 * Whatever the postmaster has sent since the fork is pending.  SIGTERM,
	 * SIGINT and SIGHUP stay blocked: each main reads them from a descriptor
	 * or ignores them, and until it does the default would end the process,
	 * for a reload as well.
	 */
	sigemptyset(&at_once);
	sigaddset(&at_once, SIGCHLD);
	sigaddset(&at_once, SIGQUIT);
	sigprocmask(SIG_UNBLOCK, &at_once, NULL);
}

/* ---- start ---- */

/*
 * Lock the data directory, and fill it if it is empty.  The tables are
 * written by a child: no store handle may live in the postmaster.
 */
static void
prepare_data_dir(void)
{
	char		error[1024];
	bool		is_empty = false;

	if (mkdir(guc_data_dir, 0700) != 0 && errno != EEXIST)
		elog_fatal_hint(NULL, "Create the parent directory, or name another "
						"directory with --data-dir.",
						"could not create data directory \"%s\": %s",
						guc_data_dir, strerror(errno));
	raft_lock_data_dir(guc_data_dir);
	if (raft_data_dir_is_initialised(guc_data_dir, &is_empty, error,
									 sizeof(error)))
		return;
	if (!is_empty)
		elog_fatal("%s", error);
	initialise_in_child();
}

static void
initialise_in_child(void)
{
	pid_t		pid = fork();
	int			status;

	if (pid < 0)
		elog_fatal("could not fork: %s", strerror(errno));
	if (pid == 0)
	{
		elog_set_process_name("initialise");
		raft_initialise_data_dir(guc_data_dir);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
		WEXITSTATUS(status) != 0)
		elog_fatal_hint(NULL, "The lines above say why.  The next start begins "
						"with it again.",
						"data directory \"%s\" could not be initialised",
						guc_data_dir);
	elog_info("data directory \"%s\" initialised", guc_data_dir);
}

static bool
any_listener_needs_tls(void)
{
	for (int i = 0; i < nlisteners; i++)
	{
		if (listeners[i].is_tls)
			return true;
	}
	return false;
}

static void
open_listeners(void)
{
	char		error[1024];
	int			nmetrics;

	nlisteners = listen_open(guc_listen_client_urls, listeners, MAX_LISTENERS,
							 error, sizeof(error));
	if (nlisteners < 0)
		elog_fatal("%s", error);
	nclients = nlisteners;
	if (guc_listen_metrics_urls[0] == '\0')
		return;
	nmetrics = listen_open(guc_listen_metrics_urls, listeners + nlisteners,
						   MAX_LISTENERS - nlisteners, error, sizeof(error));
	if (nmetrics < 0)
		elog_fatal("%s", error);
	for (int i = 0; i < nmetrics; i++)
		listeners[nlisteners++].is_for_metrics = true;
}

static void
create_shared_memory(void)
{
	ControlSizes sizes = {
		.nslots = (uint32_t) guc_max_connections + AUXILIARY_SLOTS,
		.max_request_bytes = (uint32_t) guc_max_request_bytes,
		.token_cache_entries = (uint32_t) guc_token_cache_size,
		.token_max_per_user = (uint32_t) guc_token_max_per_user,
		.hash_slots = (uint32_t) guc_effective_hash_slots(),
		.hash_queue = (uint32_t) guc_auth_hash_queue,
	};

	if (!store_create((size_t) guc_effective_shared_memory()))
		elog_fatal_hint(NULL, "Lower shared_memory_size or raise the limit on "
						"address space.",
						"could not reserve %lld bytes of shared memory: %s",
						(long long) guc_effective_shared_memory(),
						strerror(errno));
	if (!control_create(&sizes))
		elog_fatal_hint(NULL, "Lower max_connections or max_request_bytes.",
						"could not create the control area: %s",
						strerror(errno));
	if (!ring_create_fds())
		elog_fatal("could not create the rings' descriptors: %s",
				   strerror(errno));
}

static void
start_raft_worker(void)
{
	int			slot = control_claim_slot();
	pid_t		pid;

	set_state(PM_STARTING);
	worker_was_ready = false;
	publish_pidfile("starting");
	pid = fork();
	if (pid < 0)
		elog_fatal("could not fork the raft worker: %s", strerror(errno));
	if (pid == 0)
	{
		postmaster_become_child();
		raft_worker_set_death_fd(death_pipe[0]);
		RaftWorkerMain(slot);
	}
	store_close_writer_fd();
	children_add(CHILD_RAFT_WORKER, pid, slot);
}

/* ---- the loop ---- */

static void
run_loop(void)
{
	while (state != PM_ENDED)
	{
		struct epoll_event events[MAX_LISTENERS + 1];
		int			n = epoll_wait(epoll_fd, events, lengthof(events),
								   wait_timeout_ms());

		if (n < 0 && errno != EINTR)
			elog_fatal("waiting for events failed: %s", strerror(errno));
		for (int i = 0; i < n; i++)
		{
			if (events[i].data.ptr == NULL)
				on_signals();
			else if (state == PM_RUNNING)
				accept_clients(events[i].data.ptr);
		}
		if (state == PM_STARTING)
			check_worker_ready();
		if (state == PM_RUNNING && !listeners_polled &&
			clock_monotonic_ms() >= accept_paused_until)
			watch_listeners(true);
		if (state == PM_RUNNING)
			auxproc_start_due();
		if (state == PM_STOPPING_AUXILIARIES)
			go_on_stopping();
		if (state == PM_CRASHED)
			restart_if_due();
	}
}

static int
wait_timeout_ms(void)
{
	if (state == PM_STARTING)
		return READY_POLL_MS;
	if (state == PM_RUNNING && !listeners_polled)
	{
		int64_t		left = accept_paused_until - clock_monotonic_ms();

		return left <= 0 ? 0 : (int) left;
	}
	if (state == PM_RUNNING)
		return auxproc_next_start_ms();
	if (state == PM_STOPPING_AUXILIARIES)
		return AUXILIARY_STOP_MS / 10;
	/* while there are children, their ends wake us */
	if (state == PM_CRASHED && children_are_gone())
	{
		int64_t		left = restart_due_ms - clock_monotonic_ms();

		return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int) left;
	}
	return -1;
}

static void
set_state(PostmasterState next)
{
	state = next;
	if (next != PM_RUNNING)
		watch_listeners(false);
}

static void
watch_listeners(bool on)
{
	if (on == listeners_polled)
		return;
	for (int i = 0; i < nlisteners; i++)
		epoll_ctl(epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
				  listeners[i].fd,
				  &(struct epoll_event) {.events = EPOLLIN,
										 .data.ptr = &listeners[i]});
	listeners_polled = on;
}

static void
check_worker_ready(void)
{
	if (!atomic_load(&store_raft_status()->is_ready))
		return;
	worker_was_ready = true;
	restartpause_ready(&worker_pause, clock_monotonic_ms());
	(void) INJECTION_POINT("postmaster-worker-ready");
	set_state(PM_RUNNING);
	auxproc_start_due();
	watch_listeners(true);
	publish_pidfile("ready");
	for (int i = 0; i < nlisteners; i++)
		elog_info("ready to serve %s requests on %s (%s)",
				  listeners[i].is_for_metrics ? "metrics" : "client",
				  listeners[i].address, listeners[i].is_tls ? "TLS" : "plain");
}

/* ---- clients ---- */

static void
accept_clients(Listener *listener)
{
	for (int i = 0; i < ACCEPTS_PER_TURN; i++)
	{
		bool		may_begin = handshakes_have_room();
		int			fd;

		if (!may_begin && clock_monotonic_ms() < handshakes_full_ms +
			guc_handshake_timeout / HANDSHAKES_WAIT_PART)
		{
			pause_accepting(HANDSHAKES_PAUSE_MS);
			return;
		}
		fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
		{
			start_client(fd, listener, may_begin);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			errno == ENOBUFS)
		{
			/* the connection stays in the backlog: look again a little later */
			elog_write(LOG_LEVEL_ERROR, NULL, "Raise the limit on open files.",
					   "could not accept a connection: %s", strerror(errno));
			pause_accepting(ACCEPT_PAUSE_MS);
		}
		return;
	}
}

static void
pause_accepting(int64_t ms)
{
	accept_paused_until = clock_monotonic_ms() + ms;
	watch_listeners(false);
}

/*
 * Fork a backend for a connection.  When all slots are taken, or it may not
 * begin, the child only tells the client so; when even those few children are
 * busy, the connection is closed.
 */
static void
start_client(int fd, Listener *listener, bool may_begin)
{
	int			slot = -1;
	uint64_t	generation;
	pid_t		pid;

	counter_add(COUNTER_CONNECTIONS, 1);
	/* the slots beyond are for auxiliary processes */
	if (children_count(CHILD_BACKEND) < (uint32_t) guc_max_connections &&
		may_begin)
		slot = control_claim_slot();
	if (slot < 0)
	{
		counter_add(COUNTER_CONNECTIONS_REFUSED, 1);
		if (!children_has_room(-1))
		{
			close(fd);
			return;
		}
		elog_write(LOG_LEVEL_WARNING, NULL, "Raise max_connections or "
				   "max_handshakes.", "too many connections: refusing one");
	}

	/* before the fork: the child has the tls of this moment */
	generation = control_reload_generation();
	pid = fork();
	if (pid == 0)
	{
		BackendStart start = {
			.fd = fd,
			.slot = slot,
			.tls = listener->is_tls ? tls : NULL,
			.reload_generation = generation,
			.is_for_metrics = listener->is_for_metrics,
		};

		postmaster_become_child();
		BackendMain(&start);
	}
	if (pid < 0)
	{
		elog_error("could not fork a backend: %s", strerror(errno));
		if (slot >= 0)
			control_reap_slot(slot);
	}
	else
		children_add(slot >= 0 ? CHILD_BACKEND : CHILD_REFUSER, pid, slot);
	close(fd);
}

/* Notes since when there is none. */
static bool
handshakes_have_room(void)
{
	uint32_t	n = 0;
	uint32_t	nslots = control_sizes()->nslots;

	/* counted only if they may be many */
	if (children_count(CHILD_BACKEND) < (uint32_t) guc_max_handshakes)
		nslots = 0;
	for (uint32_t i = 0; i < nslots; i++)
	{
		uint32_t	slot_state = atomic_load_explicit(
			&control_slot((int) i)->state, memory_order_relaxed);

		if (slot_state == SLOT_STARTING || slot_state == SLOT_HANDSHAKE)
			n++;
	}
	if (n < (uint32_t) guc_max_handshakes)
		handshakes_full_ms = 0;
	else if (handshakes_full_ms == 0)
		handshakes_full_ms = clock_monotonic_ms();
	return handshakes_full_ms == 0;
}

/* ---- signals and children ---- */

static void
on_signals(void)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == sizeof(info))
	{
		switch (info.ssi_signo)
		{
			case SIGCHLD:
				on_child_exits();
				break;
			case SIGHUP:
				reload();
				break;
			default:
				begin_stop((int) info.ssi_signo);
				break;
		}
	}
}

static void
on_child_exits(void)
{
	int			status;
	pid_t		pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
	{
		Child		child = children_remove(pid);

		if (child.kind == CHILD_RAFT_WORKER)
			on_worker_exit(status);
		else if (child.kind == CHILD_AUXILIARY)
			auxproc_on_exit(&child, status, state == PM_RUNNING);
		else if (child.kind != CHILD_NONE)
			on_client_exit(&child, status);
	}
	go_on_stopping();
}

static void
on_worker_exit(int status)
{
	if (state == PM_STOPPING_WORKER && WIFEXITED(status) &&
		WEXITSTATUS(status) == 0)
	{
		set_state(PM_ENDED);
		return;
	}
	if (WIFSIGNALED(status))
		elog_error("raft worker was ended by signal %d", WTERMSIG(status));
	else
		elog_error("raft worker ended with status %d", WEXITSTATUS(status));
	if (!worker_was_ready || state == PM_STOPPING_WORKER ||
		state == PM_STOPPING_AUXILIARIES || state == PM_DRAINING)
	{
		exit_status = 1;
		children_signal_clients(SIGQUIT);
		auxproc_signal_all(SIGQUIT);
		set_state(PM_ENDED);
		return;
	}
	begin_restart();
}

/* The loop goes on with it when all children are gone and the pause is over. */
static void
begin_restart(void)
{
	int64_t		now_ms = clock_monotonic_ms();
	int64_t		pause_ms = restartpause_died(&worker_pause, now_ms,
											 guc_worker_restart_pause);

	if (pause_ms > 0)
		elog_warning("stopping all backends to start over from disk in %" PRId64
					 " ms: the raft worker has ended soon after a start",
					 pause_ms);
	else
		elog_warning("stopping all backends to start over from disk");
	restart_due_ms = now_ms + pause_ms;
	set_state(PM_CRASHED);
	/* whoever waits for "ready" waits for the new worker */
	publish_pidfile("starting");
	children_signal_clients(SIGQUIT);
	auxproc_signal_all(SIGQUIT);
}

static void
on_client_exit(const Child *child, int status)
{
	if (WIFSIGNALED(status))
		elog_warning("backend %d was ended by signal %d", (int) child->pid,
					 WTERMSIG(status));
	if (child->slot >= 0)
		control_reap_slot(child->slot);
	(void) INJECTION_POINT("postmaster-slot-reaped");
}

static bool
children_are_gone(void)
{
	return children_count_clients() == 0 &&
		children_count(CHILD_AUXILIARY) == 0 &&
		children_count(CHILD_RAFT_WORKER) == 0;
}

static void
restart_if_due(void)
{
	if (!children_are_gone())
		return;
	if (is_stop_wanted)
	{
		set_state(PM_ENDED);
		return;
	}
	if (clock_monotonic_ms() < restart_due_ms)
		return;
	ring_close_fds();
	control_destroy();
	store_destroy();
	(void) INJECTION_POINT("postmaster-before-restart");
	create_shared_memory();
	start_raft_worker();
}

static void
begin_stop(int signo)
{
	if (signo == SIGQUIT)
	{
		/*
		 * Children see the death pipe close even if the signal misses one
		 * that is just starting.  No checkpoint: the log is replayed.
		 */
		elog_warning("immediate stop: the log will be replayed at next start");
		children_signal_clients(SIGQUIT);
		auxproc_signal_all(SIGQUIT);
		children_signal_worker(SIGQUIT);
		close(death_pipe[1]);
		while (waitpid(-1, NULL, 0) > 0)
			continue;
		exit_status = 0;
		set_state(PM_ENDED);
		return;
	}
	if (state == PM_CRASHED)
	{
		/* those that are left have been told to leave at once */
		elog_info("stop asked for: not starting over; the log will be "
				  "replayed at next start");
		publish_pidfile("stopping");
		is_stop_wanted = true;
		return;
	}
	/* a fast stop may follow a smart one as long as there are clients */
	if (state != PM_STARTING && state != PM_RUNNING && state != PM_DRAINING)
		return;
	elog_info(signo == SIGTERM ? "stop asked for: finishing running requests"
			  : "fast stop asked for: ending running requests");
	publish_pidfile("stopping");
	set_state(PM_DRAINING);
	children_signal_clients(signo);
	go_on_stopping();
}

/*
 * Clients first, then the auxiliary processes, whose last words still need the
 * raft worker, then that.  An auxiliary process that does not end in time is
 * ended: what it had to say may be lost at any moment anyway.
 */
static void
go_on_stopping(void)
{
	if (state == PM_DRAINING && children_count_clients() == 0)
	{
		set_state(PM_STOPPING_AUXILIARIES);
		auxiliaries_until = clock_monotonic_ms() + AUXILIARY_STOP_MS;
		auxproc_signal_all(SIGTERM);
	}
	if (state != PM_STOPPING_AUXILIARIES)
		return;
	if (children_count(CHILD_AUXILIARY) == 0)
	{
		set_state(PM_STOPPING_WORKER);
		children_signal_worker(SIGTERM);
	}
	else if (clock_monotonic_ms() >= auxiliaries_until)
		auxproc_signal_all(SIGKILL);
}

/* ---- reload ---- */

static void
reload(void)
{
	char		error[1024];
	TlsContext *fresh = NULL;

	if (!guc_reload(error, sizeof(error)))
	{
		elog_error("settings not reloaded: %s", error);
		return;
	}
	if (any_listener_needs_tls())
	{
		fresh = postmaster_load_tls(error, sizeof(error));
		if (fresh != NULL)
		{
			tls_context_destroy(tls);
			tls = fresh;
		}
		else
			elog_write(LOG_LEVEL_ERROR, NULL, "New connections go on with the "
					   "certificates loaded before.",
					   "certificates not reloaded: %s", error);
	}
	control_bump_reload_generation();
	children_signal_clients(SIGHUP);
	auxproc_signal_all(SIGHUP);
	children_signal_worker(SIGHUP);
	elog_info("settings reloaded");
}

static void
publish_pidfile(const char *state_name)
{
	size_t		used = 0;

	if (pidfile.pid == 0)
	{
		pidfile.pid = getpid();
		pidfile.started_ms = clock_realtime_ms();
	}
	snprintf(pidfile.state, sizeof(pidfile.state), "%s", state_name);
	for (int i = 0; i < nclients && used < sizeof(pidfile.addresses); i++)
		used += (size_t) snprintf(pidfile.addresses + used,
								  sizeof(pidfile.addresses) - used, "%s%s://%s",
								  i == 0 ? "" : " ",
								  listeners[i].unix_path[0] != '\0' ?
								  (listeners[i].is_tls ? "unixs" : "unix") :
								  (listeners[i].is_tls ? "https" : "http"),
								  listeners[i].address);
	if (!pidfile_write(guc_data_dir, &pidfile))
		elog_warning("could not write %s/%s: %s", guc_data_dir, PIDFILE_NAME,
					 strerror(errno));
}
