"""Fixtures shared by all tests. Real data is used where it lies; without it the tests that need it skip visibly."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_graph import frames_u8 as make_frames
from tiny_graph import write_tiny

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
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
