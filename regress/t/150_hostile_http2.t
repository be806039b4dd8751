#!/usr/bin/python3
"""Clients that mean harm, over plain HTTP/2 and TLS, while an honest one works.

Each attack has a connection, and so a backend, of its own.  It must end with
the connection closed, or leave it with bounded memory and no busy loop; the
honest client, a process of its own, must be served all the time.

Environment: CLAVIGER_SLOW=N allows N times the time (sanitizers have their own
default, see claviger.py); CLAVIGER_HOSTILE=name,... runs these attacks only.
"""
import atexit
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'lib'))
import claviger
import grpc
from rawhttp2 import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
                      PUSH, RST, SETTINGS, WINDOW, Wire, field, frame, message, request_head, setting, unary)

SLOW = claviger.SLOW
# RssAnon of an attacked backend; sanitizers keep freed memory and red zones
MB = 1024 * 1024
MEMORY = 5 if claviger.SANITIZER else 1
SEND_TIMEOUT = 2.0
FIRST_REQUEST = 4.0
HANDSHAKE = 2.0
# for a machine that is busy; what is set by default comes later (30, 60 and 10 s),
# so that a setting that is not heeded is noticed
GRACE = 20.0
CALM, FLOW = 11, 3


# ---- an honest client: this file with the argument "honest" ----

def honest_main(path, port, ca):
    """Put and Range in turn; a line for each: when it began, seconds, by how
    much a sleep beside it came late (how starved the machine is), error."""
    protos = claviger.load_protos()
    e = protos['etcdserverpb']
    server = type('S', (), {'endpoint': '127.0.0.1:%s' % port})
    client = claviger.Client(server, ca=ca or None)
    # the handshake may need more than one try where its timeout is short
    grpc.channel_ready_future(client.channel).result(60 * SLOW)
    n = 0
    with open(path, 'a', buffering=1) as out:
        while True:
            began = time.time()
            try:
                client.call('etcdserverpb.KV/Put',
                            e.PutRequest(key=b'honest', value=b'%d' % n), e.PutResponse)
                got = client.call('etcdserverpb.KV/Range', e.RangeRequest(key=b'honest'), e.RangeResponse)
                text = '' if got.kvs[0].value == b'%d' % n else 'old value'
            except Exception as error:      # whatever it is, it is written down
                text = repr(error).replace('\n', ' ')
            took = time.time() - began
            slept = time.monotonic()
            time.sleep(0.02)
            out.write('%f %f %f %s\n' % (began, took, time.monotonic() - slept - 0.02, text))
            n += 1


if len(sys.argv) > 1 and sys.argv[1] == 'honest':
    honest_main(*sys.argv[2:5])

P = claviger.load_protos()
E = P['etcdserverpb']
TAP = claviger.Tap()


class Honest:
    def __init__(self, server, ca):
        self.path = tempfile.mktemp(prefix='honest-', dir=server.dir)
        open(self.path, 'w').close()
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), 'honest',
                                         self.path, str(server.port), ca or ''],
                                        stdin=subprocess.DEVNULL)
        # a test that ends by an exception must not leave it: prove would wait
        atexit.register(self.process.kill)
        if not claviger.wait_until(lambda: len(self.since(0)) >= 3, 90):
            raise RuntimeError('the honest client does not begin')

    def since(self, began):
        rows = [line.rstrip('\n').split(' ', 3) for line in open(self.path) if line.endswith('\n')]
        return [(float(r[0]), float(r[1]), float(r[2]), r[3]) for r in rows if float(r[0]) >= began]

    def stop(self):
        self.process.kill()
        self.process.wait()


# ---- attacks: each returns (what must hold, note) ----

def flood(wire, piece, count, **options):
    """Send piece(i) many times; stops when the connection is closed."""
    batch = 200
    for i in range(0, count, batch):
        if not wire.send(b''.join(piece(j) for j in range(i, i + batch)), **options):
            break
    return wire.ends()


def rapid_reset(wire):
    head = request_head()
    ended = flood(wire, lambda i: frame(HEADERS, END_HEADERS, 2 * i + 1, head) +
                  frame(RST, 0, 2 * i + 1, struct.pack('>I', 8)), 200000)
    return ended and wire.goaway() in (CALM, None), wire.goaway()


