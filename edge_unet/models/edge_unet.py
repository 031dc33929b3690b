"""edge_unet: a U-Net of dense 3x3 convolutions at 1/4 and below, shaped by what INT8 kernels do fast.

Nothing is computed at full size: the stem is one 4x4 convolution of stride 4, every level is residual 3x3 pairs (at
1/32, and in the portable line at 1/16 too, depthwise 5x5 with 1x1), a skip is an add, and a head is a 1x1 convolution
to s*s channels whose depth is moved to space. That reaches 50-75 % of the best convolution's rate where inverted
residuals and thin full-size layers reach 3-8 %. A head stands on every level, L1 at 1/32 to L4 at 1/4, each full-size
after its shuffle. All INT8; BN folds into every convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import conv_bn, init_head, init_weights
from edge_unet.models.edge_unet_parts import Heads, Join, Residual, conv3, patches, stem
from edge_unet.models.edge_unet_plan import PLANS, TRIED, model_of, plan_of

PRESETS = tuple((f"edge_unet-{name}", model_of(plan)) for name, plan in PLANS.items())

__all__ = ["PRESETS", "TRIED", "EdgeUNet"]


class EdgeUNet(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, Ln, mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of the coarsest level's stride (32 for every shipped plan).
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        plan = plan_of(spec.variant)
        if spec.depth != len(plan.stages) + 1:
            raise UsageError(
                f"edge_unet {spec.variant or 'nano'} has model.depth = {len(plan.stages) + 1}, received {spec.depth}"
            )
        self.encoder = nn.ModuleList()
        cin = in_channels
        for number, stage in enumerate(plan.stages):
            if number == 0:
                down = stem(cin, stage.channels, plan.stem)
            elif stage.kernel == 2:
                down = patches(cin, stage.channels, 2)
            else:
                down = conv3(cin, stage.channels, stride=2, branches=plan.branches)
            blocks = [Residual(stage.channels, stage.kind, plan.branches) for _ in range(stage.blocks)]
            self.encoder.append(nn.Sequential(down, *blocks))
            cin = stage.channels
        self.detail = conv_bn(in_channels, plan.detail, 3, stride=2) if plan.detail else None
        widths = [*([plan.detail] if plan.detail else []), *(stage.channels for stage in plan.stages)]
        self.decoder = nn.ModuleList()
        for step, skip in zip(plan.steps, reversed(widths[:-1]), strict=True):
            self.decoder.append(Join(cin, skip, step.channels, step.convs, step.kind, plan.skip, plan.branches))
            cin = step.channels
        finest = 2 if plan.detail else 4
        strides = [finest * 2**n for n in range(len(widths))][::-1]
        self.heads = Heads([widths[-1], *(step.channels for step in plan.steps)], strides, classes, plan.head)
        init_weights(self)
        init_head(self.heads)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, Ln, mean), each (N, classes, H, W)."""
        taps = [self.detail(x)] if self.detail is not None else []  # [(N, detail, H / 2, W / 2)]
        for level in self.encoder:
            x = level(x)  # (N, channels, H / 2**(n + 2), W / 2**(n + 2))
            taps.append(x)
        made = [x]
        for join, skip in zip(self.decoder, reversed(taps[:-1]), strict=True):
            made.append(join(made[-1], skip))  # (N, channels, H / s, W / s)
        levels: tuple[Tensor, ...] = self.heads(made)
        return levels
