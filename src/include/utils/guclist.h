/*
 * guclist.h
 *	  Every setting: one line each.
 *
 *	GUC_STRING(name, default, when, text)
 *	GUC_INT(name, default, min, max, unit, when, text)
 *	GUC_BOOL(name, default, when, text)
 *	GUC_GROUP(title)                 heading of the settings that follow
 *	GUC_ALIAS(spelling, name)        another spelling of our setting
 *	GUC_IGNORED(name, text)          etcd flags that we accept with a warning;
 *	GUC_IGNORED_BOOL(name, text)     the latter take no separate value
 *	GUC_REFUSED(name, text)          etcd flags that stop the start, because it
 *	GUC_REFUSED_BOOL(name, text)     would be dangerous to pass over them; empty,
 *	                                 off and false are no wish and are accepted
 *
 * name is etcd's flag with underscores; --flag-name, CLAVIGER_FLAG_NAME,
 * ETCD_FLAG_NAME and flag_name in claviger.conf are the same setting, in this
 * order of strength.  The variable is guc_<name>.  "when": GUC_START (only at
 * start) or GUC_RELOAD (also on reload).  The sample file and doc/settings.md
 * are made from this list.
 *
 * No include guard: expanded where needed.  The last six of the kinds above
 * may be left undefined by who does not want them.
 */
#ifndef GUC_GROUP
#define GUC_GROUP(title)
#endif
#ifndef GUC_ALIAS
#define GUC_ALIAS(spelling, name)
#endif
#ifndef GUC_IGNORED
#define GUC_IGNORED(name, text)
#endif
#ifndef GUC_IGNORED_BOOL
#define GUC_IGNORED_BOOL(name, text)
#endif
#ifndef GUC_REFUSED
#define GUC_REFUSED(name, text)
#endif
#ifndef GUC_REFUSED_BOOL
#define GUC_REFUSED_BOOL(name, text)
#endif

GUC_GROUP("Member")
GUC_STRING(name, "default", GUC_START, "Name of this member.")
GUC_STRING(data_dir, "", GUC_START, "Data directory; empty means NAME.claviger in the current directory.")
GUC_STRING(config_file, "", GUC_START, "Settings file in libconfig syntax; empty means claviger.conf in the data directory if it is there.")
GUC_STRING(listen_client_urls, "http://localhost:2379", GUC_START, "URLs to accept clients on, separated by commas (http, https, unix, unixs).")
GUC_STRING(listen_metrics_urls, "", GUC_START, "Further URLs that serve /metrics and the health pages only, separated by commas.")
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
GUC_INT(max_concurrent_streams, 1000, 1, 4294967295, "", GUC_RELOAD, "Greatest number of requests at one time on a connection.")
GUC_INT(max_connections, 1000, 1, 60000, "", GUC_START, "Greatest number of client connections.")
GUC_INT(shared_memory_size, 0, 0, INT64_MAX, "bytes", GUC_START, "Address space reserved for the store; 0 means four times the quota and 8 GiB more.")
GUC_INT(snapshot_max_age, 10000, 100, 3600000, "ms", GUC_RELOAD, "Longest time one request may read one snapshot of the store.")
GUC_INT(snapshot_min_rate, 1048576, 1, INT64_MAX, "bytes", GUC_RELOAD, "Bytes that the receiver of a snapshot must take each second once snapshot_max_age is over.")
GUC_STRING(auto_compaction_mode, "periodic", GUC_START, "What auto_compaction_retention counts: periodic (time) or revision.")
GUC_STRING(auto_compaction_retention, "0", GUC_START, "History that automatic compaction leaves: hours or a duration (5m), or a number of revisions; 0 means it is off.")
GUC_INT(auto_compaction_interval, 300000, 100, 86400000, "ms", GUC_START, "Time between automatic compactions in mode revision.")