def made_you_reset(wire):
    """The server resets, for a fault of ours on each stream."""
    head = request_head()
    ended = flood(wire, lambda i: frame(HEADERS, END_HEADERS, 2 * i + 1, head) +
                  frame(WINDOW, 0, 2 * i + 1, struct.pack('>I', 0)), 200000)
    return ended, wire.goaway()


def continuation(wire):
    wire.send(frame(HEADERS, 0, 1, request_head()))
    return flood(wire, lambda i: frame(CONTINUATION, 0, 1, field(b'x', b'y' * 16000)), 2000), wire.goaway()


def continuation_small(wire):
    wire.send(frame(HEADERS, 0, 1, request_head()))
    return flood(wire, lambda i: frame(CONTINUATION, 0, 1, b''), 20000), wire.goaway()


def settings_flood(wire):
    return flood(wire, lambda i: frame(SETTINGS), 20000), wire.goaway()


def settings_values(wire):
    return flood(wire, lambda i: frame(SETTINGS, 0, 0, setting(4, 1 + i % 1000) + setting(1, 2 ** 31 + i)),
                 20000), wire.goaway()


def settings_table(wire):
    """A huge table announced must cost nothing."""
    wire.send(frame(SETTINGS, 0, 0, setting(1, 2 ** 32 - 1) + setting(6, 2 ** 32 - 1)))
    return wire.is_served(1), 'served'


def ping_flood(wire):
    return flood(wire, lambda i: frame(PING, 0, 0, b'12345678'), 20000), wire.goaway()


def ping_flood_unread(wire):
    """Told to go, he neither reads nor goes: must not keep a core busy."""
    flood_pieces = b''.join(frame(PING, 0, 0, b'12345678') for _ in range(100000))
    wire.send(flood_pieces, seconds=1.0, read=False)
    return wire.ends(SEND_TIMEOUT + GRACE, read=False), 'not closed'


def empty_data(wire):
    wire.send(frame(HEADERS, END_HEADERS, 1, request_head()))
    return flood(wire, lambda i: frame(DATA, 0, 1), 20000), wire.goaway()


def padded_data(wire):
    wire.send(frame(HEADERS, END_HEADERS, 1, request_head()))
    return flood(wire, lambda i: frame(DATA, 0x8, 1, b'\xff' + b'\0' * 255), 20000), wire.goaway()


def empty_headers(wire):
    wire.send(frame(HEADERS, END_HEADERS, 1, request_head()))
    return flood(wire, lambda i: frame(HEADERS, END_HEADERS, 1, b''), 20000), wire.goaway()


def priority(wire):
    return flood(wire, lambda i: frame(PRIORITY, 0, 2 * i + 1, struct.pack('>IB', 0, 1)), 20000), wire.goaway()


def window_flood(wire):
    return flood(wire, lambda i: frame(WINDOW, 0, 0, struct.pack('>I', 1)), 40000), wire.goaway()


def window_overflow(wire):
    wire.send(frame(WINDOW, 0, 0, struct.pack('>I', 2 ** 31 - 1)) * 2)
    return wire.ends() and wire.goaway() == FLOW, wire.goaway()


def window_overflow_stream(wire):
    wire.send(frame(HEADERS, END_HEADERS, 1, request_head()) +
              frame(WINDOW, 0, 1, struct.pack('>I', 2 ** 31 - 1)))
    codes = lambda: [int.from_bytes(f[3], 'big') for f in wire.frames if f[0] == RST and f[2] == 1]
    wire.sees(codes)
    # one reset, not more
    return wire.is_served(3) and codes() == [FLOW], codes()


def goaway_flood(wire):
    wire.send(unary(1, b'/etcdserverpb.KV/Range', b'\x0a\x06honest'))
    return flood(wire, lambda i: frame(GOAWAY, 0, 0, struct.pack('>II', 0, 0) + b'x' * 1000), 20000), wire.goaway()


def goaway_then_request(wire):
    wire.send(frame(GOAWAY, 0, 0, struct.pack('>II', 0, 0)))
    wire.is_served(1)                           # either way
    try:
        wire.socket.shutdown(socket.SHUT_WR)
    except OSError:                             # the server was first
        pass
    return wire.ends(), 'not closed'


def unknown_frames(wire):
    """Skipped as the protocol wants; they only cost what they weigh."""
    wire.send(b''.join(frame(200 + i % 50, i % 256, i, b'z' * 10) for i in range(100000)))
    return wire.is_served(1), 'not served'


