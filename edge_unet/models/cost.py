"""What a network costs on paper: parameters, multiply-accumulates, activation memory, counted on its traced graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils.flop_counter import FlopCounterMode

from edge_unet.models.islands import FloatIsland, trace
from edge_unet.models.levels import levels_of

VIEWS = frozenset({"reshape", "view", "flatten", "permute", "transpose", "contiguous", "chunk", "split", "getitem"})
"""Functions whose result is their input's memory."""


@dataclass(frozen=True)
class Cost:
    """Paper costs for one image."""

    parameters: int
    """What training changes; the constant kernels of fixed convolutions are not counted."""
    macs: int
    """Multiply-accumulates of convolutions and matrix products. Elementwise work, such as a selective scan's, is not
    in it: that is the convention of the literature."""
    activation_bytes: int
    """Greatest sum of tensors alive at once, run layer by layer: one byte a value in INT8, four in float islands."""
    levels: tuple[str, ...]


def cost_of(net: nn.Module, channels: int, height: int, width: int) -> Cost:
    """Count a network (on any device, "meta" is enough) for a (1, channels, height, width) frame."""
    device = next(net.parameters()).device
    frame = torch.zeros(1, channels, height, width, device=device)
    traced = trace(net.eval())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ShapeProp(traced).propagate(frame)
    return Cost(
        parameters=sum(p.numel() for p in net.parameters() if p.requires_grad),
        macs=counter.get_total_flops() // 2,
        activation_bytes=_peak_bytes(traced),
        levels=levels_of(net),
    )


def _peak_bytes(traced: fx.GraphModule) -> int:
    """Liveness over the graph's order; activation functions and views work in place."""
    modules = dict(traced.named_modules())
    order = list(traced.graph.nodes)
    place = {node: n for n, node in enumerate(order)}
    owner: dict[fx.Node, fx.Node] = {}
    last: dict[fx.Node, int] = {}
    for node in order:
        source = next(iter(node.all_input_nodes), None)
        shares = source is not None and _in_place(node, modules) and len(source.users) == 1
        owner[node] = owner[source] if shares and source is not None else node
        for used in (node, *node.all_input_nodes):
            last[owner[used]] = max(last.get(owner[used], 0), place[node])
    peak = alive = 0
    ends: dict[int, int] = {}
    for number, node in enumerate(order):
        if owner[node] is node and node.op not in ("output", "get_attr"):
            size = _bytes(node, modules)
            alive += size
            ends[last[node]] = ends.get(last[node], 0) + size
        peak = max(peak, alive)
        alive -= ends.pop(number, 0)
    return peak


def _in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a runtime needs no memory of its own for the result: fused into the layer before, or a view."""
    if node.op == "call_module":
        fused = (nn.BatchNorm2d, nn.ReLU, nn.Hardtanh, nn.Identity, nn.Dropout, nn.Flatten)
        return isinstance(modules[str(node.target)], fused)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name in VIEWS


def _bytes(node: fx.Node, modules: dict[str, nn.Module]) -> int:
    """Bytes of a node's tensor: four a value where it is float, one where it is INT8."""
    made = node.meta.get("tensor_meta")
    shape = getattr(made, "shape", None)
    if shape is None:
        return 0  # a tuple: its pieces are views
    island = node.op == "call_module" and isinstance(modules[str(node.target)], FloatIsland)
    return int(shape.numel()) * (4 if island else 1)
