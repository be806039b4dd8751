"""A watcher of all keys that must see every change once and in order, whatever
dies: when its stream ends it begins another behind the last revision it saw.

Revisions of changes have no gap, so what it sees can have none either."""
import http.client
import json
import socket
import threading

import faults
from faults import E, claviger, grpc
from jsonclient import JsonClient
from google.protobuf import json_format

WATCH = 'etcdserverpb.Watch/Watch'


class Follower(threading.Thread):
    """login: gives a token for each new stream, or None.  is_json: through the
    gateway."""

    def __init__(self, server, login=None, is_json=False):
        super().__init__(daemon=True)
        self.server = server
        self.login = login
        self.is_json = is_json
        self.last = 1           # revision seen whole; the first change has 2
        self.streams = 0
        self.events = 0
        self.problems = []
        self.seen = set()       # (key, revision) of puts since the last check
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.cancel = lambda: None

    def begin(self):
        self.start()
        return self

    # ---- its thread ----

    def run(self):
        while not self.stopping.is_set() and len(self.problems) < 10:
            try:
                token = self.login() if self.login else None
                (self.follow_json if self.is_json else self.follow)(token)
            except (grpc.RpcError, OSError, http.client.HTTPException):
                pass
            self.stopping.wait(0.01)

    def ask(self):
        return E.WatchRequest(create_request=E.WatchCreateRequest(key=b'\0', range_end=b'\0',
                                                                  start_revision=self.last + 1))

    def follow(self, token):
        client = claviger.Client(self.server, token=token)
        over = threading.Event()

        def requests():
            yield self.ask()
            over.wait()

        stub = client.channel.stream_stream('/' + WATCH, request_serializer=lambda m: m.SerializeToString(),
                                            response_deserializer=E.WatchResponse.FromString)
        call = stub(requests(), metadata=[('token', token)] if token else [])
        self.cancel = call.cancel
        try:
            for answer in call:
                self.take(answer)
        finally:
            over.set()
            client.close()

    def follow_json(self, token):
        client = JsonClient(self.server, token=token)
        connection = client.connection.open()
        try:
            connection.connect()
            sock = connection.sock
            self.cancel = lambda: sock.shutdown(socket.SHUT_RDWR)
            connection.request('POST', client.ROUTES[WATCH][0], json_format.MessageToJson(self.ask()), client.headers())
            answers = connection.getresponse()
            while True:
                line = answers.readline()
                if not line.endswith(b'\n'):
                    return      # cut off
                body = json.loads(line)
                if 'error' in body:
                    return
                self.take(json_format.ParseDict(body['result'], E.WatchResponse()))
        finally:
            connection.close()

    def take(self, answer):
        with self.lock:
            if answer.created:
                self.streams += 1
            if answer.canceled:
                self.problems.append('canceled at %d: %s' % (self.last, answer))
            revision, keys = self.last, set()
            for event in answer.events:
                kv = event.kv
                if kv.mod_revision == revision + 1:
                    revision, keys = revision + 1, set()
                elif kv.mod_revision != revision or not keys:
                    self.problems.append('%d follows %d' % (kv.mod_revision, revision))
                    revision = max(revision, kv.mod_revision)
                if kv.key in keys:
                    self.problems.append('%r twice at %d' % (kv.key, revision))
                keys.add(kv.key)
                if event.type == 0:
                    self.seen.add((kv.key, revision))
            self.events += len(answer.events)
            self.last = revision

    # ---- whoever made it ----

    def check(self, acknowledged, revision, seconds=20):
        """What is wrong when it has had the time to see `revision`."""
        faults.wait_for(lambda: self.last >= revision or self.problems, seconds * claviger.SLOW)
        with self.lock:
            problems, self.problems = self.problems, []
            if self.last < revision:
                problems.append('has seen %d and not %d' % (self.last, revision))
            lost = [pair for pair in acknowledged if tuple(pair) not in self.seen]
            if lost:
                problems.append('not seen: %r' % lost[:3])
            self.seen.clear()
        return problems

    def end(self):
        self.stopping.set()
        while self.is_alive():
            try:
                self.cancel()
            except OSError:
                pass            # has ended by itself
            self.join(0.05)
