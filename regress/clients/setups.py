"""Servers as the tests of clients want them: plain, with TLS and a password, with
TLS and the name in the client's certificate.

In the two with TLS auth is on.  root may do everything; the user "app" (password
"app-secret", or a certificate of that name) has the role "app", which may read
and write what begins with "app/", or with "/locks/app/", where python3-etcd3 puts
its locks.
"""
import os
import signal
import tempfile
import threading

import claviger
import etcd
import etcdctl

# to see what a client does with etcd itself
AGAINST_ETCD = os.environ.get('CLIENTS_AGAINST') == 'etcd'
PASSWORD = 'app-secret'
ROOT_PASSWORD = 'root-secret'
_certificates = []


def certificates():
    """A directory with ca.crt, and NAME.crt and NAME.key of server, app, root, nobody."""
    if not _certificates:
        directory = tempfile.mkdtemp(prefix='certificates-', dir=claviger._tmp)
        claviger.make_certificates(directory, 'app', 'root', 'nobody')
        _certificates.append(directory)
    return _certificates[0]


def certificate(name):
    return os.path.join(certificates(), name)


class Setup:
    """A server, and how to come to it as the user app."""

    def __init__(self, name, args=()):
        self.name = name
        self.tls = name != 'plain'
        args = list(args)
        if self.tls:
            args += ['--cert-file', certificate('server.crt'), '--key-file', certificate('server.key')]
        if name == 'certificate':
            args += ['--client-cert-auth', '--trusted-ca-file', certificate('ca.crt')]
        kind = etcd.EtcdServer if AGAINST_ETCD else claviger.Server
        self.server = kind(args, tls=self.tls).start()
        self.host, self.port, self.url = '127.0.0.1', self.server.port, self.server.url
        self.ca = certificate('ca.crt') if self.tls else None
        self.cert = certificate('app.crt') if name == 'certificate' else None
        self.key = certificate('app.key') if name == 'certificate' else None
        self.user = 'app' if name == 'password' else None
        self.password = PASSWORD if name == 'password' else None
        if self.tls:
            self.enable_auth()

    def enable_auth(self):
        # by etcdctl: other clients of this process have their own protobuf modules
        flags = ['--cacert', self.ca]
        if self.cert:
            flags += ['--cert', certificate('root.crt'), '--key', certificate('root.key')]
        ctl = etcdctl.Ctl(self.server, flags)
        for line in ('user add root --new-user-password=' + ROOT_PASSWORD, 'user grant-role root root',
                     'user add app --new-user-password=' + PASSWORD, 'role add app',
                     'role grant-permission --prefix app readwrite app/',
                     'role grant-permission --prefix app readwrite /locks/app/', 'user grant-role app app', 'auth enable'):
            ctl.run(*line.split(' '))

    def restart(self, how):
        """The server again on its data: how = 'stop' or 'kill'."""
        if not AGAINST_ETCD:
            self.server.stop() if how == 'stop' else self.server.kill9()
            self.server.start()
            return
        self.server.process.send_signal(signal.SIGTERM if how == 'stop' else signal.SIGKILL)
        self.server.process.wait()
        self.server.start()

    def environment(self):
        """For a client that is another program."""
        values = {'URL': self.url, 'ENDPOINT': self.server.endpoint, 'CA': self.ca, 'CERT': self.cert, 'KEY': self.key,
                  'CLIENT_USER': self.user, 'CLIENT_PASSWORD': self.password}
        return {name: value for name, value in values.items() if value}


class Repeated:
    """Does it again and again meanwhile: for who does not say from when on he listens."""

    def __init__(self, function):
        self.function, self.enough = function, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.enough.wait(0.3):
            self.function()

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.enough.set()
        self.thread.join()


SETUPS = ('plain', 'password', 'certificate')


def section(tap, name, function, *arguments, seconds=180):
    """A part of a test: what it throws, or that it hangs, is a failure of this part only."""
    def too_long(*_):
        raise TimeoutError('not ended after %d seconds' % (seconds * claviger.SLOW))
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(int(seconds * claviger.SLOW))
    try:
        function(*arguments)
    except Exception as error:
        tap.ok(False, '%s: %s' % (name, function.__name__), '%s: %s' % (type(error).__name__, error))
    finally:
        signal.alarm(0)
