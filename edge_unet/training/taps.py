"""What a network's deepest head reads: found by walking its graph backwards, watched by a hook."""

from __future__ import annotations

from collections import deque
from typing import Any

from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.models.islands import trace
from edge_unet.models.levels import outputs_of
from edge_unet.quantization.layers import QuantConv
from edge_unet.training.evaluate import DEEPEST

HeadConv = nn.Conv2d | QuantConv


def head_of(net: nn.Module, channels: int) -> HeadConv:
    """The convolution, float or quantized, that makes the `channels` logits of the deepest head: the first learnt one
    with that many outputs on the way back from the result. Raises UsageError where there is none."""
    traced = trace(net)
    outputs, modules = outputs_of(traced), dict(net.named_modules())
    waiting, seen = deque([outputs[DEEPEST] if len(outputs) > 1 else outputs[0]]), set()
    while waiting:
        node = waiting.popleft()
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, HeadConv) and module.weight.requires_grad and module.weight.shape[0] == channels:
            return module
        new = [source for source in node.all_input_nodes if source not in seen]
        seen.update(new)
        waiting.extend(new)
    raise UsageError(
        f"{type(net).__name__}: no convolution gives its {channels} logits, so there are no features to distil; "
        "set distill.features to 0"
    )


class Tap:
    """Keeps what a module last read. A copied module writes into a copied tap."""

    def __init__(self, module: nn.Module) -> None:
        self._value: Tensor | None = None
        module.register_forward_pre_hook(self._keep)

    def take(self) -> Tensor:
        """(N, C, h, w), once for each forward pass."""
        if self._value is None:
            raise RuntimeError("the network has made no forward pass since its features were last taken")
        value, self._value = self._value, None
        return value

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """The hook."""
        self._value = inputs[0]
