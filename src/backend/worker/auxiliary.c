/*
 * auxiliary.c
 *	  The frame of an auxiliary process.
 *
 * The same rings as a backend's, and the same rule for sleeping: arm, look,
 * wait.  Proposals are found again by their number in a table of as many
 * places as may be outstanding; numbers go up, so a place is free when its
 * turn comes again, or the oldest proposal is still out and we say "later".
 *
 * SIGTERM asks to stop (the postmaster sends it when no client is left and
 * before it stops the raft worker, so a last proposal is still carried out);
 * SIGQUIT ends at once; a terminal's SIGINT is the postmaster's business.
 */
#include "server.h"

/* system */
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/injection.h"

/* this layer and below */
#include "storage/ipc/control.h"
#include "storage/snap/store.h"
#include "worker/auxiliary.h"

#define PLACES RING_MAX_OUTSTANDING

typedef struct Proposal
{
	uint64_t	id;				/* 0: the place is free */
	AuxiliaryDoneFn done;
	void	   *arg;
} Proposal;

static int	epoll_fd = -1;
static int	signal_fd = -1;
static int	death_fd = -1;
static bool is_stopping;
static uint64_t reload_generation;
static Proposal proposals[PLACES];
static uint64_t last_id;
static uint32_t noutstanding;
static Buf	entry;

static void set_signals(void);
static void poll_fd(int fd, uint32_t events);
static void sleep_until(int64_t until_ms);
static void read_signals(void);
static void deliver(void);
static void reload_if_asked(void);

void
auxiliary_begin(const AuxiliaryStart *start, const char *name)
{
	elog_set_process_name(name);
	set_signals();
	death_fd = start->death_fd;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		elog_fatal("could not create an epoll descriptor: %s",
				   strerror(errno));
	control_attach_slot(start->slot);
	reload_generation = control_reload_generation();
	ring_attach_backend();
	/* it has no client: not a handshake */
	atomic_store(&control_self()->state, SLOT_ACTIVE);
	poll_fd(signal_fd, EPOLLIN);
	poll_fd(ring_completion_fd(), EPOLLIN | EPOLLET);
	if (death_fd >= 0)
		poll_fd(death_fd, 0);	/* EPOLLHUP comes unasked */
	(void) INJECTION_POINT("auxiliary-attached");
}

bool
auxiliary_wait(int64_t timeout_ms)
{
	deliver();
	if (!is_stopping)
		sleep_until(timeout_ms < 0 ? -1 : clock_monotonic_ms() + timeout_ms);
	deliver();
	reload_if_asked();
	return !is_stopping;
}

bool
auxiliary_wait_outstanding(int64_t timeout_ms)
{
	int64_t		until_ms = clock_monotonic_ms() + timeout_ms;

	deliver();
	while (noutstanding > 0 && clock_monotonic_ms() < until_ms)
	{
		sleep_until(until_ms);
		deliver();
	}
	return noutstanding == 0;
}

bool
auxiliary_propose(LogOp *op, AuxiliaryDoneFn done, void *arg)
{
	Proposal   *place = &proposals[(last_id + 1) % PLACES];

	if (place->id != 0)
		return false;
	op->identity = (Identity) {.kind = IDENTITY_INTERNAL};
	entry.len = 0;
	logop_encode(op, &entry);
	if (entry.len > (uint64_t) guc_max_request_bytes ||
		!ring_submit(SUBMIT_LOGOP, last_id + 1, buf_bytes(&entry)))
		return false;
	*place = (Proposal) {.id = ++last_id,.done = done,.arg = arg};
	noutstanding++;
	return true;
}

uint32_t
auxiliary_outstanding(void)
{
	return noutstanding;
}

bool
auxiliary_is_leader(void)
{
	const RaftStatus *status = store_raft_status();

	return atomic_load(&status->is_ready) &&
		atomic_load(&status->leader_id) == atomic_load(&status->member_id);
}

void
auxiliary_end(void)
{
	elog_debug("ends");
	_exit(0);
}

/* ---- waiting ---- */

static void
set_signals(void)
{
	sigset_t	signals;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_DFL);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signal_fd < 0)
		elog_fatal("could not create a signal descriptor: %s",
				   strerror(errno));
}

static void
poll_fd(int fd, uint32_t events)
{
	struct epoll_event event = {.events = events,.data.fd = fd};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		elog_fatal("could not poll a descriptor: %s", strerror(errno));
}

/* One sleep; -1: until something happens. */
static void
sleep_until(int64_t until_ms)
{
	struct epoll_event events[4];
	int			timeout = -1;
	int			n;

	if (until_ms >= 0)
	{
		int64_t		left = until_ms - clock_monotonic_ms();

		timeout = left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int) left;
	}
	if (!ring_arm_completions())
		timeout = 0;
	n = epoll_wait(epoll_fd, events, lengthof(events), timeout);
	if (n < 0 && errno != EINTR)
		elog_fatal("waiting for events failed: %s", strerror(errno));
	for (int i = 0; i < n; i++)
	{
		if (events[i].data.fd == death_fd)
			_exit(0);
		if (events[i].data.fd == signal_fd)
			read_signals();
	}
	(void) INJECTION_POINT("auxiliary-loop");
}

static void
read_signals(void)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == (ssize_t) sizeof(info))
	{
		/* for SIGHUP the generation tells */
		if (info.ssi_signo == SIGTERM)
			is_stopping = true;
	}
}

static void
deliver(void)
{
	Completion	done;

	while (ring_completion_next(&done))
	{
		Proposal   *place = &proposals[done.request_id % PLACES];
		Proposal	proposal = *place;

		/* free first: the callback may propose the next one */
		if (proposal.id == done.request_id)
		{
			place->id = 0;
			noutstanding--;
			if (proposal.done != NULL)
				proposal.done(proposal.arg, &done);
		}
		ring_completion_done();
	}
}

static void
reload_if_asked(void)
{
	uint64_t	generation = control_reload_generation();
	char		error[512];

	if (generation == reload_generation)
		return;
	reload_generation = generation;
	/* the postmaster has reported mistakes already */
	(void) guc_reload(error, sizeof(error));
}
