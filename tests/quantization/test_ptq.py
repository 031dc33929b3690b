from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.recipe import QuantizeSpec, Recipe
from edge_unet.core.spec import QuantScheme
from edge_unet.models.checkpoint import Checkpoint, CheckpointInfo, load_checkpoint, save_checkpoint
from edge_unet.quantization import FakeQuant, calibrate, learned_scales, prepare, quantize_ptq, restore


@pytest.fixture
def make_checkpoint(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module]
) -> Callable[[str], Checkpoint]:
    def make(name: str) -> Checkpoint:
        recipe = make_recipe(name)
        return Checkpoint(CheckpointInfo(kind="fp32", recipe=recipe), make_net(recipe).state_dict(), "f" * 64)

    return make


@pytest.fixture
def pixels(frames_real: Tensor) -> np.ndarray:  # type: ignore[type-arg]
    return (frames_real * 64 + 128).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # (4, 64, 64, 3)


@pytest.mark.parametrize("name", ["mobile_unet", "unet"])
@pytest.mark.parametrize("scheme", list(QuantScheme))
def test_ptq_stays_near_the_float_logits(
    name: str,
    scheme: QuantScheme,
    make_checkpoint: Callable[[str], Checkpoint],
    pixels: np.ndarray,  # type: ignore[type-arg]
    frames_real: Tensor,
) -> None:
    checkpoint = make_checkpoint(name)
    net, info = quantize_ptq(checkpoint, pixels, QuantizeSpec(scheme=scheme))
    assert (info.kind, info.parent_sha256, info.recipe.quantize.scheme) == ("ptq", checkpoint.sha256, scheme)
    with torch.no_grad():
        real, ours = restore(checkpoint)(frames_real), net(frames_real)
    noise, signal = (ours - real).square().mean(), (real - real.mean()).square().mean()
    assert 10 * torch.log10(signal / noise) > 15  # dB; a wrong scale anywhere gives less than 5
    assert torch.equal(ours * 16, (ours * 16).round())


@pytest.mark.parametrize("observer", ["minmax", "percentile", "entropy", "mse"])
def test_every_observer_gives_fp16_scales(
    observer: str,
    make_checkpoint: Callable[[str], Checkpoint],
    pixels: np.ndarray,  # type: ignore[type-arg]
) -> None:
    spec = QuantizeSpec.model_validate({"observer": observer})
    net, _ = quantize_ptq(make_checkpoint("unet"), pixels, spec)
    for module in net.modules():
        if isinstance(module, FakeQuant):
            scale = module.scale.numpy()
            assert np.array_equal(scale, scale.astype(np.float16).astype(np.float32))
            assert scale.min() >= 2.0**-14


@pytest.mark.parametrize("scheme", list(QuantScheme))
def test_the_state_goes_through_safetensors_unchanged(
    scheme: QuantScheme,
    make_checkpoint: Callable[[str], Checkpoint],
    pixels: np.ndarray,  # type: ignore[type-arg]
    frames_real: Tensor,
    tmp_path: Path,
) -> None:
    net, info = quantize_ptq(make_checkpoint("mobile_unet"), pixels, QuantizeSpec(scheme=scheme))
    with torch.no_grad():
        for gain in learned_scales(net):
            gain.mul_(1.01)  # as QAT would
    save_checkpoint(tmp_path / "q.safetensors", info, net.state_dict())
    again = restore(load_checkpoint(tmp_path / "q.safetensors"))
    assert isinstance(again, fx.GraphModule)
    with torch.no_grad():
        assert torch.equal(again(frames_real), net(frames_real))


@pytest.mark.parametrize("name", ["mobile_unet", "unet"])
def test_gradients_reach_every_weight_and_every_scale(
    name: str, make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module], frames_real: Tensor
) -> None:
    recipe = make_recipe(name)
    net = prepare(make_net(recipe), recipe)
    calibrate(net, [frames_real], "minmax")
    net(frames_real).square().mean().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert silent == []


def test_a_few_steps_of_qat_lower_the_loss(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module], frames_real: Tensor
) -> None:
    recipe = make_recipe("mobile_unet")
    net = prepare(make_net(recipe), recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    calibrate(net, [frames_real])
    frames = frames_real.to(memory_format=torch.channels_last)
    target = (frames[:, :1] > 0).float()
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(net(frames), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_ptq_refuses_what_it_cannot_use(
    make_checkpoint: Callable[[str], Checkpoint],
    pixels: np.ndarray,  # type: ignore[type-arg]
) -> None:
    checkpoint = make_checkpoint("unet")
    with pytest.raises(UsageError, match=r"expected uint8 \(N, 64, 64, 3\)"):
        quantize_ptq(checkpoint, pixels[:, :32], QuantizeSpec())
    with pytest.raises(UsageError, match="no batch"):
        quantize_ptq(checkpoint, pixels[:0], QuantizeSpec())
    net, info = quantize_ptq(checkpoint, pixels, QuantizeSpec(observer="minmax"))
    with pytest.raises(UsageError, match="kind 'ptq'"):
        quantize_ptq(Checkpoint(info, net.state_dict(), "0" * 64), pixels, QuantizeSpec())


def test_a_checkpoint_that_does_not_fit_its_recipe_is_named(make_checkpoint: Callable[[str], Checkpoint]) -> None:
    checkpoint = make_checkpoint("unet")
    state = {k: v for k, v in checkpoint.state.items() if k != "head.weight"}
    with pytest.raises(ArtifactError, match=r"does not fit its own recipe.*head\.weight"):
        restore(Checkpoint(checkpoint.info, state, checkpoint.sha256))


def test_calibration_failing_midway_leaves_no_observer_behind(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module], frames_real: Tensor
) -> None:
    recipe = make_recipe("unet")
    net = prepare(make_net(recipe), recipe)
    with pytest.raises(UsageError, match="NaN"):
        calibrate(net, [frames_real, frames_real * float("nan")], "minmax")
    assert all(m.observer is None and m.enabled for m in net.modules() if isinstance(m, FakeQuant))
