"""The MIL program of a canonical graph, and the passes it goes through before it is saved.

The passes are a positive list. The graph comes out of quantization-aware training exactly as it should run, so what
coremltools' default pipeline would do to it is at best nothing and at worst harm:
- distributive_quantized_binary_op_scale_normalization rewrites the scales around an Add (up to 59x was seen;
  read_back refuses such a package);
- nullify_redundant_quantization_zero_point turns +-128 zero points into the other signedness;
- dequantize_quantize_pair_elimination, remove_redundant_ops and const_deduplication merge tensors, so that a scale or
  weight could no longer be read back under its own name;
- fuse_conv_scale, divide_to_multiply and the other fusions rewrite float arithmetic that training did not see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_unet.canonical import CanonicalGraph
from edge_unet.core.errors import GraphError
from edge_unet.core.spec import PreprocessSpec
from edge_unet.targets.coreml.build import Build, Deployment, WeightStorage
from edge_unet.targets.coreml.names import Names
from edge_unet.targets.coreml.ops import lower_node

PASSES = (
    "common::update_output_dtypes",
    "common::add_conv_transpose_output_shape",
    "common::const_elimination",
    "common::dedup_op_and_var_names",  # add_fp16_cast relies on unique names
    "common::add_fp16_cast",
    "common::update_output_dtypes",
    "common::const_elimination",  # folds the casts of constants
    "common::dead_code_elimination",
    "common::cast_optimization",
    "common::dead_code_elimination",
    "common::topological_reorder",
)


def build_program(graph: CanonicalGraph, deployment: Deployment, weight_storage: WeightStorage) -> tuple[Any, Build]:
    """A coremltools Program with one function `main`, and the Build that remembers every name.

    The input is the network's real input, (1, C, H, W) float. Raises GraphError naming the node MIL cannot express.
    """
    import coremltools as ct
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, Program

    # The builder numbers its constants process-wide and starts anew only after a conversion that succeeded: without
    # this, a lowering after one that was refused would have other names and so other bytes.
    Builder.name_count.clear()
    build = Build(Builder, graph, Names((graph.input, *graph.outputs)), deployment, weight_storage)
    entry = build.names.mil(graph.input)
    placeholder = Builder.TensorSpec(shape=graph.shapes[graph.input])
    with Function({entry: placeholder}, opset_version=ct.target[deployment.value]) as function:
        build.values[graph.input] = function.inputs[entry]
        for node in graph.nodes:
            try:
                lower_node(build, node)
            except (ValueError, TypeError) as error:  # what the builder raises on arguments it does not accept
                raise GraphError(f"Core ML: node {node.name!r} ({node.op}) was refused by MIL: {error}") from error
        function.set_outputs([build.values[name] for name in graph.outputs])
    program = Program()
    program.add_function("main", function)
    return program, build


def image_input(name: str, shape: tuple[int, ...], preprocess: PreprocessSpec) -> Any:
    """The ImageType that makes raw pixels the network's real input: real = pixel * scale - mean * scale.

    With mean 128 and scale 1/64 every step is exact in fp16: pixel / 64 has 8 significant bits and so has its
    difference from 2, hence the first quantize (scale 1/64) gives exactly pixel - 128.
    """
    import coremltools as ct

    layouts = {"RGB": ct.colorlayout.RGB, "BGR": ct.colorlayout.BGR, "GRAY": ct.colorlayout.GRAYSCALE}
    bias = -preprocess.mean * preprocess.scale
    return ct.ImageType(
        name=name,
        shape=shape,
        scale=preprocess.scale,
        bias=bias if preprocess.color_order == "GRAY" else [bias] * preprocess.channels,
        color_layout=layouts[preprocess.color_order],
    )


def convert_program(program: Any, deployment: Deployment, image: Any, single: Callable[[Any], bool]) -> Any:
    """Run the passes and make the MLModel: fp16 arithmetic outside Q/DQ, which the Neural Engine needs, except in the
    ops for which `single` is true: these stay float32."""
    import coremltools as ct

    return ct.convert(
        program,
        source="milinternal",
        convert_to="mlprogram",
        inputs=[image],
        minimum_deployment_target=ct.target[deployment.value],
        compute_precision=ct.transform.FP16ComputePrecision(op_selector=lambda op: not single(op)),
        pass_pipeline=ct.PassPipeline(list(PASSES), "edge_unet"),
        skip_model_load=True,  # loading needs macOS
    )
