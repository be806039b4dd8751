"""Sends a history to both servers and compares what comes back."""
import time

import compare
import rules
from sides import E, METHODS, P, Pair, WatchStream
from steps import Step

# how long both are given for what they must do in the end: a busy machine needs it
PATIENCE = 30
# in which etcd looks at watches that are behind, though it does so every 100 ms
CATCH_UP_SECONDS = 1
PERMISSION = 'rpc error: code = PermissionDenied desc = etcdserver: permission denied'
EMPTY_RANGE = 'mvcc: watcher range is empty'
REVOKED = (PERMISSION, 'rpc error: code = Unauthenticated desc = etcdserver: invalid auth token',
           'rpc error: code = InvalidArgument desc = etcdserver: user name is empty',
           'rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old')


class Difference:
    def __init__(self, number, step, etcd, claviger):
        self.number, self.step = number, step
        self.etcd, self.claviger = str(etcd), str(claviger)

    def __str__(self):
        return 'step %d: %s\n  etcd:     %s\n  claviger: %s' % (self.number, self.step, self.etcd, self.claviger)


class Run:
    """One history on a fresh pair of servers."""

    def __init__(self, pair, known, patience=PATIENCE):
        self.pair, self.known, self.patience = pair, known, patience
        self.auth = False
        self.compacted_zero = False
        self.compacted = 0
        self.reason = None          # a known difference that ends the history
        self.last_behind = 0        # when a watch was created that had to catch up
        self.slowest = 0            # of what begins the time of a lease
        self.counts = {}            # (method, code): how often
        self.requests_of = {}       # (stream, id): the create request

    # ---- what the rules may ask ----

    def probe(self, side, method, identity, message=None):
        request = METHODS[method][1]() if message is None else message
        return side.answer(method, request, side.ask(method, identity, request))

    def is_admin(self, identity):
        return self.probe(self.pair.etcd, 'UserList', identity).ok

    def is_nobody(self, identity):
        """Does etcd itself, where it looks, take this for no user?"""
        answer = self.probe(self.pair.etcd, 'Range', identity, E.RangeRequest(key=b'a'))
        return (answer.code, answer.text) in (rules.EMPTY_USER, rules.BAD_TOKEN)

    # ---- steps ----

    def step(self, number, step):
        """(Difference or None, known difference or None, etcd's answer)"""
        special = getattr(self, 'step_' + step.method.lower(), None)
        if special is not None:
            found = special(step)
            return (Difference(number, step, *found) if found else None), self.reason, None
        if step.method == 'Compact':
            # a watch that it overtakes is ended, and which one that is is a matter of time
            time.sleep(max(0, self.last_behind + CATCH_UP_SECONDS - time.time()))
            self.wait_watches()
        sides = self.pair.sides
        began = time.time()
        calls = [side.ask(step.method, step.identity, step.message) for side in sides]
        etcd, claviger = [side.answer(step.method, step.message, call) for side, call in zip(sides, calls)]
        took = time.time() - began
        if step.method in ('LeaseGrant', 'LeaseKeepAlive'):
            self.slowest = max(self.slowest, took)
        self.count(step.method, etcd.code)
        learned = etcd
        for answer in (etcd, claviger):
            if answer.message is not None:
                compare.smooth(step, answer.message)
        if compare.equal(step, etcd, claviger, self.slowest + took):
            if etcd.ok and step.method in ('AuthEnable', 'AuthDisable'):
                self.auth = step.method == 'AuthEnable'
            if etcd.ok and step.method == 'Compact':
                self.compacted = step.message.revision
                self.compacted_zero |= step.message.revision == 0
            return None, None, learned
        reason = rules.explain(self.known, step, etcd, claviger, self)
        if reason is not None:
            return None, reason, learned
        return Difference(number, step, etcd, claviger), None, learned

    def count(self, method, code):
        self.counts[method, code] = self.counts.get((method, code), 0) + 1

    def step_expired(self, step):
        answers = []
        for side in self.pair.sides:
            end = time.time() + PATIENCE
            while True:
                answer = self.probe(side, 'LeaseTimeToLive', step.identity, step.message)
                # -1 and a time granted: etcd is late to revoke it
                if not answer.ok or (answer.message.TTL == -1 and not answer.message.grantedTTL) or time.time() > end:
                    break
                time.sleep(0.05)
            answers.append(answer)
        for answer in answers:
            if answer.message is not None:
                compare.smooth(step, answer.message)
        self.count('Expired', answers[0].code)
        if compare.equal(step, *answers):
            return None
        # what it asked differs where a LeaseTimeToLive may differ
        asked = Step('LeaseTimeToLive', step.identity, step.message)
        self.reason = rules.explain(self.known, asked, *answers, self)
        return answers if self.reason is None else None

    # ---- watches ----

    def streams(self, number, identity):
        found = [side.streams.get(number) for side in self.pair.sides]
        if found[0] is None:
            for side in self.pair.sides:
                side.streams[number] = WatchStream(side, identity)
        return [side.streams[number] for side in self.pair.sides]

    def step_watch(self, step):
        kind = step.message.WhichOneof('request_union')
        streams = self.streams(step.stream, step.identity)
        return getattr(self, 'watch_' + kind)(step, streams)

    def watch_create_request(self, step, streams):
        before = [sum(r.created for r in stream.snapshot()[0]) for stream in streams]
        for stream in streams:
            stream.send(step.message)
        came = [stream.wait(lambda rs: sum(r.created for r in rs) > n) for stream, n in zip(streams, before)]
        if step.message.create_request.start_revision > 0:
            self.last_behind = time.time()
        self.count('Watch create', 'answered' if came[0] else 'silent')
        if came[0] != came[1]:
            return [self.describe(stream, ok) for stream, ok in zip(streams, came)]
        if came[0]:
            created = [r for r in streams[0].snapshot()[0] if r.created][before[0]]
            self.requests_of[step.stream, created.watch_id] = step.message.create_request
            own = [r for r in streams[1].snapshot()[0] if r.created][before[1]]
            if own.canceled and not created.canceled and self.is_from_key(step, streams[1], own):
                self.reason = self.known['watch-from-key']
                self.reason.seen += 1
            if 0 < step.message.create_request.start_revision < self.compacted and not created.canceled:
                # that it ends is told in its own time, which a cancel must not overtake
                for stream in streams:
                    stream.wait(lambda rs: any(r.canceled and r.watch_id == created.watch_id for r in rs))
        return None

    def is_from_key(self, step, stream, refused):
        """Was a watch of all keys from one on refused to one who may not read them?"""
        request = step.message.create_request
        return (request.range_end == b'\x00' and refused.cancel_reason == PERMISSION
                and rules.refused(self.read_as(stream, request)))

    def read_as(self, stream, request):
        """The answer to a Range of what is watched, with the stream's own token."""
        side = self.pair.claviger
        read = E.RangeRequest(key=request.key or b'\x00', range_end=request.range_end, count_only=True)
        return side.answer('Range', read, side.ask('Range', '', read, metadata=stream.metadata))

    @staticmethod
    def describe(stream, came):
        if came:
            return 'answered'
        end = stream.snapshot()[1]
        return 'no answer' + (', stream ended with %s "%s"' % end if end else '')

    def watch_cancel_request(self, step, streams):
        found = self.step_settle(step)
        if found:
            return found
        id = step.message.cancel_request.watch_id
        for stream in streams:
            log = compare.watch_logs(stream.snapshot()[0])[0].get(id, [])
            is_open = any(e[0] == 'created' for e in log) and not any(e[0] == 'canceled' for e in log)
            stream.send(step.message)
            if is_open and not stream.wait(lambda rs: any(r.canceled and r.watch_id == id for r in rs)):
                return ['no answer to the cancel of watch %d' % id if s is stream else '' for s in streams]
        self.count('Watch cancel', 'sent')
        return None

    def watch_progress_request(self, step, streams):
        before = [self.progress(stream) for stream in streams]
        open_watches = [compare.watch_logs(stream.snapshot()[0])[0] for stream in streams]
        if any(not any(log and log[-1][0] != 'canceled' for id, log in logs.items() if id not in (-1, compare.REFUSED))
               for logs in open_watches):
            return None             # later versions do not answer when there is no watch
        if any(request.start_revision > 1 for (s, _), request in self.requests_of.items() if s == step.stream):
            return None             # nor while a watch waits for a revision to come
        for stream in streams:
            stream.send(step.message)
        if not streams[0].wait(lambda rs: self.progress(streams[0]) > before[0]):
            return ['no progress', 'not looked at']
        for _ in range(PATIENCE * 3):   # a stream that is catching up is to be asked again
            if streams[1].wait(lambda rs: self.progress(streams[1]) > before[1], 0.3):
                break
            streams[1].send(step.message)
        else:
            return ['answered', 'no progress']
        self.count('Watch progress', 'answered')
        last = [[r.header.revision for r in s.snapshot()[0] if r.watch_id == -1 and not r.created][-1] for s in streams]
        return None if last[0] == last[1] else ['progress at %d' % n for n in last]

    def open_watches(self):
        """(stream, id) of the watches that etcd has open."""
        found = []
        for number, stream in self.pair.etcd.streams.items():
            for id, log in compare.watch_logs(stream.snapshot()[0])[0].items():
                if id not in (-1, compare.REFUSED) and not any(e[0] == 'canceled' for e in log):
                    found.append((number, id))
        return found

    def steady_watches(self):
        """Those of them that no compaction can end."""
        return [at for at in self.open_watches() if self.requests_of[at].start_revision == 0]

    @staticmethod
    def progress(stream):
        return sum(r.watch_id == -1 and not r.created for r in stream.snapshot()[0])

    def step_settle(self, step):
        """Compare all that the watches have been told, when both are done."""
        found = self.wait_watches()
        if not found:
            self.count('Settle', 'equal')
        return found

    def wait_watches(self):
        """The difference that is left when both have had time; None when they are equal."""
        end = time.time() + self.patience
        while True:
            found = self.compare_watches()
            if not found or time.time() > end:
                return found
            time.sleep(0.005)

    def compare_watches(self):
        etcd, claviger = self.pair.sides
        for number in etcd.streams:
            (a, a_end), (b, b_end) = etcd.streams[number].snapshot(), claviger.streams[number].snapshot()
            if a_end != b_end:
                return ['stream %d: %s' % (number, end or 'open') for end in (a_end, b_end)]
            (a_logs, a_broken), (b_logs, b_broken) = compare.watch_logs(a), compare.watch_logs(b)
            if b_broken and not a_broken:
                return ['', 'stream %d: %s' % (number, b_broken[0])]
            split = compare.split_revisions(b)
            if split:
                return ['', 'stream %d: watch %d has revision %d in two messages' % (number, *split[0])]
            for id in sorted(set(a_logs) | set(b_logs), key=str):
                if id == -1:
                    continue        # progress of the stream is compared when asked for
                found = self.compare_watch(number, id, a_logs.get(id, []), b_logs.get(id, []))
                if found:
                    return found
        return None

    def compare_watch(self, number, id, a, b):
        a, b = [[e for e in log if e[0] != 'progress'] for log in (a, b)]
        if id == compare.REFUSED:
            a, b = self.same_refusals(a, b)
        elif len(a) > 1 and a[-1][0] == a[-2][0] == 'canceled' and a[-2][2] and a[:-1] == b:
            self.known['watch-cancel-again'].seen += 1
            return None
        if a == b:
            return None
        if self.was_revoked(number, id, a, b):
            return None
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        return ['stream %d, watch %s, of %d entries the %dth: %s'
                % (number, id, len(log), at, self.show(log[at]) if at < len(log) else 'nothing') for log in (a, b)]

    def same_refusals(self, a, b):
        """3.4.23 says "permission denied" whatever the reason is; and who may not
        watch an empty range is told the one or the other."""
        if len(a) != len(b):
            return a, b
        mine = []
        for x, y in zip(a, b):
            if x != y and x[2] == PERMISSION and y[2] in REVOKED:
                self.known['watch-refused'].seen += 1
                y = x
            elif x != y and {x[2], y[2]} == {PERMISSION, EMPTY_RANGE}:
                self.known['inverted-range'].seen += 1
                y = x
            mine.append(y)
        return a, mine

    def was_revoked(self, number, id, a, b):
        """Ended here because a right is gone: then a read of the same must be refused."""
        if not b or b[-1][0] != 'canceled' or b[-1][3] not in REVOKED or a[:len(b) - 1] != b[:-1]:
            return False
        request = self.requests_of.get((number, id))
        if request is None:
            return False
        answer = self.read_as(self.pair.claviger.streams[number], request)
        if not rules.refused(answer):
            return False
        self.known['watch-revoked'].seen += 1
        return True

    @staticmethod
    def show(entry):
        if entry[0] != 'event':
            return str(entry)
        return 'event {%s}' % ' '.join(str(P['mvccpb'].Event.FromString(entry[1])).split())

    # ---- the end ----

    def finish(self, number):
        """What is there at the end must be equal as well."""
        found = self.step_settle(None)
        if found:
            return Difference(number, Step('Settle'), *found)
        if self.pair.etcd.streams:
            time.sleep(0.15)        # nothing more may come
            found = self.step_settle(None)
            if found:
                return Difference(number, Step('Settle'), *found)
        who = 'root' if self.auth else ''
        for step in [Step('Range', who, E.RangeRequest(key=b'\x00', range_end=b'\x00')), Step('UserList', who),
                     Step('RoleList', who)]:
            difference, _, _ = self.step(number, step)
            if difference:
                return difference
        return None


def replay(top, known, steps, patience=PATIENCE):
    """Run given steps: (index of the step that differs, Difference), or None."""
    pair = Pair(top)
    try:
        run = Run(pair, known, patience)
        for i, step in enumerate(steps):
            difference, reason, _ = run.step(i, step)
            if difference:
                return i, difference
            if reason is not None and reason.ends_history(step):
                return None
        difference = run.finish(len(steps))
        return (len(steps), difference) if difference else None
    finally:
        pair.stop()
