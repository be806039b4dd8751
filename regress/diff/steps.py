"""A step of a history: what is asked, and by whom.

A history is a list of steps that names nothing a server chooses by itself, so
that it can be sent to any server, cut down, printed and read again.  A step is

    method  a method of sides.METHODS; or Watch (a message on a stream of
            watches, opened by its first), Settle (compare what the watches
            got), Expired (wait until a lease has run out)
    as      '' nobody, '!' somebody with a token that is none, else the name
            of the user whose latest token is sent
    message the request
    stream  number of the stream, for Watch
"""
import json

from google.protobuf import text_format

from sides import E, METHODS

REQUESTS = {name: request for name, (_, request, _) in METHODS.items()}
REQUESTS['Settle'] = E.StatusRequest
REQUESTS['Expired'] = E.LeaseTimeToLiveRequest


class Step:
    __slots__ = ('method', 'identity', 'message', 'stream')

    def __init__(self, method, identity='', message=None, stream=0):
        self.method, self.identity, self.stream = method, identity, stream
        self.message = REQUESTS[method]() if message is None else message

    def to_line(self):
        record = {'method': self.method, 'as': self.identity,
                  'message': text_format.MessageToString(self.message, as_one_line=True)}
        if self.method == 'Watch':
            record['stream'] = self.stream
        return json.dumps(record)

    @classmethod
    def from_line(cls, line):
        record = json.loads(line)
        message = REQUESTS[record['method']]()
        text_format.Parse(record['message'], message)
        return cls(record['method'], record['as'], message, record.get('stream', 0))

    def __str__(self):
        return self.show(2000)

    def show(self, length):
        who = {'': 'nobody', '!': 'a bad token'}.get(self.identity, self.identity)
        where = ' on stream %d' % self.stream if self.method == 'Watch' else ''
        text = text_format.MessageToString(self.message, as_one_line=True)
        return '%s%s by %s {%s}' % (self.method, where, who, text if len(text) < length else text[:length] + '...')


def write_history(path, steps, comment):
    with open(path, 'w') as file:
        file.write(''.join('# %s\n' % line for line in comment.split('\n')))
        file.write(''.join(step.to_line() + '\n' for step in steps))


def read_history(path):
    with open(path) as file:
        return [Step.from_line(line) for line in file if line.strip() and not line.startswith('#')]