GUC_GROUP("Log and tables")
GUC_INT(raft_log_segment_bytes, 16777216, 1048576, 1073741824, "bytes", GUC_START, "Size of a segment of the raft log.")
GUC_INT(checkpoint_bytes, 67108864, 1048576, INT64_MAX, "bytes", GUC_START, "Bytes written to the tables after which they are checkpointed.")
GUC_INT(checkpoint_interval, 30000, 100, 3600000, "ms", GUC_START, "Longest time between checkpoints.")
GUC_INT(lease_checkpoint_interval, 300000, 1000, 86400000, "ms", GUC_RELOAD, "Time without a keepalive after which the rest of a lease is noted in the log.")
GUC_INT(worker_restart_pause, 5000, 0, 60000, "ms", GUC_RELOAD, "Longest pause before a raft worker that ends again and again is started anew.")
GUC_INT(persist_queue_bytes, 67108864, 1048576, INT64_MAX, "bytes", GUC_START, "Bytes that may wait to be written to the tables.")
GUC_INT(snapshot_catchup_entries, 5000, 0, 100000000, "", GUC_START, "Log entries kept behind a checkpoint for slow members.")

GUC_GROUP("TLS of the client port")
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

GUC_GROUP("Authentication")
GUC_STRING(auth_token, "simple", GUC_START, "Token provider: simple, or empty for certificates only.")
GUC_INT(auth_token_ttl, 300, 1, 31536000, "s", GUC_START, "Lifetime of a simple token after its last use.")
GUC_INT(token_cache_size, 65536, 256, 16777216, "", GUC_START, "Tokens that the shared cache holds.")
GUC_INT(token_max_per_user, 10000, 1, 16777216, "", GUC_START, "Tokens that one user may hold.")
GUC_INT(argon2_memory, 19456, 8, 4194304, "KiB", GUC_RELOAD, "Memory of one password hash.")
GUC_INT(argon2_iterations, 2, 1, 1000, "", GUC_RELOAD, "Passes of one password hash.")
GUC_INT(argon2_parallelism, 1, 1, 64, "", GUC_RELOAD, "Lanes of one password hash.")
GUC_INT(auth_hash_slots, 0, 0, 1024, "", GUC_START, "Password hashes computed at one time on this machine; 0 means the number of cores.")
GUC_INT(auth_hash_queue, 1000, 1, 1000000, "", GUC_START, "Logins that may wait for a password hash.")

GUC_GROUP("HTTP/2")
GUC_INT(client_send_timeout, 30000, 100, 3600000, "ms", GUC_RELOAD, "Time after which a client that takes nothing of its answers is disconnected.")
GUC_INT(first_request_timeout, 60000, 0, 3600000, "ms", GUC_RELOAD, "Time for a new connection to make a request that succeeds, or may wait for a lock or events; 0 means any.")
GUC_INT(grpc_keepalive_min_time, 5000, 0, 86400000, "ms", GUC_RELOAD, "Shortest time a client may leave between pings.")
GUC_INT(grpc_keepalive_interval, 7200000, 1000, INT32_MAX, "ms", GUC_RELOAD, "Idle time after which the server pings a client.")
GUC_INT(grpc_keepalive_timeout, 20000, 100, 3600000, "ms", GUC_RELOAD, "Time after which an unanswered ping closes the connection.")
GUC_INT(watch_progress_notify_interval, 600000, 100, INT32_MAX, "ms", GUC_RELOAD, "Time without events after which a watch that asks for it is told how far it is.")
GUC_ALIAS(experimental_watch_progress_notify_interval, watch_progress_notify_interval)

GUC_GROUP("HTTP")
GUC_BOOL(enable_grpc_gateway, true, GUC_RELOAD, "Serve the API in JSON under /v3/.")
GUC_STRING(cors, "*", GUC_RELOAD, "Origins whose web pages may use the HTTP API, separated by commas; * means any, but not where clients show certificates.")
GUC_STRING(host_whitelist, "*", GUC_RELOAD, "Host names under which plain HTTP requests are answered, separated by commas; * means any.")
GUC_STRING(metrics, "basic", GUC_START, "Metrics: basic, or extensive for times of each RPC as well.")
GUC_INT(http_header_timeout, 10000, 100, 600000, "ms", GUC_RELOAD, "Time from the first byte of an HTTP/1.1 request to the end of its headers.")
GUC_INT(http_idle_timeout, 300000, 100, 86400000, "ms", GUC_RELOAD, "Idle time after which an HTTP/1.1 connection is closed, and a WebSocket pinged.")

