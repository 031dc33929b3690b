"""The networks that users pick today, written again from their papers, and the registry that names them.

All take a (N, 3, H, W) normalised frame and give logits at its size, one channel or as many as asked for. No pretrained
weights are here: their time does not depend on them, and Dice is compared only where all were trained alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peers import (
    ddrnet_23_slim,
    linknet_r18,
    lraspp_mobilenet_v3,
    mobilenet_v2_unet,
    pidnet_s,
    unet_31m,
    unext_s,
)
from peers.layers import settle
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import edge_unet.models
from edge_unet.core.errors import UsageError
from edge_unet.core.registry import lookup, registry


@dataclass(frozen=True)
class Peer:
    """One network: how it is built, and what its paper or the common port of it counts at 256x256, one class."""

    title: str
    build: Callable[[int], nn.Module]
    multiple: int
    """Height and width must be multiples of it."""
    parameters_m: float
    gmacs_256: float


PEERS: Mapping[str, Peer] = registry(
    (
        ("unet_31m", Peer("U-Net 31M", unet_31m.unet_31m, 16, 31.04, 48.17)),
        (
            "mobilenet_v2_unet",
            Peer("U-Net, MobileNetV2 encoder", mobilenet_v2_unet.MobileNetV2Unet, 32, 6.61, 3.35),
        ),
        ("unext_s", Peer("UNeXt-S", unext_s.unext_s, 32, 0.2536, 0.0992)),
        ("ddrnet_23_slim", Peer("DDRNet-23-slim", ddrnet_23_slim.DDRNet23Slim, 32, 5.68, 1.134)),
        (
            "lraspp_mobilenet_v3",
            Peer("LR-ASPP MobileNetV3-Large", lraspp_mobilenet_v3.LRASPPMobileNetV3, 16, 3.21, 0.49),
        ),
        ("linknet_r18", Peer("LinkNet-R18", linknet_r18.LinkNetR18, 32, 11.53, 2.68)),
        ("pidnet_s", Peer("PIDNet-S", pidnet_s.PIDNetS, 32, 7.62, 1.47)),
    )
)

SETTLE_SIZE = 128
"""Statistics are measured on frames of this size: they hardly depend on it, and the 31 M network takes its time."""
SETTLE_BATCH, SETTLE_BATCHES = 4, 2


def build_peer(name: str, classes: int = 1) -> nn.Module:
    """A fresh network. Raises UsageError with the nearest name."""
    return lookup(PEERS, name, "peer").build(classes)


def check_size(name: str, size: int) -> None:
    """Raise UsageError where the network cannot take size x size frames."""
    multiple = lookup(PEERS, name, "peer").multiple
    if size < multiple or size % multiple:
        raise UsageError(f"{name} needs a height and width in multiples of {multiple}, received {size}; change --size")


def settled_peer(name: str, size: int = SETTLE_SIZE) -> nn.Module:
    """Eval mode, seeded, statistics settled, about half of the logits above 0: a mask of one class shows no error."""
    torch.manual_seed(0)
    net = build_peer(name)
    frames = [smooth_frames(SETTLE_BATCH, size, seed) for seed in range(SETTLE_BATCHES)]
    settle(net, frames)
    with torch.no_grad():
        bias = head_bias(net)
        bias.sub_(net(frames[0]).median())
    return net


def head_bias(net: nn.Module) -> Tensor:
    """The bias that every logit has: that of the last convolution that makes one channel."""
    heads = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) and m.out_channels == 1]
    bias = heads[-1].bias
    assert bias is not None  # every network here has one
    return bias


def smooth_frames(count: int, size: int, seed: int) -> Tensor:
    """(count, 3, size, size) smooth pictures on the input grid."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 255
    return (nn.functional.interpolate(coarse, size=size, mode="bilinear").round() - 128) / 64


def count(net: nn.Module, size: int) -> tuple[int, int]:
    """Trainable parameters, and multiply-accumulates for one size x size frame."""
    device = next(net.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, 3, size, size, device=device))
    return sum(p.numel() for p in net.parameters() if p.requires_grad), counter.get_total_flops() // 2


def sources(name: str) -> list[Path]:
    """Every file that shapes a network and its weights: what a cache of it must be keyed by."""
    here, models = Path(__file__).parent, Path(edge_unet.models.__file__).parent
    own = Path(inspect.getfile(lookup(PEERS, name, "peer").build))
    reused = [models / f"{module}.py" for module in ("blocks", "norm", "unet", "unext")]
    return [own, here / "layers.py", here / "networks.py", *reused]
