/*
 * ctl.h
 *	  What the parts of clav_ctl share.
 */
#ifndef CTL_H
#define CTL_H

#include <stdbool.h>

typedef struct CtlOptions
{
	const char *data_dir;
	const char *log_file;		/* start: where the server's lines go */
	const char *mode;			/* stop: smart, fast, immediate */
	const char *hosts;			/* init --tls: names for the certificate */
	int			timeout_sec;
	bool		with_tls;
	int			nserver_args;	/* behind "--" */
	char	  **server_args;
	const char *program;		/* argv[0]: the server lies beside it */
} CtlOptions;

/* exit statuses, as an init system understands them */
#define CTL_OK 0
#define CTL_FAILED 1
#define CTL_USAGE 2
#define CTL_NOT_RUNNING 3

extern int	ctl_init(const CtlOptions *options);
extern int	ctl_start(const CtlOptions *options);
extern int	ctl_stop(const CtlOptions *options);
extern int	ctl_status(const CtlOptions *options);
extern int	ctl_reload(const CtlOptions *options);

/* path of the server program beside this one */
extern void ctl_server_path(const CtlOptions *options, char *path,
							unsigned size);

/* CA, server and root-user certificates in dir; false after a message */
extern bool ctl_make_certificates(const char *dir, const char *hosts);

#endif							/* CTL_H */
