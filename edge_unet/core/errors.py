"""The exception tree. Every error a user can cause derives from `EdgeUnetError` and carries its exit code.

EdgeUnetError                1  anything that stopped the work
├── UsageError               2  a wrong argument, recipe key or input file
│   └── DataError            2  a dataset that cannot be used; lists every offender
├── ArtifactError            1  a bundle, checkpoint or model file is damaged or not what it claims
├── GraphError               1  a graph breaks a rule of the canonical form or holds an op a target lacks
├── AccuracyGateError        3  verify found masks that differ by more than the gate allows
├── PerformanceGateError     4  a latency regression
└── MissingBackendError      5  a toolchain or runtime is not installed

A message says what happened, on which node or file, expected against received, and the next step.
The CLI prints it as one line; any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class EdgeUnetError(Exception):
    """Base of every error with a user-facing message."""

    exit_code = 1


class UsageError(EdgeUnetError):
    """A wrong argument, recipe key or input file."""

    exit_code = 2


class DataError(UsageError):
    """A dataset that cannot be used. `offenders` holds one line per bad file, all of them."""

    def __init__(self, summary: str, offenders: Sequence[str] = ()) -> None:
        self.offenders = tuple(offenders)
        super().__init__("\n  ".join((summary, *self.offenders)))


class ArtifactError(EdgeUnetError):
    """A bundle, checkpoint or model file is damaged or not what it claims to be."""


class GraphError(EdgeUnetError):
    """A graph breaks a rule of the canonical form, or holds an op the target has no lowering for."""


class AccuracyGateError(EdgeUnetError):
    """The masks of an artifact differ from the reference by more than the gate allows."""

    exit_code = 3


class PerformanceGateError(EdgeUnetError):
    """A latency above its baseline by more than the gate allows."""

    exit_code = 4


class MissingBackendError(EdgeUnetError):
    """A toolchain or runtime is not installed."""

    exit_code = 5


def in_words(error: ValidationError, most: int = 3) -> str:
    """What a pydantic validation found, in one line: 'section.key: what is wrong', the first `most` of it."""
    found = error.errors(include_url=False)
    lines = [": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in found[:most]]
    return "; ".join([*lines, *([f"and {len(found) - most} more"] if len(found) > most else [])])


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise MissingBackendError naming the extra of edge_unet that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingBackendError(
            f"{module} is not installed ({error}); install it with: pip install 'edge-unet[{extra}]'"
        ) from error
