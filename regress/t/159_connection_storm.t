#!/usr/bin/python3
"""All clients come at one time, as after a restart: none is refused because of
the handshakes of the others.  Those that say nothing do not keep newcomers
waiting for ever."""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
from claviger import wait_until

TAP = claviger.Tap()
CLIENTS, HANDSHAKES, TIMEOUT = 300, 20, 30
REQUEST = b'GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'


def answer_of(sock):
    sock.settimeout(60 * claviger.SLOW)
    data = b''
    try:
        while more := sock.recv(65536):
            data += more
    except OSError as error:
        return str(error)
    return data.decode()


def ask(server):
    with socket.create_connection(('127.0.0.1', server.port)) as sock:
        sock.sendall(REQUEST)
        return answer_of(sock)


def refused(server):
    return claviger.metric(server, 'claviger_connections_refused_total')


def main():
    server = claviger.Server(args=['--max-handshakes=%d' % HANDSHAKES, '--max-connections=%d' % (CLIENTS + 50),
                                   '--handshake-timeout=%d' % (TIMEOUT * 1000)]).start()
    sockets = []
    for _ in range(CLIENTS):
        sock = socket.create_connection(('127.0.0.1', server.port))
        sock.sendall(REQUEST)
        sockets.append(sock)
    answers = [answer_of(sock) for sock in sockets]
    TAP.equal([a for a in answers if not a.startswith('HTTP/1.1 200 ')], [], '%d clients come at one time' % CLIENTS)
    TAP.equal(refused(server), 0, 'none is refused')

    silent = [socket.create_connection(('127.0.0.1', server.port)) for _ in range(HANDSHAKES)]
    # each has a backend that waits for its first words
    for sock in silent:
        claviger.backend_of(server, sock)
    began = time.time()
    answer = ask(server)
    TAP.ok('too many connections' in answer and time.time() - began > TIMEOUT / 10 - 1,
           'of those who say nothing, others wait for a tenth of the time that they have, and are told',
           (time.time() - began, answer))
    for sock in silent:
        sock.close()
    TAP.ok(wait_until(lambda: ask(server).startswith('HTTP/1.1 200 ')), 'and let in when they have gone')
    TAP.ok(refused(server) > 0, 'refusals are counted')
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
