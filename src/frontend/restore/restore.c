/*
 * restore.c
 *	  clav_restore: a new data directory from a snapshot.
 *
 *	1. the whole file is checked: hash, blocks, records
 *	2. a child makes the directory, as the server would make an empty one, and
 *	   fills the tables
 *	3. the marker that makes it a data directory is written last
 *
 * Nothing is written before the file has been found sound.  If the child fails,
 * what it made is removed again.  If everything is killed in the middle, the
 * directory says that a restore was under way, and no server starts in it.
 *
 * The restored member is the first of a new cluster: its ids are computed from
 * the settings given here, as for a new one, and leases have as much time as
 * the snapshot says.
 */
#include "server.h"

/* system */
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "raft/worker.h"

/* this program */
#include "../snapinput/snapinput.h"

#define EXIT_USAGE 2
/* records in one transaction */
#define TRANSACTION_RECORDS 4000

enum
{
	OPTION_NAME = 256,
	OPTION_INITIAL_CLUSTER,
	OPTION_INITIAL_CLUSTER_TOKEN,
	OPTION_PEER_URLS,
	OPTION_BUMP_REVISION,
	OPTION_MARK_COMPACTED,
	OPTION_SKIP_HASH_CHECK
};

typedef struct Options
{
	const char *file;
	const char *data_dir;
	int64_t		bump_revision;
	bool		mark_compacted;
	bool		skip_hash_check;
} Options;

static const struct option long_options[] = {
	{"data-dir", required_argument, NULL, 'D'},
	{"name", required_argument, NULL, OPTION_NAME},
	{"initial-cluster", required_argument, NULL, OPTION_INITIAL_CLUSTER},
	{"initial-cluster-token", required_argument, NULL,
	OPTION_INITIAL_CLUSTER_TOKEN},
	{"initial-advertise-peer-urls", required_argument, NULL, OPTION_PEER_URLS},
	{"bump-revision", required_argument, NULL, OPTION_BUMP_REVISION},
	{"mark-compacted", no_argument, NULL, OPTION_MARK_COMPACTED},
	{"skip-hash-check", no_argument, NULL, OPTION_SKIP_HASH_CHECK},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0}
};

static void read_options(int argc, char **argv, Options *options);
static void set_setting(const char *name, const char *value);
static void usage_error(const char *fmt,...)
			__attribute__((format(printf, 1, 2), noreturn));
static void check_file(const Options *options, Bytes file, SnapMeta *meta,
					   uint64_t counts[8]);
static bool take_directory(const char *path);
static bool restore_in_child(const Options *options, Bytes file,
							 const SnapMeta *meta);
static void restore(const Options *options, Bytes file, const SnapMeta *meta);
static int	fill(void *arg, const TableOps *ops, TableEnv *env);
static TableId table_of(SnapTable table);
static void remove_contents(int parent, const char *name);
static void print_help(FILE *out);

int
main(int argc, char **argv)
{
	Options		options = {0};
	uint64_t	counts[8] = {0};
	SnapMeta	meta;
	Bytes		file;
	bool		is_new;

	elog_set_process_name("clav_restore");
	umask(0077);
	guc_init_defaults();
	read_options(argc, argv, &options);
	file = snapinput_map(options.file);
	check_file(&options, file, &meta, counts);
	is_new = take_directory(options.data_dir);
	if (!restore_in_child(&options, file, &meta))
	{
		remove_contents(AT_FDCWD, options.data_dir);
		if (is_new)
			(void) rmdir(options.data_dir);
		elog_error("nothing was restored; what had been made is removed");
		return EXIT_FAILURE;
	}
	printf("restored revision %" PRId64 " into %s: %" PRIu64 " versions of "
		   "keys, %" PRIu64 " leases, %" PRIu64 " users, %" PRIu64 " roles\n",
		   meta.revision + options.bump_revision, options.data_dir,
		   counts[SNAP_KEYS], counts[SNAP_LEASES], counts[SNAP_USERS],
		   counts[SNAP_ROLES]);
	return EXIT_SUCCESS;
}

/* ---- options ---- */

static void
read_options(int argc, char **argv, Options *options)
{
	char	   *end;
	int			c;

	while ((c = getopt_long(argc, argv, "D:hV", long_options, NULL)) != -1)
	{
		switch (c)
		{
			case 'D':
				options->data_dir = optarg;
				break;
			case OPTION_NAME:
				set_setting("name", optarg);
				break;
			case OPTION_INITIAL_CLUSTER:
				set_setting("initial_cluster", optarg);
				break;
			case OPTION_INITIAL_CLUSTER_TOKEN:
				set_setting("initial_cluster_token", optarg);
				break;
			case OPTION_PEER_URLS:
				set_setting("initial_advertise_peer_urls", optarg);
				break;
			case OPTION_BUMP_REVISION:
				errno = 0;
				options->bump_revision = strtoll(optarg, &end, 10);
				if (errno != 0 || end == optarg || *end != '\0' ||
					options->bump_revision < 1)
					usage_error("--bump-revision: \"%s\" is not a number of "
								"revisions", optarg);
				break;
			case OPTION_MARK_COMPACTED:
				options->mark_compacted = true;
				break;
			case OPTION_SKIP_HASH_CHECK:
				options->skip_hash_check = true;
				break;
			case 'h':
				print_help(stdout);
				exit(EXIT_SUCCESS);
			case 'V':
				printf("clav_restore %s\n", CLAVIGER_VERSION);
				exit(EXIT_SUCCESS);
			default:
				exit(EXIT_USAGE);
		}
	}
	if (optind != argc - 1)
		usage_error("give the name of one snapshot file");
	options->file = argv[optind];
	if (options->data_dir == NULL || options->data_dir[0] == '\0')
		usage_error("give the new data directory with --data-dir");

	/*
	 * One without the other would let clients read what they think is later
	 * than what they have seen, and is not; as etcd, both or none.
	 */
	if (options->mark_compacted != (options->bump_revision > 0))
		usage_error("--bump-revision and --mark-compacted go together");
}

