// The npm package etcd3 against one server; run by 040_node_etcd3.t, which says
// in the environment where it is and who asks.  Prints a line for each check:
// "ok NAME" or "not ok NAME: why".
'use strict';
const fs = require('fs');
const assert = require('assert');
const { Etcd3, EtcdPermissionDeniedError, EtcdAuthenticationFailedError, EtcdLockFailedError } = require('etcd3');

const env = process.env;
const read = (path) => (path ? fs.readFileSync(path) : undefined);

function connect(auth) {
  const options = { hosts: env.URL };
  if (env.CA) {
    options.credentials = { rootCertificate: read(env.CA), privateKey: read(env.KEY), certChain: read(env.CERT) };
  }
  if (auth) {
    options.auth = auth;
  }
  return new Etcd3(options);
}

const passwordAuth = env.CLIENT_USER && { username: env.CLIENT_USER, password: env.CLIENT_PASSWORD };
const rootAuth = { username: 'root', password: env.ROOT_PASSWORD };
const client = connect(passwordAuth);
// what is the client's own naming stays where the user has rights
const app = client.namespace('app/');

const patienceMs = 60000 * Number(env.SLOW || 1);
const within = (promise, what) => Promise.race([
  promise,
  new Promise((_, reject) => setTimeout(() => reject(new Error('no ' + what)), patienceMs).unref()),
]);
const event = (emitter, name) => within(new Promise((resolve) => emitter.once(name, resolve)), name);

const checks = {
  async 'put and get'() {
    await app.put('a').value('one');
    assert.strictEqual(await app.get('a').string(), 'one');
    assert.strictEqual(await app.get('none').string(), null);
    assert.strictEqual(await app.get('a').exists(), true);
    await app.put('n').value(42);
    assert.strictEqual(await app.get('n').number(), 42);
    await app.put('j').value(JSON.stringify({ x: 1 }));
    assert.deepStrictEqual(await app.get('j').json(), { x: 1 });
  },
  async 'getAll: prefix, sort, limit, keys, count'() {
    for (const k of ['1', '2', '3']) {
      await app.put('p/' + k).value('v' + k);
    }
    assert.deepStrictEqual(await app.getAll().prefix('p/').strings(), { 'p/1': 'v1', 'p/2': 'v2', 'p/3': 'v3' });
    assert.deepStrictEqual(await app.getAll().prefix('p/').sort('Key', 'Descend').limit(2).keys(), ['p/3', 'p/2']);
    assert.strictEqual(await app.getAll().prefix('p/').count(), 3);
    assert.deepStrictEqual(await app.getAll().inRange({ start: 'p/1', end: 'p/3' }).keys(), ['p/1', 'p/2']);
  },
  async 'put with previous, touch, revisions'() {
    const first = await app.put('r').value('one').exec();
    const second = await app.put('r').value('two').getPrevious();
    assert.strictEqual(second.value.toString(), 'one');
    assert.strictEqual(await app.get('r').revision(first.header.revision).string(), 'one');
    await app.put('r').touch();
    assert.strictEqual(await app.get('r').string(), 'two');
  },
  async 'delete'() {
    await app.put('d').value('x');
    assert.strictEqual((await app.delete().key('d').exec()).deleted, '1');
    assert.strictEqual((await app.delete().prefix('p/').getPrevious()).length, 3);
  },
  async 'if, then, else'() {
    const done = await app.if('none', 'Create', '==', 0).then(app.put('t').value('1')).else(app.get('t')).commit();
    assert.strictEqual(done.succeeded, true);
    const again = await app.if('t', 'Value', '==', 'x').then(app.put('t').value('2')).else(app.get('t')).commit();
    assert.strictEqual(again.succeeded, false);
    assert.strictEqual(again.responses[0].response_range.kvs[0].value.toString(), '1');
  },
  async 'software transactional memory'() {
    await app.put('s').value(1);
    await app.stm().transact(async (tx) => tx.put('s').value((await tx.get('s').number()) + 1));
    assert.strictEqual(await app.get('s').number(), 2);
  },
  async 'watch'() {
    const watcher = await within(app.watch().prefix('w/').withPreviousKV().create(), 'watch');
    const put = event(watcher, 'put');
    await app.put('w/1').value('x');
    assert.strictEqual((await put).value.toString(), 'x');
    const gone = event(watcher, 'delete');
    await app.delete().key('w/1').exec();
    assert.strictEqual((await gone).key.toString(), 'w/1');
    await watcher.cancel();
  },
  async 'two watches on one connection, from an earlier revision'() {
    const first = await app.put('v/1').value('x').exec();
    await app.put('v/1').value('y');
    const watcher = app.watch().key('v/1').startRevision(first.header.revision).watcher();
    const seen = [];
    const both = new Promise((resolve) => watcher.on('put', (kv) => {
      seen.push(kv.value.toString());
      if (seen.length === 2) resolve();
    }));
    const other = await within(app.watch().key('v/2').create(), 'watch');
    await within(both, 'events');
    assert.deepStrictEqual(seen, ['x', 'y']);
    const put = event(other, 'put');
    await app.put('v/2').value('z');
    await put;
    await watcher.cancel();
    await other.cancel();
  },
  async 'lease'() {
    const lease = app.lease(10);
    await lease.put('l').value('x');
    assert.strictEqual((await lease.keepaliveOnce()).TTL, '10');
    const id = await lease.grant();
    const left = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
    assert.deepStrictEqual(left.keys.map(String), ['app/l']);
    await lease.revoke();
    assert.strictEqual(await app.get('l').string(), null);
  },
  async 'lock'() {
    const lock = app.lock('lock').ttl(60);
    await lock.acquire();
    await assert.rejects(app.lock('lock').ttl(60).acquire(), EtcdLockFailedError);
    await lock.release();
    await app.lock('lock').ttl(60).do(async () => {});
  },
  async 'election'() {
    const election = app.election('e', 60);
    const campaign = election.campaign('me');
    await event(campaign, 'elected');
    assert.strictEqual(await within(election.leader(), 'leader'), 'me');
    const observer = await within(election.observe(), 'observer');
    assert.strictEqual(observer.leader(), 'me');
    const change = event(observer, 'change');
    await campaign.proclaim('I');
    assert.strictEqual(await change, 'I');
    await observer.cancel();
    await campaign.resign();
  },
  async 'maintenance and members'() {
    const status = await client.maintenance.status();
    assert.ok(status.version.startsWith('3.'), status.version);
    const members = await client.cluster.memberList({});
    assert.deepStrictEqual(members.members.map((m) => m.clientURLs), [[env.URL]]);
  },
};

