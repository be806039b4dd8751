/*
 * guclist.h
 *	  Every setting: one line each.
 *
 *	GUC_STRING(name, default, when, text)
 *	GUC_INT(name, default, min, max, unit, when, text)
 *	GUC_BOOL(name, default, when, text)
 *	GUC_IGNORED(name, text)          etcd flags that we accept with a warning
 *
 * name is etcd's flag with underscores; --flag-name, CLAVIGER_FLAG_NAME,
 * ETCD_FLAG_NAME and flag_name in claviger.conf are the same setting, in this
 * order of strength.  The variable is guc_<name>.  "when": GUC_START (only at
 * start) or GUC_RELOAD (also on reload).  The sample file and doc/settings.md
 * are made from this list.
 *
 * No include guard: expanded where needed.
 */
/* member */
GUC_STRING(name, "default", GUC_START, "Name of this member.")
GUC_STRING(data_dir, "", GUC_START, "Data directory; empty means NAME.claviger in the current directory.")
GUC_STRING(config_file, "", GUC_START, "Settings file in libconfig syntax; empty means claviger.conf in the data directory if it is there.")
GUC_STRING(listen_client_urls, "http://localhost:2379", GUC_START, "URLs to accept clients on, separated by commas (http, https, unix, unixs).")
GUC_STRING(advertise_client_urls, "http://localhost:2379", GUC_START, "URLs that member list tells clients, separated by commas.")
GUC_STRING(initial_advertise_peer_urls, "http://localhost:2380", GUC_START, "Peer URLs of this member, from which its id is computed.")
GUC_STRING(initial_cluster, "", GUC_START, "First members as name=url,...; empty means this member alone.")
GUC_STRING(initial_cluster_token, "etcd-cluster", GUC_START, "Token that tells clusters with the same URLs apart.")
GUC_STRING(initial_cluster_state, "new", GUC_START, "Whether the cluster is new or existing.")
GUC_INT(heartbeat_interval, 100, 1, 50000, "ms", GUC_START, "Time between heartbeats of the leader.")
GUC_INT(election_timeout, 1000, 10, 50000, "ms", GUC_START, "Time without a leader after which a member stands for election.")
GUC_INT(quota_backend_bytes, 0, INT64_MIN, INT64_MAX, "bytes", GUC_START, "Quota on stored bytes; 0 means 2 GiB, negative means none.")
GUC_INT(max_txn_ops, 128, 1, 100000, "", GUC_START, "Greatest number of operations in a transaction.")
GUC_INT(max_request_bytes, 1572864, 1024, 104857600, "bytes", GUC_START, "Greatest size of a request.")
GUC_INT(max_concurrent_streams, 1000, 1, 1000000, "", GUC_RELOAD, "Greatest number of requests at one time on a connection.")
GUC_INT(max_connections, 1000, 1, 60000, "", GUC_START, "Greatest number of client connections.")
GUC_INT(shared_memory_size, 0, 0, INT64_MAX, "bytes", GUC_START, "Address space reserved for the store; 0 means four times the quota and 8 GiB more.")
GUC_INT(snapshot_max_age, 10000, 100, 3600000, "ms", GUC_RELOAD, "Longest time one request may read one snapshot of the store.")
/* log and tables */
GUC_INT(raft_log_segment_bytes, 16777216, 1048576, 1073741824, "bytes", GUC_START, "Size of a segment of the raft log.")
GUC_INT(checkpoint_bytes, 67108864, 1048576, INT64_MAX, "bytes", GUC_START, "Bytes written to the tables after which they are checkpointed.")
GUC_INT(checkpoint_interval, 30000, 100, 3600000, "ms", GUC_START, "Longest time between checkpoints.")
GUC_INT(persist_queue_bytes, 67108864, 1048576, INT64_MAX, "bytes", GUC_START, "Bytes that may wait to be written to the tables.")
GUC_INT(snapshot_catchup_entries, 5000, 0, 100000000, "", GUC_START, "Log entries kept behind a checkpoint for slow members.")
/* TLS of the client port */
GUC_STRING(cert_file, "", GUC_RELOAD, "Certificate of the client port (PEM, with its chain).")
GUC_STRING(key_file, "", GUC_RELOAD, "Private key of the client port (PEM).")
GUC_BOOL(client_cert_auth, false, GUC_RELOAD, "Demand client certificates and take their CN as user name.")
GUC_STRING(trusted_ca_file, "", GUC_RELOAD, "CA certificates that client certificates are checked against.")
GUC_STRING(client_crl_file, "", GUC_RELOAD, "Revocation list for client certificates.")
GUC_STRING(client_cert_allowed_hostname, "", GUC_RELOAD, "Subject alternative names that client certificates must have, separated by commas.")
GUC_STRING(cipher_suites, "", GUC_RELOAD, "Cipher suites, separated by commas; empty means OpenSSL's choice.")
GUC_STRING(tls_min_version, "TLS1.2", GUC_RELOAD, "Lowest TLS version: TLS1.2 or TLS1.3.")
GUC_STRING(tls_max_version, "", GUC_RELOAD, "Highest TLS version; empty means no limit.")
GUC_INT(handshake_timeout, 10000, 100, 600000, "ms", GUC_RELOAD, "Time for TLS handshake and first bytes of a new connection.")
GUC_INT(max_handshakes, 200, 1, 60000, "", GUC_RELOAD, "Greatest number of connections that have not finished their handshake.")
/* auth */
GUC_STRING(auth_token, "simple", GUC_START, "Token provider: simple, or empty for certificates only.")
GUC_INT(auth_token_ttl, 300, 1, 31536000, "s", GUC_START, "Lifetime of a simple token after its last use.")
GUC_INT(token_cache_size, 65536, 256, 16777216, "", GUC_START, "Tokens that the shared cache holds.")
GUC_INT(token_max_per_user, 10000, 1, 16777216, "", GUC_START, "Tokens that one user may hold.")
GUC_INT(argon2_memory, 19456, 8, 4194304, "KiB", GUC_RELOAD, "Memory of one password hash.")
GUC_INT(argon2_iterations, 2, 1, 1000, "", GUC_RELOAD, "Passes of one password hash.")
GUC_INT(argon2_parallelism, 1, 1, 64, "", GUC_RELOAD, "Lanes of one password hash.")
GUC_INT(auth_hash_slots, 0, 0, 1024, "", GUC_START, "Password hashes computed at one time on this machine; 0 means the number of cores.")
GUC_INT(auth_hash_queue, 1000, 1, 1000000, "", GUC_START, "Logins that may wait for a password hash.")
/* HTTP/2 */
GUC_INT(grpc_keepalive_min_time, 5000, 0, 86400000, "ms", GUC_RELOAD, "Shortest time a client may leave between pings.")
GUC_INT(grpc_keepalive_interval, 7200000, 1000, INT32_MAX, "ms", GUC_RELOAD, "Idle time after which the server pings a client.")
GUC_INT(grpc_keepalive_timeout, 20000, 100, 3600000, "ms", GUC_RELOAD, "Time after which an unanswered ping closes the connection.")
/* log */
GUC_STRING(log_level, "info", GUC_RELOAD, "Lowest level logged: debug, info, warning, error.")
GUC_STRING(log_outputs, "stderr", GUC_START, "Where log lines go: stderr, stdout or a file.")
