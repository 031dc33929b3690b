"""Lowered packages shared by the Core ML tests: a lowering takes about a second, so each is made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coreml_packages import Lowered, Lowerer
from numpy.typing import NDArray

from edge_unet.core.spec import Precision

pytest.importorskip("coremltools", reason="the coreml extra is not installed")


@pytest.fixture(scope="session")
def lowered(tiny_canonical: Path, tiny_canonical_multiclass: Path, tmp_path_factory: pytest.TempPathFactory) -> Lowerer:
    """lowered(precision, deployment="iOS17", weight_storage="int8", classes=1)."""
    from edge_unet.targets.coreml import lower

    made: dict[tuple[object, ...], Lowered] = {}

    def make(
        precision: Precision, deployment: str = "iOS17", weight_storage: str = "int8", classes: int = 1
    ) -> Lowered:
        key = (precision, deployment, weight_storage, classes)
        if key not in made:
            canonical = tiny_canonical if classes == 1 else tiny_canonical_multiclass
            folder = tmp_path_factory.mktemp("coreml")
            artifact = lower(canonical, precision, into=folder, deployment=deployment, weight_storage=weight_storage)
            made[key] = Lowered(canonical, folder, artifact)
        return made[key]

    return make


def real_input(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(1, H, W, C) pixels -> (1, C, H, W) network input."""
    return np.ascontiguousarray(((frame.astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2))


@pytest.fixture(scope="session")
def to_real() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    return real_input