BAD = [
    ('length beyond the limit', b'\xff\xff\xff' + bytes([DATA, 0]) + struct.pack('>I', 1)),
    ('DATA on stream 0', frame(DATA, 0, 0, b'x')),
    ('DATA on an idle stream', frame(DATA, 0, 9, b'x')),
    ('HEADERS on an even stream', frame(HEADERS, END_HEADERS, 2, request_head())),
    ('HEADERS on stream 0', frame(HEADERS, END_HEADERS, 0, request_head())),
    ('HEADERS that is no HPACK', frame(HEADERS, END_HEADERS, 1, b'\xff\xff\xff\xff\xff\xff')),
    ('CONTINUATION out of nowhere', frame(CONTINUATION, END_HEADERS, 1, b'')),
    ('frame between HEADERS and CONTINUATION', frame(HEADERS, 0, 1, request_head()) + frame(PING, 0, 0, b'8' * 8)),
    ('PUSH_PROMISE', frame(PUSH, END_HEADERS, 1, struct.pack('>I', 2))),
    ('RST_STREAM on an idle stream', frame(RST, 0, 9, struct.pack('>I', 8))),
    ('RST_STREAM of three bytes', frame(RST, 0, 1, b'abc')),
    ('SETTINGS of five bytes', frame(SETTINGS, 0, 0, b'abcde')),
    ('SETTINGS on a stream', frame(SETTINGS, 0, 1)),
    ('SETTINGS ACK with content', frame(SETTINGS, ACK, 0, setting(4, 1))),
    ('window of 2^31', frame(SETTINGS, 0, 0, setting(4, 2 ** 31))),
    ('frame size of 1', frame(SETTINGS, 0, 0, setting(5, 1))),
    ('33 settings at once', frame(SETTINGS, 0, 0, setting(4, 5) * 33)),
    ('PING of 7 bytes', frame(PING, 0, 0, b'7' * 7)),
    ('WINDOW_UPDATE of 0', frame(WINDOW, 0, 0, struct.pack('>I', 0))),
    ('padding longer than the frame', frame(HEADERS, END_HEADERS, 1, request_head()) + frame(DATA, 8, 1, b'\xffabc')),
    ('GOAWAY of 4 bytes', frame(GOAWAY, 0, 0, b'abcd')),
    ('another preface', PREFACE),
    ('anything', bytes(range(256)) * 4),
]


def header_bomb(wire):
    """4 kB in the dynamic table, named 60 000 times in one block: 240 MB."""
    wire.send(frame(HEADERS, END_HEADERS | END_STREAM, 1,
                    request_head(extra=field(b'x-bomb', b'b' * 3900, first=0x40))))
    for i in range(200):
        wire.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 3, request_head() + b'\xbe' * 15000))
        if wire.closed:
            break
    wire.receive(1.0)
    return True, ''


def giant_header(wire):
    value = b'v' * (4 * MB)
    block = request_head(extra=field(b'token', value))
    pieces = [block[i:i + 16384] for i in range(0, len(block), 16384)]
    wire.send(frame(HEADERS, 0, 1, pieces[0]) +
              b''.join(frame(CONTINUATION, 0, 1, p) for p in pieces[1:-1]) +
              frame(CONTINUATION, END_HEADERS, 1, pieces[-1]))
    return wire.ends(), wire.goaway()


def many_headers(wire):
    head = request_head(extra=b''.join(field(b'h%d' % i, b'') for i in range(1000)))
    wire.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, head))
    answered = wire.sees(lambda: any(f[0] == HEADERS and f[2] == 1 for f in wire.frames))
    return wire.closed or answered, wire.frames


def many_streams(wire):
    """Far more than max_concurrent_streams, none of which ends."""
    head = request_head()
    for i in range(0, 30000, 100):
        if not wire.send(b''.join(frame(HEADERS, END_HEADERS, 2 * j + 1, head) for j in range(i, i + 100))):
            break
    refused = lambda: sum(1 for f in wire.frames if f[0] == RST and int.from_bytes(f[3], 'big') in (7, 1))
    enough = wire.sees(lambda: refused() > 20000)
    return wire.closed or enough, 'refused %d' % refused()


