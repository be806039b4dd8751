/*
 * guc.h
 *	  Settings: one list (guclist.h), one variable each (guc_<name>).
 *
 * Read from the command line, the environment and a libconfig file, checked
 * as a whole before anything is assigned, so that assigning cannot fail: a
 * reload with a mistake changes nothing and says where the mistake is.
 */
#ifndef UTILS_GUC_H
#define UTILS_GUC_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum GucWhen
{
	GUC_START,
	GUC_RELOAD
} GucWhen;

#define GUC_STRING(name, def, when, text) extern const char *guc_##name;
#define GUC_INT(name, def, min, max, unit, when, text) extern int64_t guc_##name;
#define GUC_BOOL(name, def, when, text) extern bool guc_##name;
#define GUC_IGNORED(name, text)
#include "utils/guclist.h"
#undef GUC_STRING
#undef GUC_INT
#undef GUC_BOOL
#undef GUC_IGNORED

/* what the command line asked for besides settings */
typedef enum GucCommand
{
	GUC_RUN,
	GUC_SHOW_HELP,
	GUC_SHOW_VERSION
} GucCommand;

/*
 * Every variable to its default: tests and tools call only this.  Frees the
 * strings of earlier settings, so nobody may still hold one.
 */
extern void guc_init_defaults(void);

/*
 * Command line, environment, file.  On a mistake returns false with one
 * line that names file, line, setting and reason in error; then nothing has
 * been assigned.  With GUC_SHOW_HELP or GUC_SHOW_VERSION nothing is assigned
 * either: the caller prints and ends.
 *
 * Afterwards guc_data_dir is never empty, guc_log_level is one of debug, info,
 * warning, error and already in force, "default" as log output has become
 * stderr.  argv is copied.  Relative names are looked up from the directory
 * the process is in, so it must not change that if it wants to reload.
 */
extern bool guc_load(int argc, char **argv, GucCommand *command, char *error,
					 size_t error_size);

/*
 * Read everything again; takes over GUC_RELOAD settings, reports (warning)
 * GUC_START settings that differ.  On a mistake changes nothing.  Only the
 * process that called guc_load() reports; its children would say it again.
 *
 * A string that is replaced is not freed: somebody may hold it.  Threads
 * besides the caller must not read settings; they are handed values.
 */
extern bool guc_reload(char *error, size_t error_size);

/*
 * Set one by name, as --name=value would (tests, clav_ctl).  Checks the value
 * by itself, not whether it agrees with the other settings.
 */
extern bool guc_set(const char *name, const char *value, char *error,
					size_t error_size);

extern void guc_print_help(FILE *out);
extern void guc_print_version(FILE *out);
/* every setting with its text as comment and its default commented out */
extern void guc_print_sample(FILE *out);
/* doc/settings.md */
extern void guc_print_manual(FILE *out);

/* derived */
extern int64_t guc_effective_quota(void);	/* 0 = 2 GiB, <0 = INT64_MAX */
extern int64_t guc_effective_hash_slots(void);
/* ms, or revisions if that is the mode; 0: off */
extern int64_t guc_effective_auto_compaction_retention(void);
extern bool guc_metrics_are_extensive(void);
extern int64_t guc_effective_shared_memory(void);

#endif							/* UTILS_GUC_H */
