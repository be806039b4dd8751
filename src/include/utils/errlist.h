/*
 * errlist.h
 *	  Every error that a client can be told: one line each.
 *
 *	ERR(symbol, gRPC code, HTTP status, SQLSTATE, text)
 *
 * The texts are API (reference/etcd-v3-wire.md, section 7): clients compare
 * them.  HTTP statuses follow the gRPC code (section 9.4).  A code is chosen
 * for what the client can do about it.  The order is free; nothing on disk or
 * wire holds these numbers.
 *
 * No include guard: expanded where needed.
 */
/* 3 InvalidArgument */
ERR(ERR_EMPTY_KEY, 3, 400, "22023", "etcdserver: key is not provided")
ERR(ERR_KEY_NOT_FOUND, 3, 400, "02000", "etcdserver: key not found")
ERR(ERR_VALUE_PROVIDED, 3, 400, "22023", "etcdserver: value is provided")
ERR(ERR_LEASE_PROVIDED, 3, 400, "22023", "etcdserver: lease is provided")
ERR(ERR_TOO_MANY_OPS, 3, 400, "54000", "etcdserver: too many operations in txn request")
ERR(ERR_TXN_READS_TOO_MUCH, 3, 400, "54000", "claviger: a transaction that writes may not read that much")
ERR(ERR_DUPLICATE_KEY, 3, 400, "21000", "etcdserver: duplicate key given in txn request")
ERR(ERR_INVALID_CLIENT_API_VERSION, 3, 400, "22023", "etcdserver: invalid client api version")
ERR(ERR_INVALID_SORT_OPTION, 3, 400, "22023", "etcdserver: invalid sort option")
ERR(ERR_REQUEST_TOO_LARGE, 3, 400, "54000", "etcdserver: request is too large")
ERR(ERR_USER_EMPTY, 3, 400, "28000", "etcdserver: user name is empty")
ERR(ERR_ROLE_EMPTY, 3, 400, "22023", "etcdserver: role name is empty")
ERR(ERR_AUTH_FAILED, 3, 400, "28P01", "etcdserver: authentication failed, invalid user ID or password")
ERR(ERR_PERMISSION_NOT_GIVEN, 3, 400, "22023", "etcdserver: permission not given")
ERR(ERR_INVALID_AUTH_MGMT, 3, 400, "22023", "etcdserver: invalid auth management")
ERR(ERR_AUTH_OLD_REVISION, 3, 400, "28000", "etcdserver: revision of auth store is old")
ERR(ERR_MEMBER_BAD_URLS, 3, 400, "22023", "etcdserver: given member URLs are invalid")
ERR(ERR_WRONG_DOWNGRADE_VERSION_FORMAT, 3, 400, "22023", "etcdserver: wrong downgrade target version format")
ERR(ERR_INVALID_DOWNGRADE_TARGET_VERSION, 3, 400, "22023", "etcdserver: invalid downgrade target version")
/* 5 NotFound */
ERR(ERR_LEASE_NOT_FOUND, 5, 404, "02000", "etcdserver: requested lease not found")
ERR(ERR_MEMBER_NOT_FOUND, 5, 404, "02000", "etcdserver: member not found")
ERR(ERR_HEALTH_UNKNOWN_SERVICE, 5, 404, "02000", "unknown service")
/* 7 PermissionDenied */
ERR(ERR_PERMISSION_DENIED, 7, 403, "42501", "etcdserver: permission denied")
/* 8 ResourceExhausted */
ERR(ERR_NO_SPACE, 8, 429, "53100", "etcdserver: mvcc: database space exceeded")
ERR(ERR_TOO_MANY_REQUESTS, 8, 429, "53400", "etcdserver: too many requests")
ERR(ERR_TOO_MANY_LEASES, 8, 429, "53400", "claviger: too many leases")
ERR(ERR_TOO_MANY_CONNECTIONS, 8, 429, "53300", "claviger: too many connections")
ERR(ERR_TOO_MANY_LOGINS, 8, 429, "53400", "claviger: too many logins are waiting to be checked")
ERR(ERR_ANSWER_TOO_LARGE, 8, 429, "54000", "claviger: the answer is larger than 255 MB; ask for it in parts, or with RangeStream")
ERR(ERR_SNAPSHOT_TOO_OLD, 8, 429, "72000", "claviger: the request held its snapshot for too long")
/* 9 FailedPrecondition */
ERR(ERR_LEASE_EXIST, 9, 400, "42710", "etcdserver: lease already exists")
ERR(ERR_MEMBER_EXIST, 9, 400, "42710", "etcdserver: member ID already exist")
ERR(ERR_PEER_URL_EXIST, 9, 400, "42710", "etcdserver: Peer URLs already exists")
ERR(ERR_MEMBER_NOT_LEARNER, 9, 400, "55000", "etcdserver: can only promote a learner member")
ERR(ERR_LEARNER_NOT_READY, 9, 400, "55000", "etcdserver: can only promote a learner member which is in sync with leader")
ERR(ERR_TOO_MANY_LEARNERS, 9, 400, "55000", "etcdserver: too many learner members in cluster")
ERR(ERR_CLUSTER_ID_MISMATCH, 9, 400, "55000", "etcdserver: cluster ID mismatch")
ERR(ERR_ROOT_USER_NOT_EXIST, 9, 400, "55000", "etcdserver: root user does not exist")
ERR(ERR_ROOT_ROLE_NOT_EXIST, 9, 400, "55000", "etcdserver: root user does not have root role")
ERR(ERR_USER_ALREADY_EXIST, 9, 400, "42710", "etcdserver: user name already exists")
ERR(ERR_USER_NOT_FOUND, 9, 400, "42704", "etcdserver: user name not found")
ERR(ERR_ROLE_ALREADY_EXIST, 9, 400, "42710", "etcdserver: role name already exists")
ERR(ERR_ROLE_NOT_FOUND, 9, 400, "42704", "etcdserver: role name not found")
ERR(ERR_ROLE_NOT_GRANTED, 9, 400, "0LP01", "etcdserver: role is not granted to the user")
ERR(ERR_PERMISSION_NOT_GRANTED, 9, 400, "0LP01", "etcdserver: permission is not granted to the role")
ERR(ERR_AUTH_NOT_ENABLED, 9, 400, "55000", "etcdserver: authentication is not enabled")
ERR(ERR_NOT_LEADER, 9, 400, "25006", "etcdserver: not leader")
ERR(ERR_NOT_CAPABLE, 9, 400, "55000", "etcdserver: not capable")
ERR(ERR_NOT_SUPPORTED_FOR_LEARNER, 9, 400, "55000", "etcdserver: rpc not supported for learner")
ERR(ERR_BAD_LEADER_TRANSFEREE, 9, 400, "22023", "etcdserver: bad leader transferee")
ERR(ERR_CLUSTER_VERSION_UNAVAILABLE, 9, 400, "55000", "etcdserver: cluster version not found during downgrade")
ERR(ERR_DOWNGRADE_IN_PROCESS, 9, 400, "55000", "etcdserver: cluster has a downgrade job in progress")
ERR(ERR_NO_INFLIGHT_DOWNGRADE, 9, 400, "55000", "etcdserver: no inflight downgrade job")
ERR(ERR_NO_PEERS, 9, 400, "0A000", "claviger: this release has no peers: a member's peer URLs cannot be changed")
/* 11 OutOfRange */
ERR(ERR_COMPACTED, 11, 400, "72000", "etcdserver: mvcc: required revision has been compacted")
ERR(ERR_FUTURE_REV, 11, 400, "22003", "etcdserver: mvcc: required revision is a future revision")
ERR(ERR_LEASE_TTL_TOO_LARGE, 11, 400, "22003", "etcdserver: too large lease TTL")
/* 14 Unavailable */
ERR(ERR_NO_LEADER, 14, 503, "57P03", "etcdserver: no leader")
ERR(ERR_LEADER_CHANGED, 14, 503, "40001", "etcdserver: leader changed")
ERR(ERR_STOPPED, 14, 503, "57P01", "etcdserver: server stopped")
ERR(ERR_TIMEOUT, 14, 503, "57014", "etcdserver: request timed out")
ERR(ERR_TIMEOUT_LEADER_FAIL, 14, 503, "57014", "etcdserver: request timed out, possibly due to previous leader failure")
ERR(ERR_TIMEOUT_CONNECTION_LOST, 14, 503, "57014", "etcdserver: request timed out, possibly due to connection lost")
ERR(ERR_TIMEOUT_WAIT_APPLIED, 14, 503, "57014", "etcdserver: request timed out, waiting for the applied index took too long")
ERR(ERR_UNHEALTHY, 14, 503, "57P03", "etcdserver: unhealthy cluster")
/* 15 DataLoss, 16 Unauthenticated */
ERR(ERR_CORRUPT, 15, 500, "XX001", "etcdserver: corrupt cluster")
ERR(ERR_INVALID_AUTH_TOKEN, 16, 401, "28000", "etcdserver: invalid auth token")
/* 1 Canceled, 4 DeadlineExceeded: gRPC's own words */
ERR(ERR_CANCELED, 1, 499, "57014", "context canceled")
ERR(ERR_DEADLINE_EXCEEDED, 4, 504, "57014", "context deadline exceeded")
ERR(ERR_WATCH_CANCELED, 1, 499, "57014", "etcdserver: watch canceled")
/* 2 Unknown, 12 Unimplemented, 13 Internal: mostly with their own text */
/* etcd knows the code 9 for it, which never reaches the wire (7.2) */
ERR(ERR_MEMBER_NOT_ENOUGH_STARTED, 2, 500, "55000", "etcdserver: re-configuration failed due to not enough started members")
ERR(ERR_UNKNOWN, 2, 500, "XX000", "unknown error")
ERR(ERR_UNKNOWN_METHOD, 2, 500, "22023", "etcdserver: unknown method")
ERR(ERR_LOCK_EXPIRED, 2, 500, "57P01", "mutex: session is expired")
ERR(ERR_CAMPAIGN_EXPIRED, 2, 500, "57P01", "election: session is expired")
ERR(ERR_ELECTION_NOT_LEADER, 2, 500, "55000", "election: not leader")
ERR(ERR_ELECTION_NO_LEADER, 2, 500, "02000", "election: no leader")
ERR(ERR_LEADER_NOT_GIVEN, 2, 500, "22023", "\"leader\" field must be provided")
ERR(ERR_BAD_HASHED_PASSWORD, 2, 500, "22023", "claviger: the hashed password is not an argon2id string")
ERR(ERR_PASSWORD_TOO_LONG, 3, 400, "22001", "claviger: the password is longer than 1024 bytes")
ERR(ERR_NAME_TOO_LONG, 3, 400, "22001", "claviger: the name is longer than 1024 bytes")
ERR(ERR_UNIMPLEMENTED, 12, 501, "0A000", "unknown method")
ERR(ERR_INTERNAL, 13, 500, "XX000", "internal error")
