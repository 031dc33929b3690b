"""The networks: size, shapes, gradients, checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.recipe import ModelSpec, Recipe
from edge_unet.core.spec import ClassSpec, PreprocessSpec
from edge_unet.models import MODELS, build
from edge_unet.models.blocks import LOGIT_LIMIT, round_to_8
from edge_unet.models.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint

SMALL = PreprocessSpec(height=64, width=64)
THREE = ClassSpec(names=("a", "b", "c"), palette=((0, 0, 0),) * 3)


def recipe(name: str, **values: object) -> Recipe:
    spec = ModelSpec.model_validate(
        {"name": name, "depth": 4 if name == "unet" else 5, "base": 8, "width": 0.35, **values}
    )
    return Recipe(model=spec, preprocess=SMALL, classes=THREE)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
def test_shape_and_range_with_classes_and_both_resizes(name: str, upsample: str) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        logits = build(recipe(name, upsample=upsample))(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 3, 64, 64)
    assert logits.abs().max() <= LOGIT_LIMIT


@pytest.mark.parametrize(
    ("name", "values", "parameters", "macs"),
    [
        # The published definition: 1.888 M, 0.433 G; its decoder keeps one more BN per level.
        ("mobile_unet", {"width": 1.0}, 1_871_337, 0.4204e9),
        ("mobile_unet", {"width": 0.5}, 497_313, 0.1295e9),
        ("unet", {"base": 32}, 8_633_921, 16.366e9),
    ],
)
def test_size_is_what_the_docs_say(name: str, values: dict[str, object], parameters: int, macs: float) -> None:
    spec = recipe(name, **values).model_copy(
        update={"preprocess": PreprocessSpec(height=256, width=256), "classes": Recipe().classes}
    )
    net = build(spec).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 256, 256))
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert counter.get_total_flops() / 2 == pytest.approx(macs, rel=1e-3)


def test_an_input_that_does_not_fit_the_depth_is_refused() -> None:
    with pytest.raises(UsageError, match="multiples of 32, received 64x80"):
        build(Recipe(preprocess=PreprocessSpec(height=64, width=80)))
    with pytest.raises(UsageError, match=r"unknown model 'mobil_unet'; did you mean 'mobile_unet'\?"):
        build(Recipe(model=ModelSpec(name="mobil_unet")))


def test_channels_round_to_eight_without_losing_a_tenth() -> None:
    assert [round_to_8(c) for c in (1, 8, 11, 12, 19, 24, 84)] == [8, 8, 16, 16, 24, 24, 88]


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    net = build(recipe("mobile_unet"))
    info = CheckpointInfo(kind="fp32", recipe=recipe("mobile_unet"), metrics={"val_dice": 0.5})
    sha = save_checkpoint(tmp_path / "a.safetensors", info, net.state_dict())
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.sha256 == sha
    assert loaded.info == info
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in loaded.state.items())


@pytest.mark.parametrize("keep", [0, 4, 200, -100])
def test_a_truncated_checkpoint_is_an_artifact_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, CheckpointInfo(kind="fp32", recipe=Recipe()), build(recipe("mobile_unet")).state_dict())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="damaged checkpoint"):
        load_checkpoint(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match="not written by edge-unet"):
        load_checkpoint(tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.safetensors")
