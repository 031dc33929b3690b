"""What every network must keep, measured: cost, gradients, folding, levels, and the canonical file against torch.

Functions return what they found; the tests beside the networks say what it has to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from edge_unet.canonical import load_graph
from edge_unet.canonical.graph import CanonicalGraph
from edge_unet.core.recipe import ModelSpec, Recipe
from edge_unet.core.spec import PreprocessSpec
from edge_unet.data.scenes import SceneDataset
from edge_unet.graph.from_torch import export_canonical
from edge_unet.models import PRESETS, build_whole
from edge_unet.models.checkpoint import CheckpointInfo
from edge_unet.models.levels import cut_to_level
from edge_unet.quantization import calibrate, prepare

SIZE = 64


def _thin(preset: str) -> ModelSpec:
    return PRESETS[preset].model_copy(update={"width": 0.25})


SLIM = {
    "edge_unet": PRESETS["edge_unet-nano"],
    "edge_unet-portable": PRESETS["edge_unet-portable-nano"],
    "mobile_unet": ModelSpec(name="mobile_unet", width=0.25),
    "unet": ModelSpec(name="unet", base=8, depth=2),
    "unetpp": ModelSpec(name="unetpp", base=8, depth=3, upsample="deconv", deep=True),
    "attention_unet": ModelSpec(name="attention_unet", base=8, depth=2),
    "resunet": ModelSpec(name="resunet", base=8, depth=2),
    "unet3p": ModelSpec(name="unet3p", base=4, depth=2, upsample="bilinear", deep=True),
    "unet3p-cgm": ModelSpec(name="unet3p", base=4, depth=2, upsample="bilinear", deep=True, variant="cgm"),
    "unext": PRESETS["unext-s"],
    "transunet": PRESETS["transunet-tiny"],
    "unet_v2": PRESETS["unet_v2-tiny"],
    "vm_unet_v2": PRESETS["vm_unet_v2-tiny"],
    "mobile_unetpp": ModelSpec(name="mobile_unetpp", width=0.25, depth=3, deep=True),
    "mobile_unet_v2": _thin("mobile_unet_v2-0.5"),
    "mobile_vm_unet_v2": _thin("mobile_vm_unet_v2-0.5"),
    "mobile_vm_unet_v2-ssd": _thin("mobile_vm_unet_v2-ssd-0.5"),
}
"""Every network as thin as its code allows, and its variants that go another way through it."""


def recipe_of(spec: ModelSpec, size: int = SIZE) -> Recipe:
    """A square binary recipe."""
    return Recipe(model=spec, preprocess=PreprocessSpec(height=size, width=size))


def cost(spec: ModelSpec, size: int = 256) -> tuple[int, float]:
    """Trainable parameters and MACs of the whole network, one class; on meta tensors, so nothing is computed."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        net = build_whole(recipe_of(spec, size)).eval()
        net(torch.zeros(1, 3, size, size))
    return sum(p.numel() for p in net.parameters() if p.requires_grad), counter.get_total_flops() / 2


def pictures(count: int = 4, size: int = SIZE) -> Tensor:
    """(count, 3, size, size) smooth pictures on the input grid."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 255
    return (nn.functional.interpolate(coarse, size=size, mode="bilinear").round() - 128) / 64


def settled(spec: ModelSpec, size: int = SIZE) -> nn.Module:
    """The whole network in eval mode, norms away from their start and BN statistics measured."""
    torch.manual_seed(0)
    net = build_whole(recipe_of(spec, size)).train()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.mul_(torch.empty_like(module.weight).uniform_(0.7, 1.3))
                module.bias.add_(torch.empty_like(module.bias).uniform_(-0.3, 0.6))
        for _ in range(15):
            net(pictures(size=size))
    return net.eval()


def heads_of(net: nn.Module, frames: Tensor) -> tuple[Tensor, ...]:
    """What the network gives, as a tuple; one head is a tuple of one."""
    with torch.no_grad():
        found = net(frames)
    return found if isinstance(found, tuple) else (found,)


def silent_parameters(spec: ModelSpec, size: int = SIZE) -> list[str]:
    """Trainable parameters that a fresh network's gradient does not reach, over all its heads."""
    torch.manual_seed(0)
    net = build_whole(recipe_of(spec, size)).train()
    found = net(pictures(4, size))
    heads = found if isinstance(found, tuple) else (found,)
    # A random projection: a sum of squares would be flat for a normalisation in front of the head.
    signs = [torch.randn(head.shape, generator=torch.Generator().manual_seed(1)) for head in heads]
    losses = [(head * sign).mean() for head, sign in zip(heads, signs, strict=True)]
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    trained = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
    return [n for n, p in trained if p.grad is None or not p.grad.abs().sum() > 0]


