/*
 * main.c
 *	  claviger: reads the settings and becomes the postmaster.
 *
 *	claviger [--name=value ...]           serve (initialises an empty directory)
 *	claviger --init-only [--name=value]   only initialise (clav_ctl init)
 *	claviger --print-sample | --print-manual
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "postmaster/postmaster.h"

static bool take_flag(int *argc, char **argv, const char *flag);
static void open_log(void);

int
main(int argc, char **argv)
{
	GucCommand	command;
	char		error[1024];
	bool		init_only = take_flag(&argc, argv, "--init-only");

	guc_init_defaults();
	if (take_flag(&argc, argv, "--print-sample"))
	{
		guc_print_sample(stdout);
		return 0;
	}
	if (take_flag(&argc, argv, "--print-manual"))
	{
		guc_print_manual(stdout);
		return 0;
	}
	if (!guc_load(argc, argv, &command, error, sizeof(error)))
	{
		fprintf(stderr, "claviger: %s\n", error);
		return 2;
	}
	if (command == GUC_SHOW_HELP)
	{
		guc_print_help(stdout);
		return 0;
	}
	if (command == GUC_SHOW_VERSION)
	{
		printf("claviger %s\netcd API: %s\n", CLAVIGER_VERSION,
			   ETCD_API_VERSION);
		return 0;
	}

	open_log();
	if (init_only)
		return PostmasterInitialise();
	return PostmasterMain();
}

/* Take a flag that is not a setting out of argv. */
static bool
take_flag(int *argc, char **argv, const char *flag)
{
	for (int i = 1; i < *argc; i++)
	{
		if (strcmp(argv[i], flag) == 0)
		{
			memmove(&argv[i], &argv[i + 1],
					(size_t) (*argc - i) * sizeof(*argv));
			(*argc)--;
			return true;
		}
	}
	return false;
}

static void
open_log(void)
{
	int			fd;

	if (strcmp(guc_log_outputs, "stderr") == 0 ||
		strcmp(guc_log_outputs, "default") == 0)
		return;
	if (strcmp(guc_log_outputs, "stdout") == 0)
	{
		elog_set_fd(STDOUT_FILENO);
		return;
	}
	fd = open(guc_log_outputs, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		elog_fatal("could not open log file \"%s\": %s", guc_log_outputs,
				   strerror(errno));
	elog_set_fd(fd);
}
