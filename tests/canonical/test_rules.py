"""Each rule is broken alone, on an otherwise intact graph; the message names rule, node, expected and received."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_unet.canonical import load_graph, load_model, parse_metadata, view_graph, write_metadata
from edge_unet.canonical.graph import CanonicalGraph
from edge_unet.canonical.rules import GROUND, RULES, check_canonical, require_canonical
from edge_unet.core.errors import ArtifactError, GraphError
from edge_unet.core.spec import QuantScheme


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def value(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    return numpy_helper.to_array(next(i for i in model.graph.initializer if i.name == name)).copy()


def put(model: onnx.ModelProto, name: str, array: NDArray[Any]) -> str:
    """Replace or add an initializer."""
    kept = [i for i in model.graph.initializer if i.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(array), name)])
    return name


def set_attribute(target: onnx.NodeProto, name: str, new: object) -> None:
    kept = [a for a in target.attribute if a.name != name]
    del target.attribute[:]
    target.attribute.extend([*kept, helper.make_attribute(name, new)])


def rescale(model: onnx.ModelProto, tensor: str, scale: NDArray[Any] | float, zero: NDArray[Any] | None = None) -> None:
    """Give one Q/DQ pair another scale (and zero point)."""
    name = put(model, f"{tensor}.other", np.asarray(scale, np.float32))
    for part in (f"{tensor}.q", f"{tensor}.dq"):
        node(model, part).input[1] = name
        if zero is not None:
            node(model, part).input[2] = put(model, f"{tensor}.zero", zero)


def insert_before(model: onnx.ModelProto, name: str, *new: onnx.NodeProto) -> None:
    position = [n.name for n in model.graph.node].index(name)
    for offset, item in enumerate(new):
        model.graph.node.insert(position + offset, item)


def lay_biases(model: onnx.ModelProto) -> None:
    """Round every bias to the grid of its convolution's scales, as they now are: a scale moves the grid behind it."""
    graph = view_graph(model)
    for conv in (n for n in graph.nodes if n.op in ("Conv", "ConvTranspose")):
        source, weight = graph.producers.get(conv.inputs[0]), graph.weights.get(conv.inputs[1])
        if source is None or source.op != "DequantizeLinear" or weight is None or conv.inputs[2] not in graph.constants:
            continue
        scale = graph.constants.get(source.inputs[1], np.ones(2))
        if scale.size == 1:
            step = scale.reshape(-1) * weight.grid.scale.reshape(-1)
            put(model, conv.inputs[2], np.rint(graph.constants[conv.inputs[2]] / step).astype(np.float32) * step)


def older_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 20


def no_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def other_size_in_metadata(model: onnx.ModelProto) -> None:
    metadata = parse_metadata(model.metadata_props[0].value)
    preprocess = metadata.preprocess.model_copy(update={"height": 32})
    write_metadata(model, metadata.model_copy(update={"preprocess": preprocess}))


