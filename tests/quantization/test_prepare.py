from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.core.errors import GraphError, UsageError
from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import PreprocessSpec
from edge_unet.graph.names import tensor_names
from edge_unet.quantization import FakeQuant, calibrate, prepare
from edge_unet.quantization.fold import trace_folded
from edge_unet.quantization.sharing import plan_groups


def shared_sets(net: nn.Module) -> dict[str, set[str]]:
    """Group key -> names of the tensors on its scale, for groups of more than one."""
    traced = trace_folded(net)
    names = tensor_names(traced.graph)
    return {g.key: {names[n] for n in g.sites} for g in plan_groups(traced) if len(g.sites) > 1}


def test_the_unet_shares_exactly_its_pools_upsamplings_and_concats(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module]
) -> None:
    assert shared_sets(make_net(make_recipe("unet"))) == {
        "encoder_0_1_2": {"encoder.0.1.2", "pool", "up.2.1.2", "cat_2"},
        "encoder_1_1_2": {"encoder.1.1.2", "pool_1", "up.1.1.2", "cat_1"},
        "encoder_2_1_2": {"encoder.2.1.2", "pool_2", "up.0.1.2", "cat"},
        "encoder_3_1_2": {"encoder.3.1.2", "up.0.0"},
        "decoder_0_1_2": {"decoder.0.1.2", "up.1.0"},
        "decoder_1_1_2": {"decoder.1.1.2", "up.2.0"},
    }


def test_the_mobile_unet_shares_exactly_its_skips_and_its_logits(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module]
) -> None:
    sets = shared_sets(make_net(make_recipe("mobile_unet")))
    assert sets.pop("clip") == {"clip", "resize"}
    assert sets["stem_2"] == {
        *("stem.2", "encoder.0.0.body.1.0", "encoder.0.0.add"),  # a residual sum
        *("decoder.0.1.2", "up.1", "cat_1"),
    }
    assert sets["encoder_1_0_body_2_0"] == {
        *("encoder.1.0.body.2.0", "encoder.1.1.body.2.0", "encoder.1.1.add"),
        *("encoder.2.0.body.2.0", "encoder.2.1.body.2.0", "encoder.2.1.add", "encoder.2.2.body.2.0", "encoder.2.2.add"),
        *("up.0", "cat"),
    }
    assert len(sets) == 2


def test_quantizers_stand_after_activations_and_on_both_inputs_of_an_add(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module]
) -> None:
    recipe = make_recipe("mobile_unet")
    net = prepare(make_net(recipe), recipe)
    modules = dict(net.named_modules())

    def is_quant(node: torch.fx.Node) -> bool:
        return node.op == "call_module" and isinstance(modules[str(node.target)], FakeQuant)

    adds = 0
    for node in net.graph.nodes:
        if node.op == "call_module" and isinstance(modules[str(node.target)], (nn.ReLU6, nn.Hardtanh)):
            assert not is_quant(node.args[0])
            assert all(is_quant(user) for user in node.users)
        if "add" in node.name and node.op == "call_function":
            adds += 1
            assert [is_quant(a) for a in node.args] == [True, True]
    assert adds == 4
    output = next(n for n in net.graph.nodes if n.op == "output")
    assert is_quant(output.args[0])
    assert net.get_submodule("quant.image").scale == 1 / 64
    assert net.get_submodule("quant.clip").scale == 1 / 16


