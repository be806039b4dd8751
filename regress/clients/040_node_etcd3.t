#!/usr/bin/python3
"""The npm package etcd3 (gRPC, grpc-js): plain, with TLS and a password, with TLS
and the name in the certificate.

Its packages come from the npm registry when the test runs, into the build
directory; without them the test fails.
"""
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'lib')]
import claviger
import setups

TAP = claviger.Tap()
VERSION = '1.1.2'
MODULES = os.path.join(claviger.BUILDDIR, 'node')


def installed():
    try:
        with open(os.path.join(MODULES, 'node_modules', 'etcd3', 'package.json')) as file:
            return json.load(file)['version']
    except (OSError, ValueError):
        return None


def install():
    """The package with what it needs, unless it is there from an earlier run."""
    if installed() == VERSION:
        return ''
    if not shutil.which('npm'):
        return 'npm is not installed'
    os.makedirs(MODULES, exist_ok=True)
    # node knows only the CAs that it brings; the machine may have more
    env = {'NODE_EXTRA_CA_CERTS': '/etc/ssl/certs/ca-certificates.crt', **os.environ}
    done = subprocess.run(['npm', 'install', '--no-audit', '--no-fund', '--no-save', '--loglevel=error', '--prefix', MODULES,
                           'etcd3@' + VERSION], capture_output=True, text=True, timeout=300, cwd=MODULES,
                          env=env)
    return '' if done.returncode == 0 else done.stdout + done.stderr


def run(setup):
    env = dict(os.environ, NODE_PATH=os.path.join(MODULES, 'node_modules'), ROOT_PASSWORD=setups.ROOT_PASSWORD,
               SLOW=str(claviger.SLOW))
    env.update(setup.environment())
    done = subprocess.run(['node', os.path.join(HERE, 'node_etcd3.js')], capture_output=True, text=True, env=env,
                          timeout=600 * claviger.SLOW)
    lines = [line for line in done.stdout.split('\n') if line.startswith(('ok ', 'not ok '))]
    for line in lines:
        ok = line.startswith('ok ')
        name, _, why = line.split('ok ', 1)[1].partition(': ') if not ok else (line[3:], '', '')
        TAP.ok(ok, setup.name + ': ' + name, why)
    TAP.ok(done.returncode == 0 and len(lines) > 10, setup.name + ': all of it was run', done.stdout + done.stderr)


def main():
    problem = install()
    if not TAP.ok(problem == '', 'npm install etcd3', problem):
        TAP.done()
    node = subprocess.run(['node', '--version'], capture_output=True, text=True).stdout.strip()
    print('# npm etcd3 %s, node %s' % (installed(), node))
    for name in setups.SETUPS:
        setup = setups.Setup(name)
        run(setup)
        setup.server.kill9()
    TAP.done()


main()
