/*
 * bdb.c
 *	  The tables on Berkeley DB 5.3: TableOps over one private environment.
 *
 * Why these settings (measured; storage-measurements.md, section 1):
 *	DB_PRIVATE, no lock subsystem	one process, one writing thread
 *	DB_LOG_ZERO, 16 MB log files	no change of extents at a flush; the zeroing
 *									of a new file stalls 9 to 15 ms
 *	64 MB cache, 16 KB pages		without a key index on disk the cache hardly
 *									matters
 *	DB_CHKSUM						a flipped bit is an error instead of a value
 *	DB_AUTO_COMMIT nowhere			each change is in the transaction that also
 *									carries the applied index
 *
 * Commits are DB_TXN_NOSYNC: after a crash the tables stand at an exact
 * committed prefix, and the raft log holds the rest.  A checkpoint makes
 * durable all that was committed before it.
 *
 * Berkeley DB writes pages in place and logs changes, not pages; what protects
 * a page from a power failure in the middle of writing it is doublewrite.c.
 */
#include "server.h"

/* system */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* libraries */
#include <db.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "guard.h"
#include "storage/bdb/doublewrite.h"
#include "storage/bdb/tables.h"

#define CACHE_BYTES (64 * 1024 * 1024)
#define PAGE_BYTES (16 * 1024)
#define LOG_FILE_BYTES (16 * 1024 * 1024)
#define LOG_BUFFER_BYTES (1024 * 1024)
/* moved together in one step */
#define COMPACT_RECORDS 2000
/* of a scan; grown when one record does not fit */
#define SCAN_BYTES (1024 * 1024)
#define FILE_MODE 0600

#ifdef __SANITIZE_THREAD__
/*
 * Berkeley DB is not instrumented: its latches and the words beside them look
 * like races, and it takes its mutexes in orders that only it can know to be
 * safe.  Our own use, one thread at a time, is checked as ever.
 */
extern const char *__tsan_default_suppressions(void);

const char *
__tsan_default_suppressions(void)
{
	return "deadlock:libdb-5.3.so\nmutex:libdb-5.3.so\n"
		"called_from_lib:libdb-5.3.so\n";
}
#endif

struct TableEnv
{
	DB_ENV	   *env;
	DB		   *tables[TABLE_COUNT];
	DB_TXN	   *txn;			/* the running one, or NULL */
	char		dir[PATH_MAX];
};

static int	bdb_open(const char *dir, bool create, TableEnv **result);
static void bdb_close(TableEnv *env);
static int	bdb_txn_begin(TableEnv *env);
static int	bdb_put(TableEnv *env, TableId table, Bytes key, Bytes value);
static int	bdb_remove(TableEnv *env, TableId table, Bytes key);
static int	bdb_commit(TableEnv *env);
static void bdb_abort(TableEnv *env);
static int	bdb_checkpoint(TableEnv *env);
static int	bdb_compact(TableEnv *env, TableId table, Buf *from);
static int	find_stop(DB *db, const Buf *from, Buf *stop);
static int	bdb_get(TableEnv *env, TableId table, Bytes key, Buf *out,
					bool *found);
static int	bdb_scan(TableEnv *env, TableId table,
					 bool (*fn) (void *arg, Bytes key, Bytes value),
					 void *arg);
static uint64_t bdb_size_bytes(TableEnv *env);
static const char *bdb_text(TableEnv *env, int code);

static bool tables_exist(const char *dir);
static int	environment_open(TableEnv *env);
static int	tables_open(TableEnv *env, bool create);
static int	table_open(TableEnv *env, TableId table, bool create);
static int	sync_dir(const char *dir);
static int	scan_bulk(DBC *cursor, DBT *key, DBT *data,
					  bool (*fn) (void *arg, Bytes key, Bytes value),
					  void *arg);
static DBT	dbt_make(Bytes b);
static void on_error(const DB_ENV *env, const char *prefix, const char *text);
static void on_message(const DB_ENV *env, const char *text);

const TableOps bdb_table_ops = {
	.open = bdb_open,
	.close = bdb_close,
	.txn_begin = bdb_txn_begin,
	.put = bdb_put,
	.remove = bdb_remove,
	.commit = bdb_commit,
	.abort = bdb_abort,
	.checkpoint = bdb_checkpoint,
	.compact = bdb_compact,
	.get = bdb_get,
	.scan = bdb_scan,
	.size_bytes = bdb_size_bytes,
	.text = bdb_text,
};