def half_messages(wire):
    """A thousand streams with 64 kB of message each, and headers of 30 kB."""
    head = request_head(extra=field(b'token', b't' * 10000))
    body = message(b'x' * 65000)[:-10]
    for i in range(1000):
        wire.send(frame(HEADERS, END_HEADERS, 2 * i + 1, head) +
                  b''.join(frame(DATA, 0, 2 * i + 1, body[j:j + 16384]) for j in range(0, len(body), 16384)),
                  seconds=1.0)
        if wire.closed:
            break
    wire.receive(0.5)
    return wire.closed or wire.memory() > 0, ''


def announced(wire):
    """A thousand messages of 2 MB announced, nothing of them sent."""
    for i in range(1000):
        wire.send(frame(HEADERS, END_HEADERS, 2 * i + 1, request_head()) +
                  frame(DATA, 0, 2 * i + 1, b'\0' + struct.pack('>I', 2000000)))
    wire.receive(0.5)
    return True, ''


BIG = b'\x0a\x03big\x12\x03bih'         # Range of ["big", "bih"): 4 MB


def unread_socket(wire):
    """Asks for 1 000 times 4 MB with all windows open and never reads."""
    wire.send(frame(WINDOW, 0, 0, struct.pack('>I', 2 ** 30)) +
              b''.join(unary(2 * i + 1, b'/etcdserverpb.KV/Range', BIG) for i in range(1000)),
              seconds=2.0, read=False)
    wire.busy = quiet(wire)
    return wire.ends(SEND_TIMEOUT + GRACE, read=False), 'not closed'


def unread_then_flood(wire):
    """Nor may he keep a core busy once he has been told to go."""
    wire.send(frame(WINDOW, 0, 0, struct.pack('>I', 2 ** 30)) +
              b''.join(unary(2 * i + 1, b'/etcdserverpb.KV/Range', BIG) for i in range(10)), read=False)
    time.sleep(0.3)
    wire.send(frame(PING, 0, 0, b'12345678') * 500000, seconds=0.5, read=False)
    wire.busy = quiet(wire)
    return wire.ends(SEND_TIMEOUT + GRACE, read=False), 'not closed'


def zero_windows(wire):
    """Reads all, but gives no window for any answer."""
    for i in range(1000):
        wire.send(unary(2 * i + 1, b'/etcdserverpb.KV/Range', BIG), seconds=1.0)
        if wire.closed:
            break
    return wire.ends(SEND_TIMEOUT + GRACE), 'not closed'


def tiny_windows(wire):
    """A byte at a time on each of many streams: kept, but held to little."""
    for i in range(200):
        wire.send(unary(2 * i + 1, b'/etcdserverpb.KV/Range', BIG), seconds=1.0)
    for _ in range(10):
        wire.send(b''.join(frame(WINDOW, 0, 2 * i + 1, struct.pack('>I', 1)) for i in range(100)))
        wire.receive(SEND_TIMEOUT / 8)
    return True, ''


def idle(wire):
    """Says hello and nothing more."""
    return wire.ends(FIRST_REQUEST + GRACE), 'not closed'


def only_refused(wire):
    """Requests that fail do not keep the slot."""
    wire.send(unary(1, b'/no.Such/Thing', b''))
    end = time.time() + (FIRST_REQUEST + GRACE) * SLOW
    stream = 3
    while time.time() < end and not wire.ends(0.4):
        wire.send(unary(stream, b'/no.Such/Thing', b''))
        stream += 2
    return wire.closed or not wire.alive(), 'not closed'


def drip(wire, data, pause, seconds):
    """A byte at a time; how long was it borne?"""
    began = time.time()
    for i in range(len(data)):
        if not wire.send(data[i:i + 1]) or wire.ends(pause / SLOW) or time.time() - began > seconds * SLOW:
            break
    return wire.closed or not wire.alive(), '%.1f s' % (time.time() - began)


def loris_request(wire):
    """As any request that runs, it is given 10 s to come to its end."""
    return drip(wire, frame(HEADERS, END_HEADERS, 1, request_head()), 0.2, FIRST_REQUEST + 10 + GRACE)


