#!/usr/bin/python3
"""The HTTP door of a running server: health, metrics, streams, CORS and Host,
and clients that are slow, rude or gone."""
import base64
import hashlib
import json
import os
import signal
import socket
import ssl
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import jsonclient
import promcheck
from claviger import b64, wait_until

SLOW = claviger.SLOW
TAP = claviger.Tap()


def ask(server, method, path, body=None, headers=None, **tls):
    connection = jsonclient.Connection(server, **tls)
    try:
        return connection.ask(method, path, body, headers)
    finally:
        connection.close()


def post(server, path, body, headers=None):
    status, _, data = ask(server, 'POST', path, body if isinstance(body, str) else json.dumps(body), headers)
    return status, json.loads(data)


def raw(server, data, seconds=20, close=False):
    """Send bytes; all that comes back until the end, or until seconds."""
    with socket.create_connection(('127.0.0.1', server.port)) as s:
        try:
            s.sendall(data)
            if close:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return read_all(s, seconds)


def read_all(s, seconds, until=None):
    got, end = b'', time.time() + seconds * SLOW
    while time.time() < end and not (until and until in got):
        s.settimeout(max(0.01, end - time.time()))
        try:
            piece = s.recv(65536)
        except (socket.timeout, ConnectionResetError):
            break
        if not piece:
            return got
        got += piece
    return got


def pages(server):
    status, headers, data = ask(server, 'GET', '/version')
    TAP.equal((status, sorted(json.loads(data))), (200, ['etcdcluster', 'etcdserver', 'storage']), '/version')
    TAP.equal(ask(server, 'GET', '/health')[2], b'{"health":"true","reason":""}', '/health')
    TAP.equal(ask(server, 'GET', '/health?serializable=true&exclude=NOSPACE')[0], 200, '/health, read locally')
    for path in ('/livez', '/readyz', '/livez/serializable_read', '/readyz/linearizable_read',
                 '/readyz/data_corruption', '/readyz/non_learner'):
        status, headers, data = ask(server, 'GET', path)
        TAP.equal((status, data, headers['X-Content-Type-Options']), (200, b'ok\n', 'nosniff'), path)
    TAP.equal(sorted(ask(server, 'GET', '/readyz?verbose&exclude=non_learner&exclude=nonsense')[2].split(b'\n')),
              [b'', b'[+]data_corruption ok', b'[+]linearizable_read ok', b'[+]serializable_read ok', b'ok'],
              '/readyz, each check')
    for path in ('/', '/livez/', '/livez/linearizable_read', '/health/x', '/v2/keys', '/debug/vars', '/v3'):
        TAP.equal(ask(server, 'GET', path)[::2], (404, b'404 page not found\n'), path + ' is not there')
    for path in ('/health', '/readyz', '/version', '/metrics'):
        status, headers, _ = ask(server, 'POST', path, '')
        TAP.equal((status, headers['Allow']), (405, 'GET'), 'POST ' + path)
    TAP.equal(ask(server, 'HEAD', '/version')[0], 405, 'HEAD as in etcd')
    status, body = post(server, '/v3/kv/nothing', {})
    TAP.equal((status, body), (404, {'error': 'Not Found', 'code': 5, 'message': 'Not Found'}), 'unknown path')
    status, headers, data = ask(server, 'GET', '/v3/kv/range')
    TAP.equal((status, headers['Allow'], json.loads(data)['code']), (405, 'POST', 12), 'GET of an RPC')
    status, headers, data = ask(server, 'OPTIONS', '/v3/kv/range', headers={'Origin': 'http://o'})
    TAP.equal((status, data, headers['Access-Control-Allow-Origin']), (200, b'', '*'), 'OPTIONS')


