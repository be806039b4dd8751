/*
 * init.c
 *	  The data directory: what lies in it, how it comes to be, whose it is.
 *
 *	<data>/claviger.version    the marker: format and program; written last
 *	<data>/claviger.lock       locked by the running server, holds its pid
 *	<data>/claviger.init       there while an initialisation runs
 *	<data>/claviger.restore    there while clav_restore fills it
 *	<data>/tables/             Berkeley DB (storage/bdb)
 *	<data>/log/                raft log and vote (raft/log.c, raft/vote.c)
 *
 * An initialisation that is cut short leaves claviger.init and no marker; the
 * next one clears away what it had made and begins again.  So a directory is
 * either complete or counts as empty.  A restore that is cut short leaves
 * claviger.restore, and that does not count as empty: a server that began anew
 * there would show an empty store to clients who expect what was restored.
 *
 * The first state of a cluster is the same on every member: index 1 stands
 * for the first configuration and is in the tables from the beginning, the
 * log begins at index 2.  The ids are computed as etcd computes them.
 */
#include "server.h"

/* system */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* libraries */
#include <openssl/evp.h>

/* lib and utils */
#include "lib/buf.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "raft/engine.h"
#include "raft/log.h"
#include "raft/worker.h"
#include "storage/bdb/persist.h"

#define MARKER_FILE "claviger.version"
#define LOCK_FILE "claviger.lock"
#define MARKER_NEW_FILE "claviger.version.new"
#define PROGRESS_FILE "claviger.init"
#define RESTORE_FILE "claviger.restore"
#define DATA_FORMAT 1
#define FIRST_INDEX 1
#define FIRST_TERM 1
#define MAX_URLS 64
#define SHA1_BYTES 20

typedef struct UrlList
{
	char	   *text;			/* cut into pieces */
	char	   *urls[MAX_URLS];
	uint32_t	n;
} UrlList;

static int	lock_fd = -1;

static void path_in(char *path, const char *dir, const char *name);
static void check_owner(const char *data_dir);
static bool file_exists(const char *dir, const char *name);
static bool is_expected(const char *name);
static bool read_marker(const char *data_dir, char *error,
						uint32_t error_size);
static void write_file(const char *dir, const char *name, const char *text);
static void sync_dir(const char *dir);
static void make_empty_dir(const char *data_dir, const char *name);
static void clear_dir(const char *dir);
static void make_data_dir(const char *data_dir, const char *progress_file,
						  const RaftFirstState *first);
static void make_first_state(const char *data_dir,
							 const RaftFirstState *first);
static void check_initial_cluster(const UrlList *own);
static void check_urls(const UrlList *list);
static void urls_parse(UrlList *list, const char *text);
static void urls_free(UrlList *list);
static int	compare_urls(const void *a, const void *b);
static uint64_t sha1_prefix(const Buf *input);

void
raft_lock_data_dir(const char *data_dir)
{
	char		path[PATH_MAX];
	char		text[32] = "";
	int			n;

	check_owner(data_dir);
	path_in(path, data_dir, LOCK_FILE);
	lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock_fd < 0)
		elog_fatal("could not open lock file \"%s\": %s", path,
				   strerror(errno));
	if (flock(lock_fd, LOCK_EX | LOCK_NB) != 0)
	{
		if (errno != EWOULDBLOCK)
			elog_fatal("could not lock \"%s\": %s", path, strerror(errno));
		if (pread(lock_fd, text, sizeof(text) - 1, 0) < 0)
			text[0] = '\0';
		elog_fatal_hint(NULL, "Stop that server first, or name another "
						"directory with --data-dir.",
						"data directory \"%s\" is in use by process %d",
						data_dir, atoi(text));
	}
	n = snprintf(text, sizeof(text), "%d\n", (int) getpid());
	if (ftruncate(lock_fd, 0) != 0 ||
		pwrite(lock_fd, text, (size_t) n, 0) != n)
		elog_fatal("could not write lock file \"%s\": %s", path,
				   strerror(errno));
}

