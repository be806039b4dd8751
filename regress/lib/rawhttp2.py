"""HTTP/2 frames by hand, for tests of what no client library would send."""
import os
import select
import socket
import ssl
import struct
import time

import claviger
from claviger import SLOW

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'


def frame(kind, flags=0, stream=0, payload=b''):
    return struct.pack('>I', len(payload))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + payload


def integer(n, prefix):
    limit = (1 << prefix) - 1
    if n < limit:
        return bytes([n])
    out = [limit]
    n -= limit
    while n >= 128:
        out.append(n % 128 + 128)
        n //= 128
    return bytes(out + [n])


def field(name, value, first=0x00):
    """Literal, by default without indexing; no Huffman."""
    return bytes([first]) + integer(len(name), 7) + name + integer(len(value), 7) + value


def request_head(path=b'/etcdserverpb.KV/Range', extra=b''):
    return (field(b':method', b'POST') + field(b':scheme', b'http') + field(b':path', path) +
            field(b':authority', b'x') + field(b'content-type', b'application/grpc') +
            field(b'te', b'trailers') + extra)


def message(data):
    return b'\0' + struct.pack('>I', len(data)) + data


def setting(key, value):
    return struct.pack('>HI', key, value)


def unary(stream, path, data, head=None):
    body = message(data)
    pieces = [body[i:i + 16384] for i in range(0, len(body), 16384)]
    return (frame(HEADERS, END_HEADERS, stream, head or request_head(path)) +
            b''.join(frame(DATA, 0, stream, p) for p in pieces[:-1]) +
            frame(DATA, END_STREAM, stream, pieces[-1]))


class Wire:
    """A connection of the attacker; finds the backend that serves it, unless
    nothing is to be said yet: such a connection does not last."""

    def __init__(self, server, ca=None, preface=True, settings=b'', receive_buffer=None):
        self.pid = None
        self.unsent = b''
        self.buffer = b''
        self.closed = False
        self.peak = 0
        self.busy = 0.0             # see quiet()
        self.frames = []
        for attempt in range(5):
            try:
                self._connect(server, ca, receive_buffer)
                if preface:
                    self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
                    self.pid = claviger.backend_of(server, self.socket, 10)
                break
            except (OSError, RuntimeError):     # too slow for a short timeout
                self.socket.close()
                if attempt == 4:
                    raise
        self.socket.setblocking(False)

    def _connect(self, server, ca, receive_buffer):
        self.socket = claviger.open_connection(server, receive_buffer)
        if ca:
            context = ssl.create_default_context(cafile=ca)
            context.set_alpn_protocols(['h2'])
            context.check_hostname = False
            self.socket = context.wrap_socket(self.socket)

    def memory(self):
        """RssAnon in bytes; 0 when the backend has gone."""
        try:
            for line in open('/proc/%d/status' % self.pid):
                if line.startswith('RssAnon:'):
                    self.peak = max(self.peak, int(line.split()[1]) * 1024)
                    return int(line.split()[1]) * 1024
        except (OSError, TypeError):
            pass
        return 0

    def cpu(self):
        try:
            fields = open('/proc/%d/stat' % self.pid).read().rsplit(')', 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
        except (OSError, TypeError):
            return 0.0

    def alive(self):
        return self.pid is None or os.path.exists('/proc/%d' % self.pid)

    def send(self, data, seconds=10.0, read=True):
        """As much as is taken in that time, the rest before what is sent next:
        frames stay whole.  False once closed."""
        end = time.monotonic() + seconds * SLOW
        view = memoryview(self.unsent + data)
        while len(view) > 0 and not self.closed and time.monotonic() < end:
            self.memory()
            try:
                view = view[self.socket.send(view[:65536]):]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if read:
                    self.receive(0.0)
                select.select([self.socket] if read else [], [self.socket], [], 0.05)
            except OSError:
                self.closed = True
        self.unsent = bytes(view)
        return not self.closed

    def receive(self, seconds):
        """Frames that come within that time; stops at the end of the connection."""
        end = time.monotonic() + seconds
        while not self.closed:
            try:
                data = self.socket.recv(262144)
                if not data:
                    self.closed = True
                self.buffer += data
                while len(self.buffer) >= 9:
                    n = int.from_bytes(self.buffer[:3], 'big')
                    if len(self.buffer) < 9 + n:
                        break
                    self.frames.append((self.buffer[3], self.buffer[4],
                                        int.from_bytes(self.buffer[5:9], 'big'), self.buffer[9:9 + n]))
                    self.buffer = self.buffer[9 + n:]
                continue
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except OSError:
                self.closed = True
                break
            left = end - time.monotonic()
            if left <= 0:
                break
            self.memory()
            select.select([self.socket], [], [], min(left, 0.1))
        return self.frames

    def sees(self, condition, seconds=30.0):
        """Reads until it holds; False if the connection ends first."""
        end = time.monotonic() + seconds * SLOW
        while not condition() and not self.closed and time.monotonic() < end:
            self.receive(0.05)
        return bool(condition())

    def ends(self, seconds=9.0, read=True):
        """Is the connection closed by the server within that time?  (By default
        before a connection that is told to go would be ended anyway.)"""
        end = time.monotonic() + seconds * SLOW
        while time.monotonic() < end:
            self.memory()
            if read:
                self.receive(0.1)
            if self.closed or not self.alive():
                return True
            time.sleep(0.02)
        return False

    def goaway(self):
        codes = [int.from_bytes(f[3][4:8], 'big') for f in self.frames if f[0] == GOAWAY]
        return codes[-1] if codes else None

    def is_served(self, stream):
        """Does it still answer a request?"""
        n = len(self.frames)
        self.send(unary(stream, b'/etcdserverpb.KV/Range', b'\x0a\x06honest'))
        return self.sees(lambda: any(f[0] == HEADERS and f[2] == stream and f[1] & END_STREAM for f in self.frames[n:]))

    def close(self):
        self.socket.close()
