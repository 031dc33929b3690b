"""What the fixture `lowered` of the Core ML tests hands out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_unet.core.artifact import Artifact
from edge_unet.core.spec import Precision


@dataclass(frozen=True)
class Lowered:
    """A package and the graph it came from."""

    canonical: Path
    folder: Path
    artifact: Artifact

    @property
    def package(self) -> Path:
        return self.folder / self.artifact.path


class Lowerer(Protocol):
    def __call__(
        self, precision: Precision, deployment: str = "iOS17", weight_storage: str = "int8", classes: int = 1
    ) -> Lowered: ...