bool
raft_data_dir_is_initialised(const char *data_dir, bool *is_empty, char *error,
							 uint32_t error_size)
{
	DIR		   *dir;
	struct dirent *e;
	char		foreign[NAME_MAX + 1] = "";

	*is_empty = false;
	error[0] = '\0';
	if (file_exists(data_dir, MARKER_FILE))
		return read_marker(data_dir, error, error_size);
	if (file_exists(data_dir, RESTORE_FILE))
	{
		snprintf(error, error_size, "data directory \"%s\" was left half "
				 "restored; remove it and run clav_restore again", data_dir);
		return false;
	}
	if (file_exists(data_dir, PROGRESS_FILE))
	{
		*is_empty = true;
		snprintf(error, error_size, "data directory \"%s\" was left half "
				 "initialised", data_dir);
		return false;
	}
	dir = opendir(data_dir);
	if (dir == NULL)
	{
		*is_empty = errno == ENOENT;
		snprintf(error, error_size, "could not open data directory \"%s\": %s",
				 data_dir, strerror(errno));
		return false;
	}
	while ((e = readdir(dir)) != NULL)
	{
		if (!is_expected(e->d_name))
			snprintf(foreign, sizeof(foreign), "%s", e->d_name);
	}
	closedir(dir);
	*is_empty = foreign[0] == '\0';
	if (*is_empty)
		snprintf(error, error_size, "data directory \"%s\" is empty", data_dir);
	else
		snprintf(error, error_size, "directory \"%s\" is not empty (it holds "
				 "\"%s\") and was not made by claviger; name an empty "
				 "directory with --data-dir", data_dir, foreign);
	return false;
}

void
raft_initialise_data_dir(const char *data_dir)
{
	make_data_dir(data_dir, PROGRESS_FILE,
				  &(RaftFirstState) {.kv_revision = 1});
}

void
raft_restore_data_dir(const char *data_dir, const RaftFirstState *first)
{
	make_data_dir(data_dir, RESTORE_FILE, first);
}

uint64_t
raft_member_id(const char *peer_urls, const char *token)
{
	UrlList		list;
	Buf			input;
	uint64_t	id;

	urls_parse(&list, peer_urls);
	buf_init(&input, NULL);
	for (uint32_t i = 0; i < list.n; i++)
		buf_append(&input, list.urls[i], strlen(list.urls[i]));
	buf_append(&input, token, strlen(token));
	id = sha1_prefix(&input);
	buf_free(&input);
	urls_free(&list);
	return id;
}

uint64_t
raft_cluster_id(const uint64_t *member_ids, uint32_t n)
{
	uint64_t   *sorted = xmalloc(n * sizeof(*sorted));
	Buf			input;
	uint64_t	id;

	/* few: insertion will do */
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	j = i;

		for (; j > 0 && sorted[j - 1] > member_ids[i]; j--)
			sorted[j] = sorted[j - 1];
		sorted[j] = member_ids[i];
	}
	buf_init(&input, NULL);
	for (uint32_t i = 0; i < n; i++)
		buf_put_u64be(&input, sorted[i]);
	id = sha1_prefix(&input);
	buf_free(&input);
	free(sorted);
	return id;
}

/* ---- looking ---- */

static void
path_in(char *path, const char *dir, const char *name)
{
	if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
		elog_fatal("the path of data directory \"%s\" is too long", dir);
}

/*
 * Keys, password hashes and log are in there: it must belong to us, and
 * nobody else may look in.
 */
