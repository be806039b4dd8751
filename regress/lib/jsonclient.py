"""The JSON gateway as a client with the calls of claviger.Client, so that what
is asked over gRPC can be asked over HTTP word for word.

Requests are written in both spellings of names and enums by turns; answers are
parsed strictly: an unknown field or a wrong type is an error.
"""
import http.client
import json
import os
import re
import ssl

import grpc
from google.protobuf import json_format

import claviger

# etcd-v3-wire.md 9.4
HTTP_STATUS = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]
CODES = {code.value[0]: code for code in grpc.StatusCode}


def routes():
    """Paths by 'package.Service/Method', from the server's own lists."""
    include = os.path.join(claviger.TOP, 'src', 'include')
    rpcs = dict((symbol, '%s/%s' % (service, method)) for symbol, service, method in re.findall(
        r'RPC\((\w+), "([\w.]+)", "(\w+)"', open(os.path.join(include, 'dispatch', 'rpclist.h')).read()))
    found = {}
    for path, symbol in re.findall(r'ROUTE\("([^"]+)", (\w+)\)',
                                   open(os.path.join(include, 'gateway', 'routelist.h')).read()):
        found.setdefault(rpcs[symbol], []).append(path)
    return found


class JsonError(grpc.RpcError):
    def __init__(self, code, details):
        super().__init__('%s: %s' % (code, details))
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


class Connection:
    """One HTTP/1.1 connection, kept alive, made again when it has ended."""

    def __init__(self, server, ca=None, cert=None, key=None, timeout=60):
        self.args = (server, ca, cert, key, timeout)
        self.http = None

    def open(self):
        server, ca, cert, key, timeout = self.args
        if ca:
            context = ssl.create_default_context(cafile=ca)
            if cert:
                context.load_cert_chain(cert, key)
            return http.client.HTTPSConnection('127.0.0.1', server.port, timeout=timeout * claviger.SLOW,
                                               context=context)
        return http.client.HTTPConnection('127.0.0.1', server.port, timeout=timeout * claviger.SLOW)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body)"""
        if self.http is None:
            self.http = self.open()
        self.http.request(method, path, body, headers or {})
        answer = self.http.getresponse()
        data = answer.read()
        if answer.will_close:
            self.close()
        return answer.status, answer.headers, data

    def close(self):
        if self.http is not None:
            self.http.close()
        self.http = None


class JsonClient:
    ROUTES = routes()

    def __init__(self, server, ca=None, cert=None, key=None, token=None):
        self.connection = Connection(server, ca, cert, key)
        self.token = token
        self.n = 0

    def headers(self):
        """The token in each of the ways that are known, by turns."""
        if self.token is None:
            return {}
        return [{'Authorization': self.token}, {'Authorization': 'Bearer ' + self.token},
                {'Grpc-Metadata-Token': self.token}][self.n % 3]

    def post(self, method, requests):
        self.n += 1
        paths = self.ROUTES[method]
        path = paths[self.n % len(paths)]
        if self.n % 4 == 3:
            path = path.replace('/v3/', '/v3beta/')
        body = ''.join(json_format.MessageToJson(request, preserving_proto_field_name=self.n % 2 == 0,
                                                 use_integers_for_enums=self.n % 5 < 2)
                       for request in requests)
        status, headers, data = self.connection.ask('POST', path, body, self.headers())
        assert headers['Content-Type'] == 'application/json', (path, status, headers.items(), data)
        return status, headers, data.decode()

    def call(self, method, request, response_class, timeout=60, metadata=()):
        status, headers, data = self.post(method, [request])
        if status == 200:
            return json_format.Parse(data, response_class())
        body = json.loads(data)
        if isinstance(body['error'], dict):     # of a stream
            raise JsonError(CODES[body['error']['code']], body['error']['message'])
        assert set(body) == {'error', 'code', 'message'} and body['error'] == body['message'], data
        assert status == HTTP_STATUS[body['code']], (status, data)
        assert status != 401 or headers['WWW-Authenticate'] == body['message'], headers.items()
        raise JsonError(CODES[body['code']], body['message'])

    def stream(self, method, request, response_class, timeout=60):
        status, headers, data = self.post(method, [request])
        answers = []
        for line in data.splitlines():
            body = json.loads(line)
            if 'error' in body:
                error = body['error']
                assert error['grpc_code'] == error['code'] and error['http_code'] == HTTP_STATUS[error['code']], line
                assert answers or status == error['http_code'], (status, line)
                raise JsonError(CODES[error['code']], error['message'])
            assert set(body) == {'result'}, line
            answers.append(json_format.ParseDict(body['result'], response_class()))
        assert status == 200, (status, data)
        return answers

    def first(self, method, request, response_class, is_bidi, timeout=60):
        """The first answer of a stream that goes on for ever; the connection ends with it."""
        self.n += 1
        http = self.connection.open()
        http.request('POST', self.ROUTES[method][0], json_format.MessageToJson(request), self.headers())
        line = http.getresponse().readline()
        http.close()
        body = json.loads(line)
        if 'error' in body:
            raise JsonError(CODES[body['error']['code']], body['error']['message'])
        return json_format.ParseDict(body['result'], response_class())

    def close(self):
        self.connection.close()
