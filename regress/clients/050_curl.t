#!/usr/bin/python3
"""curl and the JSON gateway: plain, with TLS and a token, with TLS and the name in
the certificate; HTTP/1.1 and HTTP/2."""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'lib')]
import claviger
import setups
from claviger import b64

TAP = claviger.Tap()


class Curl:
    def __init__(self, setup, *options):
        self.setup, self.token = setup, None
        self.options = ['--silent', '--show-error', '--max-time', str(int(60 * claviger.SLOW)), *options]
        if setup.ca:
            self.options += ['--cacert', setup.ca]
        if setup.cert:
            self.options += ['--cert', setup.cert, '--key', setup.key]
        if setup.user:
            answer = self.post('/v3/auth/authenticate', {'name': setup.user, 'password': setup.password})
            self.token = answer.get('token')

    def command(self, path, *more):
        header = ['-H', 'Authorization: ' + self.token] if self.token else []
        return ['curl', *self.options, *header, *more, self.setup.url + path]

    def run(self, path, *more):
        """(status, body)"""
        done = subprocess.run(self.command(path, '-w', '\n%{http_code}', *more), capture_output=True, text=True)
        if done.returncode:
            return 0, done.stderr
        body, status = done.stdout.rsplit('\n', 1)
        return int(status), body

    def post(self, path, message, *more):
        """The decoded answer, with the HTTP status under 'http'."""
        status, body = self.run(path, '-d', json.dumps(message), *more)
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {'body': body}
        answer['http'] = status
        return answer


def keys_and_values(c, s):
    c.post('/v3/kv/deleterange', {'key': b64('app/'), 'range_end': b64('app0')})
    answer = c.post('/v3/kv/put', {'key': b64('app/a'), 'value': b64('one')})
    TAP.ok(answer['http'] == 200 and int(answer['header']['revision']) > 1, s + 'put', answer)
    answer = c.post('/v3/kv/range', {'key': b64('app/a')})
    TAP.equal((answer.get('count'), answer['kvs'][0]['value']), ('1', b64('one')), s + 'range')
    answer = c.post('/v3beta/kv/range', {'key': b64('app/'), 'rangeEnd': b64('app0'), 'count_only': True})
    TAP.equal((answer.get('count'), 'kvs' in answer), ('1', False), s + '/v3beta, camelCase')
    answer = c.post('/v3/kv/txn', {
        'compare': [{'target': 'VALUE', 'key': b64('app/a'), 'value': b64('one')}],
        'success': [{'request_put': {'key': b64('app/b'), 'value': b64('two')}},
                    {'requestRange': {'key': b64('app/b')}}]})
    TAP.equal((answer.get('succeeded'), answer['responses'][1]['response_range']['kvs'][0]['value']), (True, b64('two')), s + 'txn')
    answer = c.post('/v3/kv/deleterange', {'key': b64('app/'), 'range_end': b64('app0'), 'prev_kv': True})
    TAP.equal((answer.get('deleted'), len(answer['prev_kvs'])), ('2', 2), s + 'deleterange')


def refusals(c, s):
    answer = c.post('/v3/kv/put', {'value': b64('x')})
    TAP.equal((answer['http'], answer.get('code'), answer.get('message'), answer.get('error')),
              (400, 3, 'etcdserver: key is not provided', 'etcdserver: key is not provided'), s + 'an error')
    TAP.equal(c.run('/v3/kv/put', '-d', '{')[0], 400, s + 'broken JSON')
    TAP.equal(c.run('/v3/none', '-d', '{}')[0], 404, s + 'an unknown path')


