"""UNet 3+ (Huang et al. 2020, ICASSP): every decoder level reads all encoder levels above it and all decoders below.

Encoder as in U-Net, base * 2**n channels. Each input of a decoder level is max-pooled or resized to its size and gets a
3x3 conv to `base` channels (pooling by 4 or 8 is pooling by 2 again: the same maximum); their concatenation,
(depth + 1) * base channels, gets another 3x3 conv. 3x3 heads on the deepest encoder level and on all decoders, resized
to full size: L1, the deepest, .. L(depth + 1). At base 64, bilinear, 256x256, one class: 26.97 M parameters with the
last head alone, 26.98 M with all, 198 G MACs: a teacher. Deviations: ReLU6 in place of ReLU, convolutions before BN
without bias, no ceil_mode (sizes are multiples of 2**depth).

variant = "cgm" adds the classification-guided module: is anything of the foreground in the frame? If not, every head
says background. The authors' code multiplies logits by 0 before the sigmoid, so that an empty frame has probability
0.5 everywhere; here the logits are pushed to their limit. PresenceTap gives training the class logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import Heads, conv_bn, fixed_conv, init_head, init_weights, resizing, upsample
from edge_unet.models.unet import encoder_levels

GUIDED = "cgm"
DECISIVE = 16.0
"""Log-odds of absence are multiplied by this: 6 / 16 above even is the full push. The ramp passes gradients."""
PUSH = 3.0
"""Logits fall by this times 0 .. 6: more than the clip's whole range."""

PRESETS = tuple(
    (f"unet3p-{base}", ModelSpec(name="unet3p", base=base, depth=4, upsample="bilinear", deep=True))
    for base in (8, 16, 64)
)