def other_output_name(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "probabilities"
    node(model, "resize.dq").output[0] = "probabilities"


def batch_of_two(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 2


def quantize_on_weights(model: onnx.ModelProto) -> None:
    put(model, "mid.weight", value(model, "mid.weight").astype(np.float32) * 0.01)
    make = helper.make_node("QuantizeLinear", ["mid.weight", "mid.weight.scale", "mid.weight.zp"], ["mid.wq"], "mid.wq")
    set_attribute(make, "axis", 0)
    insert_before(model, "mid.weight.dq", make)
    node(model, "mid.weight.dq").input[0] = "mid.wq"


def float_weight(model: onnx.ModelProto) -> None:
    put(model, "mid.weight", value(model, "mid.weight").astype(np.float32) * 0.01)
    node(model, "mid").input[1] = "mid.weight"
    model.graph.node.remove(node(model, "mid.weight.dq"))


def weight_at_minus_128(model: onnx.ModelProto) -> None:
    codes = value(model, "mid.weight")
    codes.flat[3] = -128
    put(model, "mid.weight", codes)


def weight_on_axis_1(model: onnx.ModelProto) -> None:
    put(model, "deep.weight.scale", np.full(16, 2**-7, np.float32))
    set_attribute(node(model, "deep.weight.dq"), "axis", 1)


def weight_per_tensor(model: onnx.ModelProto) -> None:
    put(model, "deep.weight.scale", np.float32(2**-7))
    put(model, "deep.weight.zp", np.int8(0))


def computed_bias(model: onnx.ModelProto) -> None:
    insert_before(model, "mid", helper.make_node("Identity", ["mid.bias"], ["mid.bias.copy"], "copy"))
    node(model, "mid").input[2] = "mid.bias.copy"


def bias_between_steps(model: onnx.ModelProto) -> None:
    bias = value(model, "mid.bias")
    step = value(model, "mid.weight.scale") * value(model, node(model, "concat0.dq").input[1])
    bias[5] += 0.25 * step[5]
    put(model, "mid.bias", bias)


def activation_per_channel(model: onnx.ModelProto) -> None:
    rescale(model, "expand.act", np.full(16, 2**-5), np.zeros(16, np.int8))


def activation_with_zero_point(model: onnx.ModelProto) -> None:
    rescale(model, "expand.act", 2**-5, np.int8(-128))


def int8_under_affine(model: onnx.ModelProto) -> None:
    """Everything becomes u8 but one tensor."""
    metadata = parse_metadata(model.metadata_props[0].value)
    write_metadata(model, metadata.model_copy(update={"scheme": QuantScheme.AFFINE}))
    to_u8(model)
    for part in ("expand.act.q", "expand.act.dq"):
        node(model, part).input[2] = put(model, "zp_s8", np.int8(0))


def to_u8(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]  # the integer types there would be stale
    put(model, "zp", np.uint8(128))


def tiny_scale(model: onnx.ModelProto) -> None:
    rescale(model, "expand.act", 3e-5)


def scale_between_fp16_numbers(model: onnx.ModelProto) -> None:
    rescale(model, "expand.act", 0.1)


def pair_before_clip(model: onnx.ModelProto) -> None:
    scale = node(model, "expand.act.q").input[1]
    insert_before(
        model,
        "expand.act",
        helper.make_node("QuantizeLinear", ["expand", scale, "zp"], ["expand.q"], "expand.q"),
        helper.make_node("DequantizeLinear", ["expand.q", scale, "zp"], ["expand.dq"], "expand.dq"),
    )
    node(model, "expand.act").input[0] = "expand.dq"


def unequal_pair(model: onnx.ModelProto) -> None:
    node(model, "expand.act.dq").input[1] = put(model, "other", np.float32(0.25))


def concat_scales_differ(model: onnx.ModelProto) -> None:
    rescale(model, "concat0", 0.25)


def pool_scales_differ(model: onnx.ModelProto) -> None:
    rescale(model, "pool", 0.25)


def float_branch_into_add(model: onnx.ModelProto) -> None:
    node(model, "residual").input[1] = "project"
    model.graph.node.remove(node(model, "project.dq"))
    model.graph.node.remove(node(model, "project.q"))


def float_into_conv(model: onnx.ModelProto) -> None:
    node(model, "depthwise").input[0] = "expand.act"
    model.graph.node.remove(node(model, "expand.act.dq"))
    model.graph.node.remove(node(model, "expand.act.q"))


def align_corners(model: onnx.ModelProto) -> None:
    set_attribute(node(model, "resize"), "coordinate_transformation_mode", "align_corners")


def uneven_nearest(model: onnx.ModelProto) -> None:
    set_attribute(node(model, "up0"), "nearest_mode", "ceil")


def cubic(model: onnx.ModelProto) -> None:
    set_attribute(node(model, "resize"), "mode", "cubic")


def input_scale(model: onnx.ModelProto) -> None:
    rescale(model, "image", 1 / 32)


def logit_scale(model: onnx.ModelProto) -> None:
    for tensor in ("head.act", "resize"):
        rescale(model, tensor, 1 / 8)


def float_logits(model: onnx.ModelProto) -> None:
    model.graph.node.remove(node(model, "resize.dq"))
    model.graph.node.remove(node(model, "resize.q"))
    node(model, "resize").output[0] = "logits"


def decomposed_layer_norm(model: onnx.ModelProto) -> None:
    put(model, "axes", np.array([1], np.int64))
    put(model, "epsilon", np.float32(1e-5))
    source = node(model, "resize").input[0]
    scale = node(model, "head.act.q").input[1]
    inputs_of = {"mean": [source, "axes"], "shifted": ["mean.dq", "epsilon"], "root": ["shifted.dq"]}
    for op, (name, inputs) in zip(("ReduceMean", "Add", "Sqrt"), inputs_of.items(), strict=True):
        insert_before(
            model,
            "resize",
            helper.make_node(op, inputs, [name], name),
            helper.make_node("QuantizeLinear", [name, scale, "zp"], [f"{name}.q"], f"{name}.q"),
            helper.make_node("DequantizeLinear", [f"{name}.q", scale, "zp"], [f"{name}.dq"], f"{name}.dq"),
        )
    node(model, "resize").input[0] = "root.dq"


def computed_scale(model: onnx.ModelProto) -> None:
    scale = node(model, "expand.act.q").input[1]
    insert_before(model, "expand.act.q", helper.make_node("Identity", [scale], ["computed"], "compute"))
    node(model, "expand.act.q").input[1] = "computed"


def convolution_in_island(model: onnx.ModelProto) -> None:
    write_metadata(model, parse_metadata(model.metadata_props[0].value).model_copy(update={"islands": {"mid": "why"}}))


Break = Callable[[onnx.ModelProto], None]
CASES: list[tuple[str, Break, str, str]] = [
    ("constant-grids", computed_scale, "expand.act.q", "received the computed tensor 'computed'"),
    ("opset", older_opset, "", "expected opset 21, received 20"),
    ("metadata", no_metadata, "", "no 'edge_unet' entry"),
    ("metadata", other_size_in_metadata, "image", "expects (C, H, W) (3, 32, 64), received (3, 64, 64)"),
    ("interface", other_output_name, "probabilities", "expected the one output 'logits'"),
    ("batch-1", batch_of_two, "image", "expected shape (1, C, H, W), received (2, 3, 64, 64)"),
    ("weights-dequantize-only", quantize_on_weights, "mid.wq", "received QuantizeLinear on the constant 'mid.weight'"),
    ("weights-dequantize-only", float_weight, "mid", "received 'mid.weight' as float32"),
    ("weights-symmetric", weight_at_minus_128, "mid.weight", "expected codes in [-127, 127], received 1 of -128"),
    ("weights-per-channel", weight_on_axis_1, "deep", "on axis 0, received axis 1"),
    ("weights-per-channel", weight_per_tensor, "deep", "on axis 0, received one scale for all"),
    ("bias-float", computed_bias, "mid", "expected a float32 constant, received a computed tensor"),
    ("bias-on-grid", bias_between_steps, "mid", "steps in channel 5 (1 of 16 channels are off)"),
    ("activations-per-tensor", activation_per_channel, "expand.act.q", "expected one scale for the tensor, received"),
    ("activations-int8", activation_with_zero_point, "expand.act.q", "zero point 0 (portable scheme), received int8"),
    ("activations-affine", int8_under_affine, "expand.act.q", "expected uint8 (affine scheme), received int8"),
    ("scales-fp16", tiny_scale, "expand.act.q", "expected fp16 scales >= 6.1e-5, received 2.99"),
    ("scales-fp16", scale_between_fp16_numbers, "expand.act.q", "expected fp16 scales >= 6.1e-5, received 0.1"),
    ("after-activation", pair_before_clip, "expand.q", "expected Q/DQ after Clip 'expand.act', received it"),
    ("pairs", unequal_pair, "expand.act.dq", "of 'expand.act.q', received [0.25, 0]"),
    ("shared-scale", concat_scales_differ, "concat0", "concat0 (output) 0.25"),
    ("shared-scale", pool_scales_differ, "pool", "expected one scale over MaxPool"),
    ("add-inputs", float_branch_into_add, "residual", "input 'project' of Add: expected a dequantized tensor"),
    ("quantized-inputs", float_into_conv, "depthwise", "input 'expand.act' of Conv: expected a dequantized tensor"),
    ("islands-weightless", convolution_in_island, "mid", "no weights inside the float island 'mid', received Conv"),
    ("resize-modes", align_corners, "resize", "received align_corners; retrain without it"),
    ("resize-modes", uneven_nearest, "up0", "received asymmetric with ceil"),
    ("resize-modes", cubic, "resize", "received mode cubic"),
    ("input-quantizer", input_scale, "image.q", "expected scale 1/64 and zero point 0, received 0.03125 and 0"),
    ("logits-quantizer", logit_scale, "resize.dq", "expected scale 1/16, received [0.125]"),
    ("logits-quantizer", float_logits, "resize", "expected DequantizeLinear to make 'logits', received Resize"),
    ("layer-norm-one-op", decomposed_layer_norm, "root", "received it decomposed (ReduceMean 'mean', Sqrt)"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "damage", "where", "text"), CASES, ids=[c[1].__name__ for c in CASES])
def test_broken_rule_is_named_alone(tiny_canonical: Path, rule: str, damage: Break, where: str, text: str) -> None:
    model = load_model(tiny_canonical)
    damage(model)
    if rule != "bias-on-grid":
        lay_biases(model)
    found = check_canonical(view_graph(model))
    assert {v.rule for v in found} == {rule}
    assert any(v.node == where and text in v.message for v in found), [str(v) for v in found]


def test_unknown_shape_breaks_static_shapes(tiny_canonical: Path) -> None:
    graph = load_graph(tiny_canonical)
    shapes = {name: shape for name, shape in graph.shapes.items() if name != "mid"}
    found = check_canonical(dataclasses.replace(graph, shapes=shapes))
    assert [(v.rule, v.node) for v in found] == [("static-shapes", "mid")]
    assert "expected a static shape, received an unknown one" in found[0].message


def test_every_rule_has_a_case() -> None:
    assert {c[0] for c in CASES} | {"static-shapes"} == {*GROUND, *RULES}


def test_intact_graphs_pass(tiny_canonical: Path, tiny_canonical_multiclass: Path) -> None:
    for path in (tiny_canonical, tiny_canonical_multiclass):
        assert require_canonical(path).outputs == ("logits",)


def test_affine_graph_passes_where_the_metadata_names_it(tiny_canonical: Path) -> None:
    model = load_model(tiny_canonical)
    metadata = parse_metadata(model.metadata_props[0].value)
    to_u8(model)
    assert {v.rule for v in check_canonical(view_graph(model))} == {"activations-int8"}
    write_metadata(model, metadata.model_copy(update={"scheme": QuantScheme.AFFINE}))
    assert check_canonical(view_graph(model)) == ()


def island_graph(model: onnx.ModelProto, *, close: bool) -> CanonicalGraph:
    """LayerNormalization between the concat and the conv behind it; `close` puts Q/DQ at its end."""
    put(model, "gain", np.ones(32, np.float32))
    rank = [0, 2, 3, 1], [0, 3, 1, 2]
    source = node(model, "mid").input[0]
    scale = node(model, "expand.act.q").input[1]
    nodes = [
        helper.make_node("Transpose", [source], ["last"], "last", perm=rank[0]),
        helper.make_node("LayerNormalization", ["last", "gain"], ["normed"], "normed", axis=-1),
        helper.make_node("Transpose", ["normed"], ["first"], "first", perm=rank[1]),
    ]
    if close:
        nodes.append(helper.make_node("QuantizeLinear", ["first", scale, "zp"], ["first.q"], "first.q"))
        nodes.append(helper.make_node("DequantizeLinear", ["first.q", scale, "zp"], ["first.dq"], "first.dq"))
    insert_before(model, "mid", *nodes)
    node(model, "mid").input[0] = "first.dq" if close else "first"
    return view_graph(model)


def test_float_island_must_end_before_a_conv(tiny_canonical: Path) -> None:
    assert check_canonical(island_graph(load_model(tiny_canonical), close=True)) == ()
    found = check_canonical(island_graph(load_model(tiny_canonical), close=False))
    assert [(v.rule, v.node) for v in found] == [("quantized-inputs", "mid")]


def test_transposed_conv_has_its_scales_on_axis_1(tiny_canonical: Path) -> None:
    for axis, rules in ((1, set()), (0, {"weights-per-channel"})):
        model = load_model(tiny_canonical)
        put(model, "up.weight", np.ones((16, 16, 2, 2), np.int8))
        put(model, "up.scale", np.full(16, 2**-7, np.float32))
        insert_before(
            model,
            "up0",
            helper.make_node("DequantizeLinear", ["up.weight", "up.scale"], ["up.dq"], "up.dq", axis=axis),
        )
        target = node(model, "up0")
        target.op_type = "ConvTranspose"
        target.input[:] = [target.input[0], "up.dq"]
        del target.attribute[:]
        set_attribute(target, "strides", [2, 2])
        assert {v.rule for v in check_canonical(view_graph(model))} == rules


def test_require_lists_every_violation(tiny_canonical: Path, tmp_path: Path) -> None:
    model = load_model(tiny_canonical)
    align_corners(model)
    pool_scales_differ(model)
    lay_biases(model)
    path = tmp_path / "broken.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match=r"broken\.onnx breaks 2 rule\(s\)") as caught:
        require_canonical(path)
    assert "[shared-scale] pool" in str(caught.value)
    assert "[resize-modes] resize" in str(caught.value)


def test_truncated_file_is_an_artifact_error(tiny_canonical: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(tiny_canonical.read_bytes()[:-2000])
    with pytest.raises(ArtifactError, match="damaged or truncated"):
        require_canonical(path)


def test_float_input_type_is_checked(tiny_canonical: Path) -> None:
    graph = load_graph(tiny_canonical)
    graph.model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    found = [v for v in check_canonical(graph) if v.rule == "interface"]
    assert [(v.node, v.message) for v in found] == [("image", "expected float32, received FLOAT16")]
