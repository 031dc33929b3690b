"""What each operation of a traced network means for the grids of its tensors. An op without a rule is an error."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from edge_unet.core.errors import GraphError
from edge_unet.core.registry import registry
from edge_unet.models.islands import FloatIsland


class Rule(Enum):
    """How an op treats the grid of its input.

    INPUT: the frame. CONV, BINARY: a new grid, after the activation if exactly one follows. SUM: as BINARY, but one
    grid over inputs and output where none of them is fixed. ACTIVATION, POINTWISE: a new grid. SAME: the input's
    grid. CONCAT: one grid over all inputs and the output. SPLIT: a tuple of pieces on the input's grid. FLOAT: an
    island; its result is quantized unless only islands read it. SHAPE: not a tensor of the network. OUTPUT: the
    graph's results.
    """

    INPUT = "input"
    CONV = "conv"
    BINARY = "binary"
    SUM = "sum"
    ACTIVATION = "activation"
    POINTWISE = "pointwise"
    SAME = "same grid"
    CONCAT = "concat"
    SPLIT = "split"
    FLOAT = "float"
    SHAPE = "shape"
    OUTPUT = "output"


MODULE_RULES: tuple[tuple[type[nn.Module], Rule], ...] = (
    (FloatIsland, Rule.FLOAT),
    (nn.Conv2d, Rule.CONV),
    (nn.ConvTranspose2d, Rule.CONV),
    (nn.ReLU, Rule.ACTIVATION),
    (nn.Hardtanh, Rule.ACTIVATION),  # nn.ReLU6 is one
    (nn.Sigmoid, Rule.POINTWISE),
    (nn.Hardsigmoid, Rule.POINTWISE),
    (nn.Hardswish, Rule.POINTWISE),
    (nn.SiLU, Rule.POINTWISE),
    (nn.GELU, Rule.POINTWISE),
    (nn.Tanh, Rule.POINTWISE),
    (nn.MaxPool2d, Rule.SAME),
    (nn.AvgPool2d, Rule.SAME),
    (nn.AdaptiveAvgPool2d, Rule.SAME),
    (nn.AdaptiveMaxPool2d, Rule.SAME),
    (nn.Upsample, Rule.SAME),
    (nn.ZeroPad2d, Rule.SAME),
    (nn.ReflectionPad2d, Rule.SAME),
    (nn.ReplicationPad2d, Rule.SAME),
    (nn.PixelShuffle, Rule.SAME),
    (nn.PixelUnshuffle, Rule.SAME),
    (nn.Flatten, Rule.SAME),
)

FUNCTION_RULES: Mapping[Callable[..., Any], Rule] = dict(
    (
        *((f, Rule.SUM) for f in (operator.add, operator.iadd, operator.sub, torch.add, torch.sub)),
        *((f, Rule.BINARY) for f in (operator.mul, operator.imul, torch.mul)),
        *((f, Rule.ACTIVATION) for f in (functional.relu, functional.relu6, functional.hardtanh, torch.relu)),
        *((f, Rule.ACTIVATION) for f in (torch.clamp, torch.clip)),
        *((f, Rule.POINTWISE) for f in (torch.sigmoid, functional.sigmoid, torch.tanh, functional.hardsigmoid)),
        *((f, Rule.POINTWISE) for f in (functional.hardswish, functional.silu)),
        *((f, Rule.SAME) for f in (functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d)),
        *((f, Rule.SAME) for f in (functional.interpolate, functional.pad, functional.pixel_shuffle, torch.flatten)),
        *((f, Rule.SAME) for f in (torch.reshape, torch.permute, torch.transpose, torch.mean, operator.getitem)),
        *((f, Rule.SAME) for f in (torch.amax, functional.adaptive_max_pool2d)),
        *((f, Rule.CONCAT) for f in (torch.cat, torch.concat)),
        *((f, Rule.SPLIT) for f in (torch.chunk, torch.split)),
        (getattr, Rule.SHAPE),
    )
)

METHOD_RULES: Mapping[str, Rule] = registry(
    (
        *((m, Rule.SUM) for m in ("add", "add_", "sub")),
        *((m, Rule.BINARY) for m in ("mul", "mul_")),
        *((m, Rule.ACTIVATION) for m in ("relu", "clamp", "clip")),
        *((m, Rule.POINTWISE) for m in ("sigmoid", "tanh")),
        *((m, Rule.SAME) for m in ("reshape", "view", "permute", "transpose", "flatten", "mean", "contiguous")),
        ("amax", Rule.SAME),
        *((m, Rule.SPLIT) for m in ("chunk", "split")),
        *((m, Rule.SHAPE) for m in ("size", "dim")),
    )
)


def rules_of(net: fx.GraphModule) -> dict[fx.Node, Rule]:
    """The rule of every node. Raises GraphError, naming the node, for an op without one."""
    modules = dict(net.named_modules())
    rules: dict[fx.Node, Rule] = {}
    for node in net.graph.nodes:
        rule = _rule(node, modules, rules)
        rules[node] = rule
        if rule in (Rule.BINARY, Rule.SUM) and any(not isinstance(a, fx.Node) for a in node.args[:2]):
            raise GraphError(
                f"node {node.name!r}: {_words(node, modules)} with a constant has no quantization rule; "
                "fold the constant into a neighbouring convolution"
            )
        _refuse_align_corners(node, modules)
    return rules


def _rule(node: fx.Node, modules: dict[str, nn.Module], rules: dict[fx.Node, Rule]) -> Rule:
    if node.op == "placeholder":
        return Rule.INPUT
    if node.op == "output":
        return Rule.OUTPUT
    sources = node.all_input_nodes
    if node.op != "call_module" and sources and all(rules[s] is Rule.SHAPE for s in sources):
        return Rule.SHAPE
    found: Rule | None = None
    if node.op == "call_module":
        module = modules[str(node.target)]
        found = next((rule for kind, rule in MODULE_RULES if isinstance(module, kind)), None)
    elif node.op == "call_function":
        found = FUNCTION_RULES.get(node.target) if callable(node.target) else None
    elif node.op == "call_method":
        found = METHOD_RULES.get(str(node.target))
    if found is None:
        raise GraphError(
            f"node {node.name!r}: {_words(node, modules)} has no quantization rule; "
            "use an op of quantization/rules.py or add its rule there"
        )
    return found


def _words(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """The op of a node as a reader knows it."""
    if node.op == "call_module":
        return f"module {type(modules[str(node.target)]).__name__}"
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _refuse_align_corners(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    """Runtimes disagree on align_corners, and have no integer kernel for other modes."""
    if node.op == "call_module" and isinstance(module := modules[str(node.target)], nn.Upsample):
        mode, corners = module.mode, module.align_corners
    elif node.target is functional.interpolate:
        mode, corners = str(node.kwargs.get("mode", "nearest")), bool(node.kwargs.get("align_corners", False))
    else:
        return
    if corners or mode not in ("nearest", "bilinear"):
        raise GraphError(
            f"node {node.name!r}: upsampling mode={mode!r}, align_corners={corners}; "
            "expected nearest, or bilinear with align_corners=False"
        )
