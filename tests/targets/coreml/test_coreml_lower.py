from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from coreml_packages import Lowerer
from onnx import numpy_helper

from edge_unet.canonical import load_graph, parse_metadata
from edge_unet.core.errors import ArtifactError, GraphError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.spec import Precision
from edge_unet.targets.coreml import TARGET, lower
from edge_unet.targets.coreml.package import parse_package


def edited(source: Path, into: Path, change: object) -> Path:
    """A copy of an ONNX file after change(model)."""
    model = onnx.load(source)
    change(model)  # type: ignore[operator]
    into.write_bytes(model.SerializeToString())
    return into


def test_importing_the_target_loads_no_toolchain() -> None:
    code = (
        "import sys, edge_unet.targets.coreml as c; c.TARGET.ops; "
        "print([m for m in ('torch', 'coremltools', 'onnxruntime') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_artifact_describes_raw_pixels_in_and_float_logits_out(lowered: Lowerer) -> None:
    made = lowered(Precision.INT8)
    frame, logits = made.artifact.inputs[0], made.artifact.outputs[0]
    assert (frame.dtype, frame.layout, frame.shape, frame.scale, frame.zero_point) == (
        "uint8", "NHWC", (1, 64, 64, 3), 1 / 64, 128
    )  # fmt: skip
    assert (logits.name, logits.dtype, logits.layout, logits.shape) == ("logits", "float32", "NCHW", (1, 1, 64, 64))
    assert made.artifact.target == TARGET.name == "ios"
    assert made.artifact.sha256 == sha256_of(made.package)
    assert made.artifact.parent_sha256 == sha256_of(made.canonical)


@pytest.mark.parametrize(("deployment", "version"), [("iOS17", 8), ("iOS18", 9)])
def test_weights_stay_integers_and_only_quantization_ops_are_added(
    lowered: Lowerer, deployment: str, version: int
) -> None:
    made = lowered(Precision.INT8, deployment)
    package, graph = parse_package(made.package), load_graph(made.canonical)
    assert package.spec.specificationVersion == version
    kinds = [op.op_type for op in package.main.operations]
    constexpr = {"iOS17": "constexpr_affine_dequantize", "iOS18": "constexpr_blockwise_shift_scale"}[deployment]
    assert kinds.count(constexpr) == len(graph.weights)
    assert kinds.count("quantize") == kinds.count("dequantize") == len(graph.activations)
    for onnx_op, mil_op in (("Conv", "conv"), ("Concat", "concat"), ("MaxPool", "max_pool"), ("Clip", "relu6")):
        nodes = [n for n in graph.nodes if n.op == onnx_op]
        assert kinds.count(mil_op) == len(nodes) - (onnx_op == "Clip"), mil_op  # one Clip is the logit clip
    # one add of the residual; one mul and one add normalise the image
    assert (kinds.count("add"), kinds.count("mul"), kinds.count("clip")) == (2, 1, 1)


def test_fp16_holds_no_quantization(lowered: Lowerer) -> None:
    kinds = {op.op_type for op in parse_package(lowered(Precision.FP16).package).main.operations}
    assert not {k for k in kinds if "quantize" in k or k.startswith("constexpr")}
    assert "conv" in kinds


def test_xcode_sees_an_image_input_and_a_segmentation_preview(lowered: Lowerer) -> None:
    made = lowered(Precision.INT8, classes=3)
    description = parse_package(made.package).spec.description
    image = description.input[0].type.imageType
    assert (image.width, image.height) == (64, 64)
    assert image.ColorSpace.Name(image.colorSpace) == "RGB"
    user = description.metadata.userDefined
    graph = load_graph(made.canonical)
    assert parse_metadata(user["edge_unet"]) == graph.metadata
    assert description.metadata.license == graph.metadata.licence
    assert description.metadata.author == "edge-unet"
    assert graph.metadata.name in description.metadata.shortDescription
    assert user["com.apple.coreml.model.preview.type"] == "imageSegmenter"
    preview = json.loads(user["com.apple.coreml.model.preview.params"])
    assert preview["labels"] == list(graph.metadata.classes.names)
    assert preview["colors"] == ["#000000", "#00C853", "#DC3C3C"]


def test_the_image_arithmetic_is_exact_in_fp16() -> None:
    pixels = np.arange(256).astype(np.float16)
    real = (pixels * np.float16(1 / 64)).astype(np.float16) + np.float16(-2)
    np.testing.assert_array_equal(np.rint(real / np.float16(1 / 64)), np.arange(256) - 128)


def test_same_input_same_bytes(lowered: Lowerer, tmp_path: Path) -> None:
    made = lowered(Precision.INT8)
    again = lower(made.canonical, Precision.INT8, into=tmp_path)
    assert again == made.artifact
    for file in sorted(p for p in made.package.rglob("*") if p.is_file()):
        twin = tmp_path / again.path / file.relative_to(made.package)
        assert twin.read_bytes() == file.read_bytes(), file.name


@pytest.mark.slow
def test_same_bytes_in_another_process_with_another_hash_seed(lowered: Lowerer, tmp_path: Path) -> None:
    made = lowered(Precision.INT8)
    code = (
        "import sys; from pathlib import Path; from edge_unet.core.spec import Precision; "
        "from edge_unet.targets.coreml import lower; "
        "print(lower(Path(sys.argv[1]), Precision.INT8, into=Path(sys.argv[2])).sha256)"
    )
    command = [sys.executable, "-c", code, str(made.canonical), str(tmp_path)]
    result = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == made.artifact.sha256
    assert result.stderr == ""  # nor a warning of coremltools about torch or libcoremlpython


def test_coremltools_opens_the_package_and_leaves_its_hash_alone(lowered: Lowerer, tmp_path: Path) -> None:
    import coremltools as ct

    made = lowered(Precision.INT8)
    copy = tmp_path / made.artifact.path
    shutil.copytree(made.package, copy)
    model = ct.models.MLModel(str(copy), skip_model_load=True)
    assert [f.name for f in model.get_spec().description.output] == ["logits"]
    assert sha256_of(copy) == made.artifact.sha256


def test_nothing_is_printed_and_logging_is_put_back(
    tiny_canonical: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("coremltools")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        lower(tiny_canonical, Precision.FP16, into=tmp_path)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_precisions_core_ml_has_not(tiny_canonical: Path, tmp_path: Path, precision: Precision) -> None:
    with pytest.raises(UsageError, match=r"known: int8, fp16"):
        lower(tiny_canonical, precision, into=tmp_path)


def test_an_unknown_option_lists_the_known_ones(tiny_canonical: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="iOS17, iOS18"):
        lower(tiny_canonical, Precision.INT8, into=tmp_path, deployment="iOS12")


def test_an_unknown_op_names_the_node_and_the_known_ops(tiny_canonical: Path, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        node = next(n for n in model.graph.node if n.name == "residual")
        node.op_type = "Mod"
        node.attribute.add(name="fmod", type=onnx.AttributeProto.INT, i=1)

    bad = edited(tiny_canonical, tmp_path / "bad.onnx", change)
    with pytest.raises(GraphError, match=r"'Mod' \(node 'residual'\); known ops: Add, AveragePool"):
        lower(bad, Precision.INT8, into=tmp_path)


def test_a_scale_that_fp16_would_change_is_refused(tiny_canonical: Path, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        node = next(n for n in model.graph.node if n.name == "residual.q")
        scale = next(i for i in model.graph.initializer if i.name == node.input[1])
        scale.CopyFrom(numpy_helper.from_array(np.array(0.0123456789, np.float32), scale.name))

    bad = edited(tiny_canonical, tmp_path / "bad.onnx", change)
    with pytest.raises(GraphError, match=r"changes in fp16 .* quantize the checkpoint again"):
        lower(bad, Precision.INT8, into=tmp_path)


def test_a_constant_beyond_fp16_is_refused(tiny_canonical: Path, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        bias = next(i for i in model.graph.initializer if i.name == "deep.bias")
        bias.CopyFrom(numpy_helper.from_array(np.full(16, 70000, np.float32), bias.name))

    bad = edited(tiny_canonical, tmp_path / "bad.onnx", change)
    with pytest.raises(GraphError, match=r"'deep.bias' exceeds the range of fp16"):
        lower(bad, Precision.INT8, into=tmp_path)


def test_a_weight_of_minus_128_does_not_fit_zero_point_127(tiny_canonical: Path, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        weight = next(i for i in model.graph.initializer if i.name == "deep.weight")
        values = numpy_helper.to_array(weight).copy()
        values.reshape(-1)[0] = -128
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    bad = edited(tiny_canonical, tmp_path / "bad.onnx", change)
    with pytest.raises(GraphError, match=r"codes in \[-127, 127\], received -128"):
        lower(bad, Precision.INT8, into=tmp_path, weight_storage="uint8")


def test_no_file_and_a_truncated_file(tiny_canonical: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such ONNX file"):
        lower(tmp_path / "none.onnx", Precision.INT8, into=tmp_path)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(tiny_canonical.read_bytes()[:3000])
    with pytest.raises(ArtifactError, match=r"cut.onnx: damaged or truncated"):
        lower(cut, Precision.INT8, into=tmp_path)
