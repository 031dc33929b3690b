"""UNet 3+: the paper's wiring, five heads that prune exactly, and a classification-guided module that means it."""

from __future__ import annotations

import pytest
import torch
from network_checks import (
    SIZE,
    SLIM,
    Exported,
    cost,
    exported,
    heads_of,
    pictures,
    quantized,
    recipe_of,
    settled,
)
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.canonical.rules import check_canonical
from edge_unet.core.errors import UsageError
from edge_unet.core.spec import ClassSpec
from edge_unet.models import PRESETS, build, build_whole
from edge_unet.models.levels import cut_to_level
from edge_unet.models.unet3p import PresenceTap, UNet3Plus

PLAIN, GUIDED = SLIM["unet3p"], SLIM["unet3p-cgm"]
CONV = "heads.presence.conv"


@pytest.fixture
def guided() -> nn.Module:
    """It says present for the pictures it was settled on."""
    return decided(settled(GUIDED), 4.0)


@pytest.fixture(scope="module")
def guided_file(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    made = quantized(decided(settled(GUIDED), 4.0), GUIDED)
    return exported(decided(made, 0.0), GUIDED, tmp_path_factory.mktemp("unet3p_cgm"))


def decided(net: nn.Module, margin: float) -> nn.Module:
    """The network with that bias towards "present"; negative: "absent"."""
    bias = net.get_submodule(CONV).bias
    assert isinstance(bias, Tensor)
    with torch.no_grad():
        bias.copy_(torch.tensor([-margin / 2, margin / 2]))
    return net


def test_the_last_head_alone_and_the_guide_cost_what_the_paper_says() -> None:
    plain = PRESETS["unet3p-64"]
    with torch.device("meta"):
        single = build(recipe_of(plain.model_copy(update={"deep": False})))
    assert sum(p.numel() for p in single.parameters() if p.requires_grad) == pytest.approx(26.97e6, rel=1e-3)
    with_guide, _ = cost(plain.model_copy(update={"variant": "cgm"}))
    assert with_guide - cost(plain)[0] == 1024 * 2 + 2


def test_the_wiring_is_the_papers() -> None:
    net = settled(PLAIN.model_copy(update={"depth": 3}))  # deep enough to pool by 4
    assert isinstance(net, UNet3Plus)
    taps: list[Tensor] = []
    x = pictures()
    with torch.no_grad():
        for n, level in enumerate(net.encoder):
            taps.append(level(functional.max_pool2d(taps[-1], 2) if n else x))
        made = {3: taps[3]}
        for row in (2, 1, 0):
            parts = [functional.max_pool2d(taps[k], 2 ** (row - k)) for k in range(row)] + [taps[row]]
            parts += [
                functional.interpolate(made[k], scale_factor=2 ** (k - row), mode="bilinear") for k in range(row + 1, 4)
            ]
            convs = [net.branch[f"{row}_{k}"][1] for k in range(4)]  # type: ignore[index]  # behind the resize
            joined = torch.cat([conv(part) for conv, part in zip(convs, parts, strict=True)], 1)
            made[row] = net.fuse[row](joined)
        expected = net.heads([made[row] for row in (3, 2, 1, 0)])
    for ours, theirs in zip(heads_of(net, x), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


class TestGuide:
    def test_where_something_is_it_changes_nothing(self, guided: nn.Module) -> None:
        plain = build_whole(recipe_of(PLAIN)).eval()
        plain.load_state_dict(guided.state_dict(), strict=False)
        for ours, theirs in zip(heads_of(guided, pictures()), heads_of(plain, pictures()), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)

    def test_where_nothing_is_every_head_is_background(self, guided: nn.Module) -> None:
        some = [float(head.sigmoid().max()) for head in heads_of(guided, pictures())]
        assert min(some) > 0.5  # else the test would show nothing
        for head in heads_of(decided(guided, -4.0), pictures()):
            assert head.sigmoid().max() < 0.005  # the authors' code gives 0.5

    def test_integers_calibrated_on_full_frames_clear_an_empty_one(self, guided: nn.Module) -> None:
        made = quantized(guided, GUIDED)
        assert all(float(head.max()) > 0 for head in heads_of(made, pictures()))
        assert all(float(head.max()) < 0 for head in heads_of(decided(made, -4.0), pictures()))

    def test_several_classes_fall_back_to_the_first(self) -> None:
        three = ClassSpec(names=("a", "b", "c"), palette=((0, 0, 0),) * 3)
        torch.manual_seed(0)
        net = build_whole(recipe_of(GUIDED).model_copy(update={"classes": three})).eval()
        assert any(head.argmax(1).any() for head in heads_of(net, pictures()))
        assert not any(head.argmax(1).any() for head in heads_of(decided(net, -4.0), pictures()))

    def test_a_classification_loss_hears_it_and_moves_it(self) -> None:
        torch.manual_seed(0)
        net = build_whole(recipe_of(GUIDED)).train()
        frames = torch.cat((pictures(4), torch.zeros(4, 3, SIZE, SIZE)))
        present = torch.tensor([1.0] * 4 + [0.0] * 4)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        losses = []
        with PresenceTap(net) as tap:
            for _ in range(12):
                net(frames)
                loss = functional.binary_cross_entropy_with_logits(tap.log_odds(), present)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                gradient = net.get_submodule(CONV).weight.grad
                assert isinstance(gradient, Tensor)
                assert gradient.any()
                optimizer.step()
                losses.append(float(loss.detach()))
        assert losses[-1] < 0.3 * losses[0]
        assert not net.get_submodule(CONV)._forward_hooks

    def test_the_tap_hears_the_same_in_a_quantized_level(self, guided: nn.Module) -> None:
        heard = []
        for whole in (guided, cut_to_level(quantized(guided, GUIDED), "L2")):
            with PresenceTap(whole) as tap:
                heads_of(whole, pictures())
                heard.append(tap.log_odds())
        assert heard[0].shape == (4,)
        torch.testing.assert_close(heard[1], heard[0], rtol=0.05, atol=0.1)

    def test_the_file_keeps_every_rule_and_is_bit_equal_to_torch(self, guided_file: Exported) -> None:
        assert check_canonical(guided_file.graph) == ()
        assert guided_file.graph.metadata.islands == {}
        assert guided_file.undeclared == []
        assert "ReduceMax" in guided_file.integer_ops
        assert guided_file.lsb.max() == 0

    def test_without_the_module_there_is_nothing_to_hear(self) -> None:
        net = build_whole(recipe_of(PLAIN))
        with pytest.raises(UsageError, match=r"model\.variant = .cgm"):
            PresenceTap(net)
        with pytest.raises(UsageError, match="unet3p has variants '' and 'cgm', received 'gcm'"):
            build_whole(recipe_of(PLAIN.model_copy(update={"variant": "gcm"})))