def quantized(net: nn.Module, spec: ModelSpec, size: int = SIZE) -> fx.GraphModule:
    """The network with calibrated fake-quant."""
    made = prepare(net, recipe_of(spec, size))
    calibrate(made, [pictures(size=size)], "minmax")
    return made


@dataclass(frozen=True)
class Exported:
    """A canonical file beside the torch network it was made from. `lsb`: differences of their logits in codes."""

    graph: CanonicalGraph
    lsb: np.ndarray

    @property
    def float_ops(self) -> set[str]:
        """Ops inside declared islands."""
        return {n.op for n in self.graph.nodes if self.graph.island(n) is not None}

    @property
    def integer_ops(self) -> set[str]:
        """Ops outside, but for Q/DQ."""
        outside = {n.op for n in self.graph.nodes if self.graph.island(n) is None}
        return outside - {"QuantizeLinear", "DequantizeLinear"}

    @property
    def undeclared(self) -> list[str]:
        """Nodes outside islands that read or make a float tensor which no int8 one stands behind.

        A convolution or sum hands a float to its activation; nothing else may.
        """
        found = []
        for node in self.graph.nodes:
            if node.op in ("QuantizeLinear", "DequantizeLinear") or self.graph.island(node) is not None:
                continue
            readers = self.graph.consumers.get(node.outputs[0], ())
            fused = len(readers) == 1 and readers[0].op in ("Clip", "Relu") and node.op in ("Conv", "Add", "Mul")
            if readers and not fused and any(r.op != "QuantizeLinear" for r in readers):
                found.append(node.name)
        return found


def exported(net: fx.GraphModule, spec: ModelSpec, folder: Path, size: int = SIZE) -> Exported:
    """The canonical file of a quantized network, run on ONNX Runtime without optimizations."""
    path = folder / "canonical.onnx"
    model = spec.model_copy(update={"level": "mean" if spec.deep else None})
    single = cut_to_level(net, "mean") if spec.deep else net
    export_canonical(single, CheckpointInfo(kind="ptq", recipe=recipe_of(model, size)), None, path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        frames = [frame[None] for frame in pictures(size=size)]  # (1, 3, size, size) each
        pairs = [(session.run(None, {"image": f.numpy()})[0], single(f).numpy()) for f in frames]
    return Exported(load_graph(path), np.stack([np.abs(ours - theirs) * 16 for ours, theirs in pairs]))


def losses_on_scenes(spec: ModelSpec, steps: int, rate: float = 2e-3) -> list[float]:
    """Binary cross-entropy over all heads, step by step, from random weights on procedural endoscopy scenes."""
    scenes = [SceneDataset("endoscopy", 16, 1, SIZE, SIZE).load(index) for index in range(16)]
    frames = torch.from_numpy(np.stack([(frame.astype(np.float32) - 128) / 64 for frame, _ in scenes]))
    x = frames.permute(0, 3, 1, 2).contiguous()  # (16, 3, SIZE, SIZE)
    y = torch.from_numpy(np.stack([mask for _, mask in scenes])).float()[:, None]  # (16, 1, SIZE, SIZE)
    torch.manual_seed(0)
    net = build_whole(recipe_of(spec)).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    made = []
    for step in range(steps):
        batch = torch.arange(step * 8, step * 8 + 8) % 16
        found = net(x[batch])
        heads = found if isinstance(found, tuple) else (found,)
        loss = sum(nn.functional.binary_cross_entropy_with_logits(h, y[batch]) for h in heads) / len(heads)
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        made.append(float(loss.detach()))
    return made
