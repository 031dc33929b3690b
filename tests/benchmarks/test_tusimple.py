"""The TuSimple evaluation: which points it calls near, off and absent, and which frames were not trained on."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "tusimple.py"


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(PROGRAM))


def test_every_labelled_point_is_near_off_or_absent(program: dict[str, Any]) -> None:
    labels = {"a": [[100.0, 110.0, 120.0, -2.0], [-2.0, 300.0, 310.0, 320.0]]}
    given = {"a": [[101.0, 140.0, -2.0, 5.0], [500.0, 301.0, 500.0, 500.0]]}
    assert program["points_of"](given, labels) == {"near": 2, "off": 3, "absent": 1}
    assert program["points_of"]({"a": []}, labels) == {"near": 0, "off": 0, "absent": 6}


def test_the_held_out_frame_is_the_recipes(program: dict[str, Any], shared_data: Path) -> None:
    assert program["held_out_frames"](shared_data) == ["0005.jpg"]


def test_labels_are_the_middles_of_the_instances(program: dict[str, Any], shared_data: Path) -> None:
    labels = program["labelled"](shared_data / "tusimple_sample")
    assert {name: len(lanes) for name, lanes in labels.items()} == {f"000{n}.jpg": 5 if n == 3 else 4 for n in range(6)}
    assert {len(lane) for lanes in labels.values() for lane in lanes} == {56}
