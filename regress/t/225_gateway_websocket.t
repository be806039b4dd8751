#!/usr/bin/python3
"""The JSON API over WebSockets (RFC 6455): calls and streams, tokens, web pages of
other origins, and clients that are slow, rude or gone."""
import base64
import hashlib
import json
import os
import re
import socket
import ssl
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import jsonclient
from claviger import b64

SLOW = claviger.SLOW
TAP = claviger.Tap()
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MB = 1024 * 1024


class WebSocket:
    """A client's end.  Without a WebSocket status is that of the refusal."""

    def __init__(self, server, path, headers=(), token=None, tls=None, receive_bytes=None, version='13', key=None):
        self.rest, self.codes = b'', []
        sock, self.backend = claviger.connect(server, receive_bytes)
        self.sock = tls.wrap_socket(sock, server_hostname='127.0.0.1') if tls else sock
        key = key or b64(os.urandom(16))
        lines = ['GET %s HTTP/1.1' % path, 'Host: 127.0.0.1:%d' % server.port, 'Upgrade: websocket',
                 'Connection: Upgrade', 'Sec-WebSocket-Version: ' + version, 'Sec-WebSocket-Key: ' + key]
        if token is not None:
            lines.append('Sec-WebSocket-Protocol: Bearer, ' + token)
        lines += ['%s: %s' % pair for pair in headers]
        self.sock.sendall(('\r\n'.join(lines) + '\r\n\r\n').encode())
        while b'\r\n\r\n' not in self.rest:
            piece = self.sock.recv(4096)
            if not piece:
                break
            self.rest += piece
        head, _, self.rest = self.rest.partition(b'\r\n\r\n')
        status, *fields = head.decode().split('\r\n')
        self.status = int(status.split()[1])
        self.fields = {name.lower(): value for name, value in (field.split(': ', 1) for field in fields)}
        if self.status == 101:
            want = hashlib.sha1((key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').encode()).digest()
            assert self.fields['sec-websocket-accept'] == b64(want), self.fields
            assert self.fields.get('sec-websocket-protocol') == ('Bearer' if token is not None else None), self.fields

    def send(self, data, opcode=TEXT, fin=True, mask=True):
        if not isinstance(data, (bytes, str)):
            data = json.dumps(data)
        data = data.encode() if isinstance(data, str) else data
        n = len(data)
        head = bytes([opcode | (0x80 if fin else 0)])
        bit = 0x80 if mask else 0
        head += (bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack('>H', n) if n < 65536 else
                 bytes([bit | 127]) + struct.pack('>Q', n))
        if mask:
            four = os.urandom(4)
            stream = int.from_bytes(data, 'big') ^ int.from_bytes((four * (n // 4 + 1))[:n], 'big')
            head, data = head + four, stream.to_bytes(n, 'big')
        self.sock.sendall(head + data)
        return self

    def close(self, code=1000):
        return self.send(struct.pack('>H', code), CLOSE)

    def _read(self, n):
        while len(self.rest) < n:
            piece = self.sock.recv(max(65536, n - len(self.rest)))
            if not piece:
                raise EOFError
            self.rest += piece
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def frame(self):
        """(opcode, payload); None at the end of the connection."""
        try:
            first, n = self._read(2)
            assert first & 0x70 == 0 and first & 0x80 and not n & 0x80, (first, n)
            n = struct.unpack('>H', self._read(2))[0] if n == 126 else struct.unpack('>Q', self._read(8))[0] if n == 127 else n
            return first & 0xf, self._read(n)
        except (EOFError, ConnectionResetError, ssl.SSLError):
            return None

    def next(self):
        """The next message as JSON; None after the server's Close, whose code is kept."""
        while True:
            frame = self.frame()
            if frame is None:
                self.codes.append(None)
                return None
            opcode, payload = frame
            if opcode == CLOSE:
                self.codes.append(struct.unpack('>H', payload[:2])[0] if payload else 0)
                return None
            if opcode == TEXT:
                assert not payload.endswith(b'\n')
                return json.loads(payload)
            if opcode == PING:
                self.send(payload, PONG)

    def rest_of_it(self):
        """All messages to the server's Close, and its code; then ours, and the end."""
        messages = []
        while (message := self.next()) is not None:
            messages.append(message)
        if self.codes[-1] is not None:
            try:
                self.close()
                while self.frame() is not None:
                    pass
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                pass
        self.sock.close()
        return messages, self.codes[-1]

    def ask(self, message):
        """What a unary call answers, and the code of the Close."""
        messages, code = self.send(message).rest_of_it()
        return (messages[0] if len(messages) == 1 else messages), code


def post(server, path, body, token=None, tls=()):
    connection = jsonclient.Connection(server, *tls)
    status, _, data = connection.ask('POST', path, json.dumps(body), {'Authorization': token} if token else {})
    connection.close()
    return status, json.loads(data)


def must(server, path, body, token=None, tls=()):
    status, answer = post(server, path, body, token, tls)
    assert status == 200, (path, status, answer)
    return answer


def memory(pid):
    """Anonymous memory of a backend in bytes; 0 when it has gone."""
    try:
        return int(re.search(r'RssAnon:\s+(\d+)', open('/proc/%d/status' % pid).read()).group(1)) * 1024
    except (OSError, AttributeError):
        return 0


def handshakes(server):
    for path, status in (('/v3/kv/nothing', 404), ('/v3', 404), ('/v3/', 404), ('/nothing', 404), ('/version', 200),
                         ('/health', 200), ('/metrics', 200)):
        TAP.equal(WebSocket(server, path).status, status, '%s is no WebSocket: %d' % (path, status))
    for version in ('0', '8', '12', '14', 'x'):
        ws = WebSocket(server, '/v3/watch', version=version)
        TAP.equal((ws.status, ws.fields.get('sec-websocket-version'), ws.fields.get('upgrade')), (426, '13', 'websocket'),
                  'version %s: 426' % version)
    for key in ('x', b64(b'x' * 15), b64(b'x' * 17), 'A' * 24):
        TAP.equal(WebSocket(server, '/v3/watch', key=key).status, 400, 'the key %s: 400' % key)
    TAP.equal(WebSocket(server, '/v3/watch', headers=[('Content-Length', '2')]).status, 400, 'with a body: 400')
    TAP.equal(WebSocket(server, '/v3/watch', token='a, b').status, 400, 'two tokens: 400')
    connection = jsonclient.Connection(server)
    TAP.equal([connection.ask('GET', '/v3/watch', None, headers)[0] for headers in
               ({}, {'Upgrade': 'websocket'}, {'Connection': 'upgrade'}, {'Upgrade': 'h2c', 'Connection': 'upgrade'})],
              [405] * 4, 'without Upgrade as ever')
    connection.close()


def calls(server):
    for path in ('/v3/kv/put', '/v3beta/kv/put'):
        answer, code = WebSocket(server, path).ask({'key': b64('a'), 'value': b64('1')})
        TAP.ok(int(answer['header']['revision']) > 1 and code == 1000, 'Put: ' + path, str((answer, code)))
    answer, code = WebSocket(server, '/v3/kv/range').ask({'key': b64('a')})
    TAP.equal((answer['kvs'][0]['value'], code), (b64('1'), 1000), 'Range')
    ws = WebSocket(server, '/v3/kv/range')
    for i, part in enumerate(('{"key":', '"%s' % b64('a'), '', '"}')):
        ws.send(part, CONTINUATION if i else BINARY, fin=i == 3)
    TAP.equal(ws.rest_of_it()[0][0]['count'], '1', 'Range, in fragments and binary')
    ws = WebSocket(server, '/v3/kv/range').send('{"key":').send('"%s"}' % b64('a'))
    TAP.equal(ws.rest_of_it()[0][0]['count'], '1', 'Range, in two messages')
    answer, code = WebSocket(server, '/v3/kv/range').ask({})
    TAP.equal((answer, code), ({'error': 'etcdserver: key is not provided', 'message': 'etcdserver: key is not provided',
                                'code': 3}, 1000), 'a call that fails')
    answer, code = WebSocket(server, '/v3/kv/range').ask('[]')
    TAP.equal((answer['code'], code), (3, 1000), 'no object')
    ws = WebSocket(server, '/v3/kv/range').send('{"key":').close()
    TAP.equal((ws.next()['message'], ws.next(), ws.codes), ('unexpected EOF', None, [1000]), 'half an object')
    # nothing said, nothing done: as a POST this would be answered
    before = must(server, '/v3/kv/range', {'key': b64('a')})['header']['revision']
    ws = WebSocket(server, '/v3/kv/compaction').close(1001)
    TAP.equal((ws.next(), ws.codes, ws.frame()), (None, [1001], None), 'closed without a word')
    TAP.equal(must(server, '/v3/kv/range', {'key': b64('a')})['header']['revision'], before, 'does nothing')
    ws = WebSocket(server, '/v3/kv/put').send(b'hello', PING)
    TAP.equal(ws.frame(), (PONG, b'hello'), 'a ping is answered')
    ws.ask({'key': b64('a')})

    value = os.urandom(1500000)
    answer, code = WebSocket(server, '/v3/kv/put').ask({'key': b64('big'), 'value': b64(value)})
    TAP.equal(('header' in answer, code), (True, 1000), 'a value of 1.5 MB goes in')
    answer, code = WebSocket(server, '/v3/kv/range').ask({'key': b64('big')})
    TAP.ok(answer['kvs'][0]['value'] == b64(value), 'and comes out')
    answer, code = WebSocket(server, '/v3/kv/put').ask({'key': b64('big'), 'value': b64(b'x' * 1700000)})
    TAP.equal((answer['message'], code), ('etcdserver: request is too large', 1000), 'one of 1.7 MB')
    ws = WebSocket(server, '/v3/kv/put')
    try:
        ws.send({'key': b64('big'), 'value': b64(b'x' * 4000000)})
    except (BrokenPipeError, ConnectionResetError):
        pass
    TAP.equal(ws.next(), None, 'one of 4 MB')
    TAP.ok(ws.codes[0] in (1009, None), 'is too big', str(ws.codes))
    ws = WebSocket(server, '/v3/kv/put').send(b'', TEXT, fin=False)
    for _ in range(3):
        ws.send(b' ' * MB, CONTINUATION, fin=False)
    TAP.equal((ws.next(), ws.codes), (None, [1009]), 'so is one that grows in fragments')
    count = must(server, '/v3/kv/range', {'key': b64('big')})['kvs'][0]['version']
    TAP.equal(count, '1', 'only the first is kept')


def streams(server):
    ws = WebSocket(server, '/v3/watch').send({'create_request': {'key': b64('w'), 'range_end': b64('x')}})
    TAP.equal(ws.next()['result']['created'], True, 'Watch: created')
    for i in range(3):
        must(server, '/v3/kv/put', {'key': b64('w%d' % i), 'value': b64('v')})
        TAP.equal(ws.next()['result']['events'][0]['kv']['key'], b64('w%d' % i), 'Watch: an event')
    ws.send('{"create_request":{"key":"%s","watch_id":7}}{"progress_request":{}}' % b64('z'))
    TAP.equal(ws.next()['result'].get('watch_id'), '7', 'Watch: two requests in a message')
    ws.send({'cancel_request': {'watch_id': 7}})
    # the progress is told when all watches have come so far, which may be later
    answers = [ws.next()['result'] for _ in range(2)]
    TAP.equal(sorted((a['watch_id'], a.get('canceled', False)) for a in answers), [('-1', False), ('7', True)],
              'Watch: progress; canceled')
    began = time.time()
    messages, code = ws.close(4000).rest_of_it()
    TAP.equal((messages, code), ([], 4000), 'Watch: ends with the client')
    TAP.ok(time.time() - began < 4 * SLOW, 'Watch: at once')

    must(server, '/v3/lease/grant', {'TTL': 60, 'ID': 1234})
    ws = WebSocket(server, '/v3/lease/keepalive')
    for i in range(3):
        TAP.equal(ws.send({'ID': 1234}).next()['result']['TTL'], '60', 'LeaseKeepAlive, message by message')
    messages, code = ws.send('{"ID":1234}{"ID":5678}').close().rest_of_it()
    TAP.equal(([m['result'].get('TTL') for m in messages], code), (['60', None], 1000), 'LeaseKeepAlive answers all before the end')
    messages, code = WebSocket(server, '/v3/lease/keepalive').send('{"ID":1234}{"ID":').close().rest_of_it()
    TAP.equal((messages[-1]['error']['code'], code), (3, 1000), 'one that is cut off: an error, then the end')

    messages, code = WebSocket(server, '/v3/maintenance/snapshot').ask('{}')
    messages = messages if isinstance(messages, list) else [messages]
    blobs = [base64.b64decode(m['result'].get('blob', '')) for m in messages]
    TAP.ok(hashlib.sha256(b''.join(blobs[:-1])).digest() == blobs[-1] and code == 1000,
           'a snapshot of %d bytes with its checksum' % sum(map(len, blobs)))


def rude_clients(server):
    for name, send, code in (
            ('not masked', lambda ws: ws.send('{}', mask=False), 1002),
            ('a reserved bit', lambda ws: ws.send('{}', 0x41), 1002),
            ('an unknown opcode', lambda ws: ws.send('{}', 3), 1002),
            ('a fragment of nothing', lambda ws: ws.send('{}', CONTINUATION), 1002),
            ('a ping in fragments', lambda ws: ws.send('', PING, fin=False), 1002),
            ('no UTF-8', lambda ws: ws.send(b'{"key":"\xff"}'), 1007),
            ('a Close with a bad code', lambda ws: ws.close(1005), 1002)):
        ws = send(WebSocket(server, '/v3/watch'))
        messages, got = ws.rest_of_it()
        TAP.equal((messages, got), ([], code), '%s: %d' % (name, code))
    pids = []
    for i in range(20):
        ws = WebSocket(server, ('/v3/watch', '/v3/lease/keepalive', '/v3/kv/put', '/v3/maintenance/snapshot')[i % 4])
        if i % 4 == 0:
            ws.send({'create_request': {'key': b64('a')}}).next()
        elif i % 4 == 1:
            ws.sock.sendall(b'\x81\xfe\xff')
        elif i % 4 == 2:
            ws.send('{"key":"YQ==","val', fin=False)
        else:
            ws.send('{}')
        if i % 2:
            ws.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        ws.sock.close()
        pids.append(ws.backend)
    TAP.ok(claviger.are_gone(server, pids), 'twenty clients have gone, and their backends')
    ws = WebSocket(server, '/v3/watch')
    flood = b''.join(b'\x89\xfd\0\0\0\0' + b'p' * 125 for _ in range(8000))
    ws.sock.settimeout(5)
    try:
        for _ in range(50):
            ws.sock.sendall(flood)
    except OSError:
        pass
    TAP.ok(memory(ws.backend) < 32 * MB * SLOW, 'pings whose answers nobody reads: %d MB' % (memory(ws.backend) // MB))
    ws.sock.close()


def in_memory(pid, secret):
    """How often a backend still has it; None where we may not look."""
    found = 0
    try:
        with open('/proc/%d/maps' % pid) as maps, open('/proc/%d/mem' % pid, 'rb', 0) as mem:
            for line in maps:
                begin, end = (int(n, 16) for n in line.split()[0].split('-'))
                # sanitizers map terabytes
                if ' rw' in line and end - begin < 256 * MB:
                    mem.seek(begin)
                    try:
                        found += mem.read(end - begin).count(secret.encode())
                    except OSError:
                        pass
    except PermissionError:
        return None
    return found


def secrets(server):
    """What has been received and done with is not kept anywhere."""
    ws = WebSocket(server, '/v3/lease/keepalive')
    # a field that nobody knows, so that no later part of the house has it
    ws.send('{"ID":1,"unknown":"SecretOfMessage"}').next()
    TAP.ok(in_memory(ws.backend, 'SecretOfMessage') in (0, None), 'nothing is left of a message')
    ws.sock.close()
    connection = jsonclient.Connection(server)
    connection.ask('GET', '/version', None, {'Authorization': 'Bearer SecretOfHeader'})
    backend = claviger.backend_of(server, connection.http.sock)
    TAP.ok(in_memory(backend, 'SecretOfHeader') in (0, None), 'nor of a token')
    connection.ask('POST', '/v3/kv/range', json.dumps({'key': b64('a'), 'unknown': 'SecretOfBody'}), {})
    TAP.ok(in_memory(backend, 'SecretOfBody') in (0, None), 'nor of a body')
    connection.close()


def silence():
    server = claviger.Server(args=['--http-idle-timeout', '%ds' % (4 * SLOW), '--client-send-timeout', '2s']).start()
    ws = WebSocket(server, '/v3/watch').send({'create_request': {'key': b64('a'), 'range_end': b64('c')}})
    ws.next()
    for i in range(2):
        TAP.equal(ws.frame(), (PING, b''), 'who only listens is pinged')
        ws.send(b'', PONG)
    must(server, '/v3/kv/put', {'key': b64('a')})
    TAP.ok('events' in ws.next()['result'], 'and still there for an event')
    TAP.equal(ws.frame(), (PING, b''), 'who does not answer')
    TAP.equal(ws.frame(), None, 'is gone')
    TAP.ok(claviger.are_gone(server, [ws.backend]), 'and so is his backend')

    # a watch whose events nobody reads
    ws = WebSocket(server, '/v3/watch', receive_bytes=4096)
    ws.send({'create_request': {'key': b64('a'), 'range_end': b64('c')}}).next()
    most = 0
    for i in range(24):
        must(server, '/v3/kv/put', {'key': b64('b'), 'value': b64(os.urandom(MB))})
        most = max(most, memory(ws.backend))
    TAP.ok(claviger.are_gone(server, [ws.backend], 20), 'who does not read is disconnected')
    TAP.ok(0 < most < 16 * MB * SLOW, 'and held %d MB of 24' % (most // MB))
    ws.sock.close()
    TAP.equal(server.stop(), 0, 'stops in order')


def tokens():
    server = claviger.Server().start()
    for name in ('root', 'alice'):
        must(server, '/v3/auth/user/add', {'name': name, 'password': name})
        must(server, '/v3/auth/role/add', {'name': name})
        must(server, '/v3/auth/user/grant', {'user': name, 'role': name})
    grant = {'name': 'alice', 'perm': {'permType': 'READ', 'key': b64('a')}}
    must(server, '/v3/auth/role/grant', grant)
    must(server, '/v3/auth/enable', {})
    login = lambda name: must(server, '/v3/auth/authenticate', {'name': name, 'password': name})['token']
    root, alice = login('root'), login('alice')
    answer, code = WebSocket(server, '/v3/auth/authenticate').ask({'name': 'alice', 'password': 'alice'})
    TAP.equal(WebSocket(server, '/v3/kv/range', token=answer['token']).ask({'key': b64('a')})[1], 1000, 'a login')
    put = {'key': b64('a'), 'value': b64('1')}
    for name, headers, token, want in (
            ('by subprotocol', (), root, None),
            ('in Authorization', [('Authorization', 'Bearer ' + root)], None, None),
            ('without Bearer', [('Authorization', root)], None, None),
            ('none', (), None, 3),
            ('wrong', (), 'abcdefghijklmnop.1', 16),
            ('of one who may not', (), alice, 7),
            ('in a cookie', [('Cookie', 'token=' + root)], None, 3),
            ('a wrong one and a right cookie', [('Cookie', 'token=' + root)], 'abcdefghijklmnop.1', 16),
            ('in the query only', (), None, 3)):
        path = '/v3/kv/put' + ('?token=' + root if 'query' in name else '')
        answer, code = WebSocket(server, path, headers, token).ask(put)
        TAP.equal((answer.get('code'), code), (want, 1000), 'token %s: %s' % (name, want))
    TAP.equal(WebSocket(server, '/v3/kv/put', [('Authorization', root)], alice).status, 400, 'two of them: 400')
    messages, code = WebSocket(server, '/v3/watch', token='abcdefghijklmnop.1').send(
        {'create_request': {'key': b64('a')}}).close().rest_of_it()
    TAP.ok(code == 1000 and not any(m.get('result', {}).get('created') and not m['result'].get('canceled')
                                    for m in messages), 'Watch with a wrong token', str(messages))

    ws = WebSocket(server, '/v3/watch', token=alice).send({'create_request': {'key': b64('a')}})
    TAP.equal(ws.next()['result']['created'], True, 'Watch by one who may read')
    must(server, '/v3/kv/put', put, root)
    TAP.equal(ws.next()['result']['events'][0]['kv']['key'], b64('a'), 'an event')
    must(server, '/v3/auth/role/revoke', {'role': 'alice', 'key': b64('a')}, root)
    must(server, '/v3/kv/put', {'key': b64('a'), 'value': b64('secret')}, root)
    result = ws.next()['result']
    TAP.equal((result['canceled'], 'events' in result), (True, False), 'canceled when the right is revoked')
    TAP.ok('permission denied' in result['cancel_reason'], 'and told why', str(result))
    TAP.equal(ws.close().rest_of_it(), ([], 1000), 'the rest')
    TAP.ok(root not in open(server.log).read(), 'no token in the log')
    TAP.equal(server.stop(), 0, 'stops in order')


def origins():
    def opened(server, origin, tls=None, token=None):
        ws = WebSocket(server, '/v3/kv/range', [('Origin', origin)] if origin else [], token, tls)
        if ws.status != 101:
            return ws.status
        answer, _ = ws.ask({'key': b64('a')})
        return answer.get('code', 101)

    with tempfile.TemporaryDirectory() as directory:
        claviger.make_certificates(directory, 'root')
        paths = [os.path.join(directory, name) for name in ('ca.crt', 'root.crt', 'root.key')]
        context = ssl.create_default_context(cafile=paths[0])
        context.load_cert_chain(*paths[1:])
        server = claviger.Server(args=['--cert-file', directory + '/server.crt', '--key-file', directory + '/server.key',
                                       '--client-cert-auth', '--trusted-ca-file', paths[0]], tls=True).start()
        for path, body in (('user/add', {'name': 'root', 'password': 'r'}), ('role/add', {'name': 'root'}),
                           ('user/grant', {'user': 'root', 'role': 'root'}), ('enable', {})):
            must(server, '/v3/auth/' + path, body, tls=paths)
        own = server.url
        TAP.equal(opened(server, None, context), 101, 'a certificate, and no browser')
        TAP.equal(opened(server, own, context), 101, 'a certificate, and a page of our own')
        for origin in ('https://evil.example', 'null', own.replace('https', 'http'), own + '.evil.example', own + '0'):
            TAP.equal(opened(server, origin, context), 403, 'a certificate, and a page of ' + origin)
        token = must(server, '/v3/auth/authenticate', {'name': 'root', 'password': 'r'}, tls=paths)['token']
        TAP.equal(opened(server, 'https://evil.example', context, token), 403, 'with a token as well')
        TAP.equal(server.stop(), 0, 'stops in order')

        server = claviger.Server(args=['--cert-file', directory + '/server.crt', '--key-file', directory + '/server.key'],
                                 tls=True).start()
        TAP.equal(opened(server, 'https://some.example', ssl.create_default_context(cafile=paths[0])), 101,
                  'TLS without certificates')
        TAP.equal(server.stop(), 0, 'stops in order')
    server = claviger.Server().start()
    TAP.equal(opened(server, 'https://some.example'), 101, 'no certificates: a page has nothing that is not its own')
    TAP.equal(server.stop(), 0, 'stops in order')
    # what a page may not read of a POST's answer it may not read here
    server = claviger.Server(args=['--cors', 'https://good.example']).start()
    for origin, status in ((None, 101), ('https://good.example', 101), (server.url, 101), ('https://evil.example', 403),
                           ('null', 403)):
        TAP.equal(opened(server, origin), status, 'cors names one origin: %s' % origin)
    TAP.equal(server.stop(), 0, 'stops in order')
    server = claviger.Server(args=['--enable-grpc-gateway=false']).start()
    TAP.equal(WebSocket(server, '/v3/watch').status, 404, 'no WebSocket with enable-grpc-gateway=false')
    TAP.equal(server.stop(), 0, 'stops in order')
    server = claviger.Server(args=['--host-whitelist', 'localhost']).start()
    TAP.equal(WebSocket(server, '/v3/watch').status, 421, 'nor under a Host that is not in the list')
    TAP.equal(server.stop(), 0, 'stops in order')


def stopping():
    server = claviger.Server().start()
    watch = WebSocket(server, '/v3/watch').send({'create_request': {'key': b64('a')}})
    watch.next()
    silent = WebSocket(server, '/v3/kv/put')
    server.process.terminate()
    for name, ws in (('Watch', watch), ('a call that was not asked', silent)):
        messages, code = ws.rest_of_it()
        text = json.dumps(messages)
        TAP.ok(len(messages) == 1 and 'server stopped' in text and code == 1001, name + ': an error, and Close 1001',
               str((messages, code)))
    TAP.equal(server.process.wait(30 * SLOW), 0, 'stops in order')
    server.process = None


def main():
    server = claviger.Server().start()
    handshakes(server)
    calls(server)
    streams(server)
    rude_clients(server)
    secrets(server)
    TAP.equal(server.stop(), 0, 'stops in order')
    silence()
    tokens()
    origins()
    stopping()
    TAP.done()


main()
