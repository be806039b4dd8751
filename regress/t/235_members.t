#!/usr/bin/python3
"""Members, MoveLeader and Downgrade: what one node answers, beside Debian's
etcd where both must say the same."""
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc

E = claviger.load_protos()['etcdserverpb']
TAP = claviger.Tap()
CL, MA, KV = 'etcdserverpb.Cluster/', 'etcdserverpb.Maintenance/', 'etcdserverpb.KV/'
S = grpc.StatusCode
NOT_ENOUGH = (S.UNKNOWN, 'etcdserver: re-configuration failed due to not enough started members')
OTHER = 'http://127.0.0.1:1'


class Etcd:
    """Debian's, with a data directory and ports of its own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='etcd-')
        self.endpoint = '127.0.0.1:%d' % claviger.free_port()
        self.peer = 'http://127.0.0.1:%d' % claviger.free_port()
        client = 'http://' + self.endpoint
        self.log = open(os.path.join(self.dir, 'log'), 'w')
        self.process = subprocess.Popen(
            ['etcd', '--name', 'default', '--data-dir', os.path.join(self.dir, 'data'),
             '--listen-client-urls', client, '--advertise-client-urls', client,
             '--listen-peer-urls', self.peer, '--initial-advertise-peer-urls', self.peer,
             '--initial-cluster', 'default=' + self.peer], stdout=self.log, stderr=self.log)
        self.client = claviger.Client(self)
        end = time.time() + 30 * claviger.SLOW
        while time.time() < end:
            try:
                self.client.call(KV + 'Put', E.PutRequest(key=b'up'), E.PutResponse, timeout=1)
                return
            except grpc.RpcError:
                time.sleep(0.1)
        raise RuntimeError('etcd did not start')

    def stop(self):
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Side:
    def __init__(self, client, peer):
        self.client, self.peer = client, peer
        self.own_id = self.members()[0].ID

    def members(self):
        return self.client.call(CL + 'MemberList', E.MemberListRequest(), E.MemberListResponse).members

    def outcome(self, method, request, response):
        """Error, or the members it answers without what differs from side to side."""
        try:
            answer = self.client.call(method, request, response)
        except grpc.RpcError as error:
            return (error.code(), error.details())
        members = getattr(answer, 'members', [])
        return [(m.ID == self.own_id, m.name, [u == self.peer for u in m.peerURLs], m.isLearner) for m in members]


def requests(side):
    """What is sent to both; each answer must be the same."""
    me, peer = side.own_id, side.peer
    add = lambda **f: (CL + 'MemberAdd', E.MemberAddRequest(**f), E.MemberAddResponse)
    remove = lambda i: (CL + 'MemberRemove', E.MemberRemoveRequest(ID=i), E.MemberRemoveResponse)
    update = lambda i, *u: (CL + 'MemberUpdate', E.MemberUpdateRequest(ID=i, peerURLs=u), E.MemberUpdateResponse)
    promote = lambda i: (CL + 'MemberPromote', E.MemberPromoteRequest(ID=i), E.MemberPromoteResponse)
    move = lambda i: (MA + 'MoveLeader', E.MoveLeaderRequest(targetID=i), E.MoveLeaderResponse)
    yield 'list', (CL + 'MemberList', E.MemberListRequest(), E.MemberListResponse)
    yield 'linearizable list', (CL + 'MemberList', E.MemberListRequest(linearizable=True), E.MemberListResponse)
    yield 'add without URLs', add()
    for url in ('foo', 'http://1.2.3.4', 'ftp://1.2.3.4:1', 'http://1.2.3.4:1/x', 'http://1:2:3'):
        yield 'add %s' % url, add(peerURLs=[url])
    yield 'add a URL that is taken', add(peerURLs=[OTHER, peer])
    yield 'add a learner whose URL is taken', add(peerURLs=[peer], isLearner=True)
    yield 'remove one that is not there', remove(1)
    yield 'remove the only one', remove(me)
    yield 'update one that is not there', update(1, OTHER)
    yield 'update one that is not there, with a bad URL', update(1, 'x')
    yield 'update to what it was', update(me, peer)
    yield 'promote one that is not there', promote(1)
    yield 'promote a voter', promote(me)
    yield 'move to one that is not there', move(1)
    yield 'move to nobody', move(0)
    yield 'move to where it is', move(me)


def test_same(ours, etcd):
    for (name, request), (_, same) in zip(requests(ours), requests(etcd)):
        TAP.equal(ours.outcome(*request), etcd.outcome(*same), name + ': as etcd')
    TAP.equal(ours.outcome(CL + 'MemberRemove', E.MemberRemoveRequest(ID=ours.own_id), E.MemberRemoveResponse),
              NOT_ENOUGH, 'the only member stays')


def test_own(ours):
    """Where etcd would do what nobody could undo."""
    TAP.equal(ours.outcome(CL + 'MemberAdd', E.MemberAddRequest(peerURLs=[OTHER]), E.MemberAddResponse),
              NOT_ENOUGH, 'a voter that cannot be reached is refused')
    TAP.equal(ours.outcome(CL + 'MemberAdd', E.MemberAddRequest(peerURLs=[OTHER], isLearner=True),
                           E.MemberAddResponse),
              (S.FAILED_PRECONDITION, 'etcdserver: too many learner members in cluster'), 'so is a learner')
    TAP.equal(ours.outcome(CL + 'MemberUpdate', E.MemberUpdateRequest(ID=ours.own_id, peerURLs=[OTHER]),
                           E.MemberUpdateResponse),
              (S.FAILED_PRECONDITION,
               "claviger: this release has no peers: a member's peer URLs cannot be changed"), 'so are other URLs')
    TAP.equal(len(ours.members()), 1, 'there is still one member')
    ours.client.call(KV + 'Put', E.PutRequest(key=b'k'), E.PutResponse)
    TAP.ok(True, 'which can write')


def test_downgrade(ours):
    D = E.DowngradeRequest
    ask = lambda action, version='': ours.outcome(MA + 'Downgrade', D(action=action, version=version),
                                                  E.DowngradeResponse)
    form = (S.INVALID_ARGUMENT, 'etcdserver: wrong downgrade target version format')
    target = (S.INVALID_ARGUMENT, 'etcdserver: invalid downgrade target version')
    for version in ('', 'x', '3', '3.', '3.4.', '3.4.x', '3.4.0.1', '-3.4'):
        TAP.equal(ask(D.VALIDATE, version), form, 'downgrade to %r: not a version' % version)
    for version in ('3.4', '3.4.0', '3.5.0', '2.0.0-rc.1'):
        TAP.equal(ask(D.VALIDATE, version), target, 'downgrade to %r: no target' % version)
    TAP.equal(ask(D.ENABLE, '3.4.0'), target, 'nor can it be enabled')
    TAP.equal(ask(D.CANCEL), (S.FAILED_PRECONDITION, 'etcdserver: no inflight downgrade job'), 'none to cancel')
    TAP.equal(ask(9), (S.UNKNOWN, 'etcdserver: unknown method'), 'an action that nobody knows')


def etcdctl(server, *args):
    done = subprocess.run(['etcdctl', '--endpoints', server.endpoint] + list(args),
                          env=claviger.etcdctl_environment(), timeout=60 * claviger.SLOW,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    return done.returncode, done.stdout


def test_etcdctl(server, ours):
    code, text = etcdctl(server, 'member', 'list')
    TAP.ok(code == 0 and '%x, started, default, %s' % (ours.own_id, ours.peer) in text, 'etcdctl member list', text)
    code, text = etcdctl(server, 'move-leader', '%x' % ours.own_id)
    TAP.ok(code == 0 and 'Leadership transferred' in text, 'etcdctl move-leader to itself', text)
    code, text = etcdctl(server, 'member', 'add', 'm2', '--peer-urls', OTHER)
    TAP.ok(code != 0 and 'not enough started members' in text, 'etcdctl member add', text)
    code, text = etcdctl(server, 'endpoint', 'status')
    TAP.ok(code == 0 and '%x' % ours.own_id in text, 'etcdctl endpoint status', text)


def main():
    server = claviger.Server().start()
    etcd = Etcd()
    try:
        ours = Side(claviger.Client(server), 'http://localhost:2380')
        test_same(ours, Side(etcd.client, etcd.peer))
        test_own(ours)
        test_downgrade(ours)
        test_etcdctl(server, ours)
    finally:
        etcd.stop()
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
