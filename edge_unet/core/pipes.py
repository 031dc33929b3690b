"""A reader that goes away, as `head` does."""

from __future__ import annotations

import os
import select
import sys

BROKEN_PIPE = 1
"""The exit code that Python's documentation gives a program whose reader went away (signal, "Note on SIGPIPE")."""


def leave_broken_streams() -> bool:
    """Point stdout and stderr at nothing where nobody reads them any more; whether one of them was so.

    For the handler of a BrokenPipeError: without it the interpreter complains when it flushes them at its end. False
    means that another pipe broke, which is an error like any other.
    """
    broken = [file for file in (sys.stdout.fileno(), sys.stderr.fileno()) if _nobody_reads(file)]
    for file in broken:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, file)
        os.close(nothing)
    return bool(broken)


def _nobody_reads(file: int) -> bool:
    """Asked of the system: a stream that failed once does not fail again."""
    poll = select.poll()
    poll.register(file, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