def errors(server):
    for name, body, status, code in (
            ('no JSON', 'x', 400, 3), ('half of it', '{"key":', 400, 3), ('a wrong type', '{"key":1}', 400, 3),
            ('an unknown enum', '{"sort_order":"UP"}', 400, 3), ('an empty key', '{}', 400, 3),
            ('a future revision', {'key': b64('a'), 'revision': '999999'}, 400, 11)):
        got, answer = post(server, '/v3/kv/range', body)
        TAP.equal((got, answer['code'], answer['error'] == answer['message']), (status, code, True), 'range: ' + name)
    got, answer = post(server, '/v3/lease/revoke', {'ID': 77})
    TAP.equal((got, answer['code']), (404, 5), 'lease not found')
    TAP.equal(post(server, '/v3/kv/range', {'key': b64('a')}, {'Grpc-Timeout': 'soon'})[0], 400, 'a bad timeout')
    TAP.equal(post(server, '/v3/kv/range', {'key': b64('a')}, {'Grpc-Timeout': '5S'})[0], 200, 'a good timeout')
    big = '{"key":"%s","value":"%s"}' % (b64('big'), b64(b'x' * 1500000))
    TAP.equal(post(server, '/v3/kv/put', big)[0], 200, 'a value of 1.5 MB')
    big = '{"key":"%s","value":"%s"}' % (b64('big'), b64(b'x' * 1700000))
    got, answer = post(server, '/v3/kv/put', big)
    TAP.equal((got, answer['message']), (400, 'etcdserver: request is too large'), 'one of 1.7 MB')
    big = '{"key":"%s","value":"%s"}' % (b64('big'), b64(b'x' * 4000000))
    reply = raw(server, b'POST /v3/kv/put HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s' % (len(big), big.encode()))
    TAP.ok(reply.startswith(b'HTTP/1.1 429 ') and b'Connection: close' in reply, 'one of 4 MB', reply[:300])
    TAP.equal(post(server, '/v3/kv/range', {'key': b64('big'), 'count_only': True})[1]['count'], '1', 'the first is kept')


def keep_alive_and_pipelining(server):
    connection = jsonclient.Connection(server)
    served_by = set()
    for i in range(20):
        connection.ask('POST', '/v3/kv/put', json.dumps({'key': b64('k%d' % i), 'value': b64('v')}))
        served_by.add(claviger.backend_of(server, connection.http.sock))
    TAP.equal(len(served_by), 1, 'twenty requests, one connection')
    connection.close()
    one = b'POST /v3/kv/range HTTP/1.1\r\nHost: h\r\nContent-Length: 15\r\n\r\n{"key":"%s"}' % b64('k1')[:4].encode()
    health = b'GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n'
    last = b'GET /version HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n'
    TAP.equal(len(one.split(b'\r\n\r\n')[1]), 14, 'the request is as long as it should be but one')
    one = one.replace(b'Content-Length: 15', b'Content-Length: 14')
    reply = raw(server, (one + health) * 100 + last)
    TAP.equal((reply.count(b'HTTP/1.1 200 OK'), reply.count(b'"kvs"'), reply.count(b'ok\n')), (201, 100, 100),
              'two hundred requests sent ahead are answered in order')


def streams(server):
    status, body = post(server, '/v3/lease/grant', {'TTL': '60', 'ID': 1234})
    TAP.equal((status, body['ID'], body['TTL']), (200, '1234', '60'), 'a lease')
    status, _, data = ask(server, 'POST', '/v3/lease/keepalive', '{"ID":1234} {"ID":"5678"}\n{"ID":1234}')
    lines = [json.loads(line)['result'] for line in data.splitlines()]
    TAP.equal((status, [(r['ID'], r.get('TTL')) for r in lines]),
              (200, [('1234', '60'), ('5678', None), ('1234', '60')]), 'three keepalives in one body')
    status, _, data = ask(server, 'POST', '/v3/lease/keepalive', '')
    TAP.equal((status, data), (200, b''), 'none at all')
    status, _, data = ask(server, 'POST', '/v3/lease/keepalive', '{"ID":1234}{"ID":')
    TAP.equal(json.loads(data.splitlines()[-1])['error']['code'], 3, 'and one that is cut off')

    # full duplex: an answer for each message as it comes
    with socket.create_connection(('127.0.0.1', server.port)) as s:
        s.sendall(b'POST /v3/lease/keepalive HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n')
        seen = 0
        for i in range(3):
            s.sendall(b'b\r\n{"ID":1234}\r\n')
            seen += read_all(s, 20, until=b'"TTL":"60"').count(b'"TTL":"60"')
        s.sendall(b'0\r\n\r\n')
        TAP.equal((seen, read_all(s, 20, until=b'0\r\n\r\n')[-5:]), (3, b'0\r\n\r\n'), 'message by message')

    connection = jsonclient.Connection(server)
    http = connection.open()
    http.request('POST', '/v3/maintenance/snapshot', '{}')
    answer = http.getresponse()
    data, final, remaining = b'', b'', []
    for line in answer:
        result = json.loads(line)['result']
        remaining.append(int(result.get('remaining_bytes', 0)))
        data, final = data + final, base64.b64decode(result.get('blob', ''))
    http.close()
    TAP.ok(hashlib.sha256(data).digest() == final and remaining == sorted(remaining, reverse=True),
           'a snapshot of %d bytes with its checksum' % len(data), remaining[:5])


