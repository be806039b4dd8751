/*
 * ctl_init.c
 *	  clav_ctl init: a prepared data directory.
 *
 * The server itself writes the tables and the log (claviger --init-only), so
 * that there is one piece of code that knows them.  Here the sample settings
 * file is added, and with --tls certificates and the settings that use them.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* lib and utils */
#include "utils/guc.h"

/* this program */
#include "ctl.h"

static bool run_server_init(const CtlOptions *options);
static bool write_settings(const CtlOptions *options, const char *tls_dir);

int
ctl_init(const CtlOptions *options)
{
	char		tls_dir[PATH_MAX];

	if (!run_server_init(options))
		return CTL_FAILED;
	if (snprintf(tls_dir, sizeof(tls_dir), "%s/tls", options->data_dir) >=
		(int) sizeof(tls_dir))
		return CTL_FAILED;
	if (options->with_tls)
	{
		if (mkdir(tls_dir, 0700) != 0 && errno != EEXIST)
		{
			fprintf(stderr, "clav_ctl: could not create %s: %s\n", tls_dir,
					strerror(errno));
			return CTL_FAILED;
		}
		if (!ctl_make_certificates(tls_dir, options->hosts))
			return CTL_FAILED;
	}
	if (!write_settings(options, options->with_tls ? tls_dir : NULL))
		return CTL_FAILED;
	printf("data directory %s is ready; settings are in %s/claviger.conf\n",
		   options->data_dir, options->data_dir);
	if (options->with_tls)
		printf("certificates are in %s: ca.crt for clients, root.crt and "
			   "root.key for the user root\n", tls_dir);
	return CTL_OK;
}

static bool
run_server_init(const CtlOptions *options)
{
	char		path[PATH_MAX];
	pid_t		pid;
	int			status;

	ctl_server_path(options, path, sizeof(path));
	pid = fork();
	if (pid == 0)
	{
		char	  **args = calloc((size_t) options->nserver_args + 5,
								  sizeof(char *));
		int			n = 0;

		if (args == NULL)
			_exit(127);
		args[n++] = path;
		args[n++] = (char *) "--init-only";
		args[n++] = (char *) "--data-dir";
		args[n++] = (char *) options->data_dir;
		for (int i = 0; i < options->nserver_args; i++)
			args[n++] = options->server_args[i];
		execv(path, args);
		fprintf(stderr, "clav_ctl: could not run %s: %s\n", path,
				strerror(errno));
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid &&
		WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* An existing file is left alone: it may hold somebody's work. */
static bool
write_settings(const CtlOptions *options, const char *tls_dir)
{
	char		path[PATH_MAX];
	int			fd;
	FILE	   *file;

	if (snprintf(path, sizeof(path), "%s/claviger.conf", options->data_dir) >=
		(int) sizeof(path))
		return false;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
	{
		fprintf(stderr, "clav_ctl: %s exists and is left as it is\n", path);
		return true;
	}
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (file == NULL)
	{
		fprintf(stderr, "clav_ctl: could not create %s: %s\n", path,
				strerror(errno));
		return false;
	}
	guc_init_defaults();
	guc_print_sample(file);
	if (tls_dir != NULL)
		fprintf(file, "\n/* added by clav_ctl init --tls */\n"
				"listen_client_urls = \"https://localhost:2379\";\n"
				"advertise_client_urls = \"https://localhost:2379\";\n"
				"cert_file = \"%s/server.crt\";\n"
				"key_file = \"%s/server.key\";\n"
				"trusted_ca_file = \"%s/ca.crt\";\n"
				"client_cert_auth = true;\n", tls_dir, tls_dir, tls_dir);
	if (fclose(file) != 0)
	{
		fprintf(stderr, "clav_ctl: could not write %s: %s\n", path,
				strerror(errno));
		return false;
	}
	return true;
}
