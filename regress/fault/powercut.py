"""The disk that a power cut leaves, made from a journal of what was done to it.

regress/fault/diskjournal.c writes the journal (and says what its order means),
the test adds marks of what was acknowledged.  Disk replays it up to the cut
and knows then what had been synced; survive() makes a directory of that and of
any part of the rest, as a disk with a cache and a kernel that writes when it
likes may leave it:

  data       of what was written after the last sync of its file each sector of
             512 bytes is there or not, whatever became of the others
  names      created, renamed and removed files in the order in which that was
             done, up to some point behind the last sync that covers it.
             journalled: any sync covers all names, as in ext4 and xfs, which
             commit their journal in order; strict: only that of the directory
"""
import json
import os
import struct

HEADER = struct.Struct('<IIQqQ')
CREATE, WRITE, ZEROS, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR, MARK = range(1, 11)
SECTOR = 512


class Marker:
    """Adds to the journal what a client was told."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, **what):
        text = json.dumps(what).encode()
        os.write(self.fd, HEADER.pack(MARK, 0, 0, 0, len(text)) + text)


def records(path):
    """(kind, paths, inode, offset, length, data) of each whole record."""
    with open(path, 'rb') as file:
        while True:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size:
                return
            kind, path_bytes, inode, offset, length = HEADER.unpack(head)
            paths = [p.decode() for p in file.read(path_bytes).split(b'\0')[:-1]]
            data = file.read(length) if kind in (WRITE, MARK) else b''
            if kind in (WRITE, MARK) and len(data) < length:
                return
            yield kind, paths, inode, offset, length, data


class File:
    def __init__(self):
        self.synced = bytearray()
        self.pending = []               # (number, kind, offset, data) since then

    def sync(self, until):
        """What was done before record `until` is there for good."""
        while self.pending and self.pending[0][0] < until:
            _, kind, offset, data = self.pending.pop(0)
            apply(self.synced, kind, offset, data)

    def survivors(self, rng, chance):
        content = bytearray(self.synced)
        for _, kind, offset, data in self.pending:
            if kind == TRUNCATE:
                # what came after it went to a file that had been cut
                if rng.random() >= chance:
                    break
                apply(content, kind, offset, data)
                continue
            for begin in range(offset - offset % SECTOR, offset + len(data), SECTOR):
                first, last = max(begin, offset), min(begin + SECTOR, offset + len(data))
                if rng.random() < chance:
                    apply(content, WRITE, first, data[first - offset:last - offset])
        return content


def apply(content, kind, offset, data):
    if kind == TRUNCATE:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset:offset + len(data)] = data


class Disk:
    def __init__(self, root):
        self.root = root
        self.files = {}                 # inode: File
        self.directories = {}           # inode: path
        self.names = []                 # (number, directory, change)
        self.synced_names = {}          # directory: changes before this record are there for good
        self.syncs = {}                 # of those under way: the record that began it
        self.marks = []
        self.number = 0

    def replay(self, record):
        kind, paths, inode, offset, length, data = record
        self.number += 1
        if kind == MARK:
            self.marks.append(json.loads(data))
        elif kind in (WRITE, ZEROS, TRUNCATE):
            self.files[inode].pending.append((self.number, kind, offset, bytes(length) if kind == ZEROS else data))
        elif kind == SYNC_BEGIN:
            self.syncs[inode, offset] = self.number
        elif kind == SYNC_END:
            self.sync(inode, self.syncs.pop((inode, offset)))
        else:
            self.name(kind, paths, inode)

    def name(self, kind, paths, inode):
        directory, base = os.path.split(paths[0])
        if kind == CREATE:
            # not the inode: it may be another file's before the old name is gone for good
            file = self.files[inode] = File()
            change = lambda entries: entries.update({base: file})
        elif kind == MKDIR:
            self.directories[inode] = paths[0]
            if paths[0] == self.root:
                return
            change = lambda entries: entries.update({base: None})
        elif kind == UNLINK:
            change = lambda entries: entries.pop(base)
        else:
            assert os.path.dirname(paths[1]) == directory, 'a file goes to another directory'
            change = lambda entries: entries.update({os.path.basename(paths[1]): entries.pop(base)})
        self.names.append((self.number, directory, change))

    def sync(self, inode, until):
        if inode in self.files:
            self.files[inode].sync(until)
        for directory in self.directories.values():
            if self.is_journalled or self.directories.get(inode) == directory:
                self.synced_names[directory] = max(until, self.synced_names.get(directory, 0))

    # set before the replay begins
    is_journalled = True

    def survive(self, to, rng, chance):
        """Write to the directory `to` what is left; chance: of each thing that
        had not been synced, 0 to 1."""
        cut = self.cut(rng, chance)
        entries = {self.root: {}}
        for number, directory, change in self.names:
            if number <= cut[directory]:
                change(entries.setdefault(directory, {}))
        self.write(self.root, to, entries, rng, chance)

    def cut(self, rng, chance):
        """Up to which record the names of each directory are as they were changed."""
        def one(first):
            later = [number for number, _, _ in self.names if number >= first]
            if chance in (0, 1) or not later:
                return first - 1 if chance == 0 else self.number
            return rng.choice([first - 1] + later)
        directories = {directory for _, directory, _ in self.names}
        if self.is_journalled:
            all_of_them = one(max(self.synced_names.values(), default=0))
            return {d: all_of_them for d in directories}
        return {d: one(self.synced_names.get(d, 0)) for d in directories}

    def write(self, directory, to, entries, rng, chance):
        os.mkdir(to, 0o700)
        for base, held in entries.get(directory, {}).items():
            if held is None:
                self.write(os.path.join(directory, base), os.path.join(to, base), entries, rng, chance)
                continue
            fd = os.open(os.path.join(to, base), os.O_WRONLY | os.O_CREAT, 0o600)
            with open(fd, 'wb') as file:
                file.write(held.survivors(rng, chance))