class UNet3Plus(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, L(depth + 1), mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of 2**depth.
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        if spec.variant not in ("", GUIDED):
            raise UsageError(f"unet3p has variants '' and {GUIDED!r}, received {spec.variant!r}; change model.variant")
        self.depth = spec.depth
        widths = [spec.base * 2**level for level in range(spec.depth + 1)]
        joined = (spec.depth + 1) * spec.base
        self.pool = nn.MaxPool2d(2)
        self.encoder = encoder_levels(in_channels, widths)
        self.branch, self.fuse = nn.ModuleDict(), nn.ModuleList()
        mode = resizing(spec.upsample, "unet3p")
        for row in range(spec.depth):
            for source, width in enumerate(widths):
                resize: nn.Module = nn.Identity()
                if source > row:
                    resize = upsample(mode, 2 ** (source - row))
                decoded = row < source < spec.depth
                conv = conv_bn(joined if decoded else width, spec.base, 3)
                self.branch[f"{row}_{source}"] = nn.Sequential(resize, conv)
            self.fuse.append(conv_bn(joined, joined, 3))
        heads = GuidedHeads if spec.variant == GUIDED else Heads
        factors = [2**row for row in range(spec.depth, -1, -1)]
        self.heads = heads([widths[-1], *[joined] * spec.depth], factors, classes, kernel=3)
        init_weights(self)
        init_head(self.heads)
        if isinstance(self.heads, GuidedHeads):
            self.heads.presence.start_open()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, L(depth + 1), mean), each (N, classes, H, W)."""
        taps: list[list[Tensor]] = []  # per row: the encoder's levels 0 .. row, pooled to its size
        for n, level in enumerate(self.encoder):
            above = [self.pool(tap) for tap in taps[-1]] if n else []  # (N, base * 2**k, H/2**n, W/2**n), k < n
            taps.append([*above, level(above[-1] if n else x)])
        made = [row[-1] for row in taps]  # finest first; decoders replace encoders from below
        for row in range(self.depth - 1, -1, -1):
            sources = [*taps[row], *made[row + 1 :]]
            parts = [self.branch[f"{row}_{n}"](source) for n, source in enumerate(sources)]
            made[row] = self.fuse[row](torch.cat(parts, dim=1))  # (N, (depth + 1) * base, H/2**row, W/2**row)
        levels: tuple[Tensor, ...] = self.heads(made[::-1])
        return levels


class Presence(nn.Module):
    """The decision of the classification-guided module: 0 where the frame shows foreground, up to 6 where not.

    Dropout, 1x1 conv to (absent, present), maximum over the frame. The authors' argmax is a steep ramp here: it stays
    in integer ops (a ReLU6 fuses everywhere), and gradients pass where the decision is close.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.conv = nn.Conv2d(channels, 2, 1)
        self.decide = fixed_conv(torch.tensor([DECISIVE, -DECISIVE]).view(1, 2, 1, 1))
        self.act = nn.ReLU6(inplace=False)

    def start_open(self) -> None:
        """Begin with foreground everywhere: training starts as that of the plain network."""
        with torch.no_grad():
            self.conv.weight.mul_(0.1)
            if self.conv.bias is not None:
                self.conv.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, 1, 1, 1)."""
        scores = torch.amax(self.conv(self.drop(x)), dim=(2, 3), keepdim=True)  # (N, 2, 1, 1)
        absent: Tensor = self.act(self.decide(scores))  # (N, 1, 1, 1)
        return absent


class GuidedHeads(Heads):
    """Heads whose logits are pushed to background where `presence`, which reads the first feature, sees nothing.

    The decision is one more channel of a constant 1x1 conv. It lies on one int8 grid with the logits and counts three
    times, so it outweighs any of them, however narrow the calibrated grid. With several classes the foreground is
    pushed down and the background, channel 0, up.
    """

    def __init__(self, channels: Sequence[int], factors: Sequence[int], classes: int, kernel: int = 1) -> None:
        super().__init__(channels, factors, classes, kernel)
        self.presence = Presence(channels[0])
        weight = torch.cat((torch.eye(classes), torch.full((classes, 1), -PUSH)), dim=1)  # (classes, classes + 1)
        if classes > 1:
            weight[0, -1] = PUSH
        self.guide = nn.ModuleList(fixed_conv(weight[:, :, None, None].clone()) for _ in channels)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[(N, channels[i], H / factors[i], W / factors[i])] -> (L1, …, Ln, mean), each (N, classes, H, W)."""
        absent = self.presence(features[0])  # (N, 1, 1, 1)
        levels = []
        for x, conv, guide, resize in zip(features, self.convs, self.guide, self.resize, strict=True):
            logits = self.clip(conv(x))  # (N, classes, H / factor, W / factor)
            spread = functional.interpolate(absent, size=x.shape[2:], mode="nearest")  # (N, 1, H / factor, W / factor)
            levels.append(resize(self.clip(guide(torch.cat((logits, spread), dim=1)))))  # (N, classes, H, W)
        return (*levels, self.mean(torch.cat(levels, dim=1)))


class PresenceTap:
    """Hears the log-odds of presence during a forward, for a classification loss beside the segmentation's.

    Works on float, cut and quantized networks of variant "cgm"; the graph and its outputs stay as they are.
    Raises UsageError for a network without the module.
    """

    def __init__(self, net: nn.Module) -> None:
        modules = dict(net.named_modules())
        if "heads.presence.conv" not in modules:
            raise UsageError(
                f"{type(net).__name__} has no classification-guided module; set model.variant = {GUIDED!r}"
            )
        self.heard: list[Tensor] = []
        self.handle = modules["heads.presence.conv"].register_forward_hook(self._hear)

    def __enter__(self) -> PresenceTap:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.handle.remove()

    def log_odds(self) -> Tensor:
        """(N,) of the last forward; above 0 means present. Its target is whether the mask holds any foreground."""
        scores = self.heard[-1].amax(dim=(2, 3))  # (N, 2)
        return scores[:, 1] - scores[:, 0]

    def _hear(self, module: nn.Module, inputs: tuple[Tensor, ...], scores: Tensor) -> None:
        self.heard[:] = [scores]
