/*
 * ctl.c
 *	  clav_ctl: prepares, starts, stops and looks at a server.
 */
#include "server.h"

/* system */
#include <getopt.h>
#include <unistd.h>

/* this program */
#include "ctl.h"

typedef struct CtlCommand
{
	const char *name;
	int			(*run) (const CtlOptions *options);
	const char *text;
} CtlCommand;

static const CtlCommand commands[] = {
	{"init", ctl_init, "prepare a data directory with a commented settings file"},
	{"start", ctl_start, "start a server and wait until it serves"},
	{"stop", ctl_stop, "stop it: smart, fast or immediate (-m)"},
	{"status", ctl_status, "say whether it runs, and where it listens"},
	{"reload", ctl_reload, "read settings and certificates again"},
};

static const CtlCommand *find_command(const char *name);
static void print_help(FILE *out);

int
main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"data-dir", required_argument, NULL, 'D'},
		{"log", required_argument, NULL, 'l'},
		{"mode", required_argument, NULL, 'm'},
		{"timeout", required_argument, NULL, 't'},
		{"tls", no_argument, NULL, 'T'},
		{"hosts", required_argument, NULL, 'H'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0}
	};
	CtlOptions	options = {
		.data_dir = getenv("CLAVIGER_DATA_DIR"),
		.mode = "smart",
		.hosts = "localhost,127.0.0.1",
		.timeout_sec = 60,
		.program = argv[0],
	};
	const CtlCommand *command;
	int			c;

	while ((c = getopt_long(argc, argv, "+D:l:m:t:hV", long_options,
							NULL)) == 'h' || c == 'V')
	{
		if (c == 'V')
			printf("clav_ctl %s\n", CLAVIGER_VERSION);
		else
			print_help(stdout);
		return CTL_OK;
	}
	if (c != -1 || optind >= argc)
	{
		print_help(stderr);
		return CTL_USAGE;
	}
	command = find_command(argv[optind]);
	if (command == NULL)
	{
		fprintf(stderr, "clav_ctl: unknown command \"%s\"\n", argv[optind]);
		print_help(stderr);
		return CTL_USAGE;
	}

	optind++;
	while ((c = getopt_long(argc, argv, "+D:l:m:t:h", long_options,
							NULL)) != -1)
	{
		switch (c)
		{
			case 'D':
				options.data_dir = optarg;
				break;
			case 'l':
				options.log_file = optarg;
				break;
			case 'm':
				options.mode = optarg;
				break;
			case 't':
				options.timeout_sec = atoi(optarg);
				break;
			case 'T':
				options.with_tls = true;
				break;
			case 'H':
				options.hosts = optarg;
				break;
			case 'h':
				print_help(stdout);
				return CTL_OK;
			default:
				return CTL_USAGE;
		}
	}
	options.nserver_args = argc - optind;
	options.server_args = argv + optind;
	if (options.nserver_args > 0 && strcmp(argv[optind - 1], "--") != 0)
	{
		fprintf(stderr, "clav_ctl: \"%s\" is not an option; settings of the "
				"server go behind \"--\"\n", argv[optind]);
		return CTL_USAGE;
	}
	if (options.data_dir == NULL || options.data_dir[0] == '\0')
	{
		fprintf(stderr, "clav_ctl: no data directory; use -D DIR or set "
				"CLAVIGER_DATA_DIR\n");
		return CTL_USAGE;
	}
	if (options.timeout_sec <= 0)
	{
		fprintf(stderr, "clav_ctl: the timeout must be a number of seconds\n");
		return CTL_USAGE;
	}
	return command->run(&options);
}

static const CtlCommand *
find_command(const char *name)
{
	for (size_t i = 0; i < lengthof(commands); i++)
	{
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static void
print_help(FILE *out)
{
	fprintf(out, "Usage: clav_ctl COMMAND -D DIR [OPTION ...] "
			"[-- SERVER SETTING ...]\n\nCommands:\n");
	for (size_t i = 0; i < lengthof(commands); i++)
		fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].text);
	fprintf(out, "\nOptions:\n"
			"  -D, --data-dir DIR   data directory (or CLAVIGER_DATA_DIR)\n"
			"  -l, --log FILE       start: append the server's log to FILE\n"
			"  -m, --mode MODE      stop: smart (finish running requests),\n"
			"                       fast (cut them), immediate (no checkpoint)\n"
			"  -t, --timeout SEC    how long to wait (60)\n"
			"      --tls            init: make a CA and certificates as well\n"
			"      --hosts LIST     init --tls: names and addresses of the\n"
			"                       server (localhost,127.0.0.1)\n"
			"\nExit status: 0 done, 1 failed, 2 wrong use, 3 not running.\n");
}
