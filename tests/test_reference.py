"""The shipped model on real data: what its card says, on every target. Slow, and skipped where the data is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_unet.core.bundle import open_bundle
from edge_unet.core.errors import UsageError
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.pipeline.evaluate import evaluate
from edge_unet.pipeline.export import export
from edge_unet.pipeline.frames import FrameSet, frames_from
from edge_unet.pipeline.reference import SHIPPED, reference_card, reference_checkpoint, shipped_name
from edge_unet.pipeline.verify import verify
from edge_unet.targets.registry import TARGETS

FRAMES = 40
INTEGERS = 22  # int8 weight tensors of edge_unet-nano


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = export(None, tuple(TARGETS.values()), tmp_path_factory.mktemp("reference"), say=lambda _: None)
    return {b.manifest.artifact.target: b.folder for b in made}


@pytest.fixture(scope="module")
def frames(shared_data: Path, bundles: dict[str, Path]) -> FrameSet:
    manifest = open_bundle(bundles["cpu"]).manifest
    return frames_from(shared_data / "kvasir_seg", manifest.preprocess, manifest.classes, FRAMES)


def test_it_is_small_and_says_where_it_comes_from() -> None:
    path = reference_checkpoint()
    info = load_checkpoint(path).info
    assert path.stat().st_size <= 5 * 2**20
    assert info.kind == "qat"
    assert info.parent_sha256
    assert info.data_sha256
    assert "no commercial use" in info.recipe.licence
    assert "not a medical device" in reference_card()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_has_weights_with_a_past_and_a_card(name: str) -> None:
    info = load_checkpoint(reference_checkpoint(name)).info
    assert (info.kind, info.recipe.name) == ("qat", name)
    assert info.parent_sha256
    assert info.data_sha256
    card = reference_card(name)
    assert card.startswith(f"# {name}")
    assert info.recipe.licence.split(". ")[0].split(": ")[1] in card
    assert "Limits" in card


@pytest.mark.parametrize("name", [name for name in SHIPPED if not name.endswith("-mobile")])
def test_it_is_exported_by_its_name_and_as_small_as_its_class(name: str, tmp_path: Path) -> None:
    (bundle,) = export(Path(name), (TARGETS["android"],), tmp_path, say=lambda _: None)
    assert bundle.manifest.name == name
    assert bundle.manifest.artifact.bytes < (4e6 if name.endswith("-small") else 1e6)
    assert (bundle.folder / "MODEL_CARD.md").read_text(encoding="utf-8") == reference_card(name)


def test_a_name_that_is_not_shipped_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="roads-mini: no such"):
        export(Path("roads-mini"), (TARGETS["android"],), tmp_path, say=lambda _: None)
    with pytest.raises(UsageError, match=r"no shipped model 'endoscopi'.*endoscopy"):
        reference_checkpoint("endoscopi")


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped_name(Path("endoscopy")) == "endoscopy"
    (tmp_path / "endoscopy").touch()
    assert shipped_name(Path("endoscopy")) is None
    assert shipped_name(None) == "endoscopy"


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_every_target_gives_the_same_mask(name: str, bundles: dict[str, Path], frames: FrameSet) -> None:
    result = verify(bundles[name], frames=frames, say=lambda _: None)
    assert result.passed, result.reasons
    assert result.scales_equal
    assert result.payloads_equal
    assert result.payloads_compared == INTEGERS
    assert result.int8_layers >= INTEGERS


@pytest.mark.slow
def test_every_convolution_is_int8_where_the_runtime_tells(bundles: dict[str, Path]) -> None:
    for name in ("cpu", "onnx"):
        layers = open_bundle(bundles[name]).manifest.census.layers
        convolutions = [layer for layer in layers if "conv" in layer.op.lower()]
        assert len(convolutions) == INTEGERS, name
        assert {layer.precision for layer in convolutions} == {"int8"}, name
    assert "1 DELEGATE node" in open_bundle(bundles["android"]).manifest.census.source


@pytest.mark.slow
def test_dice_is_not_below_the_goal(bundles: dict[str, Path], shared_data: Path) -> None:
    dice = evaluate(bundles["onnx"], shared_data / "kvasir_seg", say=lambda _: None).dice
    assert dice >= 0.85