const checksOfRights = {
  async 'permission denied'() {
    await assert.rejects(client.get('other').string(), EtcdPermissionDeniedError);
    await assert.rejects(client.put('other').value('x').exec(), EtcdPermissionDeniedError);
  },
  async 'a wrong password'() {
    const wrong = connect({ username: 'app', password: 'wrong' });
    await assert.rejects(wrong.get('app/a').string(), EtcdAuthenticationFailedError);
    wrong.close();
  },
  async 'users and roles, by root'() {
    const root = connect(rootAuth);
    const role = root.role('made');
    await role.create();
    await role.grant({ permission: 'Readwrite', range: root.range({ prefix: 'made/' }) });
    assert.strictEqual((await role.permissions()).length, 1);
    const user = root.user('maker');
    await user.create('secret');
    await user.addRole('made');
    assert.deepStrictEqual((await user.roles()).map((r) => r.name), ['made']);
    const maker = connect({ username: 'maker', password: 'secret' });
    await maker.put('made/x').value('y');
    maker.close();
    await user.removeRole('made');
    await user.delete();
    await role.delete();
    root.close();
  },
};

async function main() {
  const all = Object.assign({}, checks, env.CA ? checksOfRights : {});
  for (const [name, check] of Object.entries(all)) {
    try {
      await within(check(), 'end');
      console.log('ok ' + name);
    } catch (error) {
      console.log(('not ok ' + name + ': ' + error.message).replace(/\n/g, ' '));
    }
  }
  client.close();
  process.exit(0);
}

main();