# name, attack, MB, options: preface/settings for Wire, tls: run there too
ATTACKS = [
    ('rapid_reset', rapid_reset, 32, dict(tls=True)),
    ('made_you_reset', made_you_reset, 32, {}),
    ('continuation', continuation, 32, dict(tls=True)),
    ('continuation_small', continuation_small, 32, {}),
    ('settings_flood', settings_flood, 32, dict(tls=True)),
    ('settings_values', settings_values, 32, {}),
    ('settings_table', settings_table, 32, {}),
    ('ping_flood', ping_flood, 32, {}),
    ('ping_flood_unread', ping_flood_unread, 32, dict(tls=True)),
    ('empty_data', empty_data, 32, {}),
    ('padded_data', padded_data, 32, {}),
    ('empty_headers', empty_headers, 32, {}),
    ('priority', priority, 32, {}),
    ('window_flood', window_flood, 32, {}),
    ('window_overflow', window_overflow, 32, {}),
    ('window_overflow_stream', window_overflow_stream, 32, {}),
    ('goaway_flood', goaway_flood, 32, {}),
    ('goaway_then_request', goaway_then_request, 32, {}),
    ('unknown_frames', unknown_frames, 32, dict(tls=True)),
    ('header_bomb', header_bomb, 48, dict(tls=True)),
    ('giant_header', giant_header, 32, {}),
    ('many_headers', many_headers, 32, {}),
    ('many_streams', many_streams, 48, {}),
    ('half_messages', half_messages, 56, dict(tls=True)),
    ('announced', announced, 32, {}),
    ('unread_socket', unread_socket, 112,
     dict(tls=True, settings=setting(4, 2 ** 31 - 1), receive_buffer=8192)),
    ('unread_then_flood', unread_then_flood, 112,
     dict(tls=True, settings=setting(4, 2 ** 31 - 1), receive_buffer=8192)),
    ('zero_windows', zero_windows, 112, dict(tls=True, settings=setting(4, 0))),
    ('tiny_windows', tiny_windows, 112, dict(settings=setting(4, 1))),
    ('idle', idle, 32, dict(tls=True)),
    ('only_refused', only_refused, 32, {}),
    ('loris_request', loris_request, 32, {}),
]


class Target:
    def __init__(self, tls):
        args = ['--client-send-timeout', '%d' % (SEND_TIMEOUT * 1000),
                '--first-request-timeout', '%d' % (FIRST_REQUEST * 1000),
                '--handshake-timeout', '%d' % (HANDSHAKE * 1000), '--max-handshakes', '50']
        self.ca = None
        if tls:
            self.dir = tempfile.mkdtemp(prefix='certs-', dir=claviger._tmp)
            self.ca = claviger.make_certificates(self.dir)
            args += ['--cert-file', self.dir + '/server.crt', '--key-file', self.dir + '/server.key']
        self.server = claviger.Server(args, tls=tls).start()
        self.name = 'TLS' if tls else 'plain'
        client = claviger.Client(self.server, ca=self.ca)
        grpc.channel_ready_future(client.channel).result(60 * SLOW)
        for i in range(4):
            client.call('etcdserverpb.KV/Put', E.PutRequest(key=b'big%d' % i, value=b'b' * 1000000),
                        E.PutResponse)
        client.close()
        self.honest = Honest(self.server, self.ca)

    def check_honest(self, name, began):
        rows = self.honest.since(began)
        errors = [r[3] for r in rows if r[3]]
        worst = max((r[1] for r in rows), default=999)
        # where others take the machine, a mere sleep is late as well; a request
        # sleeps and wakes some ten times on its way
        late = max((r[2] for r in rows), default=0)
        TAP.ok(rows and not errors and worst < 5 * SLOW + 10 * late,
               '%s %s: the honest client is served (worst of %d: %.0f ms)' %
               (self.name, name, len(rows), worst * 1000), '\n'.join(errors[:5]) or 'a sleep was late by %.3f s' % late)

    def wait_honest(self, began, n=5):
        """so that there is something to look at after a short attack"""
        claviger.wait_until(lambda: len(self.honest.since(began)) >= n, 60, 0.05)


def quiet(wire):
    """CPU that the backend takes when nobody sends it anything, as a share; it
    has some time to come to the end of what it has got."""
    end = time.monotonic() + 30 * SLOW
    while True:
        before, began = wire.cpu(), time.monotonic()
        time.sleep(0.5)
        share = (wire.cpu() - before) / (time.monotonic() - began) if wire.alive() else 0.0
        if share < 0.5 or time.monotonic() > end:
            return share


