"""Debian's etcd-server beside ours, for tests that compare the two."""
import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time

import claviger

PROGRAM = '/usr/bin/etcd'
_servers = []


class EtcdServer:
    """One member on free loopback ports with a data directory of its own."""

    def __init__(self, args=(), tls=False, directory=None):
        self.dir = tempfile.mkdtemp(prefix='etcd-', dir=directory)
        self.log = os.path.join(self.dir, 'server.log')
        self.port = claviger.free_port()
        self.url = '%s://127.0.0.1:%d' % ('https' if tls else 'http', self.port)
        self.endpoint = '127.0.0.1:%d' % self.port
        self.args = list(args)
        self.process = None
        _servers.append(self)

    def launch(self):
        """Start without waiting."""
        peer = 'http://127.0.0.1:%d' % claviger.free_port()
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(
                [PROGRAM, '--name', 'one', '--data-dir', os.path.join(self.dir, 'data'),
                 '--listen-client-urls', self.url, '--advertise-client-urls', self.url,
                 '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer,
                 '--initial-cluster', 'one=' + peer, '--bcrypt-cost', '4',
                 '--logger', 'zap', '--log-outputs', 'stderr'] + self.args,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        return self

    def start(self):
        return self.launch().wait_ready()

    def wait_ready(self, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if 'serving client traffic' in self.log_text():
                return self
            time.sleep(0.02)
        raise RuntimeError('etcd did not start:\n' + self.log_text())

    def log_text(self):
        with open(self.log, errors='replace') as file:
            return file.read()

    def kill9(self):
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
        shutil.rmtree(self.dir, ignore_errors=True)


@atexit.register
def stop_all():
    for server in _servers:
        server.kill9()


def version():
    return subprocess.run([PROGRAM, '--version'], capture_output=True, text=True).stdout.split('\n')[0]