def gone_clients(server):
    """Clients that leave in the middle leave nothing behind."""
    pids = []
    for i in range(20):
        s, pid = claviger.connect(server)
        pids.append(pid)
        if i % 4 == 0:
            s.sendall(b'POST /v3/maintenance/snapshot HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}')
        elif i % 4 == 1:
            s.sendall(b'POST /v3/kv/put HTTP/1.1\r\nHost: h\r\nContent-Length: 200\r\n\r\n{"key":"YQ==","val')
        elif i % 4 == 2:
            s.sendall(b'POST /v3/lease/keepalive HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n{"ID":1234}\r\n')
            s.recv(100)
        else:
            s.sendall(b'GET /readyz HT')
        if i % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        s.close()
    TAP.ok(claviger.are_gone(server, pids), 'twenty clients have gone, and their backends')
    TAP.equal(ask(server, 'GET', '/readyz')[0], 200, 'the server goes on')


def gone_while_waiting(server):
    """Who leaves while he waits for a lock, an election or events, waits no longer."""
    for lease in (21, 22, 23):
        post(server, '/v3/lease/grant', {'TTL': 60, 'ID': lease})
    post(server, '/v3/lock/lock', {'name': b64('gone'), 'lease': 21})
    keys = lambda: [base64.b64decode(kv['key']).decode() for kv in post(
        server, '/v3/kv/range', {'key': b64('gone/'), 'range_end': b64('gone0')})[1].get('kvs', [])]
    count = lambda name: promcheck.check(ask(server, 'GET', '/metrics')[2].decode())[1][(name, ())]
    waiting = []
    for path, body in (('/v3/lock/lock', {'name': b64('gone'), 'lease': 22}),
                       ('/v3/election/campaign', {'name': b64('gone'), 'lease': 23, 'value': b64('v')}),
                       ('/v3/election/observe', {'name': b64('nobody')}),
                       ('/v3/watch', {'create_request': {'key': b64('gone/')}})):
        text = json.dumps(body).encode()
        s = socket.create_connection(('127.0.0.1', server.port))
        s.sendall(b'POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s' % (path.encode(), len(text), text))
        waiting.append(s)
    TAP.ok(wait_until(lambda: keys() == ['gone/15', 'gone/16', 'gone/17'] and count('claviger_watch_ranges') >= 4),
           'a lock, an election, an observer and a watch wait', (keys(), count('claviger_watch_ranges')))
    for s in waiting:
        s.close()
    TAP.ok(wait_until(lambda: keys() == ['gone/15'] and count('claviger_watch_ranges') == 0),
           'their clients go, and their keys and watches with them', (keys(), count('claviger_watch_ranges')))
    for lease in (21, 22, 23):
        post(server, '/v3/lease/revoke', {'ID': lease})