def run_attack(target, name, attack, limit_mb, options):
    began = time.time()
    wire = Wire(target.server, target.ca, settings=options.get('settings', b''),
                receive_buffer=options.get('receive_buffer'))
    holds, note = attack(wire)
    share = max(wire.busy, quiet(wire))
    wire.memory()
    wire.close()
    TAP.ok(holds, '%s %s: ended or borne as it should be' % (target.name, name), note)
    TAP.ok(0 < wire.peak <= limit_mb * MB * MEMORY,
           '%s %s: memory of the backend is bounded (%.0f of %d MB)' %
           (target.name, name, wire.peak / MB, limit_mb * MEMORY))
    TAP.ok(share < 0.5, '%s %s: no busy loop afterwards (%.0f %% CPU)' % (target.name, name, share * 100))
    target.wait_honest(began)
    target.check_honest(name, began)


def run_bad_frames(target):
    began = time.time()
    open_still = []
    for name, data in BAD:
        wire = Wire(target.server, target.ca)
        wire.send(data)
        if name == 'length beyond the limit':
            wire.send(b'x' * 20000)
        # a stream error will do where the connection is not harmed
        if not wire.sees(lambda: wire.closed or any(f[0] == RST for f in wire.frames), 9):
            open_still.append(name)
        wire.close()
    TAP.equal(open_still, [], '%s: %d broken frames end connection or stream' % (target.name, len(BAD)))
    target.check_honest('broken frames', began)


def run_slow_hello(target):
    """No preface, half of one, one byte at a time; TLS: no ClientHello."""
    began = time.time()
    hello = PREFACE if target.ca is None else b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'r' * 400
    for name, data in (('silent', b''), ('half', hello[:10]), ('dripping', hello + b'\0' * 100)):
        wire = Wire(target.server, preface=False)
        if data and name != 'dripping':
            wire.send(data)
        if name == 'dripping':
            ended, note = drip(wire, data, 0.2, HANDSHAKE + 6)
        else:
            ended, note = wire.ends(HANDSHAKE + 6), ''
        TAP.ok(ended, '%s: a hello that is %s is not waited for' % (target.name, name), note)
        wire.close()
    for name, data in (('HTTP/1.1', b'GET / HTTP/1.1\r\n\r\n'), ('noise', os.urandom(3000)),
                       ('TLS alert', b'\x15\x03\x03\x00\x02\x02\x28'), ('long line', b'P' * 100000)):
        wire = Wire(target.server, preface=False)
        wire.send(data)
        TAP.ok(wire.ends(HANDSHAKE + 6), '%s: %s is sent away' % (target.name, name))
        wire.close()
    target.check_honest('slow hello', began)


def is_let_in(target):
    """Does a new client get an answer, if not at once then soon?"""
    end = time.time() + (HANDSHAKE + 40) * SLOW
    while time.time() < end:
        client = claviger.Client(target.server, ca=target.ca)
        try:
            client.call('etcdserverpb.KV/Range', E.RangeRequest(key=b'honest'), E.RangeResponse, timeout=10)
            return True
        except grpc.RpcError:       # refused for the moment
            time.sleep(0.2)
        finally:
            client.close()
    return False


def run_half_open(target):
    """More connections that say nothing than max_handshakes lets in."""
    began = time.time()
    sockets = []
    for _ in range(120):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(('127.0.0.1', target.server.port))
        sockets.append(s)
    time.sleep(0.5)
    TAP.ok(is_let_in(target), '%s: a new client is let in after %.1f s of 120 silent ones' %
           (target.name, time.time() - began))
    for s in sockets:
        s.close()
    for _ in range(300):
        socket.create_connection(('127.0.0.1', target.server.port)).close()
    target.wait_honest(time.time())
    target.check_honest('half-open connections', began)


WANTED = [n for n in os.environ.get('CLAVIGER_HOSTILE', '').split(',') if n]
for tls in (False, True):
    target = Target(tls)
    for name, attack, limit_mb, options in ATTACKS:
        if name in WANTED or (not WANTED and (not tls or options.get('tls'))):
            run_attack(target, name, attack, limit_mb, options)
    if not WANTED or 'other' in WANTED:
        if not tls:
            run_bad_frames(target)
        run_slow_hello(target)
        run_half_open(target)
    target.honest.stop()
    TAP.ok(is_let_in(target), '%s: served after all that' % target.name)
    TAP.equal(target.server.stop(), 0, '%s: the server stops cleanly' % target.name)
    log = open(target.server.log).read()
    TAP.ok('ended by signal' not in log and 'FATAL' not in log and 'PANIC' not in log,
           '%s: no backend has crashed' % target.name, log[-2000:])
TAP.done()
