/*
 * guc_internal.h
 *	  What the files of utils/guc share: the table of settings, and a draft.
 *
 * A draft holds one value per setting and where it came from.  The sources
 * fill it, the checks look at it, and only then is it assigned.
 */
#ifndef GUC_INTERNAL_H
#define GUC_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/bytes.h"
#include "utils/guc.h"
#include "utils/mmgr.h"

typedef enum GucKind
{
	GUC_KIND_STRING,
	GUC_KIND_INT,
	GUC_KIND_BOOL,
	/* the rest has no variable */
	GUC_KIND_IGNORED,
	GUC_KIND_IGNORED_BOOL,
	GUC_KIND_REFUSED,
	GUC_KIND_REFUSED_BOOL,
	GUC_KIND_ALIAS,
	GUC_KIND_GROUP
} GucKind;

/* one row of guclist.h */
typedef struct GucEntry
{
	GucKind		kind;
	const char *name;			/* with underscores */
	const char *text;			/* alias: the setting's name */
	GucWhen		when;
	const char *unit;			/* GUC_KIND_INT; "" if it has none */
	const char *string_default;
	int64_t		int_default;
	int64_t		min;
	int64_t		max;
	bool		bool_default;
	void	   *variable;
} GucEntry;

extern const GucEntry guc_entries[];
extern const size_t guc_nentries;

/* from weak to strong */
typedef enum GucSource
{
	GUC_SOURCE_DEFAULT,
	GUC_SOURCE_FILE,
	GUC_SOURCE_ENV_ETCD,
	GUC_SOURCE_ENV_CLAVIGER,
	GUC_SOURCE_COMMAND_LINE
} GucSource;

typedef struct GucValue
{
	const char *string;
	int64_t		integer;
	bool		boolean;
	GucSource	source;
	const char *where;			/* "claviger.conf:12", "command line" */
} GucValue;

typedef struct GucDraft
{
	MemContext *mcx;			/* all that the values point to */
	GucValue   *values;			/* by position in guc_entries */
	bool		is_reload;		/* repeat no warning of the start */
	char	   *error;
	size_t		error_size;
} GucDraft;

/* ---- guc.c ---- */

/*
 * By name with dashes or underscores; follows an alias.  NULL if there is no
 * such flag.
 */
extern const GucEntry *guc_lookup(Bytes name);
/* the known name that looks most like this one, or NULL if none is near */
extern const char *guc_closest_name(Bytes name, MemContext *mcx);
extern GucValue *guc_draft_value(const GucDraft *draft, const GucEntry *entry);
/* writes the message and returns false */
extern bool guc_draft_fail(GucDraft *draft, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));
/*
 * Give a setting a value from a source; a stronger one that is there stays.
 * The value is checked in any case.
 */
extern bool guc_draft_put(GucDraft *draft, const GucEntry *entry,
						  const char *text, GucSource source,
						  const char *where);

/* ---- guc_parse.c: text to values ---- */
extern bool guc_parse_bool(const char *text, bool *value);
/* hours as a whole number or a duration, or a number of revisions */
extern bool guc_parse_retention(const char *text, bool by_revision,
								int64_t *retention);
/* reason: why it is not a value of this setting */
extern bool guc_parse_int(const GucEntry *entry, const char *text,
						  int64_t *value, char *reason, size_t reason_size);

/* ---- guc_source.c: where values come from ---- */
extern bool guc_read_command_line(GucDraft *draft, int argc,
								  char *const *argv, GucCommand *command);
extern bool guc_read_environment(GucDraft *draft);
/*
 * A name that is in the list but has no variable: say that it is ignored, once
 * (not again on reload), or refuse it.
 */
extern bool guc_pass_over(GucDraft *draft, const GucEntry *entry,
						  const char *value, const char *where);

/* ---- guc_file.c ---- */
/*
 * in_data_dir: it was looked for there without being named, so it may be
 * missing and may not set data_dir.
 */
extern bool guc_read_file(GucDraft *draft, const char *path,
						  bool in_data_dir);

/* ---- guc_check.c: what may not stand ---- */
/* one value by itself; may replace a value by its canonical spelling */
extern bool guc_check_value(GucDraft *draft, const GucEntry *entry);
/* values among themselves, and the files they name */
extern bool guc_check_together(GucDraft *draft);

#endif							/* GUC_INTERNAL_H */
