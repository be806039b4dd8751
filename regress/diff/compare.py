"""Answers in a form in which equal means equal.

Only what the file `differences` names is smoothed out here: ids a server
chooses, the order of what has none.
"""
from sides import E

HEADER_IDS = ('cluster_id', 'member_id', 'raft_term')


def smooth_headers(message):
    """Ids in headers become 1 where they are set."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for each in value if field.label == field.LABEL_REPEATED else (value,):
            if each.DESCRIPTOR.name == 'ResponseHeader':
                for name in HEADER_IDS:
                    if getattr(each, name):
                        setattr(each, name, 1)
            elif each.DESCRIPTOR.full_name.startswith('etcdserverpb.'):
                smooth_headers(each)


def sort_value(kv, target):
    return (kv.key, kv.version, kv.create_revision, kv.mod_revision, kv.value)[target]


def smooth_range(request, answer):
    """Unstable sorts: order those of equal value by key, and leave out the last
    value if a limit may have cut among equals."""
    if answer.count <= 12 or request.sort_target == E.RangeRequest.KEY:
        return
    if request.keys_only and request.sort_target == E.RangeRequest.VALUE:
        # the values by which they are sorted are not there
        kvs = sorted(answer.kvs, key=lambda kv: kv.key) if not answer.more else []
    else:
        target = request.sort_target
        kvs = sorted(answer.kvs, key=lambda kv: (sort_value(kv, target), kv.key))
        if answer.more and kvs:
            cut = sort_value(answer.kvs[-1], target)
            kvs = [kv for kv in kvs if sort_value(kv, target) != cut]
        down = request.sort_order == E.RangeRequest.DESCEND
        values = [sort_value(kv, target) for kv in answer.kvs]
        if values != sorted(values, reverse=down):
            return
    keep = [type(kv)() for kv in kvs]
    for new, old in zip(keep, kvs):
        new.CopyFrom(old)
    del answer.kvs[:]
    answer.kvs.extend(keep)


def smooth_txn(request, answer):
    operations = request.success if answer.succeeded else request.failure
    for op, result in zip(operations, answer.responses):
        kind = op.WhichOneof('request')
        if kind == 'request_range':
            smooth_range(op.request_range, result.response_range)
        elif kind == 'request_txn':
            smooth_txn(op.request_txn, result.response_txn)


def smooth(step, message):
    """What is compared of an answer; changes the message."""
    smooth_headers(message)
    if step.method == 'Range':
        smooth_range(step.message, message)
    elif step.method == 'Txn':
        smooth_txn(step.message, message)
    elif step.method == 'Authenticate':
        message.token = 'set' if message.token else ''
    elif step.method == 'LeaseTimeToLive':
        keys = sorted(message.keys)
        del message.keys[:]
        message.keys.extend(keys)
    elif step.method == 'LeaseLeases':
        ids = sorted(lease.ID for lease in message.leases)
        for lease, id in zip(message.leases, ids):
            lease.ID = id
    elif step.method == 'MemberList':
        for member in message.members:
            member.ID = 1
            member.name = 'set' if member.name else ''
            del member.peerURLs[:]
            del member.clientURLs[:]
    return message


def equal(step, a, b, seconds=0):
    """seconds: by how much the two may have been asked, or have begun, at different times."""
    if (a.code, a.text) != (b.code, b.text):
        return False
    if a.message is None or b.message is None:
        return a.message is b.message
    if step.method == 'LeaseTimeToLive' and abs(a.message.TTL - b.message.TTL) <= 1 + seconds and min(a.message.TTL, b.message.TTL) >= 0:
        b.message.TTL = a.message.TTL
    return a.message == b.message


# ---- watches ----

REFUSED = 'refused'


def watch_logs(responses):
    """What each watch of a stream has been told, in order: a list by id, refused
    ones under their own name.  How events are cut into messages is not part of it."""
    logs = {}
    broken = []
    for r in responses:
        id = r.watch_id
        if r.created and r.canceled:
            logs.setdefault(REFUSED, []).append(('refused', r.header.revision, r.cancel_reason))
            continue
        log = logs.setdefault(id, [])
        if r.created:
            log.append(('created', r.header.revision))
        for event in r.events:
            if event.kv.mod_revision > r.header.revision:
                broken.append('an event of revision %d under a header of revision %d'
                              % (event.kv.mod_revision, r.header.revision))
            if not r.fragment and event is r.events[-1]:
                log.append(('event', event.SerializeToString(), 'end'))
            else:
                log.append(('event', event.SerializeToString()))
        if r.canceled:
            log.append(('canceled', r.header.revision, r.compact_revision, r.cancel_reason))
        if not r.created and not r.canceled and not r.events:
            log.append(('progress', r.header.revision))
    return {id: merge(log) for id, log in logs.items()}, broken


def merge(log):
    """Events without the marks of where messages end, but a message that ends in the
    middle of a revision is kept to be seen."""
    return [entry[:2] if entry[0] == 'event' else entry for entry in log]


def split_revisions(responses):
    """Revisions whose events have come in two messages that are not fragments."""
    last, split = {}, []
    for r in responses:
        if r.events:
            first = r.events[0].kv.mod_revision
            if last.get(r.watch_id) == (first, False):
                split.append((r.watch_id, first))
            last[r.watch_id] = (r.events[-1].kv.mod_revision, r.fragment)
    return split
