from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from coreml_packages import Lowerer

from edge_unet.canonical import load_graph
from edge_unet.core.errors import ArtifactError
from edge_unet.core.files import sha256_of
from edge_unet.core.spec import Precision
from edge_unet.targets.coreml import lower, program, read_back
from edge_unet.targets.coreml.package import MODEL, WEIGHTS, load_package, parse_package


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("deployment", "storage"), [("iOS17", "int8"), ("iOS18", "int8"), ("iOS17", "uint8"), ("iOS18", "uint8")])  # fmt: skip  # noqa: E501
def test_every_scale_and_integer_is_the_canonical_one(
    lowered: Lowerer, deployment: str, storage: str, classes: int
) -> None:
    made = lowered(Precision.INT8, deployment, storage, classes)
    graph, read = load_graph(made.canonical), read_back(made.folder, made.artifact)
    assert dict(read.absent) == {}
    assert set(read.activations) == set(graph.activations)
    for name, grid in graph.activations.items():
        assert read.activations[name].scale == grid.scale, name  # bit-exact although the package stores fp16
        assert read.activations[name].zero_point == 0
    assert set(read.weights) == {weight.name for weight in graph.weights.values()}
    for weight in graph.weights.values():
        values, grid = read.weights[weight.name]
        assert values.dtype == np.int8
        np.testing.assert_array_equal(values, weight.values, weight.name)
        np.testing.assert_array_equal(grid.scale, weight.grid.scale, weight.name)
        assert (grid.scale.shape, grid.zero_point) == (weight.grid.scale.shape, 0)


@pytest.mark.parametrize("deployment", ["iOS17", "iOS18"])
def test_the_uint8_switch_changes_the_bytes_but_not_the_integers(lowered: Lowerer, deployment: str) -> None:
    made = lowered(Precision.INT8, deployment, "uint8")
    for op in parse_package(made.package).main.operations:
        if op.op_type == "constexpr_affine_dequantize":
            assert op.inputs["quantized_data"].val.dtype == np.uint8
            assert int(op.inputs["zero_point"].val) == 127
        if op.op_type == "constexpr_blockwise_shift_scale":
            assert op.inputs["data"].val.dtype == np.uint8
            assert set(np.unique(op.inputs["offset"].val)) == {127}
    assert made.artifact.sha256 != lowered(Precision.INT8, deployment).artifact.sha256
    assert any("2114" in note for note in made.artifact.notes)


def test_fp16_has_nothing_to_read_back(lowered: Lowerer) -> None:
    made = lowered(Precision.FP16)
    read = read_back(made.folder, made.artifact)
    assert (dict(read.activations), dict(read.weights), dict(read.absent)) == ({}, {}, {})


@pytest.mark.parametrize("file", [MODEL, f"{WEIGHTS}/weight.bin"])
def test_a_truncated_package_is_named(lowered: Lowerer, tmp_path: Path, file: str) -> None:
    made = lowered(Precision.INT8)
    copy = tmp_path / made.artifact.path
    shutil.copytree(made.package, copy)
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ArtifactError, match=r"mlpackage: sha256 expected .* truncated"):
        read_back(tmp_path, made.artifact)
    trusted = made.artifact.model_copy(update={"sha256": sha256_of(copy)})
    with pytest.raises(ArtifactError, match=r"mlpackage: damaged or truncated package"):
        load_package(tmp_path, trusted)


def test_a_folder_that_is_no_package(lowered: Lowerer, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a Core ML package"):
        read_back(tmp_path, lowered(Precision.INT8).artifact)


def test_the_default_pipeline_would_change_scales_and_that_is_caught(
    tiny_canonical: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import coremltools as ct

    monkeypatch.setattr(program, "PASSES", tuple(ct.PassPipeline.DEFAULT.passes))
    artifact = lower(tiny_canonical, Precision.INT8, into=tmp_path)
    with pytest.raises(ArtifactError, match=r"dequantizes with scale .* quantizes with"):
        read_back(tmp_path, artifact)
