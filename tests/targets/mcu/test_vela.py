"""Vela: the same bytes twice, what it estimates is labelled so, what it leaves to the CPU is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from one_op_graph import OneOp

from edge_unet.core.errors import ArtifactError
from edge_unet.core.files import sha256_of
from edge_unet.core.spec import Precision
from edge_unet.targets.mcu import TARGET, vela

pytest.importorskip("tflite_micro", reason="tflite-micro is not installed (extra mcu)")

NAMES = ["ethos-u55-128", "ethos-u65-256", "ethos-u85-256"]


@pytest.fixture(scope="module")
def folder(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if vela.command() is None:
        pytest.skip("vela is not installed (extra mcu)")
    into = tmp_path_factory.mktemp("vela")
    TARGET.lower(tiny_canonical, Precision.INT8, into=into)
    return into


def test_every_accelerator_has_a_compiled_file_and_labelled_estimates(folder: Path) -> None:
    read = vela.read_estimates(folder)
    assert read is not None
    assert [row.accelerator for row in read.rows] == NAMES
    for row in read.rows:
        assert sha256_of(folder / row.path) == row.sha256
        assert row.total_cycles >= row.npu_cycles > 0
        assert row.inference_ms == pytest.approx(row.total_cycles / row.clock_mhz / 1000, rel=1e-3)
        assert (row.cpu_ops, row.npu_share) == ((), 1.0)
        assert row.sram_bytes > 0
        assert row.note().endswith("estimated by Vela, measured on nothing")
    assert json.loads((folder / "ethos-u/estimates.json").read_text())["label"] == vela.LABEL


def test_the_same_file_compiles_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a longer name of a folder"
    elsewhere.mkdir()
    shutil.copyfile(folder / "model.tflite", elsewhere / "model.tflite")
    vela.compile_all(elsewhere / "model.tflite", elsewhere / vela.FOLDER)
    assert sha256_of(elsewhere / vela.FOLDER) == sha256_of(folder / vela.FOLDER)


def test_what_vela_leaves_to_the_cpu_is_named(folder: Path, tmp_path: Path) -> None:
    """The lookup of a sigmoid: no Ethos-U55 gathers."""
    graph = OneOp()
    canonical = graph.op("Sigmoid", "y", [graph.last], 1 / 128).write(tmp_path / "canonical.onnx")
    artifact = TARGET.lower(canonical, Precision.INT8, into=tmp_path)
    read = vela.read_estimates(tmp_path)
    assert read is not None
    first = read.rows[0]
    assert "GATHER" in {op.op for op in first.cpu_ops}
    assert first.npu_share < 1
    with TARGET.open(tmp_path, artifact) as session:
        units = {layer.op: layer.unit for layer in session.census().layers}
    assert units["GATHER"].startswith("CPU")


def test_without_vela_the_notes_say_so(tiny_canonical: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vela, "command", lambda: None)
    artifact = TARGET.lower(tiny_canonical, Precision.INT8, into=tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.tflite"]
    assert any("vela is not installed" in note for note in artifact.notes)
    assert "ethos-u-vela" not in artifact.toolchain


def test_a_failing_vela_is_one_line_with_its_own_words(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model.tflite"
    broken.write_bytes(np.zeros(64, np.uint8).tobytes())
    with pytest.raises(ArtifactError, match=r"vela failed for ethos-u55-128 \(exit \d+\)") as caught:
        vela.compile_all(broken, tmp_path / vela.FOLDER)
    assert "\n" not in str(caught.value)


def test_damaged_estimates_are_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / vela.FOLDER, tmp_path / vela.FOLDER)
    path = tmp_path / vela.FOLDER / vela.ESTIMATES
    path.write_text(path.read_text()[:200])
    with pytest.raises(ArtifactError, match=r"estimates\.json: damaged"):
        vela.read_estimates(tmp_path)
