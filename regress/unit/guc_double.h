/*
 * guc_double.h
 *	  Every setting with its default, where utils/guc is not linked.
 */
#ifndef GUC_DOUBLE_H
#define GUC_DOUBLE_H

#include "utils/guc.h"

#define GUC_STRING(name, def, when, text) const char *guc_##name = def;
#define GUC_INT(name, def, min, max, unit, when, text) int64_t guc_##name = def;
#define GUC_BOOL(name, def, when, text) bool guc_##name = def;
#define GUC_IGNORED(name, text)
#include "utils/guclist.h"
#undef GUC_STRING
#undef GUC_INT
#undef GUC_BOOL
#undef GUC_IGNORED

#endif							/* GUC_DOUBLE_H */
