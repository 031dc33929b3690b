"""Rows of the matrix: what is the same for all targets is made once, and one that fails is a row with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_road import Road

from edge_unet.pipeline import export as exporting
from edge_unet.pipeline.matrix import rows_of
from edge_unet.targets.registry import TARGETS


@pytest.mark.slow
def test_a_network_is_exported_once_for_all_targets(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = exporting.write_canonical

    def noted(model: Path, into: Path) -> None:
        written.append(model)
        write(model, into)

    monkeypatch.setattr(exporting, "write_canonical", noted)
    targets = [TARGETS[name] for name in ("onnx", "cpu", "android")]
    rows = rows_of("discs", road.ptq, weights="test", targets=targets, images=2, timed=False, say=lambda _: None)
    assert written == [road.ptq]
    assert [(row.target, row.status, row.images) for row in rows] == [(t.name, "passed", 2) for t in targets]
    assert all(row.bytes and row.int8_layers and row.islands == 0 for row in rows)


def test_what_cannot_be_exported_is_blocked_on_every_target(road: Road) -> None:
    rows = rows_of("discs", road.fp32, weights="test", images=1, timed=False, say=lambda _: None)
    assert [row.target for row in rows] == list(TARGETS)
    assert {row.status for row in rows} == {"blocked"}
    assert all("an fp32 checkpoint has no scales" in row.reason for row in rows)
