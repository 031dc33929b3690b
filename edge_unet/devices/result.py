"""result.json, as the runner on a device writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edge_unet.core.artifact import LayerPlacement
from edge_unet.core.errors import in_words
from edge_unet.core.machine import Environment
from edge_unet.core.spec import Frozen, Precision
from edge_unet.devices.device import DeviceError


class ResultRow(Frozen):
    """What one artifact gave. `subject` counts those of the job; a kit gives a row for every engine it built."""

    subject: int = Field(ge=0)
    sha256: str
    precision: Precision
    runtime: str
    golden: tuple[float, ...]
    layers: tuple[LayerPlacement, ...] | None
    warmup_runs: int
    samples_ns: tuple[int, ...] = Field(min_length=1)
    stages_ns: Mapping[str, tuple[int, ...]]
    peak_rss_bytes: int | None
    energy_mj: float | None
    energy_source: str | None


class Skipped(Frozen):
    """An optional subject that the device could not open, and why."""

    subject: int = Field(ge=0)
    reason: str


class Result(Frozen):
    """The whole file."""

    schema_: Literal[1] = Field(alias="schema")
    environment: Environment
    burst_order: tuple[str, ...]
    rows: tuple[ResultRow, ...] = Field(min_length=1)
    skipped: tuple[Skipped, ...]


def read_result(path: Path, label: str, hashes: list[str]) -> Result:
    """Read what was pulled. `hashes` are those of the artifacts that were sent.

    Raises DeviceError where the file is damaged, or tells of another artifact than the one that was sent.
    """
    try:
        result = Result.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise DeviceError(f"{label}: the result that came back is damaged ({reason}); run it again") from error
    for row in result.rows:
        sent = hashes[row.subject] if row.subject < len(hashes) else "nothing"
        if row.sha256 != sent:
            raise DeviceError(
                f"{label}: the result is about another artifact: sha256 expected {sent[:12]}…, "
                f"received {row.sha256[:12]}…; run it again"
            )
    return result
