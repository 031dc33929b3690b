"""The shipped model's bundles, and the C++ sample of each built from its clean tree."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_unet.core.spec import Precision
from edge_unet.pipeline.export import export, resolve_targets

Bundles = Callable[[str], Path]
Built = Callable[[Path], Path]


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """'cpu-int8' and the like -> that bundle of the reference model."""
    room = tmp_path_factory.mktemp("shipped")

    @functools.cache
    def bundle(name: str) -> Path:
        target, precision = name.rsplit("-", 1)
        (made,) = export(None, resolve_targets(target), room, Precision(precision), lambda _: None)
        return made.folder

    return bundle


@pytest.fixture(scope="session")
def built() -> Built:
    """A bundle -> its folder build-cpp, made with the one command that its README names."""
    if missing := [tool for tool in ("g++", "cmake", "make") if shutil.which(tool) is None]:
        pytest.skip(f"{', '.join(missing)} not installed (apt install g++ cmake make)")

    @functools.cache
    def build(bundle: Path) -> Path:
        places = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        command = ["make", "-C", str(bundle / "integration/cpp")]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": places}, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in (done.stdout + done.stderr).lower()
        return bundle / "build-cpp"

    return build
