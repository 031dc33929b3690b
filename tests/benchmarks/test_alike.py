"""Networks trained alike: one recipe for ours and the peers, of two classes and of several."""

from __future__ import annotations

import sys
from pathlib import Path

import alike
import numpy as np
import pytest
import torch
from trained_tables import alike_table

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import load_recipe
from edge_unet.core.report import read_report
from edge_unet.frames import write_png
from edge_unet.models.checkpoint import load_checkpoint

RECIPE = """
name = "tiny"
[preprocess]
height = 32
width = 64
[classes]
names = [{names}]
palette = [{palette}]
[data]
train = ["left"]
val = ["left"]
[pretrain]
images = ["right"]
[pretrain.train]
epochs = 1
batch = 8
[train]
epochs = 1
batch = 8
warmup_epochs = 0.1
[quantize]
calibration_images = 32
[quantize.qat]
epochs = 1
batch = 8
warmup_epochs = 0.1
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sets of pictures whose left half is of another class than the right, in as many splits."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        for split, count in (("train", 32), ("val", 2)):
            for kind in ("images", "masks"):
                (tmp_path / name / split / kind).mkdir(parents=True)
            for index in range(count):
                frame = rng.integers(0, 60, (32, 64, 3), np.uint8)
                mask = np.zeros((32, 64), np.uint8)
                frame[:, :32], mask[:, :32] = 200, 1
                write_png(tmp_path / name / split / "images" / f"{index}.png", frame)
                write_png(tmp_path / name / split / "masks" / f"{index}.png", mask)
    monkeypatch.setenv("EDGE_UNET_DATA", str(tmp_path))
    torch.set_num_threads(1)
    return tmp_path


def recipe_in(folder: Path, classes: int) -> Path:
    path = folder / "recipe.toml"
    names = ", ".join(f'"c{c}"' for c in range(classes))
    path.write_text(RECIPE.format(names=names, palette=", ".join(["[0, 0, 0]"] * classes)), encoding="utf-8")
    return path


def trained(root: Path, monkeypatch: pytest.MonkeyPatch, classes: int, *names: str, sets: tuple[str, ...]) -> Path:
    out = root / "out.json"
    options = ["--recipe", str(recipe_in(root, classes)), "--runs", str(root / "runs"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["alike.py", *names, *options, "--sets", *sets])
    alike.main()
    return out


def test_two_classes_ours_and_a_peer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("edge_unet-portable-nano-pretrained", "unext_s")
    report = read_report(trained(root, monkeypatch, 2, *names, sets=("left", "right")))
    rows = {(e.subject.bundle, e.subject.precision.value, e.data): e for e in report.evaluated if e.subject}
    ours = {(names[0], precision, data) for precision in ("fp32", "int8") for data in ("left", "right")}
    assert set(rows) == ours | {("unext_s", "fp32", "left"), ("unext_s", "fp32", "right")}
    assert all(0 <= row.dice <= 1 and row.images == 2 for row in rows.values())
    assert any("Pretrained ones painted hidden patches first, 1 epochs" in note for note in report.notes)
    warm = load_checkpoint(root / "runs" / names[0] / "pretrain.safetensors")
    start = load_checkpoint(root / "runs" / names[0] / "fp32.safetensors")
    assert start.info.parent_sha256 == warm.sha256
    assert "| `unext_s` |" in alike_table(report)
    assert "Dice left | Dice right | after QAT left" in alike_table(report)

    again = read_report(trained(root, monkeypatch, 2, *names, sets=("left", "right")))  # nothing is left to train
    assert [e.dice for e in again.evaluated] == [e.dice for e in report.evaluated]


def test_three_classes_of_a_peer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = read_report(trained(root, monkeypatch, 3, "unext_s", sets=("left",)))
    (row,) = report.evaluated
    assert list(row.per_class) == ["c0", "c1", "c2"]
    assert f"| mIoU left | after QAT left |\n| --- | --- | --- |\n| `unext_s` | {row.iou:.4f} |" in alike_table(report)


def test_what_a_name_means(root: Path) -> None:
    base = load_recipe(recipe_in(root, 2))
    plain = alike.recipe_of("edge_unet-nano", base)
    for name in ("edge_unet-nano-distilled", "edge_unet-nano-pretrained", "edge_unet-nano-pretrained-distilled"):
        assert alike.recipe_of(name, base) == plain.model_copy(update={"name": name})
    assert plain.loss.head_weights == (0.2, 0.2, 0.3, 1.0)
    assert alike.recipe_of("unext_s", base).loss == base.loss
    with pytest.raises(UsageError, match="name its teacher"):
        alike.trained("edge_unet-nano-distilled", base, root / "runs", None)
    with pytest.raises(UsageError, match="did you mean"):
        alike.recipe_of("edge_unet-nana", base)