const char *
table_name(TableId table)
{
	static const char *const names[TABLE_COUNT] = {
		[TABLE_AUTH] = "auth",
		[TABLE_USERS] = "authUsers",
		[TABLE_ROLES] = "authRoles",
		[TABLE_KEY] = "key",
		[TABLE_LEASE] = "lease",
		[TABLE_MEMBER] = "member",
		[TABLE_ALARM] = "alarm",
		[TABLE_META] = "meta",
	};

	return (unsigned) table < TABLE_COUNT ? names[table] : "unknown";
}

/*
 * The directory itself is made if create is said.  On failure nothing stays
 * open; what was written stays for the administrator to look at.
 */
static int
bdb_open(const char *dir, bool create, TableEnv **result)
{
	TableEnv   *env;
	int			rc;

	*result = NULL;
	if (strlen(dir) >= sizeof(env->dir))
		return ENAMETOOLONG;
	if (create && mkdir(dir, 0700) != 0 && errno != EEXIST)
		return errno;
	/* before the library leaves a new log where there is nothing */
	if (create == tables_exist(dir))
		return create ? EEXIST : ENOENT;
	rc = guard_set(create);
	if (rc == 0 && !create)
		rc = guard_read_log(dir);
	if (rc == 0)
		rc = doublewrite_begin(dir);
	if (rc != 0)
		return rc;
	env = xcalloc(1, sizeof(*env));
	strcpy(env->dir, dir);
	rc = environment_open(env);
	if (rc == 0)
		rc = INJECTION_POINT("bdb-recovered");
	if (rc == 0)
		rc = tables_open(env, create);
	/* new names: tables, first log file */
	if (rc == 0 && create)
		rc = sync_dir(dir);
	if (rc != 0)
	{
		bdb_close(env);
		return rc;
	}
	*result = env;
	return 0;
}

static void
bdb_close(TableEnv *env)
{
	if (env == NULL)
		return;
	if (env->txn != NULL)
		bdb_abort(env);
	for (int i = 0; i < TABLE_COUNT; i++)
	{
		/* a checkpoint has written what must be; recovery has the rest */
		if (env->tables[i] != NULL)
			env->tables[i]->close(env->tables[i], DB_NOSYNC);
	}
	if (env->env != NULL)
		env->env->close(env->env, 0);
	doublewrite_end();
	free(env);
}

static int
bdb_txn_begin(TableEnv *env)
{
	Assert(env->txn == NULL);
	return env->env->txn_begin(env->env, NULL, &env->txn, 0);
}

static int
bdb_put(TableEnv *env, TableId table, Bytes key, Bytes value)
{
	DB		   *db = env->tables[table];
	DBT			k = dbt_make(key);
	DBT			v = dbt_make(value);

	Assert(env->txn != NULL);
	if (key.len > UINT32_MAX || value.len > UINT32_MAX)
		return EFBIG;
	return db->put(db, env->txn, &k, &v, 0);
}

static int
bdb_remove(TableEnv *env, TableId table, Bytes key)
{
	DB		   *db = env->tables[table];
	DBT			k = dbt_make(key);
	int			rc;

	Assert(env->txn != NULL);
	rc = db->del(db, env->txn, &k, 0);
	return rc == DB_NOTFOUND ? 0 : rc;
}

static int
bdb_commit(TableEnv *env)
{
	DB_TXN	   *txn = env->txn;

	Assert(txn != NULL);
	/* the handle is gone, whatever the result */
	env->txn = NULL;
	return txn->commit(txn, DB_TXN_NOSYNC);
}

static void
bdb_abort(TableEnv *env)
{
	DB_TXN	   *txn = env->txn;

	env->txn = NULL;
	if (txn != NULL)
		(void) txn->abort(txn);
}

static int
bdb_checkpoint(TableEnv *env)
{
	int			rc = env->env->txn_checkpoint(env->env, 0, 0, 0);

	if (rc == 0)
		rc = INJECTION_POINT("bdb-checkpointed");
	/* log files that began since then have names of their own */
	return rc != 0 ? rc : sync_dir(env->dir);
}