static void
check_owner(const char *data_dir)
{
	char		hint[PATH_MAX + 64];
	struct stat st;

	if (stat(data_dir, &st) != 0)
		elog_fatal("could not look at data directory \"%s\": %s", data_dir,
				   strerror(errno));
	if (!S_ISDIR(st.st_mode))
		elog_fatal("data directory \"%s\" is not a directory", data_dir);
	if (st.st_uid != geteuid())
		elog_fatal_hint(NULL, "Run the server as the user who owns the data "
						"directory.",
						"data directory \"%s\" belongs to another user",
						data_dir);
	if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
	{
		snprintf(hint, sizeof(hint), "Take the rights of others away: chmod "
				 "700 %s", data_dir);
		elog_fatal_hint(NULL, hint, "data directory \"%s\" can be entered by "
						"other users (mode %04o)", data_dir,
						(unsigned) st.st_mode & 07777);
	}
}

static bool
file_exists(const char *dir, const char *name)
{
	char		path[PATH_MAX];
	struct stat st;

	path_in(path, dir, name);
	return lstat(path, &st) == 0;
}

/* what may lie in a directory that nobody has initialised yet */
static bool
is_expected(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		strncmp(name, "claviger.", strlen("claviger.")) == 0 ||
		strncmp(name, "claviger_", strlen("claviger_")) == 0 ||
		strcmp(name, "tls") == 0;
}

static bool
read_marker(const char *data_dir, char *error, uint32_t error_size)
{
	char		path[PATH_MAX];
	char		text[256] = "";
	int			format = 0;
	int			fd;
	ssize_t		n = -1;

	path_in(path, data_dir, MARKER_FILE);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
	{
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n < 0)
	{
		snprintf(error, error_size, "could not read \"%s\": %s", path,
				 strerror(errno));
		return false;
	}
	if (sscanf(text, "format %d\n", &format) != 1)
	{
		snprintf(error, error_size, "\"%s\" is damaged: it does not tell the "
				 "format of the data directory; restore it from a backup", path);
		return false;
	}
	if (format != DATA_FORMAT)
	{
		snprintf(error, error_size, "data directory \"%s\" has format %d, but "
				 "this version (%s) reads format %d only; use the version that "
				 "made it, or let the member join again with an empty "
				 "directory", data_dir, format, CLAVIGER_VERSION, DATA_FORMAT);
		return false;
	}
	return true;
}

/* ---- making ---- */

static void
make_data_dir(const char *data_dir, const char *progress_file,
			  const RaftFirstState *first)
{
	char		path[PATH_MAX];
	char		new_path[PATH_MAX];
	char		text[128];

	(void) INJECTION_POINT("init-begin");
	write_file(data_dir, progress_file, "this directory is being made\n");
	sync_dir(data_dir);
	(void) INJECTION_POINT("init-announced");
	make_empty_dir(data_dir, "tables");
	make_empty_dir(data_dir, "log");
	(void) INJECTION_POINT("init-dirs-made");
	make_first_state(data_dir, first);
	sync_dir(data_dir);
	(void) INJECTION_POINT("init-before-marker");

	snprintf(text, sizeof(text), "format %d\nmade by claviger %s\n",
			 DATA_FORMAT, CLAVIGER_VERSION);
	/* whole or not at all: half a marker would be taken for damage */
	write_file(data_dir, MARKER_NEW_FILE, text);
	path_in(new_path, data_dir, MARKER_NEW_FILE);
	path_in(path, data_dir, MARKER_FILE);
	(void) INJECTION_POINT("init-before-rename");
	if (rename(new_path, path) != 0)
		elog_fatal("could not create \"%s\": %s", path, strerror(errno));
	sync_dir(data_dir);
	(void) INJECTION_POINT("init-after-marker");
	path_in(path, data_dir, progress_file);
	if (unlink(path) != 0)
		elog_fatal("could not remove \"%s\": %s", path, strerror(errno));
	sync_dir(data_dir);
}

