# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""Peak memory of one artifact: the high-water mark of a fresh process that loads and runs it and nothing else."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from .engines import open_engines
from .errors import RunnerError
from .job import Job
from .sessions import Opened, open_subject

STATUS = Path("/proc/self/status")
ANSWER = "peak_rss_bytes="
RUNS = 5


def peak_rss_bytes(program: Path, job_file: Path, number: int, opened: Opened) -> int | None:
    """Bytes at the peak, Python and the runtime's libraries included; None where the kernel does not tell.

    `program` is the zipapp that runs now. Raises RunnerError where the child fails, with its last line.
    """
    if not STATUS.is_file():
        return None
    done = subprocess.run(
        [sys.executable, "-B", str(program), "memory", str(job_file), str(number), opened.precision],
        stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    answers = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith(ANSWER)]
    if done.returncode != 0 or not answers:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise RunnerError(f"{opened.label}: the process that measures memory failed: {last[0]}")
    return int(answers[-1][len(ANSWER) :])


def answer(job: Job, number: int, precision: str) -> str:
    """The child: open, run, tell its own high-water mark."""
    subject = job.subjects[number]
    with ExitStack() as stack:
        if subject.engine == "tensorrt":
            opened = next(o for o in open_engines(stack, subject) if o.precision == precision)
        else:
            opened = open_subject(subject, job.threads)
        for _ in range(RUNS):
            opened.run()
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return f"{ANSWER}{int(line.split()[1]) * 1024}"
    raise RunnerError(f"{STATUS} has no VmHWM line")