GUC_GROUP("Logging")
GUC_STRING(log_level, "info", GUC_RELOAD, "Lowest level logged: debug, info, warning (or warn), error.")
GUC_STRING(log_outputs, "stderr", GUC_START, "Where log lines go: stderr, stdout or a file.")

/* ---- other spellings ---- */
GUC_ALIAS(experimental_snapshot_catchup_entries, snapshot_catchup_entries)
GUC_ALIAS(log_output, log_outputs)

/* ---- ignored: member ---- */
GUC_IGNORED(wal_dir, "The raft log lies in the data directory.")
GUC_IGNORED(snapshot_count, "The tables follow the log all the time; see checkpoint_bytes.")
GUC_IGNORED(max_wals, "Log segments are recycled as soon as nothing needs them.")
GUC_IGNORED(max_snapshots, "Log segments are recycled as soon as nothing needs them.")
GUC_IGNORED_BOOL(initial_election_tick_advance, "A single voter elects itself at once.")
GUC_IGNORED(listen_peer_urls, "This release has no peers.")
GUC_IGNORED(listen_client_http_urls, "HTTP and gRPC share listen_client_urls.")
GUC_IGNORED_BOOL(memory_mlock, "Memory is not locked.")
GUC_IGNORED_BOOL(experimental_memory_mlock, "Memory is not locked.")
GUC_IGNORED(backend_bbolt_freelist_type, "The tables are in Berkeley DB; see checkpoint_bytes and checkpoint_interval.")
GUC_IGNORED(experimental_backend_bbolt_freelist_type, "The tables are in Berkeley DB; see checkpoint_bytes and checkpoint_interval.")
GUC_IGNORED(backend_batch_interval, "The tables are in Berkeley DB; see checkpoint_bytes and checkpoint_interval.")
GUC_IGNORED(backend_batch_limit, "The tables are in Berkeley DB; see checkpoint_bytes and checkpoint_interval.")
GUC_IGNORED_BOOL(socket_reuse_port, "Listening sockets are opened once, by one process.")
GUC_IGNORED_BOOL(socket_reuse_address, "Listening sockets are opened once, by one process.")
GUC_IGNORED(raft_read_timeout, "This release has no peers.")
GUC_IGNORED(raft_write_timeout, "This release has no peers.")
GUC_IGNORED(feature_gates, "There are no feature gates.")

/* ---- ignored: clustering ---- */
GUC_REFUSED(discovery, "No cluster is discovered: the member would run alone, beside those it was to join.")
GUC_IGNORED(discovery_proxy, "Nothing is discovered: the member runs alone.")
GUC_REFUSED(discovery_token, "No cluster is discovered: the member would run alone, beside those it was to join.")
GUC_REFUSED(discovery_endpoints, "No cluster is discovered: the member would run alone, beside those it was to join.")
GUC_IGNORED(discovery_dial_timeout, "Nothing is discovered: the member runs alone.")
GUC_IGNORED(discovery_request_timeout, "Nothing is discovered: the member runs alone.")
GUC_IGNORED(discovery_keepalive_time, "Nothing is discovered: the member runs alone.")
GUC_IGNORED(discovery_keepalive_timeout, "Nothing is discovered: the member runs alone.")
GUC_IGNORED_BOOL(discovery_insecure_transport, "Nothing is discovered: the member runs alone.")
GUC_IGNORED_BOOL(discovery_insecure_skip_tls_verify, "Nothing is discovered: the member runs alone.")
GUC_IGNORED(discovery_cert, "Nothing is discovered: the member runs alone.")
GUC_IGNORED(discovery_key, "Nothing is discovered: the member runs alone.")
GUC_IGNORED(discovery_cacert, "Nothing is discovered: the member runs alone.")
GUC_IGNORED(discovery_user, "Nothing is discovered: the member runs alone.")
GUC_IGNORED(discovery_password, "Nothing is discovered: the member runs alone.")
GUC_IGNORED(discovery_fallback, "Nothing is discovered: the member runs alone.")
GUC_REFUSED(discovery_srv, "No cluster is discovered: the member would run alone, beside those it was to join.")
GUC_IGNORED(discovery_srv_name, "Nothing is discovered: the member runs alone.")
GUC_IGNORED_BOOL(strict_reconfig_check, "Unsafe reconfiguration is always refused.")
GUC_IGNORED_BOOL(pre_vote, "Always on.")
GUC_IGNORED(v2_deprecation, "There is no v2 store.")

