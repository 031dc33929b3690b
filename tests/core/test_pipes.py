"""A pipe that breaks elsewhere is not taken for a reader of stdout that went away."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from command_line import Call

CODE = "from edge_unet.core.pipes import leave_broken_streams as f; import sys; print(f(), f(), file=sys.stderr)"


def test_whose_reader_is_there_is_left_alone() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "False False\n")


def test_a_stream_that_nobody_reads_is_pointed_at_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", CODE], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == "True False\n"


def test_another_broken_pipe_keeps_its_traceback(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("edge_unet.pipeline.doctor.examine", broken)
    with pytest.raises(RuntimeError, match="neither stdout nor stderr"):
        call("doctor")
