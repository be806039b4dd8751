/*
 * pidfile.c
 *	  Reads and writes DATA/claviger.pid, for the postmaster and clav_ctl.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <unistd.h>

/* this layer and below */
#include "postmaster/pidfile.h"

bool
pidfile_write(const char *data_dir, const PidFile *pidfile)
{
	char		path[PATH_MAX];
	char		temporary[PATH_MAX];
	char		text[2048];
	int			len;
	int			fd;
	bool		ok;

	if (snprintf(path, sizeof(path), "%s/%s", data_dir, PIDFILE_NAME) >=
		(int) sizeof(path) ||
		snprintf(temporary, sizeof(temporary), "%s/%s.new", data_dir,
				 PIDFILE_NAME) >= (int) sizeof(temporary))
	{
		errno = ENAMETOOLONG;
		return false;
	}
	len = snprintf(text, sizeof(text), "%d\n%lld\n%s\n%s\n",
				   (int) pidfile->pid, pidfile->started_ms, pidfile->state,
				   pidfile->addresses);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	ok = write(fd, text, (size_t) len) == len;
	if (close(fd) != 0)
		ok = false;
	if (ok && rename(temporary, path) != 0)
		ok = false;
	if (!ok)
		unlink(temporary);
	return ok;
}

bool
pidfile_read(const char *data_dir, PidFile *pidfile)
{
	char		path[PATH_MAX];
	FILE	   *file;
	int			pid;
	int			nfields;

	memset(pidfile, 0, sizeof(*pidfile));
	if (snprintf(path, sizeof(path), "%s/%s", data_dir, PIDFILE_NAME) >=
		(int) sizeof(path))
		return false;
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	nfields = fscanf(file, "%d\n%lld\n%15s\n%1023[^\n]", &pid,
					 &pidfile->started_ms, pidfile->state, pidfile->addresses);
	fclose(file);
	if (nfields < 3 || pid <= 0)
		return false;
	pidfile->pid = pid;
	return true;
}

void
pidfile_remove(const char *data_dir)
{
	char		path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", data_dir, PIDFILE_NAME) <
		(int) sizeof(path))
		unlink(path);
}
