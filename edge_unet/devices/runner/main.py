# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""The zipapp's command line: bench JOB RESULT | memory JOB NUMBER PRECISION | probe. Lines of progress begin with
'say: ', the line that explains a failure with 'error: '."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from . import machine
from .errors import MISSING, RunnerError


def main(arguments: list[str], program: Path) -> int:
    """Run one verb; the exit code is one of errors."""
    verb = arguments[0] if arguments else ""
    try:
        if verb == "probe":
            print(json.dumps(machine.probe()))
        elif verb == "bench":
            _need_numpy()
            from .bench import run

            run(Path(arguments[1]), Path(arguments[2]), program, _say)
        elif verb == "memory":
            from .job import read_job
            from .memory import answer

            print(answer(read_job(Path(arguments[1])), int(arguments[2]), arguments[3]))
        else:
            raise RunnerError(f"unknown verb {verb!r}")
    except RunnerError as error:
        return _failed(str(error), error.exit_code)
    except OSError as error:  # a full disk, a file that vanished
        return _failed(f"{error.strerror or error}: {Path(str(error.filename or 'the device')).name}", 1)
    except MemoryError:
        return _failed("the device has not enough memory", 1)
    return 0


def _need_numpy() -> None:
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        python = sys.executable or "python3"
        raise RunnerError(
            f"numpy is missing on the device ({python}: {error}); install it there: sudo apt install python3-numpy, or "
            "python3 -m venv ~/.edge-unet && ~/.edge-unet/bin/pip install numpy",
            MISSING,
        ) from error


def _say(line: str) -> None:
    print(f"say: {line}", flush=True)


def _failed(message: str, code: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    return code
