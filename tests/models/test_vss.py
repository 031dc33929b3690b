"""VSS blocks: the scans against loops over positions, the start of their step sizes, and what stays in INT8."""

from __future__ import annotations

import pytest
import torch
from network_checks import pictures, recipe_of
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.core.recipe import ModelSpec
from edge_unet.models import vss
from edge_unet.models.islands import FloatIsland, islands_of, trace
from edge_unet.models.vm_unet_v2 import MergeNorm
from edge_unet.models.vss import STATES, DualScan2d, SelectiveScan2d, VssBlock, dual_heads, start_projections
from edge_unet.quantization import calibrate, prepare

HEIGHT, WIDTH = 6, 4


def visits(height: int, width: int) -> list[list[tuple[int, int]]]:
    """The order in which each direction sees the positions."""
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    return [rows, columns, rows[::-1], columns[::-1]]


def by_loops(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, a: Tensor, skip: Tensor) -> Tensor:
    """Four scans over maps in float64: x (D, H, W), dt (4, D, H, W), b, c (4, S, H, W), a (4, S, D), skip (4, D)."""
    y = torch.zeros_like(x)
    for k, order in enumerate(visits(x.shape[1], x.shape[2])):
        state = torch.zeros_like(a[k])
        for i, j in order:
            step, u = dt[k, :, i, j], x[:, i, j]
            state = (step * a[k]).exp() * state + torch.outer(b[k, :, i, j], step * u)
            y[:, i, j] += c[k, :, i, j] @ state + skip[k] * u
    return y.permute(1, 2, 0)  # (H, W, D)


def maps(steps: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, dt before its bias, and B with C, for two frames."""
    g = torch.Generator().manual_seed(2)
    sizes = (channels, 4 * steps, 8 * STATES)
    x, dt, states = (torch.randn(2, size, HEIGHT, WIDTH, generator=g) for size in sizes)
    return x, dt, states


def unpacked(dt: Tensor, states: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dt, B, C of one frame in float64."""
    real = functional.softplus(dt.double().view(4, -1, HEIGHT, WIDTH) + bias.double()[:, :, None, None])
    b, c = states.double().view(4, 2, STATES, HEIGHT, WIDTH).unbind(1)
    return real, b, c


def test_the_selective_scan_visits_the_map_in_four_orders() -> None:
    torch.manual_seed(0)
    scan = SelectiveScan2d(5)
    nn.init.normal_(scan.skip)
    x, dt, states = maps(5, 5)
    with torch.no_grad():
        found = scan(x, dt, states)  # (N, H, W, D)
        for n in range(2):
            steps, b, c = unpacked(dt[n], states[n], scan.dt_bias)
            expected = by_loops(x[n].double(), steps, b, c, -scan.rate.double().exp(), scan.skip.double())
            torch.testing.assert_close(found[n].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_dual_scan_is_the_same_with_one_decay_per_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vss, "HEAD_CHANNELS", 3)
    torch.manual_seed(0)
    scan = DualScan2d(6)
    assert scan.heads == 2
    nn.init.normal_(scan.skip)
    x, dt, states = maps(2, 6)
    with torch.no_grad():
        found = scan(x, dt, states)
        rate = -scan.rate.double().exp().repeat_interleave(3, 1)[:, None].expand(-1, STATES, -1)
        skip = scan.skip.double().repeat_interleave(3, 1)
        for n in range(2):
            steps, b, c = unpacked(dt[n], states[n], scan.dt_bias)
            expected = by_loops(x[n].double(), steps.repeat_interleave(3, 1), b, c, rate, skip)
            torch.testing.assert_close(found[n].double(), expected, rtol=1e-4, atol=1e-5)


def test_steps_and_rates_start_as_published() -> None:
    scan = SelectiveScan2d(64)
    steps = functional.softplus(scan.dt_bias)
    assert 1e-3 * 0.999 <= steps.min() <= 2e-3
    assert 0.05 <= steps.max() <= 0.1 * 1.001
    torch.testing.assert_close(scan.rate.exp()[0, :, 0], torch.arange(1.0, STATES + 1))
    rates = DualScan2d(64).rate.exp()
    assert 1 <= rates.min() <= rates.max() <= 16
    assert [dual_heads(n) for n in (8, 32, 48, 64, 192)] == [1, 1, 2, 2, 6]


def test_recomputing_the_scan_changes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = VssBlock(8).train()
    x = torch.randn(2, 8, HEIGHT, WIDTH)
    found = []
    for limit in (0, 1 << 40):
        monkeypatch.setattr(vss, "RECOMPUTE_ABOVE", limit)
        found.append(torch.autograd.grad(block(x).square().sum(), list(block.parameters())))
    assert all(torch.equal(kept, again) for kept, again in zip(*found, strict=True))


def test_patches_merge_in_the_published_order() -> None:
    merge = MergeNorm(1)
    with torch.no_grad():
        found = merge(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))  # (1, 4, 1, 1)
    torch.testing.assert_close(found.flatten(), functional.layer_norm(torch.tensor([1.0, 3.0, 2.0, 4.0]), (4,)))


class Around(nn.Module):
    """A block between convolutions."""

    def __init__(self, form: vss.Form) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 16, 2, 2), VssBlock(16, form), nn.Conv2d(16, 1, 1)
        self.clip = nn.Hardtanh(-127 / 16, 127 / 16)
        start_projections(self)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.clip(self.head(self.block(self.stem(x))))
        return y


@pytest.mark.parametrize("form", ["selective", "ssd"])
def test_projections_are_int8_and_the_bias_of_dt_stays_out_of_their_grid(
    form: vss.Form,
) -> None:
    torch.manual_seed(0)
    net = Around(form).eval()
    islands = islands_of(trace(net))
    assert set(islands) == {"block.norm", "block.mix.act", "block.mix.scan", "block.mix.gate"}
    assert all(islands.values())
    quantized = prepare(net, recipe_of(ModelSpec()))
    calibrate(quantized, [pictures()], "minmax")
    convs = {n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    assert {n for n, m in quantized.named_modules() if hasattr(m, "weight_quant")} == convs
    dt = "block.mix.dt.1" if form == "selective" else "block.mix.dt"
    assert not quantized.get_submodule(dt).bias.any()
    assert torch.equal(quantized.get_submodule("block.mix.scan").dt_bias, net.block.mix.get_submodule("scan").dt_bias)
    quantizers = {n.removeprefix("quant.") for n, _ in quantized.named_modules() if n.startswith("quant.")}
    assert dt.replace(".", "_") in quantizers
    assert "block_mix_scan" not in quantizers  # its float result goes to the gate as it is
    with torch.no_grad():
        real, ours = net(pictures()), quantized(pictures())
    assert (real - ours).std() < 0.25 * real.std()  # 16 dB at random weights, most of it the gate's long tails


def test_islands_hold_vectors_but_no_projection() -> None:
    held = [m for m in VssBlock(16).modules() if isinstance(m, FloatIsland)]
    assert len(held) == 4
    assert not any(isinstance(m, nn.Conv2d) for island in held for m in island.modules())