def rude_clients():
    server = claviger.Server(args=['--http-header-timeout', '500ms', '--http-idle-timeout', '1s',
                                   '--client-send-timeout', '1s']).start()
    host = b'Host: h\r\n'
    for name, data, want in (
            ('both lengths', b'POST /v3/kv/put HTTP/1.1\r\n' + host + b'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400),
            ('a bad chunk', b'POST /v3/kv/put HTTP/1.1\r\n' + host + b'Transfer-Encoding: chunked\r\n\r\nzz\r\n', 400),
            ('an absolute URI', b'GET http://x/health HTTP/1.1\r\n' + host + b'\r\n', 400),
            ('no Host', b'GET /health HTTP/1.1\r\n\r\n', 400),
            ('two tokens', b'GET /health HTTP/1.1\r\n' + host + b'Authorization: a\r\nAuthorization: b\r\n\r\n', 400),
            ('a folded field', b'GET /health HTTP/1.1\r\n' + host + b'X: a\r\n b\r\n\r\n', 400),
            ('bare line ends', b'GET /health HTTP/1.1\nHost: h\n\n\r\n\r\n', 400),
            ('a huge header', b'GET /health HTTP/1.1\r\n' + host + b'X: ' + b'x' * 100000 + b'\r\n\r\n', 431),
            ('300 headers', b'GET /health HTTP/1.1\r\n' + host + b'X: x\r\n' * 300 + b'\r\n', 431),
            ('HTTP/3', b'GET /health HTTP/3.0\r\n' + host + b'\r\n', 505),
            ('a slow header', b'GET /health HTTP/1.1\r\nHo', 408)):
        reply = raw(server, data)
        TAP.ok(reply.startswith(b'HTTP/1.1 %d ' % want) and b'Connection: close\r\n' in reply,
               '%s: %d' % (name, want), reply[:200])
    # what was smuggled in behind is not run
    reply = raw(server, b'POST /v3/kv/put HTTP/1.1\r\n' + host + b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n'
                b'0\r\n\r\nGET /version HTTP/1.1\r\n' + host + b'\r\n')
    TAP.equal((reply.count(b'HTTP/1.1 '), b'etcdserver' in reply), (1, False), 'nothing is smuggled past')
    s, pid = claviger.connect(server)
    s.sendall(b'GET /version HTTP/1.1\r\n' + host + b'\r\n')
    # without the setting after five minutes
    TAP.ok(claviger.are_gone(server, [pid], 20) and b'etcdserver' in read_all(s, 20),
           'an idle connection ends after http-idle-timeout')
    s.close()
    # a snapshot that nobody reads
    for i in range(6):
        post(server, '/v3/kv/put', {'key': b64('big%d' % i), 'value': b64(os.urandom(1400000))})
    s, pid = claviger.connect(server, receive_buffer=4096)
    s.sendall(b'POST /v3/maintenance/snapshot HTTP/1.1\r\n' + host + b'Content-Length: 2\r\n\r\n{}')
    TAP.ok(claviger.are_gone(server, [pid], 20), 'who does not read is disconnected')
    s.close()
    TAP.equal(ask(server, 'GET', '/readyz')[0], 200, 'the server goes on')
    TAP.equal(server.stop(), 0, 'stops in order')


def health_is_real(server):
    """With the raft worker stopped, reads do not come back."""
    worker = claviger.children(server)[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        began = time.time()
        status, _, data = ask(server, 'GET', '/readyz')
        TAP.equal(status, 503, '/readyz with a raft worker that hangs')
        TAP.ok(b'[-]linearizable_read failed: context deadline exceeded\n' in data and b'[+]serializable_read ok\n' in data,
               'says which check failed', data)
        TAP.ok(4 < time.time() - began < 20 * SLOW, 'after its timeout')
        status, _, data = ask(server, 'GET', '/livez')
        TAP.equal((status, data), (200, b'ok\n'), '/livez does not ask it')
    finally:
        os.kill(worker, signal.SIGCONT)
    TAP.equal(ask(server, 'GET', '/health')[0], 200, 'and well again')
    post(server, '/v3/maintenance/alarm', {'action': 'ACTIVATE', 'alarm': 'NOSPACE'})
    status, headers, data = ask(server, 'GET', '/health')
    TAP.equal((status, data), (503, b'{"health":"false","reason":"ALARM NOSPACE"}\n'), '/health under an alarm')
    TAP.equal(ask(server, 'GET', '/health?exclude=NOSPACE')[0], 200, 'unless it is excluded')
    TAP.equal(ask(server, 'GET', '/readyz')[0], 200, 'which is no matter of /readyz')
    post(server, '/v3/maintenance/alarm', {'action': 'DEACTIVATE', 'alarm': 'NOSPACE'})
    TAP.equal(ask(server, 'GET', '/health')[0], 200, 'and well again')


def metrics():
    server = claviger.Server(args=['--metrics', 'extensive']).start()
    read = lambda: promcheck.check(ask(server, 'GET', '/metrics')[2].decode())
    complaints, samples = read()
    TAP.equal(complaints, [], 'the format of /metrics')
    for i in range(3):
        post(server, '/v3/kv/put', {'key': b64('secretkey%d' % i), 'value': b64('secretvalue')})
    post(server, '/v3/kv/deleterange', {'key': b64('secretkey0')})
    post(server, '/v3/kv/range', {})
    for name in ('root', 'secretuser'):
        post(server, '/v3/auth/user/add', {'name': name, 'password': 'secretpassword'})
    status, headers, data = ask(server, 'GET', '/metrics')
    TAP.equal(headers['Content-Type'], 'text/plain; version=0.0.4; charset=utf-8', 'its content type')
    TAP.ok(b'secret' not in data and b64('secret')[:6].encode() not in data, 'no names, keys or values in it')
    complaints, samples = promcheck.check(data.decode())
    TAP.equal(complaints, [], 'the format again')
    rpc = lambda service, method: (('grpc_method', method), ('grpc_service', service), ('grpc_type', 'unary'))
    kv = 'etcdserverpb.KV'
    get = lambda name, labels=(): samples.get((name, labels))
    TAP.equal((get('etcd_mvcc_put_total'), get('etcd_mvcc_delete_total')), (3, 1), 'puts and deletes')
    TAP.equal(get('grpc_server_handled_total', (('grpc_code', 'OK'),) + rpc(kv, 'Put')), 3, 'Put: OK')
    TAP.equal(get('grpc_server_handled_total', (('grpc_code', 'InvalidArgument'),) + rpc(kv, 'Range')), 1,
              'Range: InvalidArgument')
    TAP.equal((get('grpc_server_started_total', rpc(kv, 'Put')), get('grpc_server_msg_received_total', rpc(kv, 'Put')),
               get('grpc_server_msg_sent_total', rpc(kv, 'Put'))), (3, 3, 3), 'Put: started, received, sent')
    TAP.equal(get('grpc_server_handling_seconds_count', rpc(kv, 'Put')), 3, 'Put: times')
    TAP.ok(get('grpc_server_handling_seconds_sum', rpc(kv, 'Put')) > 0, 'Put: their sum')
    TAP.ok(get('etcd_disk_wal_fsync_duration_seconds_count') >= 6, 'syncs of the log')
    TAP.ok(get('etcd_disk_wal_fsync_duration_seconds_sum') > 0, 'their time')
    TAP.equal((get('etcd_server_has_leader'), get('etcd_server_is_leader'), get('etcd_server_is_learner')), (1, 1, 0),
              'leader')
    TAP.equal(get('etcd_debugging_mvcc_current_revision'), 5, 'revision')
    TAP.equal((get('claviger_users'), get('claviger_auth_enabled')), (2, 0), 'users are counted')
    TAP.ok(get('process_resident_memory_bytes') > 1e6 and get('process_cpu_seconds_total') >= 0 and
           abs(get('process_start_time_seconds') - time.time()) < 600 and get('process_open_fds') > 3, 'process_...')
    before = get('etcd_network_client_grpc_received_bytes_total')
    post(server, '/v3/kv/put', {'key': b64('k' * 1000)})
    _, samples = read()
    TAP.ok(1000 <= get('etcd_network_client_grpc_received_bytes_total') - before < 1100, 'bytes from clients')
    TAP.equal(server.stop(), 0, 'stops in order')


# what etcd's own dashboard and alert rules ask for, and those of others most often
DASHBOARD = '''
    etcd_server_has_leader etcd_server_is_leader etcd_server_leader_changes_seen_total
    etcd_server_proposals_failed_total etcd_server_proposals_pending etcd_server_proposals_committed_total
    etcd_server_proposals_applied_total etcd_server_quota_backend_bytes
    etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes
    etcd_mvcc_put_total etcd_mvcc_delete_total etcd_mvcc_txn_total etcd_mvcc_range_total
    etcd_debugging_mvcc_keys_total etcd_debugging_mvcc_watcher_total etcd_debugging_mvcc_watch_stream_total
    etcd_debugging_mvcc_events_total etcd_debugging_mvcc_total_put_size_in_bytes
    etcd_debugging_mvcc_current_revision etcd_debugging_mvcc_compact_revision
    etcd_debugging_lease_granted_total etcd_debugging_lease_revoked_total etcd_debugging_lease_renewed_total
    etcd_debugging_server_lease_expired_total
    etcd_disk_wal_fsync_duration_seconds_bucket etcd_disk_backend_commit_duration_seconds_bucket
    etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total
    grpc_server_started_total grpc_server_handled_total
    process_resident_memory_bytes process_cpu_seconds_total process_open_fds process_max_fds os_fd_used os_fd_limit
    '''.split()


def dashboards():
    server = claviger.Server().start()
    read = lambda: promcheck.check(ask(server, 'GET', '/metrics')[2].decode())[1]
    samples = read()
    TAP.equal([name for name in DASHBOARD if not any(name == n for n, _ in samples)], [],
              'what dashboards of etcd ask for is there')
    watch = (('grpc_method', 'Watch'), ('grpc_service', 'etcdserverpb.Watch'), ('grpc_type', 'bidi_stream'))
    streams = lambda s: (s[('grpc_server_started_total', watch)] -
                         s[('grpc_server_handled_total', (('grpc_code', 'OK'),) + watch)])
    TAP.equal(streams(samples), 0, 'active streams are a difference that is there from the beginning')
    put = lambda key: {'request_put': {'key': b64(key), 'value': b64('12345')}}
    delete = lambda key: {'request_delete_range': {'key': b64(key)}}
    get = lambda key: {'request_range': {'key': b64(key)}}
    post(server, '/v3/kv/put', {'key': b64('a'), 'value': b64('123')})
    post(server, '/v3/kv/put', {'key': b64('a'), 'ignore_value': True})
    post(server, '/v3/kv/txn', {'success': [put('b'), put('c'), get('b'), delete('none'),
                                            {'request_txn': {'success': [put('d'), get('d')]}}],
                                'failure': [put('x'), put('y')]})
    post(server, '/v3/kv/txn', {'success': [get('a'), get('b')], 'failure': [get('c')]})
    post(server, '/v3/kv/txn', {'success': [put('e'), {'request_put': {'key': b64('f'), 'lease': 99}}]})
    post(server, '/v3/kv/range', {'key': b64('a')})
    post(server, '/v3/kv/deleterange', {'key': b64('b'), 'range_end': b64('d')})
    post(server, '/v3/kv/deleterange', {'key': b64('b')})
    read_one = lambda name: read()[(name, ())]
    TAP.equal([read_one('etcd_mvcc_%s_total' % name) for name in ('put', 'delete', 'range', 'txn')], [5, 3, 5, 2],
              'puts, deletes and ranges of transactions count, of the branch that runs, and of none that fails')
    TAP.equal(read_one('etcd_debugging_mvcc_total_put_size_in_bytes'), 4 + 4 + 3 * 6, 'bytes that were put')
    TAP.equal(read_one('etcd_debugging_mvcc_keys_total'), 2, 'keys that are there: a and d')
    TAP.ok(0 < read_one('claviger_store_used_bytes') < 1e6, 'memory of the store', read_one('claviger_store_used_bytes'))
    TAP.equal(read_one('claviger_store_keys'), 4, 'deleted ones are in the index until they are compacted')
    stream = socket.create_connection(('127.0.0.1', server.port))
    stream.sendall(b'POST /v3/watch HTTP/1.1\r\nHost: h\r\nContent-Length: 33\r\n\r\n{"create_request":{"key":"YQ=="}}')
    stream.recv(100)
    TAP.equal((read_one('etcd_debugging_mvcc_watch_stream_total'), read_one('etcd_debugging_mvcc_watcher_total'),
               streams(read())), (1, 1, 1), 'a stream with a watch')
    stream.close()
    TAP.ok(wait_until(lambda: read_one('etcd_debugging_mvcc_watch_stream_total') == 0), 'that has ended')
    post(server, '/v3/lease/grant', {'TTL': 1, 'ID': 5})
    TAP.ok(wait_until(lambda: read_one('etcd_debugging_server_lease_expired_total') == 1), 'a lease that has run out')
    worker = claviger.children(server)[0]
    os.kill(worker, signal.SIGSTOP)
    TAP.equal(post(server, '/v3/kv/put', {'key': b64('a')}, {'Grpc-Timeout': '500m'})[0], 504, 'a put that nobody takes')
    os.kill(worker, signal.SIGCONT)
    TAP.equal(read_one('etcd_server_proposals_failed_total'), 1, 'is a proposal that has failed')
    server.stop()
    server.start()
    TAP.equal(read_one('etcd_debugging_mvcc_keys_total'), 2, 'as many keys after a restart')
    TAP.equal(server.stop(), 0, 'stops in order')


def cors_and_host():
    server = claviger.Server(args=['--cors', 'http://a.example,http://b.example', '--host-whitelist', 'localhost,::1',
                                   '--enable-grpc-gateway=false']).start()
    get = lambda host, origin: ask(server, 'GET', '/version', headers={'Host': host, 'Origin': origin})
    status, headers, _ = get('localhost:2379', 'http://b.example')
    TAP.equal((status, headers['Access-Control-Allow-Origin'], headers['Vary']), (200, 'http://b.example', 'Origin'),
              'a named origin')
    status, headers, _ = get('[::1]:2379', 'http://evil.example')
    TAP.equal((status, headers['Access-Control-Allow-Origin']), (200, None), 'one that is not named')
    TAP.equal(get('evil.example', 'http://a.example')[0], 421, 'a Host that is not in the list')
    TAP.equal(get('localhost.evil.example:2379', 'http://a.example')[0], 421, 'nor is a longer one')
    TAP.equal(ask(server, 'POST', '/v3/kv/range', '{}', {'Host': 'localhost'})[::2], (404, b'404 page not found\n'),
              'no JSON API with enable-grpc-gateway=false')
    TAP.equal(server.stop(), 0, 'stops in order')


def metrics_listener():
    port = claviger.free_port()
    server = claviger.Server(args=['--listen-metrics-urls', 'http://127.0.0.1:%d' % port]).start()
    main_port, server.port = server.port, port
    TAP.equal(promcheck.check(ask(server, 'GET', '/metrics')[2].decode())[0], [], '/metrics on its own listener')
    TAP.equal(ask(server, 'GET', '/readyz')[0], 200, 'and the health pages')
    TAP.equal((ask(server, 'POST', '/v3/kv/range', '{}')[0], ask(server, 'GET', '/version')[0]), (404, 404), 'and nothing else')
    TAP.equal(raw(server, b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0'), b'', 'no gRPC')
    server.port = main_port
    TAP.equal(ask(server, 'GET', '/metrics')[0], 200, 'the client port has it too')
    TAP.equal(server.stop(), 0, 'stops in order')


def tls_and_stop():
    directory = os.path.join(claviger._tmp, 'certs')
    os.mkdir(directory)
    ca = claviger.make_certificates(directory)
    path = lambda name: os.path.join(directory, name)
    server = claviger.Server(tls=True, args=['--cert-file', path('server.crt'), '--key-file', path('server.key'),
                                             '--max-connections', '3', '--host-whitelist', 'nobody.example']).start()
    TAP.equal(ask(server, 'GET', '/readyz', ca=ca)[0], 200, 'TLS; Host does not matter there')
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(['h2'])
    with socket.create_connection(('127.0.0.1', server.port)) as s:
        tls = context.wrap_socket(s, server_hostname='127.0.0.1')
        tls.sendall(b'GET /version HTTP/1.1\r\nHost: h\r\n\r\n')
        TAP.ok(b'HTTP/1.1 200' not in read_all(tls, 20), 'who agreed on h2 does not get HTTP/1.1')
    TAP.ok(wait_until(lambda: len(claviger.children(server)) == 1, 20), 'those before have gone')
    held = [jsonclient.Connection(server, ca=ca) for _ in range(3)]
    TAP.equal([one.ask('GET', '/version')[0] for one in held], [200] * 3, 'three connections')
    status, headers, data = ask(server, 'GET', '/health', ca=ca)
    TAP.equal((status, json.loads(data)['message'], headers['Connection']),
              (429, 'claviger: too many connections', 'close'), 'one too many is told')
    http = held[0].http
    http.request('POST', '/v3/lease/keepalive', iter([b'{"ID":1}']), {'Transfer-Encoding': 'chunked'}, encode_chunked=True)
    TAP.equal(http.getresponse().status, 200, 'a stream of TLS')
    server.process.send_signal(signal.SIGTERM)
    TAP.equal(server.process.wait(20 * SLOW), 0, 'stops in order with idle HTTP connections')
    server.process = None


def main():
    server = claviger.Server().start()
    pages(server)
    errors(server)
    keep_alive_and_pipelining(server)
    streams(server)
    gone_clients(server)
    gone_while_waiting(server)
    health_is_real(server)
    TAP.equal(server.stop(), 0, 'stops in order')
    metrics()
    dashboards()
    cors_and_host()
    metrics_listener()
    tls_and_stop()
    rude_clients()
    TAP.done()


main()
