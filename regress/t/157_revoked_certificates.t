#!/usr/bin/python3
"""A client certificate that is revoked, or not trusted any more, ends its
connections with the reload that says so; the others go on."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from claviger import error_of

E = claviger.load_protos()['etcdserverpb']
TAP = claviger.Tap()
KV = 'etcdserverpb.KV/'


def make_files(directory):
    """Certificates of alice and bob, lists with and without alice, and another CA."""
    subprocess.run(['perl', '-I' + os.path.join(claviger.TOP, 'regress', 'lib'), '-e', '''
        use Claviger::Certs; use File::Copy;
        my $to = shift;
        my $ca = Claviger::Certs->new;
        $ca->issue($_) for qw(server alice bob);
        copy($ca->crl, "$to/nobody.pem");
        $ca->revoke('alice');
        copy($ca->crl, "$to/alice.pem");
        copy($ca->file($_), "$to/$_") for 'ca.crt', map { ("$_.crt", "$_.key") } qw(server alice bob);
        copy(Claviger::Certs->new('another')->ca, "$to/other.crt");
        ''', directory], check=True)


class Watcher:
    """A client of one connection, with a watch on it that is open."""

    def __init__(self, server, directory, name):
        path = lambda suffix: os.path.join(directory, name + suffix)
        self.client = claviger.Client(server, ca=os.path.join(directory, 'ca.crt'), cert=path('.crt'), key=path('.key'))
        stub = self.client.channel.stream_stream(
            '/etcdserverpb.Watch/Watch', request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=E.WatchResponse.FromString)
        self.requests = [E.WatchRequest(create_request=E.WatchCreateRequest(key=b'a'))]
        self.answers = stub(self._ask(), timeout=120 * claviger.SLOW)
        TAP.ok(next(self.answers).created, name + ' watches')

    def _ask(self):
        yield from self.requests
        # the client's half stays open as long as the call
        while self.answers.is_active():
            time.sleep(0.1)

    def put(self, value):
        self.client.call(KV + 'Put', E.PutRequest(key=b'a', value=value), E.PutResponse)

    def end(self):
        """How the watch ends; whatever it is told before counts for nothing."""
        try:
            while True:
                next(self.answers)
        except grpc.RpcError as error:
            return error.code()


def reload(server):
    """Until the backends have been told, who look before they answer the next
    request; what the log says."""
    position = os.path.getsize(server.log)
    server.process.send_signal(signal.SIGHUP)
    if not claviger.wait_until(lambda: re.search('settings (not )?reloaded', claviger.log_since(server, position))):
        raise RuntimeError('no reload: ' + claviger.log_since(server, position))
    return claviger.log_since(server, position)


def main():
    with tempfile.TemporaryDirectory() as directory:
        make_files(directory)
        at = lambda name: os.path.join(directory, name)
        shutil.copy(at('nobody.pem'), at('crl.pem'))
        shutil.copy(at('ca.crt'), at('trusted.crt'))
        server = claviger.Server(args=['--cert-file', at('server.crt'), '--key-file', at('server.key'), '--client-cert-auth',
                                       '--trusted-ca-file', at('trusted.crt'), '--client-crl-file', at('crl.pem')],
                                 tls=True).start()
        alice, bob = Watcher(server, directory, 'alice'), Watcher(server, directory, 'bob')

        reload(server)
        alice.put(b'1')
        TAP.equal([next(w.answers).events[0].kv.value for w in (alice, bob)], [b'1'] * 2,
                  'a reload that changes nothing ends nothing')
        shutil.copy(at('alice.pem'), at('crl.pem'))
        reload(server)
        TAP.equal(alice.end(), grpc.StatusCode.UNAVAILABLE, 'who was revoked is gone')
        TAP.equal((error_of(lambda: alice.put(b'x')) or [None])[0], grpc.StatusCode.UNAVAILABLE, 'and does not come back')
        bob.put(b'2')
        TAP.equal(next(bob.answers).events[0].kv.value, b'2', 'the other goes on')

        # what cannot be loaded changes nothing
        os.rename(at('trusted.crt'), at('kept.crt'))
        TAP.ok('settings not reloaded' in reload(server), 'a reload without the file of the CA')
        bob.put(b'3')
        TAP.equal(next(bob.answers).events[0].kv.value, b'3', 'the other goes on all the same')
        shutil.copy(at('other.crt'), at('trusted.crt'))
        reload(server)
        TAP.equal(bob.end(), grpc.StatusCode.UNAVAILABLE, 'nobody is left when his CA is not trusted any more')
        TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
