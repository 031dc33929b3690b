"""Bundles over the tiny canonical graph, and the reference beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from measure.planted import Edit, make_bundle
from numpy.typing import NDArray

from edge_unet.core.bundle import Bundle
from edge_unet.targets.onnxruntime.reference import ReferenceSession, open_reference


@pytest.fixture
def bundle_of(tmp_path: Path, tiny_canonical: Path, frames_u8: NDArray[np.uint8]) -> Callable[..., Bundle]:
    """bundle_of(edit=None, name='tiny') -> a bundle whose artifact was changed by `edit`."""

    def build(edit: Edit | None = None, name: str = "tiny") -> Bundle:
        return make_bundle(tmp_path / name, tiny_canonical, frames_u8, edit=edit, name=name)

    return build


@pytest.fixture(scope="session")
def reference(tiny_canonical: Path) -> Iterator[ReferenceSession]:
    with open_reference(tiny_canonical) as session:
        yield session
