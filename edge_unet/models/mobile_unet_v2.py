"""Mobile U-Net v2: the infusion decoder of U-Net v2 on MobileNetV2 taps, so that all of it is INT8.

Taps at strides 4, 8, 16, 32 (24, 32, 96, 320 channels at width 1), each through a channel gate on the mean alone (no
maximum: an outlier would set it), a 1x1 convolution with BN, and bounded infusions (models/sdi.py). Heads as in U-Net
v2: L1 at 1/32 .. L4 at 1/4. At width 1, 256x256, one class: 2.04 M parameters, 0.594 G MACs.
"""

from __future__ import annotations

from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import conv_bn, init_weights, round_to_8
from edge_unet.models.mobile_unet import mobilenet_v2
from edge_unet.models.unet_v2 import LEVELS, SdiDecoder, require_depth

CHANNELS = 32
"""After the taps, before width."""
REDUCTION = 16

PRESETS = tuple(
    (f"mobile_unet_v2-{width}", ModelSpec(name="mobile_unet_v2", width=width, upsample="bilinear", deep=True))
    for width in (0.5, 1.0)
)


class MeanGate(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): 1x1 conv, ReLU, 1x1 conv, sigmoid on the global mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = round_to_8(channels / REDUCTION)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y: Tensor = x * self.gate(self.mean(x))
        return y


class MobileUNetV2(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, L4, mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of 32.
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        require_depth(spec)
        self.stem, self.encoder, widths = mobilenet_v2(in_channels, spec.width, spec.depth)
        channels = round_to_8(CHANNELS * spec.width)
        self.taps = nn.ModuleList(
            nn.Sequential(*self.tap(number, cin, channels)) for number, cin in enumerate(widths[-LEVELS:])
        )
        init_weights(self)
        self.decoder = SdiDecoder(spec, channels, classes, "bounded")

    def tap(self, number: int, cin: int, channels: int) -> list[nn.Module]:
        """What stands between tap `number` of the encoder (0 = 1/4) and the decoder."""
        return [MeanGate(cin), conv_bn(cin, channels, 1, act=False)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, L4, mean), each (N, classes, H, W)."""
        x = self.stem(x)  # (N, stem, H/2, W/2)
        made = []
        for level in self.encoder:
            x = level(x)  # (N, tap, H / 2**level, W / 2**level)
            made.append(x)
        maps = [tap(y) for tap, y in zip(self.taps, made[-LEVELS:], strict=True)]  # (N, C, H / 2**(i+2), …)
        levels: tuple[Tensor, ...] = self.decoder(maps)
        return levels
