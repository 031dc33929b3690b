"""The trained small model and its bundles, shared by the tests of the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_road import Road, make_bundles, make_road


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    return make_road(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_bundles(tmp_path_factory.getbasetemp())
