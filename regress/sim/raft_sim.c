/*
 * raft_sim.c
 *	  Runs seeds, each in a process of its own, and adds up.
 *
 * Usage: see usage() or README.
 */
#include "server.h"

/* system */
#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "sim.h"

#define MAX_JOBS 64
/* real time; a seed takes a tenth of a second */
#define ALARM_SECONDS 120
#define KEPT_FAILURES 20

Options		options = {.seconds = 10, .apply_every = 8};

typedef struct Job
{
	pid_t		pid;
	uint64_t	seed;
	char		dir[256];
} Job;

static Job	jobs[MAX_JOBS];
static uint32_t njobs_max = 2;
static uint64_t first_seed = 1;
static uint64_t last_seed = 20;
static uint32_t alarm_seconds = ALARM_SECONDS;
static char base_dir[128];
static const char *without_arg;
static bool stops_at_first;

/* set by the handler; what is running is then left to end */
static volatile sig_atomic_t is_stopped;

static uint64_t npassed;
static uint64_t nfailed;

static void take_options(int argc, char **argv);
static void usage(int status) NORETURN;
static void take_without(const char *arg);
static void make_base_dir(void);
static void remove_tree(const char *path);
static void note_stop(int signo);
static void start_seed(Job *job, uint64_t seed);
static void run_child(const Job *job) NORETURN;
static Job *wait_for_one(void);
static const char *verdict_text(int status);

int
main(int argc, char **argv)
{
	uint64_t	next;
	uint32_t	nrunning = 0;
	bool		stop = false;

	take_options(argc, argv);
	make_base_dir();
	/* else their logs would stay behind */
	signal(SIGINT, note_stop);
	signal(SIGTERM, note_stop);
	next = first_seed;
	while ((next <= last_seed && !stop) || nrunning > 0)
	{
		if (next <= last_seed && !stop && nrunning < njobs_max)
		{
			uint32_t	i = 0;

			while (jobs[i].pid != 0)
				i++;
			start_seed(&jobs[i], next++);
			nrunning++;
			continue;
		}
		wait_for_one()->pid = 0;
		nrunning--;
		stop = is_stopped || (stops_at_first && nfailed > 0);
	}
	rmdir(base_dir);
	if (is_stopped)
		printf("stopped before seed %" PRIu64 "\n", next);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", npassed, nfailed);
	return nfailed > 0 || is_stopped;
}

static void
take_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{"seeds", required_argument, NULL, 's'},
		{"seconds", required_argument, NULL, 't'},
		{"members", required_argument, NULL, 'm'},
		{"without", required_argument, NULL, 'w'},
		{"apply-every", required_argument, NULL, 'a'},
		{"jobs", required_argument, NULL, 'j'},
		{"alarm", required_argument, NULL, 'A'},
		{"first-failure", no_argument, NULL, 'f'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int			c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
	{
		char	   *end = NULL;

		switch (c)
		{
			case 's':
				first_seed = last_seed = strtoull(optarg, &end, 10);
				if (*end == '-')
					last_seed = strtoull(end + 1, &end, 10);
				break;
			case 't':
				options.seconds = strtoull(optarg, &end, 10);
				break;
			case 'm':
				options.members = (uint32_t) strtoul(optarg, &end, 10);
				break;
			case 'w':
				take_without(optarg);
				break;
			case 'a':
				options.apply_every = (uint32_t) strtoul(optarg, &end, 10);
				break;
			case 'j':
				njobs_max = (uint32_t) strtoul(optarg, &end, 10);
				break;
			case 'A':
				alarm_seconds = (uint32_t) strtoul(optarg, &end, 10);
				break;
			case 'f':
				stops_at_first = true;
				break;
			case 'v':
				options.verbose = true;
				break;
			case 'h':
				usage(0);
			default:
				usage(2);
		}
		if (end != NULL && *end != '\0')
			usage(2);
	}
	if (optind < argc || njobs_max == 0 || njobs_max > MAX_JOBS ||
		options.seconds == 0 || last_seed < first_seed ||
		(options.members != 0 && options.members != 3 && options.members != 5))
		usage(2);
}

static void
usage(int status)
{
	fprintf(status == 0 ? stdout : stderr,
			"usage: raft-sim [--seeds A-B] [--seconds S] [--members 3|5]\n"
			"                [--without G1,G5|reads] [--apply-every N]\n"
			"                [--jobs N] [--alarm S] [--first-failure]\n"
			"                [--verbose]\n");
	exit(status);
}

