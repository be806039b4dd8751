"""Makes a history that shows a difference smaller: first steps, then parts of the
last request."""
import time

from run import replay
from steps import Step


def shrink(top, known, steps, difference, seconds):
    """(steps, Difference): the smallest found in that time that still differs."""
    end = time.time() + seconds
    best = (steps, difference)

    def differs(candidate):
        """The candidate cut off at its difference, if it has one of the same kind."""
        found = replay(top, known, candidate, patience=5)
        if found is None or found[1].step.method != best[1].step.method:
            return None
        return candidate[:found[0] + 1], found[1]

    size = max(1, len(steps) // 2)
    while time.time() < end:
        smaller = without_some(best[0], size, differs, end)
        if smaller:
            best = smaller
            size = min(size, max(1, len(best[0]) // 2))
        elif size > 1:
            size //= 2
        else:
            break
    while time.time() < end:
        smaller = next(filter(None, (differs(c) for c in simpler_last(best[0]) if time.time() < end)), None)
        if not smaller:
            break
        best = smaller
    return best


def without_some(steps, size, differs, end):
    """The same without `size` steps in a row, if that still differs."""
    last = len(steps) - 1
    for start in range(max(0, last - size), -1, -size):
        if time.time() > end:
            return None
        found = differs(steps[:start] + steps[start + size:] if start + size <= last else steps[:start] + steps[last:])
        if found and len(found[0]) < len(steps):
            return found
    return None


def simpler_last(steps):
    if steps:
        last = steps[-1]
        for message in simpler(last.message):
            yield steps[:-1] + [Step(last.method, last.identity, message, last.stream)]


def simpler(message):
    """The message with one thing less, in each possible way."""
    for field, value in message.ListFields():
        if field.label == field.LABEL_REPEATED:
            for i in range(len(value)):
                copy = type(message)()
                copy.CopyFrom(message)
                del getattr(copy, field.name)[i]
                yield copy
                if field.message_type is not None:
                    for inner in simpler(value[i]):
                        copy = type(message)()
                        copy.CopyFrom(message)
                        getattr(copy, field.name)[i].CopyFrom(inner)
                        yield copy
            continue
        copy = type(message)()
        copy.CopyFrom(message)
        copy.ClearField(field.name)
        yield copy
        if field.message_type is not None:
            for inner in simpler(value):
                copy = type(message)()
                copy.CopyFrom(message)
                getattr(copy, field.name).CopyFrom(inner)
                yield copy