static int
bdb_compact(TableEnv *env, TableId table, Buf *from)
{
	DB		   *db = env->tables[table];
	DB_COMPACT	compact = {0};
	DBT			start = dbt_make(buf_bytes(from));
	DBT			end;
	Buf			stop;
	int			rc;

	buf_init(&stop, NULL);
	rc = find_stop(db, from, &stop);
	if (rc == 0)
		rc = bdb_txn_begin(env);
	if (rc == 0)
	{
		end = dbt_make(buf_bytes(&stop));
		rc = db->compact(db, env->txn, from->len > 0 ? &start : NULL,
						 stop.len > 0 ? &end : NULL, &compact, DB_FREE_SPACE,
						 NULL);
		if (rc == 0)
			rc = bdb_commit(env);
		else
			bdb_abort(env);
	}
	from->len = 0;
	if (rc == 0)
		buf_append(from, stop.data, stop.len);
	buf_free(&stop);
	return rc;
}

/* the key COMPACT_RECORDS behind the start, or empty if there is none */
static int
find_stop(DB *db, const Buf *from, Buf *stop)
{
	DBT			key = {.flags = DB_DBT_REALLOC};
	DBT			none = {.flags = DB_DBT_PARTIAL | DB_DBT_USERMEM};
	DBC		   *cursor;
	int			rc = db->cursor(db, NULL, &cursor, 0);

	if (rc != 0)
		return rc;
	key.data = xmalloc(from->len + 1);
	key.size = (uint32_t) from->len;
	if (from->len > 0)
		memcpy(key.data, from->data, from->len);
	rc = cursor->get(cursor, &key, &none, from->len > 0 ? DB_SET_RANGE :
					 DB_FIRST);
	for (int n = 0; rc == 0 && n < COMPACT_RECORDS; n++)
		rc = cursor->get(cursor, &key, &none, DB_NEXT);
	if (rc == 0)
		buf_append(stop, key.data, key.size);
	free(key.data);
	(void) cursor->close(cursor);
	return rc == DB_NOTFOUND ? 0 : rc;
}

static int
bdb_get(TableEnv *env, TableId table, Bytes key, Buf *out, bool *found)
{
	DB		   *db = env->tables[table];
	DBT			k = dbt_make(key);
	DBT			v = {.flags = DB_DBT_MALLOC};
	int			rc = db->get(db, NULL, &k, &v, 0);

	*found = rc == 0;
	if (rc == DB_NOTFOUND)
		return 0;
	if (rc == 0)
	{
		buf_append(out, v.data, v.size);
		free(v.data);
	}
	return rc;
}

static int
bdb_scan(TableEnv *env, TableId table,
		 bool (*fn) (void *arg, Bytes key, Bytes value), void *arg)
{
	DB		   *db = env->tables[table];
	DBC		   *cursor;
	DBT			key = {.flags = DB_DBT_REALLOC};
	DBT			data = {.flags = DB_DBT_USERMEM, .ulen = SCAN_BYTES};
	int			rc = db->cursor(db, NULL, &cursor, DB_CURSOR_BULK);

	if (rc != 0)
		return rc;
	data.data = xmalloc(data.ulen);
	while ((rc = scan_bulk(cursor, &key, &data, fn, arg)) == 0)
		;
	free(data.data);
	free(key.data);
	(void) cursor->close(cursor);
	return rc == DB_NOTFOUND ? 0 : rc;
}

/*
 * Everything in the directory that grows: tables and log files.  Counted anew each time,
 * so that any thread may ask; a file that goes meanwhile counts nothing.
 */
static uint64_t
bdb_size_bytes(TableEnv *env)
{
	DIR		   *dir = opendir(env->dir);
	struct dirent *entry;
	uint64_t	sum = 0;

	if (dir == NULL)
		return 0;
	while ((entry = readdir(dir)) != NULL)
	{
		struct stat st;

		if (strcmp(entry->d_name, DOUBLEWRITE_NAME) != 0 &&
			fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISREG(st.st_mode))
			sum += (uint64_t) st.st_size;
	}
	closedir(dir);
	return sum;
}

static const char *
bdb_text(TableEnv *env, int code)
{
	return db_strerror(code);
}

static bool
tables_exist(const char *dir)
{
	char		path[PATH_MAX + 64];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s.db", dir, table_name(TABLE_META));
	return stat(path, &st) == 0;
}

