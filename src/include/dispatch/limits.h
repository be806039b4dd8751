/*
 * limits.h
 *	  May this operation still be stored?
 */
#ifndef DISPATCH_LIMITS_H
#define DISPATCH_LIMITS_H

#include "common/logop.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"

/* ERR_NO_SPACE if it would go beyond the quota; deletes etc. always may */
extern ErrCode limits_check_quota(const StoreVersion *v, const LogOp *op);

#endif							/* DISPATCH_LIMITS_H */
