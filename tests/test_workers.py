"""Tests of one file run on one worker, so that its fixtures are made once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from worker_groups import group_of

FILE = """
import os

import pytest

@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_one(case):
    with open(WHO, "a") as file:
        print(__name__, case, os.environ["PYTEST_XDIST_WORKER"], file=file)

test_two = test_three = test_one
"""


def test_what_a_group_is() -> None:
    assert group_of("tests/core/test_spec.py::test_a[1]") == "tests/core/test_spec.py"
    assert group_of("tests/segment/web/test_server.py::test_a") == "tests/segment/web"
    assert group_of("tests/models/test_contract.py::test_a[unet]") == "tests/models/test_contract.py[unet]"
    assert group_of("tests/models/test_contract.py::test_a") == "tests/models/test_contract.py"


def test_two_workers_share_no_group(tmp_path: Path) -> None:
    """With the xdist and pytest that are installed."""
    names = ["test_presets", *(f"test_{n}" for n in range(6))]
    for name in names:
        (tmp_path / f"{name}.py").write_text(FILE.replace("WHO", repr(str(tmp_path / "who.txt"))), encoding="utf-8")
    plugin = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-p", "worker_groups", "."]
    environment = {**os.environ, "PYTHONPATH": plugin}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    workers: dict[str, set[str]] = defaultdict(set)
    for line in (tmp_path / "who.txt").read_text(encoding="utf-8").splitlines():
        name, case, worker = line.split()
        workers[f"{name}[{case}]" if name == "test_presets" else name].add(worker)
    assert len(workers) == 3 + 6
    assert all(len(found) == 1 for found in workers.values()), dict(workers)
    assert set.union(*workers.values()) == {"gw0", "gw1"}
