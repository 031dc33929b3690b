"""The modules an exported network is made of: integers instead of learned scales, one module per value.

Quantization's modules know how to freeze themselves into these; this package never imports quantization.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, fx, nn

from edge_unet.core.errors import GraphError
from edge_unet.graph.names import tensor_names
from edge_unet.graph.qdq import dequantize_weight, qdq


@runtime_checkable
class Freezable(Protocol):
    """A fake-quant module that can state its integers."""

    def frozen(self) -> nn.Module:
        """The same function of its input with constant scale, zero point and weight codes."""
        ...


class FrozenQuantizer(nn.Module):
    """Quantize-dequantize of an activation. `scale` () float32, `zero_point` () int8 or uint8."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """Real tensor of any shape -> grid values, same shape."""
        y: Tensor = qdq(x, self.scale, self.zero_point)
        return y


class FrozenConv(nn.Module):
    """Conv2d or ConvTranspose2d on int8 weights. `weight` is OIHW (IOHW transposed), codes in [-127, 127]."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    bias: Tensor

    def __init__(
        self, codes: Tensor, scale: Tensor, bias: Tensor, axis: int, call: Callable[[Tensor, Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.axis = axis
        self.call = call
        self.register_buffer("weight", codes)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero_point", torch.zeros_like(scale, dtype=torch.int8))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W')."""
        weight = dequantize_weight(self.weight, self.weight_scale, self.weight_zero_point, self.axis)
        return self.call(x, weight, self.bias)  # (N, cout, H', W')


class GlobalMean(nn.Module):
    """AdaptiveAvgPool2d(1) as the mean that it is."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1)."""
        return x.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)


class FunctionCall(nn.Module):
    """A function or method call of the graph as a module, so that the exporter records where it stands."""

    def __init__(self, node: fx.Node) -> None:
        super().__init__()
        slots = {n: _Slot(i) for i, n in enumerate(node.all_input_nodes)}
        self.target = node.target
        self.arguments: Any = fx.node.map_arg(node.args, lambda n: slots[n])
        self.keywords: Any = fx.node.map_arg(node.kwargs, lambda n: slots[n])

    def forward(self, *values: Tensor) -> Any:
        """The call, with the graph's values in place."""
        arguments = [_fill(a, values) for a in self.arguments]
        keywords = {k: _fill(a, values) for k, a in self.keywords.items()}
        if isinstance(self.target, str):
            return getattr(arguments[0], self.target)(*arguments[1:], **keywords)
        return self.target(*arguments, **keywords)


class _Slot(int):
    """The position of a graph value among the inputs of a FunctionCall."""


def _fill(argument: Any, values: tuple[Tensor, ...]) -> Any:
    if isinstance(argument, _Slot):
        return values[argument]
    if isinstance(argument, (tuple, list)):
        return type(argument)(_fill(a, values) for a in argument)
    if isinstance(argument, slice):
        return slice(_fill(argument.start, values), _fill(argument.stop, values), _fill(argument.step, values))
    return argument


def freeze(net: fx.GraphModule) -> fx.GraphModule:
    """A copy of a quantized network with constant integers. Raises GraphError on a scale that was never set."""
    net = copy.deepcopy(net).cpu().eval()
    for name, module in list(net.named_modules()):
        if isinstance(module, Freezable):
            try:
                net.add_submodule(name, module.frozen())
            except ValueError as error:
                raise GraphError(f"quantizer {name!r}: {error}; calibrate the network before exporting it") from error
    name_functions(net)
    return net


def spell_out_global_means(net: fx.GraphModule) -> None:
    """Replace the pools to 1x1 of `net`: torch takes that of a channels-last map (behind a LayerNorm) apart into a mean
    and as_strided, which becomes a Gather in ONNX."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            net.add_submodule(name, GlobalMean())


def name_functions(net: fx.GraphModule) -> None:
    """Turn every function call of `net` into a module at the path it is called in."""
    names = tensor_names(net.graph)
    for node in list(net.graph.nodes):
        if node.op not in ("call_function", "call_method"):
            continue
        net.add_submodule(names[node], FunctionCall(node))
        with net.graph.inserting_before(node):
            call = net.graph.call_module(names[node], tuple(node.all_input_nodes))
        node.replace_all_uses_with(call)
        net.graph.erase_node(node)
    net.recompile()
