#!/usr/bin/python3
"""The official Go client, go.etcd.io/etcd/client/v3, in a release that Debian's Go
builds: plain, with TLS and a password, with TLS and the name in the certificate.

go/ is the program; its modules come from the Go module proxy when the test runs,
into the build directory; without them the test fails.  GO names another go than
the first in PATH.  Arguments are parts of the names of checks to run.
"""
import concurrent.futures
import os
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'lib')]
import claviger
import setups

TAP = claviger.Tap()
SOURCE = os.path.join(HERE, 'go')
WORK = os.path.join(claviger.BUILDDIR, 'go')
PROGRAM = os.path.join(WORK, 'client')
# a program that hangs is ended; a run takes half a minute
SECONDS = 300


def build():
    """Builds the program; returns what is wrong, or ''."""
    go = os.environ.get('GO') or shutil.which('go') or '/usr/lib/go-1.19/bin/go'
    # modcacherw: so that the build directory can be removed
    env = dict(os.environ, GOPATH=os.path.join(WORK, 'path'), GOCACHE=os.path.join(WORK, 'cache'), GOTOOLCHAIN='local',
               GOFLAGS='-modcacherw -buildvcs=false', CGO_ENABLED='0')
    try:
        print('# ' + subprocess.run([go, 'version'], capture_output=True, text=True, env=env).stdout.strip())
        done = subprocess.run([go, 'build', '-o', PROGRAM, '.'], capture_output=True, text=True, env=env, cwd=SOURCE,
                              timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    with open(os.path.join(SOURCE, 'go.mod')) as file:
        print('# ' + next(line.strip() for line in file if 'go.etcd.io/etcd/client/v3' in line))
    return '' if done.returncode == 0 else done.stdout + done.stderr


def run(setup, checks, least):
    """Runs the program; returns its results as (ok, name, why), in their order."""
    env = dict(os.environ, ROOT_PASSWORD=setups.ROOT_PASSWORD, APP_PASSWORD=setups.PASSWORD, CLAVIGER_SLOW=str(claviger.SLOW),
               CHECKS=checks)
    env.update(setup.environment())
    results = []
    log_path = os.path.join(setup.server.dir, 'client.log')
    with open(log_path, 'w') as log:
        program = subprocess.Popen([PROGRAM] + sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                   text=True, env=env)
    timer = threading.Timer(SECONDS * claviger.SLOW, program.kill)
    timer.start()
    ended = False
    for line in program.stdout:
        word, _, rest = line.rstrip('\n').partition(' ')
        if word == 'server':
            setup.restart(rest)
            program.stdin.write('done\n')
            program.stdin.flush()
        elif word == 'ok':
            results.append((True, rest, ''))
        elif word == 'not':
            # "ok NAME: why"; names have no ": " in them
            name, _, why = rest[len('ok '):].partition(': ')
            results.append((False, name, why))
        elif word == 'end':
            ended = True
    program.wait()
    timer.cancel()
    with open(log_path) as log:
        text = log.read()
    results.append((ended and (len(results) >= least or sys.argv[1:]), 'all of it was run', text))
    setup.server.kill9()
    return results


def main():
    begin = time.time()
    problem = build()
    if not TAP.ok(problem == '', 'built', problem):
        TAP.done()
    print('# built in %.0f s' % (time.time() - begin))
    begin = time.time()
    # at once: most of the time is spent waiting, for leases and tokens to run out
    runs = [(setups.Setup(name), '', 20) for name in setups.SETUPS]
    runs.append((setups.Setup('password', ['--auth-token-ttl', '2']), 'tokens', 1))
    with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
        for (setup, checks, _), results in zip(runs, pool.map(run, *zip(*runs))):
            for ok, name, why in results:
                TAP.ok(ok, '%s: %s' % (checks or setup.name, name), why)
    print('# tried in %.0f s' % (time.time() - begin))
    TAP.done()


main()
