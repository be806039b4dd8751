"""A Watch stream for tests: requests are sent when they are made, answers wait in a queue."""
import queue
import threading

import claviger
import grpc

P = claviger.load_protos()
E = P['etcdserverpb']
KV, AU = 'etcdserverpb.KV/', 'etcdserverpb.Auth/'


class Stream:
    def __init__(self, client, options=()):
        self.requests = queue.Queue()
        self.answers = queue.Queue()
        self.error = None
        self.is_over = threading.Event()
        stub = client.channel.stream_stream(
            '/etcdserverpb.Watch/Watch', request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=E.WatchResponse.FromString)
        self.call = stub(iter(self.requests.get, None),
                         metadata=[('token', client.token)] if client.token is not None else [])
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for answer in self.call:
                self.answers.put(answer)
        except grpc.RpcError as error:
            self.error = error
        self.is_over.set()

    def send(self, **fields):
        self.requests.put(E.WatchRequest(**fields))

    def half_close(self):
        self.requests.put(None)

    def get(self, seconds=20):
        """The next answer, or None."""
        try:
            return self.answers.get(timeout=seconds * claviger.SLOW)
        except queue.Empty:
            return None

    def create(self, **fields):
        """The answer to a create; the stream must be quiet otherwise."""
        self.send(create_request=E.WatchCreateRequest(**fields))
        return self.get()

    def ended(self, seconds=20):
        """(code, text) with which the stream has ended, or None."""
        if not self.is_over.wait(seconds * claviger.SLOW):
            return None
        return (self.error.code(), self.error.details()) if self.error else ('OK', '')

    def close(self):
        self.call.cancel()
        self.requests.put(None)
        self.thread.join(5)
