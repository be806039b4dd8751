/*
 * preload.h
 *	  What the libraries that a test preloads share: finding the call that they
 *	  stand in for.
 */
#ifndef FAULT_PRELOAD_H
#define FAULT_PRELOAD_H

/* system */
#include <dlfcn.h>
#include <stdlib.h>

static inline void *
symbol(const char *name)
{
	void	   *found = dlsym(RTLD_NEXT, name);

	if (found == NULL)
		abort();
	return found;
}

/* a function pointer out of a data pointer, as POSIX allows */
#define FIND(name) \
	do { void *found = symbol(#name); \
		__builtin_memcpy(&real_##name, &found, sizeof(found)); } while (0)

#endif							/* FAULT_PRELOAD_H */
