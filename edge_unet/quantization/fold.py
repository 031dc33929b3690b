"""Folding BatchNorm into the convolution in front of it, and parallel convolutions of one input into one: before QAT,
so that the trained weights are the exported."""

from __future__ import annotations

import copy
import operator

import torch
from torch import Tensor, fx, nn

from edge_unet.core.errors import GraphError
from edge_unet.models.islands import trace


def trace_folded(net: nn.Module) -> fx.GraphModule:
    """A traced copy of `net` in eval mode: BN folded, sums of convolutions of one input made one, dropout and
    identities gone, activations not in place.

    Raises GraphError where the network branches on data or has a BN that does not follow a convolution.
    """
    copied = copy.deepcopy(net).eval()
    try:
        traced = trace(copied)
    except (fx.proxy.TraceError, TypeError) as error:
        raise GraphError(f"{type(net).__name__} cannot be traced: {error}; forward must not branch on data") from error
    _drop_identities(traced)
    _fold_all(traced)
    _merge_branches(traced)
    for module in traced.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]  # a plain attribute of ReLU, ReLU6, Hardtanh
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _drop_identities(net: fx.GraphModule) -> None:
    modules = dict(net.named_modules())
    for node in list(net.graph.nodes):
        if node.op == "call_module" and isinstance(
            modules[str(node.target)], (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout)
        ):
            node.replace_all_uses_with(node.args[0])
            net.graph.erase_node(node)


def _fold_all(net: fx.GraphModule) -> None:
    modules = dict(net.named_modules())
    calls = [str(n.target) for n in net.graph.nodes if n.op == "call_module"]
    for node in list(net.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[str(node.target)], nn.BatchNorm2d):
            continue
        name, source = str(node.target), node.args[0]
        conv = modules.get(str(source.target)) if source.op == "call_module" else None
        if not isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
            raise GraphError(f"BatchNorm {name!r} follows {source.name!r}; only one right after a convolution can fold")
        if len(source.users) != 1 or calls.count(str(source.target)) != 1 or calls.count(name) != 1:
            raise GraphError(f"BatchNorm {name!r} or its convolution is used more than once, so it cannot be folded")
        fold(conv, modules[name])
        node.replace_all_uses_with(source)
        net.graph.erase_node(node)


@torch.no_grad()
def fold(conv: nn.Conv2d | nn.ConvTranspose2d, bn: nn.Module) -> None:
    """Fold `bn` (BatchNorm2d, eval) into `conv` in place, in float64 so that only one rounding is added."""
    if not isinstance(bn, nn.BatchNorm2d) or bn.running_mean is None or bn.running_var is None:
        raise GraphError("BatchNorm without running statistics cannot be folded; train with track_running_stats=True")
    gain = (bn.running_var.double() + bn.eps).rsqrt()  # (cout,)
    shift = -bn.running_mean.double() * gain
    if bn.affine:
        gain, shift = gain * bn.weight.double(), shift * bn.weight.double() + bn.bias.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double() * gain
    weight = conv.weight.double()  # (cout, cin / groups, kH, kW), or (cin, cout / groups, kH, kW) transposed
    if isinstance(conv, nn.ConvTranspose2d):
        grouped = weight.view(conv.groups, -1, *weight.shape[1:])  # (groups, cin / groups, cout / groups, kH, kW)
        weight = (grouped * gain.view(conv.groups, 1, -1, 1, 1)).flatten(0, 1)
    else:
        weight = weight * gain.view(-1, 1, 1, 1)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype).contiguous())
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype))


def _merge_branches(net: fx.GraphModule) -> None:
    """Every sum of two convolutions of the same input becomes one convolution (RepVGG, section 3.3)."""
    modules = dict(net.named_modules())
    calls = [str(n.target) for n in net.graph.nodes if n.op == "call_module"]
    for node in list(net.graph.nodes):
        if node.op != "call_function" or node.target not in (operator.add, torch.add) or len(node.args) != 2:
            continue
        sides = [a for a in node.args if isinstance(a, fx.Node) and a.op == "call_module" and len(a.users) == 1]
        convs = [modules[str(side.target)] for side in sides if calls.count(str(side.target)) == 1]
        if len(convs) != 2 or sides[0].args != sides[1].args or not all(isinstance(c, nn.Conv2d) for c in convs):
            continue
        if _can_merge(convs[0], convs[1]):
            kept, gone = sorted(sides, key=lambda side: -modules[str(side.target)].kernel_size[0])
            merge(modules[str(kept.target)], modules[str(gone.target)])
            node.replace_all_uses_with(kept)
            net.graph.erase_node(node)


def _can_merge(a: nn.Conv2d, b: nn.Conv2d) -> bool:
    """Same shapes out, square odd kernels, and padding that puts both centres on the same pixel."""
    alike = (a.in_channels, a.out_channels, a.stride, a.groups) == (b.in_channels, b.out_channels, b.stride, b.groups)
    return alike and all(
        conv.kernel_size == (size, size)
        and size % 2 == 1
        and conv.padding == (size // 2, size // 2)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        for conv in (a, b)
        for size in conv.kernel_size[:1]
    )


@torch.no_grad()
def merge(into: nn.Conv2d, other: nn.Conv2d) -> None:
    """Add `other`'s weights and bias to those of `into`, whose kernel is at least as large, in float64."""
    border = (into.kernel_size[0] - other.kernel_size[0]) // 2
    wide = nn.functional.pad(other.weight.double(), (border,) * 4)  # (cout, cin / groups, k, k)
    dtype = into.weight.dtype
    biases: list[Tensor] = [c.bias.double() for c in (into, other) if c.bias is not None]
    into.weight = nn.Parameter((into.weight.double() + wide).to(dtype))
    if biases:
        into.bias = nn.Parameter(torch.stack(biases).sum(0).to(dtype))
