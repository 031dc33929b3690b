"""The reference network as the exporter writes it, not only graphs made for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.canonical import load_graph
from edge_unet.core.protocols import LayerSession
from edge_unet.core.recipe import ModelSpec, Recipe
from edge_unet.core.spec import ClassSpec, Precision, PreprocessSpec
from edge_unet.targets.coreml import TARGET, lower, read_back

torch = pytest.importorskip("torch", reason="the train extra is not installed")

SIZE = 64


def write_canonical(folder: Path, frames: NDArray[np.uint8]) -> Path:
    """An untrained mobile_unet with warmed-up BN, quantized with `frames` and exported."""
    from edge_unet.graph.from_torch import export_canonical
    from edge_unet.models import build
    from edge_unet.models.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
    from edge_unet.quantization.ptq import frame_batches, quantize_ptq

    recipe = Recipe(
        model=ModelSpec(name="mobile_unet", upsample="bilinear", width=0.25),
        preprocess=PreprocessSpec(height=SIZE, width=SIZE),
        classes=ClassSpec(names=("a", "b", "c"), palette=((0, 0, 0), (255, 0, 0), (0, 255, 0))),
    )
    torch.manual_seed(0)
    net = build(recipe).train()
    with torch.no_grad():
        for _ in range(10):
            for batch in frame_batches(frames, recipe.preprocess):
                net(batch)
    save_checkpoint(folder / "fp32.safetensors", CheckpointInfo(kind="fp32", recipe=recipe), net.eval().state_dict())
    quantized, info = quantize_ptq(load_checkpoint(folder / "fp32.safetensors"), frames, recipe.quantize)
    export_canonical(quantized, info, None, folder / "canonical.onnx")
    return folder / "canonical.onnx"


@pytest.mark.slow
def test_exported_mobile_unet_keeps_its_integers_and_every_segment_is_within_one_step(tmp_path: Path) -> None:
    from tiny_graph import frames_u8

    from edge_unet.targets.onnxruntime.reference import open_reference

    frames = frames_u8(34, SIZE)
    canonical = write_canonical(tmp_path, frames[:32])
    graph, artifact = load_graph(canonical), lower(canonical, Precision.INT8, into=tmp_path)
    read = read_back(tmp_path, artifact)
    assert {name: float(grid.scale) for name, grid in read.activations.items()} == {
        name: float(grid.scale) for name, grid in graph.activations.items()
    }
    for weight in graph.weights.values():
        np.testing.assert_array_equal(read.weights[weight.name][0], weight.values)
        np.testing.assert_array_equal(read.weights[weight.name][1].scale, weight.grid.scale)
    with open_reference(canonical) as reference, TARGET.open(tmp_path, artifact) as session:
        assert isinstance(session, LayerSession)
        for frame in frames[32:, None]:
            real = graph.metadata.preprocess.normalize(frame).transpose(0, 3, 1, 2)
            expected = reference.codes({"image": np.ascontiguousarray(real)})
            own = session.codes({"image": frame}, force=expected)
            worst = {name: int(np.abs(own[name].astype(int) - codes).max()) for name, codes in expected.items()}
            assert max(worst.values()) <= 1, worst
        assert session.census().float_layers == 2  # the image's scale and bias