def watches(c, s):
    revision = int(c.post('/v3/kv/put', {'key': b64('app/w'), 'value': b64('1')})['header']['revision'])
    c.post('/v3/kv/deleterange', {'key': b64('app/w')})
    process = subprocess.Popen(
        c.command('/v3/watch', '--no-buffer', '-d', json.dumps(
            {'create_request': {'key': b64('app/w'), 'start_revision': str(revision)}})),
        stdout=subprocess.PIPE, text=True)
    try:
        TAP.equal(json.loads(process.stdout.readline())['result'].get('created'), True, s + 'watch created')
        events = []
        while len(events) < 2:
            events += json.loads(process.stdout.readline())['result'].get('events', [])
        TAP.equal([(e.get('type', 'PUT'), e['kv'].get('value')) for e in events], [('PUT', b64('1')), ('DELETE', None)],
                  s + 'events that have been')
        c.post('/v3/kv/put', {'key': b64('app/w'), 'value': b64('2')})
        event = json.loads(process.stdout.readline())['result']['events'][0]
        TAP.equal(event['kv']['value'], b64('2'), s + 'an event that comes')
    finally:
        process.kill()
        process.wait()


def leases(c, s):
    lease = c.post('/v3/lease/grant', {'TTL': 600})['ID']
    c.post('/v3/kv/put', {'key': b64('app/l'), 'lease': lease})
    alive = c.post('/v3/lease/keepalive', {'ID': lease})
    TAP.equal((alive['result']['ID'], alive['result']['TTL']), (lease, '600'), s + 'lease kept alive')
    left = c.post('/v3/lease/timetolive', {'ID': lease, 'keys': True})
    TAP.equal((left.get('grantedTTL'), left.get('keys')), ('600', [b64('app/l')]), s + 'lease and its keys')
    c.post('/v3/kv/lease/revoke', {'ID': lease})
    TAP.equal('kvs' in c.post('/v3/kv/range', {'key': b64('app/l')}), False, s + 'lease revoked')


def pages(c, s):
    """What needs no token."""
    TAP.equal(json.loads(c.run('/health')[1]).get('health'), 'true', s + '/health')
    TAP.equal([c.run(path)[0] for path in ('/livez', '/readyz')], [200, 200], s + '/livez, /readyz')
    TAP.ok(json.loads(c.run('/version')[1])['etcdserver'].startswith('3.'), s + '/version')
    TAP.ok('etcd_server_has_leader 1' in c.run('/metrics')[1], s + '/metrics')


def members(c, s, setup):
    TAP.equal([m.get('clientURLs') for m in c.post('/v3/cluster/member/list', {})['members']], [[setup.url]], s + 'members')
    TAP.ok('version' in c.post('/v3/maintenance/status', {}), s + 'status')


def rights(c, s):
    answer = c.post('/v3/kv/range', {'key': b64('other')})
    TAP.equal((answer['http'], answer.get('code'), answer.get('error')), (403, 7, 'etcdserver: permission denied'),
              s + 'no right to another key')
    if c.token:
        token, c.token = c.token, None
        answer = c.post('/v3/kv/range', {'key': b64('app/a')})
        TAP.equal((answer['http'], answer.get('error')), (400, 'etcdserver: user name is empty'), s + 'without a token')
        c.token = 'Bearer ' + token
        TAP.equal(c.post('/v3/kv/range', {'key': b64('app/a')})['http'], 200, s + 'token as Bearer')
        c.token = 'wrong'
        answer = c.post('/v3/kv/range', {'key': b64('app/a')})
        TAP.equal((answer['http'], answer.get('error')), (401, 'etcdserver: invalid auth token'), s + 'a wrong token')
        c.token = token


def main():
    print('# ' + subprocess.run(['curl', '--version'], capture_output=True, text=True).stdout.split('\n')[0])
    for name in setups.SETUPS:
        setup = setups.Setup(name)
        for http in ('--http1.1', '--http2' if setup.tls else '--http2-prior-knowledge'):
            s = '%s %s: ' % (name, http.strip('-'))
            part = lambda function, *arguments: setups.section(TAP, s, function, *arguments)
            c = Curl(setup, http)
            part(keys_and_values, c, s)
            part(refusals, c, s)
            part(members, c, s, setup)
            part(pages, c, s)
            part(watches, c, s)
            part(leases, c, s)
            if name != 'plain':
                part(rights, c, s)
        setup.server.kill9()
    TAP.done()


main()