static void
take_without(const char *arg)
{
	without_arg = arg;
	for (const char *p = arg; *p != '\0';)
	{
		char	   *end = NULL;
		unsigned long guard = p[0] == 'G' ? strtoul(p + 1, &end, 10) : 0;

		if (strncmp(p, "reads", 5) == 0)
		{
			options.without_rounds = true;
			p += 5;
		}
		else if (guard >= 1 && guard <= 11)
		{
			options.without |= 1u << guard;
			p = end;
		}
		else
			usage(2);
		if (*p == ',')
			p++;
		else if (*p != '\0')
			usage(2);
	}
}

/* in memory if there is such a place: the disk's time is virtual */
static void
make_base_dir(void)
{
	static const char *const places[] = {"/dev/shm", "/tmp"};

	for (size_t i = 0; i < lengthof(places); i++)
	{
		snprintf(base_dir, sizeof(base_dir), "%s/raft-sim.XXXXXX", places[i]);
		if (mkdtemp(base_dir) != NULL)
			return;
	}
	fprintf(stderr, "raft-sim: no place for logs: %s\n", strerror(errno));
	exit(2);
}

static void
note_stop(int signo)
{
	is_stopped = 1;
}

static void
start_seed(Job *job, uint64_t seed)
{
	*job = (Job) {.seed = seed};
	snprintf(job->dir, sizeof(job->dir), "%s/%" PRIu64, base_dir, seed);
	if (mkdir(job->dir, 0700) != 0)
	{
		fprintf(stderr, "raft-sim: %s: %s\n", job->dir, strerror(errno));
		exit(2);
	}
	fflush(NULL);
	job->pid = fork();
	if (job->pid == 0)
		run_child(job);
	if (job->pid < 0)
	{
		fprintf(stderr, "raft-sim: fork: %s\n", strerror(errno));
		exit(2);
	}
}

static void
run_child(const Job *job)
{
	Verdict		verdict;

	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	/* of the processor: how long that takes is the machine's */
	setitimer(ITIMER_PROF, &(struct itimerval) {.it_value.tv_sec = alarm_seconds},
			  NULL);
	options.dir = job->dir;
	/* torn writes are what we want; what ends the process is told */
	elog_set_level(options.verbose ? LOG_LEVEL_WARNING : LOG_LEVEL_FATAL);
	elog_set_process_name("member");
#ifdef USE_INJECTION
	engine_test_disable_guards(options.without);
#else
	if (options.without != 0)
	{
		fprintf(stderr, "raft-sim: built without USE_INJECTION\n");
		exit(2);
	}
#endif
	verdict = run_seed(job->seed);
	fflush(NULL);
	_exit(verdict);
}

static Job *
wait_for_one(void)
{
	int			status = 0;
	pid_t		pid;
	Job		   *job = jobs;
	const char *text;

	do
		pid = wait(&status);
	while (pid < 0 && errno == EINTR);
	text = verdict_text(status);

	while (job->pid != pid)
		job++;
	remove_tree(job->dir);
	if (text == NULL)
	{
		npassed++;
		return job;
	}
	nfailed++;
	if (nfailed <= KEPT_FAILURES)
		printf("FAILED seed %" PRIu64 ": %s; again: raft-sim --seeds %" PRIu64
			   " --seconds %" PRIu64 "%s%s%s --verbose\n", job->seed, text,
			   job->seed, options.seconds,
			   options.members == 3 ? " --members 3" :
			   options.members == 5 ? " --members 5" : "",
			   without_arg != NULL ? " --without " : "",
			   without_arg != NULL ? without_arg : "");
	fflush(stdout);
	return job;
}

/* NULL: all was well */
static const char *
verdict_text(int status)
{
	static char text[64];

	if (WIFSIGNALED(status))
	{
		snprintf(text, sizeof(text), "ended by signal %d%s", WTERMSIG(status),
				 WTERMSIG(status) == SIGPROF ? " (it took too long)" : "");
		return text;
	}
	switch (WEXITSTATUS(status))
	{
		case SIM_OK:
			return NULL;
		case SIM_PANIC:
			return "a member panicked";
		case SIM_VIOLATION:
			return "a promise was broken";
		case SIM_NOT_CONVERGED:
			return "members do not come to the same index";
		case SIM_NO_PROGRESS:
			return "no progress after healing";
		case SIM_CONFIGURATION_STUCK:
			return "the configuration cannot be changed any more";
		case SIM_STATES_DIFFER:
			return "the same entries made different states";
	}
	snprintf(text, sizeof(text), "exit status %d", WEXITSTATUS(status));
	return text;
}

static void
remove_tree(const char *path)
{
	char		command[512];

	snprintf(command, sizeof(command), "rm -rf '%s'", path);
	if (system(command) != 0)
		fprintf(stderr, "raft-sim: could not remove %s\n", path);
}
