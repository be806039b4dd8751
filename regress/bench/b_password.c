/*
 * b_password.c
 *	  How long a password hash takes, and how many the machine computes.
 *
 *	  b_password PROCESSES SECONDS
 *
 * Each process checks one password again and again.  Prints a line of JSON:
 * hashes a second of all, and CPU milliseconds of one.
 */
/* needs: auth lease common storage/snap storage/ipc storage/lmgr utils/injection */
#include "server.h"

/* system */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "auth/password.h"

#define MAX_PROCESSES 64

static const PasswordCost cost = {19456, 2, 1};

/* in a child; the count goes into the pipe */
static void
count_checks(int fd, const char *phc, int64_t end_us)
{
	uint64_t	n = 0;

	while (clock_monotonic_us() < end_us)
	{
		if (password_check(BYTES_LITERAL("secret"), bytes_from_cstr(phc)) !=
			PASSWORD_MATCHES)
			_exit(1);
		n++;
	}
	_exit(write(fd, &n, sizeof(n)) == sizeof(n) ? 0 : 1);
}

int
main(int argc, char **argv)
{
	int			processes = argc > 1 ? atoi(argv[1]) : 1;
	double		seconds = argc > 2 ? atof(argv[2]) : 2;
	char		phc[PASSWORD_PHC_BYTES];
	struct rusage usage;
	uint64_t	total = 0;
	int64_t		end_us;
	int			fds[2];
	int			status = 0;

	if (processes < 1 || processes > MAX_PROCESSES || seconds <= 0 ||
		!password_hash(BYTES_LITERAL("secret"), &cost, phc) || pipe(fds) != 0)
	{
		fprintf(stderr, "Usage: b_password PROCESSES SECONDS\n");
		return 2;
	}
	end_us = clock_monotonic_us() + (int64_t) (seconds * 1e6);
	for (int i = 0; i < processes; i++)
	{
		pid_t		pid = fork();

		if (pid == 0)
			count_checks(fds[1], phc, end_us);
		if (pid < 0)
			return 1;
	}
	for (int i = 0; i < processes; i++)
	{
		uint64_t	n;
		int			one;

		if (wait(&one) < 0 || read(fds[0], &n, sizeof(n)) != sizeof(n))
			return 1;
		status |= one;
		total += n;
	}
	getrusage(RUSAGE_CHILDREN, &usage);
	printf("{\"processes\":%d,\"hashes_per_second\":%.2f,\"cpu_ms\":%.2f}\n",
		   processes, (double) total / seconds,
		   ((double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
			(double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3) /
		   (double) total);
	return status == 0 ? 0 : 1;
}
