"""A kit lowered from the tiny graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_unet.core.spec import Precision
from edge_unet.targets.tensorrt import TARGET
from edge_unet.targets.tensorrt.kit.spec import KitSpec, load_kit


@pytest.fixture
def kit(tiny_canonical: Path, tmp_path: Path) -> Path:
    TARGET.lower(tiny_canonical, Precision.INT8, into=tmp_path)
    return tmp_path / "jetson"


@pytest.fixture
def spec(kit: Path) -> KitSpec:
    return load_kit(kit)
