/*
 * fuzz_settings.c
 *	  Any bytes as claviger.conf.
 *
 * A file that is taken must be taken again by a reload; one that is refused
 * must be refused with a reason and change nothing.
 */
/* needs: utils/guc */
#include "server.h"

/* system */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/guc.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* a string that is not ended leaves some bytes in libconfig 1.5's scanner */
extern const char *__lsan_default_suppressions(void);

const char *
__lsan_default_suppressions(void)
{
	return "leak:libconfig.so\n";
}

static void
require(bool condition)
{
	if (!condition)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int	fd = -1;
	char		path[64];
	char		error[1024];
	char	   *argv[] = {(char *) "claviger", (char *) "--config-file", path,
		NULL};
	GucCommand	command;

	if (fd < 0)
	{
		fd = memfd_create("claviger.conf", MFD_CLOEXEC);
		elog_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	}
	require(ftruncate(fd, 0) == 0);
	require(pwrite(fd, data, size, 0) == (ssize_t) size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

	guc_init_defaults();
	if (guc_load(3, argv, &command, error, sizeof(error)))
	{
		require(error[0] == '\0' && guc_data_dir[0] != '\0');
		require(guc_election_timeout >= guc_heartbeat_interval * 5);
		require(guc_reload(error, sizeof(error)));
	}
	else
		require(error[0] != '\0' && guc_data_dir[0] == '\0');
	guc_init_defaults();
	return 0;
}
