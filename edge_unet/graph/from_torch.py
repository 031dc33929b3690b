"""Export: the torch network becomes ONNX once, and everything after reads that file."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, fx, nn

from edge_unet import __version__
from edge_unet.canonical import Metadata, write_metadata
from edge_unet.canonical.rules import require_canonical
from edge_unet.core.errors import GraphError, UsageError
from edge_unet.core.files import written_whole
from edge_unet.core.recipe import Recipe
from edge_unet.graph.frozen import Freezable, freeze, name_functions, spell_out_global_means
from edge_unet.graph.passes import constant_rates, global_pool, identities, naming, own_constants, provenance
from edge_unet.graph.qdq import OPSET, translations
from edge_unet.graph.rewriting import slices_at_slices
from edge_unet.models.checkpoint import CheckpointInfo
from edge_unet.models.islands import islands_of, trace


def export_canonical(net: fx.GraphModule, info: CheckpointInfo, checkpoint_sha256: str | None, path: Path) -> None:
    """Write the canonical Q/DQ ONNX of a quantized network, batch 1 at the recipe's size. Same input, same bytes.

    Raises GraphError where a scale was never set or the result breaks a canonical rule (nothing is written then),
    UsageError for a float checkpoint.
    """
    if info.kind == "fp32" or info.kind == "pretrain":
        raise UsageError("an fp32 checkpoint has no integers to export; quantize it first (edge-unet quantize)")
    model = _exported(freeze(net), info.recipe)
    sites = sum(_is_quantizer_call(node, net) for node in net.graph.nodes)
    written = sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
    if sites != written:
        raise GraphError(f"the exporter wrote {written} QuantizeLinear nodes, expected {sites}; check torch's version")
    write_metadata(model, _metadata(info, checkpoint_sha256, islands_of(net)))
    with written_whole(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
        require_canonical(temporary)


def export_float(net: nn.Module, recipe: Recipe, path: Path) -> None:
    """Write a float network as plain ONNX: no Q/DQ, one result `logits`, batch 1 at the recipe's size."""
    traced = copy.deepcopy(trace(net.eval()))  # naming adds modules to it
    name_functions(traced)
    model = _exported(traced, recipe)
    with written_whole(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def _is_quantizer_call(node: fx.Node, net: fx.GraphModule) -> bool:
    """Whether the node calls an activation quantizer: freezable, without parameters of a convolution."""
    if node.op != "call_module":
        return False
    module = net.get_submodule(str(node.target))
    return isinstance(module, Freezable) and not hasattr(module, "bias")


def _exported(net: fx.GraphModule, recipe: Recipe) -> onnx.ModelProto:
    """The network through torch's exporter and our passes, with every shape inferred."""
    frame = recipe.preprocess
    example = torch.zeros(1, frame.channels, frame.height, frame.width)
    spell_out_global_means(net)
    program = _torch_export(net, example)
    model = program.model
    count = len(model.graph.outputs)
    constant_rates.run(model)
    identities.run(model)
    global_pool.run(model)
    own_constants.run(model)
    naming.run(model, ("logits",) if count == 1 else tuple(f"logits_{n}" for n in range(count)))
    provenance.run(model, recipe.model.name)
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)


def _torch_export(net: fx.GraphModule, example: Tensor) -> torch.onnx.ONNXProgram:
    """torch.onnx.export without its progress lines; its warnings are about packages that we do not use."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad(), slices_at_slices():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                net,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                external_data=False,
                optimize=True,
                verbose=False,
                custom_translation_table=translations(),
            )
    finally:
        log.setLevel(level)
    if program is None:
        raise GraphError("torch.onnx.export returned no program; install torch>=2.9 and onnxscript>=0.6")
    return program


def _metadata(info: CheckpointInfo, checkpoint_sha256: str | None, islands: Mapping[str, str]) -> Metadata:
    recipe = info.recipe
    if info.kind == "fp32" or info.kind == "pretrain":
        raise UsageError("metadata of the canonical graph needs a quantized checkpoint")
    return Metadata(
        name=recipe.name,
        model=recipe.model.name,
        level=recipe.model.level,
        preprocess=recipe.preprocess,
        classes=recipe.classes,
        scheme=recipe.quantize.scheme,
        kind=info.kind,
        scene=recipe.data.scene,
        licence=recipe.licence,
        metrics=info.metrics,
        seed=recipe.seed,
        checkpoint_sha256=checkpoint_sha256,
        calibration_sha256=info.calibration_sha256,
        data_sha256=info.data_sha256,
        islands=islands,
        versions={"edge_unet": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
    )
