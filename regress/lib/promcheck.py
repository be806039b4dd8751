"""A strict reader of Prometheus' text format: what it does not understand, or
what a scraper might misread, is a complaint."""
import math
import re

NAME = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*$')
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
TYPES = ('counter', 'gauge', 'histogram')


def labels_of(text, complain):
    labels, at = [], 0
    while text is not None and at < len(text):
        found = LABEL.match(text, at)
        if not found or (found.group(3) == ',' and found.end() == len(text)):
            complain('bad labels {%s}' % text)
            return tuple(labels)
        labels.append((found.group(1), found.group(2)))
        at = found.end()
    if len({name for name, _ in labels}) != len(labels):
        complain('a label twice in {%s}' % text)
    return tuple(labels)


def check_histogram(name, samples, complain):
    series = {}
    for (sample, labels), value in samples.items():
        rest = tuple(sorted(pair for pair in labels if pair[0] != 'le'))
        one = series.setdefault(rest, {'buckets': [], 'sum': None, 'count': None})
        if sample == name + '_bucket':
            one['buckets'].append((float(dict(labels)['le'].replace('+Inf', 'inf')), value))
        elif sample in (name + '_sum', name + '_count'):
            one[sample[len(name) + 1:]] = value
        else:
            complain('%s is no part of histogram %s' % (sample, name))
    for rest, one in series.items():
        bounds = [bound for bound, _ in one['buckets']]
        counts = [count for _, count in one['buckets']]
        if bounds != sorted(set(bounds)) or not bounds or bounds[-1] != math.inf:
            complain('%s%s: bounds %s' % (name, rest, bounds))
        if counts != sorted(counts):
            complain('%s%s: counts are not cumulative' % (name, rest))
        if one['sum'] is None or one['count'] is None or not counts or counts[-1] != one['count']:
            complain('%s%s: sum or count is missing or wrong' % (name, rest))


def check(text):
    """(complaints, {(sample name, labels): value})"""
    complaints, families, samples, order = [], {}, {}, []
    complain = complaints.append
    if not text.endswith('\n'):
        complain('the last line has no end')
    for line in text.split('\n')[:-1]:
        if line.startswith('# HELP '):
            name, _, text = line[7:].partition(' ')
            if not NAME.match(name) or name in families or not text or re.search(r'\\[^\\n]', text):
                complain('bad line: ' + line)
            families[name] = {'type': None, 'samples': {}}
            order.append(name)
        elif line.startswith('# TYPE '):
            words = line[7:].split(' ')
            if len(words) != 2 or words[1] not in TYPES or not order or order[-1] != words[0] or \
                    families[words[0]]['type'] is not None or families[words[0]]['samples']:
                complain('bad line: ' + line)
            else:
                families[words[0]]['type'] = words[1]
        else:
            found = SAMPLE.match(line)
            if not found or not order:
                complain('bad line: ' + line)
                continue
            name, labels = found.group(1), labels_of(found.group(2), complain)
            family = families[order[-1]]
            parts = [order[-1]] if family['type'] != 'histogram' else \
                [order[-1] + end for end in ('_bucket', '_sum', '_count')]
            if name not in parts:
                complain('%s stands below %s' % (name, order[-1]))
            try:
                value = float(found.group(3))
            except ValueError:
                complain('no number: ' + line)
                continue
            if math.isnan(value) or (family['type'] != 'gauge' and value < 0):
                complain('impossible: ' + line)
            key = (name, labels)
            if (name, tuple(sorted(labels))) in {(n, tuple(sorted(l))) for n, l in family['samples']}:
                complain('twice: ' + line)
            family['samples'][key] = value
            samples[key] = value
    for name, family in families.items():
        if family['type'] is None:
            complain('%s has no type' % name)
        if family['type'] == 'histogram':
            check_histogram(name, family['samples'], complain)
    return complaints, samples
