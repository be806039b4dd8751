#!/usr/bin/python3
"""JSON and the plain pages over HTTP/2, beside gRPC on the same port: with
prior knowledge and by ALPN, with tokens and with a certificate's name."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
from claviger import b64

TAP = claviger.Tap()
P = claviger.load_protos()
E = P['etcdserverpb']


class Curl:
    def __init__(self, server, *options):
        self.server, self.options = server, list(options)

    def run(self, *args, data=None):
        command = ['curl', '-sS', '-m', str(int(20 * claviger.SLOW)), *self.options, *args]
        if data is not None:
            command += ['--data-binary', '@-']
        return subprocess.run(command, input=data, capture_output=True)

    def ask(self, path, body=None, *args):
        """(HTTP version, status, decoded body)"""
        done = self.run('-w', '\n%{http_version} %{http_code}', *args, self.server.url + path,
                        data=None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode()))
        text, _, end = done.stdout.rpartition(b'\n')
        version, _, status = end.decode().partition(' ')
        try:
            return version, int(status), json.loads(text)
        except ValueError:
            return version, int(status or 0), text


def plain():
    server = claviger.Server(args=['--client-send-timeout', '2s']).start()
    curl = Curl(server, '--http2-prior-knowledge')
    TAP.equal(curl.ask('/health'), ('2', 200, {'health': 'true', 'reason': ''}), '/health')
    TAP.equal(curl.ask('/readyz'), ('2', 200, b'ok\n'), '/readyz')
    TAP.equal(curl.ask('/nothing')[:2], ('2', 404), 'unknown page')
    TAP.equal(curl.ask('/v3/nothing', {})[2]['code'], 5, 'unknown path')
    TAP.equal(curl.ask('/v3/kv/put', {'key': b64('a'), 'value': b64('b')})[:2], ('2', 200), 'put')
    TAP.equal(curl.ask('/v3/kv/range', {'key': b64('a')})[2]['kvs'][0]['value'], b64('b'), 'range')
    TAP.equal(curl.ask('/v3/kv/range', {})[1:], (400, {'error': 'etcdserver: key is not provided', 'code': 3,
                                                       'message': 'etcdserver: key is not provided'}), 'an error')
    value = os.urandom(1500000)
    TAP.equal(curl.ask('/v3/kv/put', {'key': b64('big'), 'value': b64(value)})[1], 200, '1.5 MB')
    TAP.ok(curl.ask('/v3/kv/range', {'key': b64('big')})[2]['kvs'][0]['value'] == b64(value), 'and back')
    TAP.equal(curl.ask('/v3/kv/put', {'key': b64('big'), 'value': b64(b'x' * 4000000)})[1], 429, '4 MB is too large')
    TAP.equal(curl.ask('/version', None, '-X', 'POST')[:2], ('2', 405), 'POST /version')
    TAP.equal(curl.ask('/v3/kv/put', None, '-X', 'OPTIONS')[:2], ('2', 200), 'OPTIONS')
    curl.ask('/v3/lease/grant', {'ID': 7, 'TTL': 60})
    lines = curl.run(server.url + '/v3/lease/keepalive', data=b'{"ID":7}{"ID":"7"} {"ID":8}').stdout.splitlines()
    TAP.equal([json.loads(line)['result'].get('TTL') for line in lines], ['60', '60', None], 'keepalives')
    lines = curl.run(server.url + '/v3/maintenance/snapshot', data=b'{}').stdout.splitlines()
    TAP.ok(len(lines) > 40 and all('result' in json.loads(line) for line in lines), 'a snapshot')
    # many at one time on one connection
    body = os.path.join(claviger._tmp, 'range.json')
    with open(body, 'w') as file:
        file.write('{"key":"YQ=="}')
    done = subprocess.run(['h2load', '-n', '500', '-c', '2', '-m', '50', '-d', body, server.url + '/v3/kv/range'],
                          capture_output=True, text=True, timeout=60 * claviger.SLOW)
    TAP.ok('status codes: 500 2xx, 0 3xx, 0 4xx, 0 5xx' in done.stdout, 'many requests side by side', done.stdout)
    # gRPC beside it
    client = claviger.Client(server)
    TAP.equal(client.call('etcdserverpb.KV/Range', E.RangeRequest(key=b'a'), E.RangeResponse).count, 1, 'gRPC')
    client.close()
    # one who leaves in the middle
    TAP.ok(claviger.wait_until(lambda: len(claviger.children(server)) == 1, 20), 'those before have gone')
    leaves = subprocess.Popen(['curl', '-sS', '--no-buffer', *curl.options, '--limit-rate', '1000', '--data-binary', '{}',
                               server.url + '/v3/maintenance/snapshot'], stdout=subprocess.PIPE)
    TAP.ok(leaves.stdout.read(100), 'a client gets the beginning of a snapshot')
    _, backend = claviger.children(server)
    leaves.kill()
    leaves.wait()
    TAP.ok(claviger.are_gone(server, [backend]), 'and leaves in the middle: nothing is left behind')
    TAP.equal(server.stop(), 0, 'stops in order')


def tls():
    directory = os.path.join(claviger._tmp, 'certs')
    os.mkdir(directory)
    path = lambda name: os.path.join(directory, name)
    ca = claviger.make_certificates(directory, 'root', 'alice', 'nobody-known')
    server = claviger.Server(tls=True, args=['--cert-file', path('server.crt'), '--key-file', path('server.key'),
                                             '--trusted-ca-file', ca, '--client-cert-auth']).start()
    as_who = lambda cn, *more: Curl(server, '--http2', '--cacert', ca, '--cert', path(cn + '.crt'), '--key', path(cn + '.key'), *more)
    nobody = as_who('nobody-known')
    TAP.equal(nobody.ask('/health')[:2], ('2', 200), 'ALPN h2')
    TAP.equal(as_who('nobody-known', '--http1.1').ask('/health')[:2], ('1.1', 200), 'ALPN http/1.1')
    for call, body in (('user/add', {'name': 'root', 'password': 'r'}), ('user/add', {'name': 'alice', 'password': 'a'}),
                       ('role/add', {'name': 'root'}), ('role/add', {'name': 'r'}),
                       ('role/grant', {'name': 'r', 'perm': {'permType': 'READWRITE', 'key': b64('a')}}),
                       ('user/grant', {'user': 'root', 'role': 'root'}), ('user/grant', {'user': 'alice', 'role': 'r'}),
                       ('enable', {})):
        TAP.equal(nobody.ask('/v3/auth/' + call, body)[1], 200, call)
    put = lambda key: ('/v3/kv/put', {'key': b64(key), 'value': b64('v')})
    alice = as_who('alice')
    TAP.equal(alice.ask(*put('a'))[:2], ('2', 200), "the certificate's name counts")
    TAP.equal(alice.ask(*put('b'))[1:], (403, {'error': 'etcdserver: permission denied', 'code': 7,
                                               'message': 'etcdserver: permission denied'}), 'and no more than it may')
    TAP.equal(nobody.ask(*put('a'))[2]['message'], 'etcdserver: user name is empty', 'a name that is no user is nobody')
    token = nobody.ask('/v3/auth/authenticate', {'name': 'root', 'password': 'r'})[2]['token']
    TAP.equal(alice.ask(*put('b'), '-H', 'Authorization: ' + token)[1], 200, 'a token counts before the name')
    TAP.equal(alice.ask(*put('b'), '-H', 'Authorization: Bearer ' + token)[1], 200, 'with Bearer')
    TAP.equal(alice.ask(*put('b'), '-H', 'Grpc-Metadata-Token: ' + token)[1], 200, 'as metadata')
    TAP.equal(alice.ask(*put('a'), '-H', 'Authorization: bad')[1], 401, 'a bad token never falls back to the name')
    TAP.equal(alice.ask(*put('a'), '-H', 'Authorization;')[1], 401, 'nor does an empty one')
    TAP.equal(alice.ask(*put('a'), '-H', 'Authorization: Basic YWxpY2U6YQ==')[1], 401, 'nor Basic')
    TAP.ok(alice.run('-H', 'Authorization: ' + token, '-H', 'authorization: x', server.url + '/v3/kv/put',
                     data=b'{"key":"YQ=="}').returncode != 0, 'two tokens: the stream is reset')
    TAP.equal(server.stop(), 0, 'stops in order')


plain()
tls()
TAP.done()
