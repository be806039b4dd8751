/*
 * auxproc.c
 *	  Starts the auxiliary processes, and starts them again.
 *
 * One entry for each line of worker/auxlist.h.  An auxiliary process changes
 * nothing by itself, so its death is like a backend's: the slot is put right,
 * and a new process finds out from the store what there is to do.
 */
#include "server.h"

/* system */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"

/* this layer and below */
#include "postmaster/auxproc.h"
#include "postmaster/postmaster.h"
#include "storage/ipc/control.h"

#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 60000
/* who has lived so long is started again at once */
#define LIFE_LONG_MS 60000

typedef struct AuxProc
{
	const char *name;
	const char *comm;			/* in top, and for tests */
	void		(*main) (const AuxiliaryStart *start);
	pid_t		pid;			/* 0: not there */
	int64_t		started_ms;
	int64_t		due_ms;			/* not before; 0: at once */
	int64_t		pause_ms;		/* the last one */
} AuxProc;

static AuxProc procs[AUX_COUNT] = {
#define AUXILIARY(symbol, name_, main_fn) \
	{.name = name_, .comm = "clav " name_, .main = main_fn},
#include "worker/auxlist.h"
#undef AUXILIARY
};

static void start(AuxProc *proc);
static void fail(AuxProc *proc);

void
auxproc_start_due(void)
{
	int64_t		now = clock_monotonic_ms();

	for (int i = 0; i < AUX_COUNT; i++)
	{
		if (procs[i].pid == 0 && procs[i].due_ms <= now)
			start(&procs[i]);
	}
}

int
auxproc_next_start_ms(void)
{
	int64_t		now = clock_monotonic_ms();
	int64_t		next = -1;

	for (int i = 0; i < AUX_COUNT; i++)
	{
		int64_t		left = procs[i].due_ms - now;

		if (procs[i].pid != 0)
			continue;
		left = left < 0 ? 0 : left;
		if (next < 0 || left < next)
			next = left;
	}
	return (int) next;
}

void
auxproc_on_exit(const Child *child, int status, bool is_running)
{
	AuxProc    *proc = procs;

	while (proc < procs + AUX_COUNT && proc->pid != child->pid)
		proc++;
	control_reap_slot(child->slot);
	(void) INJECTION_POINT("postmaster-auxiliary-reaped");
	if (proc == procs + AUX_COUNT)
		return;
	proc->pid = 0;
	proc->due_ms = 0;
	if (!is_running)
		return;
	if (WIFSIGNALED(status))
		elog_warning("%s was ended by signal %d", proc->name,
					 WTERMSIG(status));
	else
		elog_warning("%s ended with status %d", proc->name,
					 WEXITSTATUS(status));
	fail(proc);
}

void
auxproc_signal_all(int signo)
{
	for (int i = 0; i < AUX_COUNT; i++)
	{
		if (procs[i].pid != 0)
			kill(procs[i].pid, signo);
	}
}

/* ---- static ---- */

static void
start(AuxProc *proc)
{
	int			slot = control_claim_slot();
	char		own_name[16] = "";
	pid_t		pid;

	/* AUXILIARY_SLOTS has one for each; only a leak could use them up */
	if (slot < 0)
	{
		elog_error("there is no slot for the %s", proc->name);
		fail(proc);
		return;
	}
	control_mark_internal(slot);

	/* the child has its name from the first moment: it is never a backend */
	(void) pthread_getname_np(pthread_self(), own_name, sizeof(own_name));
	(void) pthread_setname_np(pthread_self(), proc->comm);
	pid = fork();
	if (pid == 0)
	{
		postmaster_become_child();
		proc->main(&(AuxiliaryStart) {
			.slot = slot,
			.death_fd = postmaster_death_fd(),
		});
	}
	(void) pthread_setname_np(pthread_self(), own_name);
	if (pid < 0)
	{
		elog_error("could not fork the %s: %s", proc->name, strerror(errno));
		control_reap_slot(slot);
		fail(proc);
		return;
	}
	proc->pid = pid;
	proc->started_ms = clock_monotonic_ms();
	children_add(CHILD_AUXILIARY, pid, slot);
}

/* It has died or could not be started: when to try again. */
static void
fail(AuxProc *proc)
{
	int64_t		now = clock_monotonic_ms();

	if (proc->started_ms > 0 && now - proc->started_ms >= LIFE_LONG_MS)
		proc->pause_ms = 0;
	else
		proc->pause_ms = proc->pause_ms == 0 ? PAUSE_MIN_MS :
			proc->pause_ms * 2;
	if (proc->pause_ms > PAUSE_MAX_MS)
		proc->pause_ms = PAUSE_MAX_MS;
	proc->due_ms = now + proc->pause_ms;
}
