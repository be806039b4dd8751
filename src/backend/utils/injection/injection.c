/*
 * injection.c
 *	  Makes a process die, stop or fail at a named point, for tests.
 *
 * The list is read from the environment once per process tree, at the first
 * point that is passed.  A list that cannot be read ends the process: a test
 * whose point is misspelt must not pass by accident.  (A point that no code
 * passes cannot be noticed here; tests look for the log line.)
 */
#include "server.h"

#ifdef USE_INJECTION

/* system */
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/injection.h"

#define MAX_INJECTIONS 96
#define MAX_POINT_BYTES 64
#define MAX_TRIGGER_BYTES 256

typedef enum InjectionAction
{
	INJECT_KILL,
	INJECT_ABORT,
	INJECT_STOP,
	INJECT_ERROR,
	INJECT_SLEEP
} InjectionAction;

typedef struct Injection
{
	/* set when the list is read */
	char		point[MAX_POINT_BYTES];
	uint64_t	at;				/* fires at this passage; 0 = at each */
	char		trigger[MAX_TRIGGER_BYTES]; /* file that arms it; empty: armed */
	InjectionAction action;
	int			argument;

	/* atomic: any thread passes */
	_Atomic uint64_t passages;
} Injection;

static const struct
{
	const char *word;
	InjectionAction action;
	int			max_argument;	/* 0: takes none */
} actions[] = {
	{"kill", INJECT_KILL, 0},
	{"abort", INJECT_ABORT, 0},
	{"stop", INJECT_STOP, 0},
	{"error", INJECT_ERROR, 4095},
	{"sleep", INJECT_SLEEP, 600000},
};

static pthread_once_t read_once = PTHREAD_ONCE_INIT;
static Injection injections[MAX_INJECTIONS];
static int	ninjections;

static void read_environment(void);
static bool parse_injection(char *text, Injection *injection);
static bool parse_action(char *text, Injection *injection);
static bool parse_number(const char *text, uint64_t max, uint64_t *value);
static bool take_trigger(const char *trigger);
static int	fire(const Injection *injection, uint64_t passage);

int
injection_run(const char *point)
{
	int			error = 0;

	pthread_once(&read_once, read_environment);
	for (int i = 0; i < ninjections; i++)
	{
		Injection  *injection = &injections[i];
		uint64_t	passage;
		int			fired;

		if (strcmp(injection->point, point) != 0)
			continue;
		passage = atomic_fetch_add(&injection->passages, 1) + 1;
		if (injection->at != 0 && injection->at != passage)
			continue;
		if (injection->trigger[0] != '\0' && !take_trigger(injection->trigger))
			continue;
		fired = fire(injection, passage);
		/* the others go on: each counts every passage */
		if (error == 0)
			error = fired;
	}
	return error;
}

void
injection_reload(void)
{
	pthread_once(&read_once, read_environment);
	read_environment();
}

static void
read_environment(void)
{
	const char *list = getenv("CLAVIGER_INJECT");
	char	   *copy;
	char	   *save = NULL;

	ninjections = 0;
	if (list == NULL || *list == '\0')
		return;
	copy = strdup(list);
	if (copy == NULL)
		elog_fatal("out of memory");
	for (char *item = strtok_r(copy, ",", &save); item != NULL;
		 item = strtok_r(NULL, ",", &save))
	{
		/* parsing cuts the item to pieces; the message wants it whole */
		size_t		at = (size_t) (item - copy);

		if (ninjections == MAX_INJECTIONS)
			elog_fatal("CLAVIGER_INJECT names more than %d points",
					   MAX_INJECTIONS);
		if (!parse_injection(item, &injections[ninjections]))
			elog_fatal_hint(NULL, "Write point=action, point@N=action or "
							"point?FILE=action; the actions are kill, abort, "
							"stop, error:ERRNO and sleep:MS.",
							"CLAVIGER_INJECT cannot be read at \"%s\"",
							list + at);
		ninjections++;
	}
	free(copy);
}

/* point[@N | ?FILE]=action[:argument] */
static bool
parse_injection(char *text, Injection *injection)
{
	char	   *action = strchr(text, '=');
	char	   *at;
	char	   *trigger;

	if (action == NULL)
		return false;
	*action++ = '\0';
	injection->at = 0;
	injection->trigger[0] = '\0';
	atomic_store(&injection->passages, 0);
	trigger = strchr(text, '?');
	if (trigger != NULL)
	{
		*trigger++ = '\0';
		if (*trigger != '/' || strlen(trigger) >= sizeof(injection->trigger))
			return false;
		strcpy(injection->trigger, trigger);
	}
	at = strchr(text, '@');
	if (at != NULL)
	{
		*at++ = '\0';
		if (!parse_number(at, UINT32_MAX, &injection->at) ||
			injection->at == 0)
			return false;
	}
	if (*text == '\0' || strlen(text) >= sizeof(injection->point))
		return false;
	strcpy(injection->point, text);
	return parse_action(action, injection);
}

static bool
parse_action(char *text, Injection *injection)
{
	char	   *argument = strchr(text, ':');
	uint64_t	value = 0;

	if (argument != NULL)
		*argument++ = '\0';
	for (size_t i = 0; i < lengthof(actions); i++)
	{
		if (strcmp(text, actions[i].word) != 0)
			continue;
		if ((actions[i].max_argument != 0) != (argument != NULL))
			return false;
		if (argument != NULL &&
			!parse_number(argument, (uint64_t) actions[i].max_argument, &value))
			return false;
		if (actions[i].action == INJECT_ERROR && value == 0)
			return false;
		injection->action = actions[i].action;
		injection->argument = (int) value;
		return true;
	}
	return false;
}

static bool
parse_number(const char *text, uint64_t max, uint64_t *value)
{
	char	   *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' && *value <= max;
}

/*
 * Removing a name succeeds for one process only, so that what a trigger file
 * asks for happens once, in whoever passes first, or in the process named.
 */
static bool
take_trigger(const char *trigger)
{
	char		own[MAX_TRIGGER_BYTES + 16];
	int			save = errno;
	bool		is_taken;

	snprintf(own, sizeof(own), "%s.%d", trigger, (int) getpid());
	is_taken = unlink(own) == 0 || unlink(trigger) == 0;
	errno = save;
	return is_taken;
}

static int
fire(const Injection *injection, uint64_t passage)
{
	elog_warning("injection point %s fires at passage %llu", injection->point,
				 (unsigned long long) passage);
	switch (injection->action)
	{
		case INJECT_KILL:
			kill(getpid(), SIGKILL);
			for (;;)
				pause();
		case INJECT_ABORT:
			abort();
		case INJECT_STOP:
			/* to the process, another thread might take it, and we go on */
			raise(SIGSTOP);
			return 0;
		case INJECT_ERROR:
			return injection->argument;
		case INJECT_SLEEP:
			{
				struct timespec left = {
					.tv_sec = injection->argument / 1000,
					.tv_nsec = injection->argument % 1000 * 1000000L,
				};

				while (nanosleep(&left, &left) != 0 && errno == EINTR)
					continue;
				return 0;
			}
	}
	return 0;
}

#else
/* ISO C wants something in each file */
extern int	injection_is_not_built;
#endif
