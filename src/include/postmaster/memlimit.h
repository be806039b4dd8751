/*
 * memlimit.h
 *	  How much memory this server may use, as far as the system tells.
 */
#ifndef POSTMASTER_MEMLIMIT_H
#define POSTMASTER_MEMLIMIT_H

#include <stdint.h>

/*
 * Bytes: the least of the machine's memory and the limits of the cgroups that
 * this process is in (version 2, or the memory controller of version 1).
 * root is "" but in tests, where it stands before /proc and /sys.
 */
extern int64_t memlimit_bytes(const char *root);

/* warn if the quota on stored bytes does not fit into it */
extern void memlimit_check_quota(void);

#endif							/* POSTMASTER_MEMLIMIT_H */
