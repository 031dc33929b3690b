"""coremltools, imported on first use and kept quiet while it works."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import sys
from collections.abc import Iterator
from types import ModuleType

from edge_unet.core.errors import require

EXTRA = "coreml"


@contextlib.contextmanager
def quiet_coremltools() -> Iterator[ModuleType]:
    """Yield the coremltools module with its warnings and progress bars silenced for the length of the block.

    Off a Mac it warns about libcoremlpython and about every torch it has not been tested with; neither concerns a
    lowering. The user's own logging settings are put back afterwards. Raises MissingBackendError where it is absent.
    """
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), _without("torch"):
            module = require("coremltools", EXTRA)
        with contextlib.redirect_stderr(io.StringIO()):
            yield module
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _without(package: str) -> Iterator[None]:
    """Hide a package that coremltools would import only because it is there: its torch front end is not used here, and
    costs seconds and 300 MiB."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        del sys.modules[package]


def versions(*packages: str) -> dict[str, str]:
    """Package -> installed version."""
    return {package: importlib.metadata.version(package) for package in packages}
