"""Fixtures shared by all tests. Real data is used where it lies; without it the tests that need it skip visibly."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from command_line import Call, Outcome
from numpy.typing import NDArray
from tiny_graph import frames_u8 as make_frames
from tiny_graph import write_tiny
from worker_groups import pytest_collection_modifyitems, pytest_xdist_make_scheduler

if TYPE_CHECKING:
    from small_road import Road

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits "ignore"

ROOT = Path(__file__).resolve().parent.parent
__all__ = ["pytest_collection_modifyitems", "pytest_xdist_make_scheduler"]  # hooks
DATA = Path(os.environ.get("EDGE_UNET_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real image + mask sets."""
    if not DATA.is_dir():
        pytest.skip(f"real data not found at {DATA}; set EDGE_UNET_DATA")
    return DATA


@pytest.fixture(scope="session")
def tiny_canonical(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small binary canonical graph, 64x64."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "canonical.onnx")


@pytest.fixture(scope="session")
def tiny_canonical_multiclass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small canonical graph with three classes, 64x64."""
    return write_tiny(tmp_path_factory.mktemp("tiny3") / "canonical.onnx", classes=3)


@pytest.fixture(scope="session")
def frames_u8() -> NDArray[np.uint8]:
    """(8, 64, 64, 3) u8 pictures."""
    return make_frames(8, 64)


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """A small network that is really trained, with its data; made once for all workers."""
    from small_road import make_road  # torch, which most tests do not need

    return make_road(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Its bundles, by target."""
    from small_road import make_bundles

    return make_bundles(tmp_path_factory.getbasetemp())


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """The command in this process, in an empty folder: quicker, and a bug's exception fails the test as itself."""
    from edge_unet.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["edge-unet", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfd.readouterr()
        code = caught.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err)

    return run