class Everything(nn.Module):
    """One of each op that later networks use, with two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.gate = nn.Conv2d(8, 8, 1)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.pool = nn.AvgPool2d(2)
        self.act = nn.Hardswish()
        self.mix = nn.Conv2d(19, 8, 3, padding=1)
        self.side, self.head = nn.Conv2d(8, 1, 1), nn.Conv2d(8, 1, 1)
        self.clip = nn.Hardtanh(-127 / 16, 127 / 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = self.stem(x)  # (N, 8, H/2, W/2)
        gated = s * torch.sigmoid(self.gate(self.squeeze(s)))  # (N, 8, H/2, W/2)
        left, right = torch.chunk(gated, 2, dim=1)  # (N, 4, H/2, W/2)
        low = functional.interpolate(self.pool(torch.cat((right, left), 1)), scale_factor=2.0)  # (N, 8, H/2, W/2)
        summed = functional.relu(low + self.act(s))
        wide = self.up(functional.pad(summed, (0, 0, 0, 0)))  # (N, 8, H, W)
        near = functional.interpolate(summed, size=x.shape[2:], mode="bilinear")  # (N, 8, H, W)
        y = self.mix(torch.cat((x, wide, near), 1))  # (N, 8, H, W)
        return self.clip(self.side(y)), self.clip(self.head(y))


def test_a_network_of_everything_is_quantized_and_near_the_float_one(
    make_recipe: Callable[..., Recipe], frames_real: Tensor
) -> None:
    torch.manual_seed(0)
    net = Everything().eval()
    quantized = prepare(net, make_recipe("unet"))
    calibrate(quantized, [frames_real], "minmax")
    with torch.no_grad():
        for ours, real in zip(quantized(frames_real), net(frames_real), strict=True):
            assert (ours - real).abs().mean() < 0.05 + 0.1 * real.abs().mean()
            assert torch.equal(ours * 16, (ours * 16).round())


def test_the_frame_in_a_concat_is_quantized_anew_and_clips_nothing() -> None:
    traced = trace_folded(Everything())
    names = tensor_names(traced.graph)
    groups = {g.key: g for g in plan_groups(traced)}
    assert {names[n] for n in groups["image"].sites} == {"x"}
    joined = next(g for g in groups.values() if g.entries)
    assert [(names[c], names[s]) for c, s in joined.entries] == [("cat_1", "x")]
    assert {"up", "cat_1"} <= {names[n] for n in joined.sites}


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 1, 1), nn.Softplus()), "module Softplus has no quantization rule"),
        (nn.Sequential(nn.Conv2d(3, 1, 1), nn.Upsample(scale_factor=2, mode="bicubic")), "mode='bicubic'"),
        (
            nn.Sequential(nn.Conv2d(3, 1, 1), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
            "align_corners=True",
        ),
        (nn.Sequential(nn.Conv2d(3, 1, 3, padding=1, padding_mode="reflect")), "padding"),
        (nn.MaxPool2d(2), "grid of the input"),
    ],
)
def test_what_has_no_rule_is_named(net: nn.Module, message: str, make_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(GraphError, match=message):
        prepare(nn.Sequential(net), make_recipe("unet"))


def test_a_constant_factor_has_no_rule(make_recipe: Callable[..., Recipe]) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2.0

    with pytest.raises(GraphError, match="mul with a constant"):
        prepare(Scaled(), make_recipe("unet"))


def test_a_normalisation_off_the_grid_is_refused(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe("unet").model_copy(update={"preprocess": PreprocessSpec(height=64, width=64, mean=127.5)})
    with pytest.raises(UsageError, match=r"mean=127\.5"):
        prepare(nn.Conv2d(3, 1, 1), recipe)


class Residual(nn.Module):
    """Sums before and behind an activation, and one of the outputs, whose convolutions cannot be made one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.side, self.head = nn.Conv2d(4, 1, (1, 3), padding=(0, 1)), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)  # (N, 4, H, W)
        b = torch.relu(a + self.b(a))
        scaled = b * torch.sigmoid(self.c(b))
        return self.side(scaled) + self.head(scaled)  # type: ignore[no-any-return]  # (N, 1, H, W)


def test_both_inputs_of_a_sum_share_its_grid_unless_it_is_fixed(make_recipe: Callable[..., Recipe]) -> None:
    assert shared_sets(Residual()) == {"a": {"a", "b", "relu"}}
    net = prepare(Residual(), make_recipe("unet"))
    calibrate(net, [torch.randn(2, 3, 8, 8)], "minmax")
    fixed = [name for name, m in net.named_modules() if isinstance(m, FakeQuant) and m.axis is None and m.fixed]
    assert sorted(fixed) == ["quant.add_1", "quant.image"]


def test_a_sum_with_the_frame_keeps_three_grids() -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x + self.conv(x))  # type: ignore[no-any-return]  # (N, 1, H, W)

    assert shared_sets(Added()) == {}