/* ---- ignored: security ---- */
GUC_IGNORED(client_cert_file, "The server never dials its own client port.")
GUC_IGNORED(client_key_file, "The server never dials its own client port.")
GUC_REFUSED_BOOL(auto_tls, "Certificates are not made by the server: give cert_file and key_file (clav_ctl init --tls makes some).")
GUC_IGNORED(peer_cert_file, "This release has no peers.")
GUC_IGNORED(peer_key_file, "This release has no peers.")
GUC_IGNORED_BOOL(peer_client_cert_auth, "This release has no peers.")
GUC_IGNORED(peer_client_cert_file, "This release has no peers.")
GUC_IGNORED(peer_client_key_file, "This release has no peers.")
GUC_IGNORED(peer_trusted_ca_file, "This release has no peers.")
GUC_IGNORED(peer_crl_file, "This release has no peers.")
GUC_REFUSED_BOOL(peer_auto_tls, "This release has no peers, and makes no certificates.")
GUC_IGNORED(peer_cert_allowed_cn, "This release has no peers.")
GUC_IGNORED(peer_cert_allowed_hostname, "This release has no peers.")
GUC_IGNORED_BOOL(peer_skip_client_san_verification, "This release has no peers.")
GUC_IGNORED_BOOL(experimental_peer_skip_client_san_verification, "This release has no peers.")
GUC_IGNORED(self_signed_cert_validity, "Certificates are not made by the server.")

/* ---- ignored: auth ---- */
GUC_IGNORED(bcrypt_cost, "Passwords are hashed with argon2id; see argon2_memory and argon2_iterations.")

/* ---- ignored: monitoring ---- */
GUC_IGNORED_BOOL(enable_pprof, "Go profiling has no counterpart; see log_level.")
GUC_IGNORED_BOOL(debug, "Go profiling has no counterpart; see log_level.")
GUC_IGNORED(logger, "The log has one format.")
GUC_IGNORED(log_format, "The log has one format.")
GUC_IGNORED(log_package_levels, "The log has one format.")
GUC_IGNORED_BOOL(enable_log_rotation, "Log files are rotated by other programs.")
GUC_IGNORED(log_rotation_config_json, "Log files are rotated by other programs.")
GUC_IGNORED(warning_unary_request_duration, "Slow requests are not reported.")
GUC_IGNORED(experimental_warning_unary_request_duration, "Slow requests are not reported.")
GUC_IGNORED_BOOL(enable_distributed_tracing, "Traces are not sent.")
GUC_IGNORED(distributed_tracing_address, "Traces are not sent.")
GUC_IGNORED(distributed_tracing_service_name, "Traces are not sent.")
GUC_IGNORED(distributed_tracing_instance_id, "Traces are not sent.")
GUC_IGNORED(distributed_tracing_sampling_rate, "Traces are not sent.")
GUC_IGNORED_BOOL(experimental_enable_distributed_tracing, "Traces are not sent.")
GUC_IGNORED(experimental_distributed_tracing_address, "Traces are not sent.")
GUC_IGNORED(experimental_distributed_tracing_service_name, "Traces are not sent.")
GUC_IGNORED(experimental_distributed_tracing_instance_id, "Traces are not sent.")
GUC_IGNORED(experimental_distributed_tracing_sampling_rate, "Traces are not sent.")

