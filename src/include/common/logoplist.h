/*
 * logoplist.h
 *	  Kinds of log operations: LOGOP(symbol, number, name).
 *
 * The numbers stand in logs on disk and are never reused.  No include guard.
 */
LOGOP(LOGOP_PUT, 1, "put")
LOGOP(LOGOP_DELETE, 2, "delete range")
LOGOP(LOGOP_TXN, 3, "txn")
LOGOP(LOGOP_COMPACT, 4, "compact")
LOGOP(LOGOP_LEASE_GRANT, 10, "lease grant")
LOGOP(LOGOP_LEASE_REVOKE, 11, "lease revoke")
LOGOP(LOGOP_LEASE_CHECKPOINT, 12, "lease checkpoint")
LOGOP(LOGOP_LEASE_RENEW, 13, "lease renew")
LOGOP(LOGOP_AUTH_ENABLE, 20, "auth enable")
LOGOP(LOGOP_AUTH_DISABLE, 21, "auth disable")
LOGOP(LOGOP_USER_ADD, 22, "user add")
LOGOP(LOGOP_USER_DELETE, 23, "user delete")
LOGOP(LOGOP_USER_CHANGE_PASSWORD, 24, "user change password")
LOGOP(LOGOP_USER_GRANT_ROLE, 25, "user grant role")
LOGOP(LOGOP_USER_REVOKE_ROLE, 26, "user revoke role")
LOGOP(LOGOP_ROLE_ADD, 27, "role add")
LOGOP(LOGOP_ROLE_DELETE, 28, "role delete")
LOGOP(LOGOP_ROLE_GRANT_PERMISSION, 29, "role grant permission")
LOGOP(LOGOP_ROLE_REVOKE_PERMISSION, 30, "role revoke permission")
LOGOP(LOGOP_AUTHENTICATE, 31, "authenticate")
LOGOP(LOGOP_MEMBER_PUBLISH, 40, "member publish")
LOGOP(LOGOP_ALARM, 50, "alarm")
LOGOP(LOGOP_QUOTA_REACHED, 51, "quota reached")
