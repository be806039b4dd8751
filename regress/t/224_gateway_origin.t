#!/usr/bin/python3
"""A browser sends its certificate along whichever page asks: what a page of another
origin may do with the JSON API of a server that asks for certificates."""
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import jsonclient
from claviger import b64

TAP = claviger.Tap()
REFUSED = ('claviger: a page of another origin may not use the client certificate; '
           'if it shall, name its origin in cors')


class Browser:
    """Posts as a page of an origin does; None: no browser."""

    def __init__(self, server, directory):
        certificate = [os.path.join(directory, name) for name in ('ca.crt', 'root.crt', 'root.key')]
        self.connection = jsonclient.Connection(server, *certificate)
        self.server = server

    def post(self, origin, path, body, **headers):
        # no JSON by its name, so no browser asks with OPTIONS before
        headers = {'Content-Type': 'text/plain', **({'Origin': origin} if origin else {}), **headers}
        status, _, data = self.connection.ask('POST', path, json.dumps(body), headers)
        return status, json.loads(data) if data.startswith(b'{') else data

    def value(self):
        return self.post(None, '/v3/kv/range', {'key': b64('a')})[1].get('kvs', [{}])[0].get('value')


def with_certificates(directory, with_auth, cors, names_count=True):
    server = claviger.Server(args=['--cert-file', directory + '/server.crt', '--key-file', directory + '/server.key',
                                   '--trusted-ca-file', directory + '/ca.crt'] +
                             (['--client-cert-auth'] if names_count else []) +
                             (['--cors', cors] if cors else []), tls=True).start()
    browser = Browser(server, directory)
    name = '%s, cors %s%s: ' % ('auth on' if with_auth else 'auth off', cors or 'as it is',
                                '' if names_count else ', a certificate only lets in')
    if with_auth:
        for path, body in (('user/add', {'name': 'root', 'password': 'r'}), ('role/add', {'name': 'root'}),
                           ('user/grant', {'user': 'root', 'role': 'root'}), ('enable', {})):
            TAP.equal(browser.post(None, '/v3/auth/' + path, body)[0], 200, name + path)
    put = {'key': b64('a'), 'value': b64('1')}
    own = server.url
    TAP.equal(browser.post(None, '/v3/kv/put', put)[0], 200, name + 'no browser')
    TAP.equal(browser.post(own, '/v3/kv/put', put)[0], 200, name + 'a page of our own')
    evil = {'key': b64('a'), 'value': b64('evil')}
    for origin in ('https://evil.example', 'null', own.replace('https', 'http'), own + '.evil.example', own + '0', 'x'):
        for path in ('/v3/kv/put', '/v3beta/kv/put', '/v3alpha/kv/put'):
            status, answer = browser.post(origin, path, evil)
            TAP.ok(status in (403, 404), name + 'refused: ' + origin + ' ' + path, str((status, answer)))
        TAP.equal(browser.post(origin, '/v3/kv/put', evil), (403, {'error': REFUSED, 'message': REFUSED, 'code': 7}),
                  name + 'told why: ' + origin)
    for path in ('kv/range', 'watch', 'lease/grant', 'auth/user/list', 'maintenance/snapshot', 'cluster/member/list'):
        TAP.equal(browser.post('https://evil.example', '/v3/' + path, {})[0], 403, name + 'refused: ' + path)
    TAP.equal(browser.value(), b64('1'), name + 'nothing was written')
    TAP.equal(browser.post('https://good.example', '/v3/kv/put', put)[0], 200 if cors and 'good' in cors else 403,
              name + 'an origin that cors names or not')
    # nobody's business, so everybody's
    TAP.equal(browser.connection.ask('GET', '/version', None, {'Origin': 'https://evil.example'})[0], 200, name + '/version')
    browser.connection.close()
    TAP.equal(server.stop(), 0, name + 'stops in order')


def without_certificates():
    server = claviger.Server().start()
    connection = jsonclient.Connection(server)
    TAP.equal(connection.ask('POST', '/v3/kv/put', json.dumps({'key': b64('a')}), {'Origin': 'https://some.example'})[0], 200,
              'without certificates a page has nothing that is not its own')
    connection.close()
    TAP.equal(server.stop(), 0, 'stops in order')


def main():
    with tempfile.TemporaryDirectory() as directory:
        claviger.make_certificates(directory, 'root')
        for with_auth in (True, False):
            for cors in (None, 'https://good.example,https://better.example'):
                with_certificates(directory, with_auth, cors)
        with_certificates(directory, False, None, names_count=False)
    without_certificates()
    TAP.done()


main()