/* ---- ignored: features and unsafe ---- */
GUC_IGNORED(corrupt_check_time, "This release has no peers to compare with.")
GUC_IGNORED(compact_hash_check_time, "This release has no peers to compare with.")
GUC_IGNORED(experimental_corrupt_check_time, "This release has no peers to compare with.")
GUC_IGNORED(experimental_compact_hash_check_time, "This release has no peers to compare with.")
GUC_IGNORED_BOOL(experimental_initial_corrupt_check, "This release has no peers to compare with.")
GUC_IGNORED_BOOL(experimental_compact_hash_check_enabled, "This release has no peers to compare with.")
GUC_IGNORED(compaction_batch_limit, "Compaction removes keys between batches.")
GUC_IGNORED(compaction_sleep_interval, "Compaction removes keys between batches.")
GUC_IGNORED(experimental_compaction_batch_limit, "Compaction removes keys between batches.")
GUC_IGNORED(experimental_compaction_sleep_interval, "Compaction removes keys between batches.")
GUC_IGNORED(warning_apply_duration, "Slow requests are not reported.")
GUC_IGNORED(experimental_warning_apply_duration, "Slow requests are not reported.")
GUC_IGNORED(bootstrap_defrag_threshold_megabytes, "There is nothing to defragment at start.")
GUC_IGNORED(experimental_bootstrap_defrag_threshold_megabytes, "There is nothing to defragment at start.")
GUC_IGNORED(max_learners, "This release has no peers.")
GUC_IGNORED(downgrade_check_time, "This release has no peers.")
GUC_IGNORED(experimental_max_learners, "This release has no peers.")
GUC_IGNORED(experimental_downgrade_check_time, "This release has no peers.")
GUC_IGNORED_BOOL(force_new_cluster, "The member runs alone.")
GUC_IGNORED_BOOL(unsafe_no_fsync, "The log is always flushed before an answer.")
GUC_IGNORED_BOOL(experimental_enable_lease_checkpoint, "What is left of leases is always noted; see lease_checkpoint_interval.")
GUC_IGNORED_BOOL(experimental_enable_lease_checkpoint_persist, "What is left of leases is always noted; see lease_checkpoint_interval.")
GUC_IGNORED_BOOL(experimental_stop_grpc_service_on_defrag, "There is no such mode.")
GUC_IGNORED_BOOL(experimental_txn_mode_write_with_shared_buffer, "There is no such mode.")
GUC_IGNORED_BOOL(enable_v2, "There is no v2 API and no proxy.")
GUC_IGNORED(experimental_enable_v2v3, "There is no v2 API and no proxy.")
GUC_REFUSED(proxy, "There is no proxy: the member would keep data of its own instead of passing requests on.")
GUC_IGNORED(proxy_failure_wait, "There is no v2 API and no proxy.")
GUC_IGNORED(proxy_refresh_interval, "There is no v2 API and no proxy.")
GUC_IGNORED(proxy_dial_timeout, "There is no v2 API and no proxy.")
GUC_IGNORED(proxy_write_timeout, "There is no v2 API and no proxy.")
GUC_IGNORED(proxy_read_timeout, "There is no v2 API and no proxy.")

/* ---- ignored: what etcd itself ignores ---- */
GUC_IGNORED_BOOL(cluster_active_size, "etcd ignores it too.")
GUC_IGNORED_BOOL(cluster_remove_delay, "etcd ignores it too.")
GUC_IGNORED_BOOL(cluster_sync_interval, "etcd ignores it too.")
GUC_IGNORED_BOOL(config, "etcd ignores it too.")
GUC_IGNORED_BOOL(force, "etcd ignores it too.")
GUC_IGNORED_BOOL(max_result_buffer, "etcd ignores it too.")
GUC_IGNORED_BOOL(max_retry_attempts, "etcd ignores it too.")
GUC_IGNORED_BOOL(peer_heartbeat_interval, "etcd ignores it too.")
GUC_IGNORED_BOOL(peer_election_timeout, "etcd ignores it too.")
GUC_IGNORED_BOOL(retry_interval, "etcd ignores it too.")
GUC_IGNORED_BOOL(snapshot, "etcd ignores it too.")
GUC_IGNORED_BOOL(v, "etcd ignores it too.")
GUC_IGNORED_BOOL(vv, "etcd ignores it too.")
GUC_IGNORED_BOOL(test.coverprofile, "etcd ignores it too.")
GUC_IGNORED_BOOL(test.outputdir, "etcd ignores it too.")

#undef GUC_GROUP
#undef GUC_ALIAS
#undef GUC_IGNORED
#undef GUC_IGNORED_BOOL
#undef GUC_REFUSED
#undef GUC_REFUSED_BOOL
