"""What a device's own shell runs: fixed programs of POSIX sh. Names reach them as arguments, never as text of theirs.

They hold no single quote, backslash or line break, so that every login shell takes them as one quoted word. Each
begins by echoing a mark: what a login shell's start-up files print stands before it and is dropped. They exit with 254
where they cannot do their own part; 255 is ssh's word for a lost connection.

A connection that is lost closes the standard input of whatever runs on the device. Every script that outlives a
moment waits for that: the program is ended then, and the room removed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

MARK = "edge-unet:begins"

_CLEAN = (
    'clean() { if [ -f "$room/.group" ]; then kill -KILL -$(cat "$room/.group"); fi 2>/dev/null; '
    'rm -rf -- "$room" || { sleep 1; rm -rf -- "$room"; }; }; '
)

GREETING = "exec cat >/dev/null"
"""Keeps a connection open until its input ends."""

ROOM = (
    "umask 077; "
    'room=$(mktemp -d "${TMPDIR:-/tmp}/edge-unet.XXXXXXXXXX") || exit 254; '
    f'{_CLEAN}trap clean EXIT; trap "exit 254" HUP INT TERM; echo "$room"; cat >/dev/null; exit 0'
)
"""Make a room, tell its name, keep it until the input ends, remove it with whatever still runs in it."""

SWEEP = f'room=$1; [ -d "$room" ] || exit 0; {_CLEAN}clean'
"""Remove a room whose keeper may be gone. Arguments: the room."""

RUN = (
    'room=$1; cd -- "$2" || exit 254; shift 2; exec 3<&0; '
    'if [ -n "$room" ]; then TMPDIR=$room; export TMPDIR; echo $$ >"$room/.group" || exit 254; fi; '
    '"$@" </dev/null 3<&- & program=$!; '
    "{ cat <&3; kill -KILL -$$ || kill -KILL $program; } >/dev/null 2>&1 & watch=$!; "
    "exec 3<&-; wait $program; code=$?; kill $watch 2>/dev/null; "
    'if [ -n "$room" ]; then rm -f -- "$room/.group"; fi; '
    "if [ $code -ge 254 ]; then code=253; fi; exit $code"
)
"""Run a program without input. Arguments: the room or nothing, folder, program, its arguments. What the program and
its libraries leave in TMPDIR goes with the room; .group tells which process group SWEEP must end."""

UNPACK = 'cd -- "$1" || exit 254; exec tar -x -o -f -'
"""Unpack the tar archive that comes in. Arguments: the folder."""

READ = 'exec cat -- "$1"'
"""Give a file out. Arguments: the file."""

PYTHON = (
    'python=$HOME/.edge-unet/bin/python3; [ -x "$python" ] || python=$(command -v python3) || exit 127; echo "$python"'
)
"""The Python to use: that of the virtual environment ~/.edge-unet where there is one, else the device's own."""


def marked(script: str) -> str:
    """The script, with the mark before all that it prints."""
    return f"echo {MARK}; {script}"


def one_command(script: str, arguments: Sequence[str]) -> str:
    """What a login shell is given: the script for sh as one quoted word, each argument as another."""
    return " ".join(["exec", "sh", "-c", *map(shlex.quote, (marked(script), "sh", *arguments))])


def after_mark(printed: bytes) -> bytes:
    """What the script itself printed."""
    return printed.partition(MARK.encode() + b"\n")[2]