static void
write_file(const char *dir, const char *name, const char *text)
{
	char		path[PATH_MAX];
	size_t		len = strlen(text);
	int			fd;

	path_in(path, dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		elog_fatal("could not create \"%s\": %s", path, strerror(errno));
	(void) INJECTION_POINT("init-file-opened");
	if (write(fd, text, len) != (ssize_t) len || fsync(fd) != 0)
		elog_fatal("could not write \"%s\": %s", path, strerror(errno));
	close(fd);
}

static void
sync_dir(const char *dir)
{
	if (log_io_system.fsync_dir(dir) != 0)
		elog_fatal("could not sync directory \"%s\": %s", dir,
				   strerror(errno));
}

static void
make_empty_dir(const char *data_dir, const char *name)
{
	char		path[PATH_MAX];

	path_in(path, data_dir, name);
	if (mkdir(path, 0700) == 0)
		return;
	if (errno != EEXIST)
		elog_fatal("could not create directory \"%s\": %s", path,
				   strerror(errno));
	/* an initialisation that was cut short made it */
	clear_dir(path);
}

static void
clear_dir(const char *path)
{
	DIR		   *dir = opendir(path);
	struct dirent *e;

	if (dir == NULL)
		elog_fatal("could not open directory \"%s\": %s", path,
				   strerror(errno));
	while ((e = readdir(dir)) != NULL)
	{
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(dir), e->d_name, 0) != 0)
			elog_fatal("could not remove \"%s/%s\": %s", path, e->d_name,
					   strerror(errno));
	}
	closedir(dir);
}

static void
make_first_state(const char *data_dir, const RaftFirstState *first)
{
	EngineMember member = {.role = MEMBER_VOTER};
	PersistMeta meta = {
		.applied_index = FIRST_INDEX,
		.applied_term = FIRST_TERM,
		.kv_revision = first->kv_revision,
		.compacted_revision = first->compacted_revision,
		.configuration_index = FIRST_INDEX,
	};
	char		path[PATH_MAX];
	char		error[1024];
	LogOptions	options = {
		.dir = path,
		.segment_bytes = (uint64_t) guc_raft_log_segment_bytes,
	};
	UrlList		own;
	int			rc;

	urls_parse(&own, guc_initial_advertise_peer_urls);
	check_urls(&own);
	check_initial_cluster(&own);
	if (strlen(own.urls[0]) >= sizeof(member.address))
		elog_fatal("peer URL \"%s\" is longer than %zu bytes", own.urls[0],
				   sizeof(member.address) - 1);
	snprintf(member.address, sizeof(member.address), "%s", own.urls[0]);
	urls_free(&own);

	member.id = raft_member_id(guc_initial_advertise_peer_urls,
							   guc_initial_cluster_token);
	meta.member_id = member.id;
	meta.cluster_id = options.cluster_id = raft_cluster_id(&member.id, 1);
	buf_init(&meta.configuration, NULL);
	engine_configuration_encode(&member, 1, &meta.configuration);

	path_in(path, data_dir, "tables");
	persist_initialise_filled(&bdb_table_ops, path, &meta, first->fill,
							  first->arg);
	buf_free(&meta.configuration);
	sync_dir(path);
	(void) INJECTION_POINT("init-tables-made");

	path_in(path, data_dir, "log");
	if (!log_create(&options, FIRST_INDEX + 1, error, sizeof(error)))
		elog_fatal("%s", error);
	(void) INJECTION_POINT("init-log-made");
	rc = vote_create(path, FIRST_TERM, 0);
	if (rc != 0)
		elog_fatal("could not make the vote file in \"%s\": %s", path,
				   strerror(rc));
}

/*
 * initial_cluster, if given, must name this member with the URLs that it
 * advertises, as etcd demands.
 */