/* Open with recovery: always, since there is no telling how we ended. */
static int
environment_open(TableEnv *env)
{
	DB_ENV	   *dbenv;
	int			rc = db_env_create(&env->env, 0);

	if (rc != 0)
	{
		env->env = NULL;
		return rc;
	}
	dbenv = env->env;
	dbenv->set_errcall(dbenv, on_error);
	dbenv->set_msgcall(dbenv, on_message);
	if ((rc = dbenv->set_cachesize(dbenv, 0, CACHE_BYTES, 1)) != 0 ||
		(rc = dbenv->set_lg_max(dbenv, LOG_FILE_BYTES)) != 0 ||
		(rc = dbenv->set_lg_bsize(dbenv, LOG_BUFFER_BYTES)) != 0 ||
		(rc = dbenv->set_lg_filemode(dbenv, FILE_MODE)) != 0 ||
		(rc = dbenv->log_set_config(dbenv,
									DB_LOG_ZERO | DB_LOG_AUTO_REMOVE, 1)) != 0)
		return rc;
	return dbenv->open(dbenv, env->dir,
					   DB_PRIVATE | DB_CREATE | DB_INIT_MPOOL | DB_INIT_TXN |
					   DB_INIT_LOG | DB_THREAD | DB_RECOVER, FILE_MODE);
}

/* all in one transaction: a crash leaves all of them or none */
static int
tables_open(TableEnv *env, bool create)
{
	int			rc = bdb_txn_begin(env);

	for (int i = 0; rc == 0 && i < TABLE_COUNT; i++)
		rc = table_open(env, (TableId) i, create);
	if (rc == 0)
	{
		DB_TXN	   *txn = env->txn;

		env->txn = NULL;
		return txn->commit(txn, DB_TXN_SYNC);
	}
	bdb_abort(env);
	return rc;
}

static int
table_open(TableEnv *env, TableId table, bool create)
{
	DB		   *db;
	char		file[64];
	int			rc = db_create(&db, env->env, 0);

	if (rc != 0)
		return rc;
	/* both stand in the file; they count when it is made */
	if ((rc = db->set_pagesize(db, PAGE_BYTES)) != 0 ||
		(rc = db->set_flags(db, DB_CHKSUM)) != 0)
	{
		(void) db->close(db, DB_NOSYNC);
		return rc;
	}
	snprintf(file, sizeof(file), "%s.db", table_name(table));
	/* before the result is known: close must follow a failed open, too */
	env->tables[table] = db;
	rc = db->open(db, env->txn, file, NULL, DB_BTREE,
				  DB_THREAD | (create ? DB_CREATE | DB_EXCL : 0), FILE_MODE);
	/* the caller knows the directory only */
	if (rc != 0)
		elog_error("could not open table \"%s\": %s", table_name(table),
				   db_strerror(rc));
	return rc;
}

static int
sync_dir(const char *dir)
{
	int			fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int			rc = 0;

	if (fd < 0)
		return errno;
	if (fsync(fd) != 0)
		rc = errno;
	close(fd);
	return rc;
}

/* The next run of records; DB_NOTFOUND at the end, ECANCELED if fn says so. */
static int
scan_bulk(DBC *cursor, DBT *key, DBT *data,
		  bool (*fn) (void *arg, Bytes key, Bytes value), void *arg)
{
	void	   *run;
	int			rc;

	while ((rc = cursor->get(cursor, key, data,
							 DB_NEXT | DB_MULTIPLE_KEY)) == DB_BUFFER_SMALL)
	{
		/* the library says what it needs and wants multiples of 1024 */
		uint32_t	need = data->size > data->ulen ? data->size : data->ulen;

		if (need > UINT32_MAX / 2 - 1024)
			return EFBIG;
		data->ulen = (uint32_t) align_up((size_t) need * 2, 1024);
		data->data = xrealloc(data->data, data->ulen);
	}
	if (rc != 0)
		return rc;
	DB_MULTIPLE_INIT(run, data);
	for (;;)
	{
		void	   *k;
		void	   *v;
		size_t		klen;
		size_t		vlen;

		DB_MULTIPLE_KEY_NEXT(run, data, k, klen, v, vlen);
		if (run == NULL)
			return 0;
		if (!fn(arg, bytes_make(k, klen), bytes_make(v, vlen)))
			return ECANCELED;
	}
}

static DBT
dbt_make(Bytes b)
{
	/* the library only reads it */
	return (DBT) {.data = (void *) (uintptr_t) b.data,
		.size = (uint32_t) b.len};
}

static void
on_error(const DB_ENV *env, const char *prefix, const char *text)
{
	elog_error("Berkeley DB: %s", text);
}

static void
on_message(const DB_ENV *env, const char *text)
{
	elog_debug("Berkeley DB: %s", text);
}