static void
set_setting(const char *name, const char *value)
{
	char		error[1024];

	if (!guc_set(name, value, error, sizeof(error)))
		usage_error("%s", error);
}

static void
usage_error(const char *fmt,...)
{
	va_list		args;

	fprintf(stderr, "clav_restore: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(EXIT_USAGE);
}

/* ---- before anything is written ---- */

static void
check_file(const Options *options, Bytes file, SnapMeta *meta,
		   uint64_t counts[8])
{
	snapinput_open_store();
	snapinput_check(options->file, file, meta, counts);
	if (!options->skip_hash_check && !snapinput_hash_matches(file))
		elog_fatal("snapshot \"%s\" cannot be used: its contents do not match "
				   "the SHA-256 at its end", options->file);
	if (options->bump_revision > INT64_MAX - meta->revision)
		elog_fatal("revision %" PRId64 " cannot be moved on by %" PRId64,
				   meta->revision, options->bump_revision);
}

/* Make the directory, or see that it is empty; true if it was made. */
static bool
take_directory(const char *path)
{
	DIR		   *dir;
	struct dirent *e;

	if (mkdir(path, 0700) == 0)
		return true;
	if (errno != EEXIST)
		elog_fatal("could not create directory \"%s\": %s", path,
				   strerror(errno));
	dir = opendir(path);
	if (dir == NULL)
		elog_fatal("could not open directory \"%s\": %s", path,
				   strerror(errno));
	while ((e = readdir(dir)) != NULL)
	{
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			elog_fatal_hint(NULL, "Name a new or empty directory with "
							"--data-dir.", "directory \"%s\" is not empty (it "
							"holds \"%s\")", path, e->d_name);
	}
	closedir(dir);
	return false;
}

/* ---- writing ---- */

/* What goes wrong in there ends the child, with a message. */
static bool
restore_in_child(const Options *options, Bytes file, const SnapMeta *meta)
{
	pid_t		pid = fork();
	int			status;

	if (pid < 0)
		elog_fatal("could not fork: %s", strerror(errno));
	if (pid == 0)
	{
		restore(options, file, meta);
		_exit(EXIT_SUCCESS);
	}
	if (waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status))
		elog_error("restoring was ended by signal %d", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
}

static void
restore(const Options *options, Bytes file, const SnapMeta *meta)
{
	RaftFirstState first = {
		.kv_revision = meta->revision + options->bump_revision,
		.compacted_revision = meta->compacted_revision,
		.fill = fill,
		.arg = &file,
	};

	if (options->mark_compacted)
		first.compacted_revision = first.kv_revision;
	raft_lock_data_dir(options->data_dir);
	raft_restore_data_dir(options->data_dir, &first);
}

static int
fill(void *arg, const TableOps *ops, TableEnv *env)
{
	const Bytes *file = arg;
	SnapReader	reader;
	SnapRecord	record;
	uint64_t	n = 0;
	int			rc = 0;

	/* it has been read before; should it change meanwhile, so be it known */
	if (!snapreader_open(&reader, *file))
		return EIO;
	while (rc == 0 && snapreader_next(&reader, &record))
	{
		if (n % TRANSACTION_RECORDS == 0 &&
			((n > 0 && (rc = ops->commit(env)) != 0) ||
			 (rc = ops->txn_begin(env)) != 0))
			return rc;
		rc = ops->put(env, table_of(record.table), record.key, record.value);
		n++;
	}
	if (rc == 0 && reader.error != NULL)
		rc = EIO;
	return rc != 0 || n == 0 ? rc : ops->commit(env);
}

static TableId
table_of(SnapTable table)
{
	switch (table)
	{
		case SNAP_AUTH:
			return TABLE_AUTH;
		case SNAP_ROLES:
			return TABLE_ROLES;
		case SNAP_USERS:
			return TABLE_USERS;
		case SNAP_LEASES:
			return TABLE_LEASE;
		case SNAP_KEYS:
			return TABLE_KEY;
	}
	elog_fatal("a table without a place");
}

/* Everything in a directory that was empty before; two levels are enough. */
static void
remove_contents(int parent, const char *name)
{
	int			fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR		   *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (dir == NULL)
	{
		elog_error("could not clear directory \"%s\": %s", name,
				   strerror(errno));
		return;
	}
	while ((e = readdir(dir)) != NULL)
	{
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(dir), e->d_name, 0) == 0)
			continue;
		if (errno == EISDIR)
			remove_contents(dirfd(dir), e->d_name);
		if (unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR) != 0)
			elog_error("could not remove \"%s\": %s", e->d_name,
					   strerror(errno));
	}
	closedir(dir);
}

static void
print_help(FILE *out)
{
	fprintf(out,
			"clav_restore makes a new data directory from a snapshot.\n"
			"\n"
			"usage: clav_restore FILE --data-dir DIR [OPTION ...]\n"
			"\n"
			"  -D, --data-dir DIR              new or empty directory\n"
			"  --name NAME                     of the member (default)\n"
			"  --initial-advertise-peer-urls URLS\n"
			"  --initial-cluster NAME=URL      this member alone\n"
			"  --initial-cluster-token TOKEN   another one makes other ids\n"
			"  --bump-revision N               go on N revisions further on\n"
			"  --mark-compacted                and end watches on what was "
			"before\n"
			"  --skip-hash-check               take a file whose SHA-256 does "
			"not match\n"
			"  -h, --help    -V, --version\n"
			"\n"
			"Give the server the same name, peer URLs and token.\n");
}