static void
check_initial_cluster(const UrlList *own)
{
	UrlList		pairs;
	UrlList		named = {.n = 0};

	if (strcmp(guc_initial_cluster_state, "new") != 0)
		elog_fatal_hint(NULL, "Leave initial-cluster-state at \"new\".",
						"initial-cluster-state \"%s\": joining a cluster that "
						"exists is not supported by this version",
						guc_initial_cluster_state);
	urls_parse(&pairs, guc_initial_cluster);
	for (uint32_t i = 0; i < pairs.n; i++)
	{
		char	   *equals = strchr(pairs.urls[i], '=');

		if (equals == NULL || equals == pairs.urls[i] || equals[1] == '\0')
			elog_fatal("initial-cluster: \"%s\" is not of the form name=url",
					   pairs.urls[i]);
		*equals = '\0';
		if (strcmp(pairs.urls[i], guc_name) != 0)
			elog_fatal_hint(NULL, "Leave initial-cluster empty, or name this "
							"member alone.",
							"initial-cluster names \"%s\" beside this member "
							"\"%s\": clusters of several members are not "
							"supported by this version", pairs.urls[i],
							guc_name);
		named.urls[named.n++] = equals + 1;
	}
	qsort(named.urls, named.n, sizeof(named.urls[0]), compare_urls);
	for (uint32_t i = 0; pairs.n > 0 && i < size_max(named.n, own->n); i++)
	{
		if (named.n != own->n || strcmp(named.urls[i], own->urls[i]) != 0)
			elog_fatal_hint(NULL, "Make the two agree.",
							"initial-cluster and initial-advertise-peer-urls "
							"give different URLs for member \"%s\"", guc_name);
	}
	urls_free(&pairs);
}

static void
check_urls(const UrlList *list)
{
	static const char *const schemes[] = {
		"http://", "https://", "unix://", "unixs://",
	};

	if (list->n == 0)
		elog_fatal_hint(NULL, "Give at least one; the member's id is computed "
						"from it.", "initial-advertise-peer-urls is empty");
	for (uint32_t i = 0; i < list->n; i++)
	{
		bool		is_sound = false;

		for (size_t s = 0; s < lengthof(schemes); s++)
		{
			size_t		n = strlen(schemes[s]);

			if (strncmp(list->urls[i], schemes[s], n) == 0)
				is_sound = list->urls[i][n] != '\0' &&
					strchr(list->urls[i] + n, '/') == NULL &&
					strchr(list->urls[i] + n, ':') != NULL;
		}
		if (!is_sound)
			elog_fatal_hint(NULL, "Write it as http://host:port or "
							"https://host:port, without a path.",
							"initial-advertise-peer-urls: \"%s\" is not a peer "
							"URL", list->urls[i]);
	}
}

/* ---- lists separated by commas ---- */

/* sorted; spaces around a piece do not count */
static void
urls_parse(UrlList *list, const char *text)
{
	char	   *save = NULL;

	*list = (UrlList) {.text = xmalloc(strlen(text) + 1)};
	strcpy(list->text, text);
	for (char *url = strtok_r(list->text, ",", &save); url != NULL;
		 url = strtok_r(NULL, ",", &save))
	{
		size_t		len;

		while (isspace((unsigned char) *url))
			url++;
		len = strlen(url);
		while (len > 0 && isspace((unsigned char) url[len - 1]))
			url[--len] = '\0';
		if (len == 0)
			continue;
		if (list->n == MAX_URLS)
			elog_fatal("more than %d URLs in \"%s\"", MAX_URLS, text);
		list->urls[list->n++] = url;
	}
	qsort(list->urls, list->n, sizeof(list->urls[0]), compare_urls);
}

static void
urls_free(UrlList *list)
{
	free(list->text);
}

static int
compare_urls(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static uint64_t
sha1_prefix(const Buf *input)
{
	uint8_t		digest[EVP_MAX_MD_SIZE];
	unsigned	len = 0;
	uint64_t	prefix = 0;

	/* an identifier, not a protection: SHA-1 because etcd uses it */
	if (EVP_Digest(input->data, input->len, digest, &len, EVP_sha1(),
				   NULL) != 1 || len != SHA1_BYTES)
		elog_fatal("SHA-1 is not to be had from OpenSSL");
	for (int i = 0; i < 8; i++)
		prefix = prefix << 8 | digest[i];
	return prefix;
}
