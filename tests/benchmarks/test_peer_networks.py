"""The peers are what their papers say: as large, as much work, trainable, at every size and number of classes."""

from __future__ import annotations

import pytest
import torch
from peers.layers import basic_block, bottleneck
from peers.networks import PEERS, build_peer, check_size, count, settled_peer, smooth_frames
from torch import nn

from edge_unet.core.errors import UsageError

ISSUED = {
    "unet_31m", "mobilenet_v2_unet", "unext_s", "ddrnet_23_slim", "lraspp_mobilenet_v3", "linknet_r18", "pidnet_s",
}  # fmt: skip
PER_CLASS = {"unet_31m": 65, "mobilenet_v2_unet": 145, "unext_s": 9, "ddrnet_23_slim": 65, "lraspp_mobilenet_v3": 170,
             "linknet_r18": 129, "pidnet_s": 129}  # fmt: skip
"""Weights and bias of the head, which one more class adds once more."""


def test_every_network_of_the_comparison_is_there() -> None:
    assert set(PEERS) == ISSUED


@pytest.mark.parametrize("name", PEERS)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        parameters, macs = count(build_peer(name), 256)
    assert parameters / 1e6 == pytest.approx(PEERS[name].parameters_m, rel=0.01)
    assert macs / 1e9 == pytest.approx(PEERS[name].gmacs_256, rel=0.01)


@pytest.mark.parametrize("name", PEERS)
def test_logits_are_at_full_size_for_any_number_of_classes(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        one, three = build_peer(name).eval(), build_peer(name, 3).eval()
        assert one(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 256, 256)
        assert one(torch.zeros(1, 3, 352, 352)).shape == (1, 1, 352, 352)
        assert three(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 64, 96)
        more = count(three, 64)[0] - count(one, 64)[0]
    assert more == 2 * PER_CLASS[name]


@pytest.mark.parametrize("name", PEERS)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    net = build_peer(name).train()
    logits = net(smooth_frames(2, 128, 1))
    # A random projection: a plain mean would be flat for a normalisation in front of the head.
    (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))).mean().backward()
    trained = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
    assert [n for n, p in trained if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", sorted(ISSUED - {"unet_31m"}))
def test_settled_networks_look_trained(name: str) -> None:
    net = settled_peer(name, 64)
    frames = smooth_frames(2, 64, 9)
    with torch.no_grad():
        logits = net(frames)
    assert not net.training
    assert 0.05 < float((logits > 0).float().mean()) < 0.95, "a mask of both classes"
    assert 0.05 < float(logits.std()) < 20
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.momentum == 0.1 for m in norms), "training goes on with the usual momentum"
    assert all(not torch.equal(m.running_var, torch.ones_like(m.running_var)) for m in norms)
    with torch.no_grad():
        assert torch.equal(settled_peer(name, 64)(frames), logits), "the same seed, the same weights"


def test_a_block_without_relu_can_give_negative_values() -> None:
    """DDRNet and PIDNet add branches before the ReLU."""
    torch.manual_seed(0)
    x = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        without, after = bottleneck(8, 8, relu=False)(x), bottleneck(8, 8)(x)
    assert float(without.min()) < 0
    assert float(after.min()) == 0


def test_a_block_that_keeps_the_shape_adds_its_input() -> None:
    torch.manual_seed(0)
    x, block = torch.randn(1, 8, 4, 4), basic_block(8, 8).eval()
    with torch.no_grad():
        block.body[-1][-1].weight.zero_()  # the last BN: nothing comes out of the body
        assert torch.equal(block(x), x.relu())


def test_wrong_names_and_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="pidnet_s"):
        build_peer("pidnet")
    with pytest.raises(UsageError, match="multiples of 32, received 250"):
        check_size("ddrnet_23_slim", 250)
    with pytest.raises(UsageError, match="multiples of 16"):
        check_size("unet_31m", 0)
