"""Biases on the accumulator's grid: multiples of input scale * weight scale, in training and in the exported file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from edge_unet.canonical import load_graph
from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import QuantScheme
from edge_unet.graph.from_torch import export_canonical
from edge_unet.models.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from edge_unet.quantization import FakeQuant, calibrate, learned_scales, prepare, restore
from edge_unet.quantization.layers import QuantConv
from edge_unet.training.ema import Ema


@pytest.fixture
def make_quantized(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module], frames_real: Tensor
) -> Callable[..., tuple[fx.GraphModule, Recipe]]:
    """make_quantized(model, scheme) -> a calibrated network with scales as QAT leaves them, and its recipe."""

    def make(name: str, scheme: QuantScheme = QuantScheme.PORTABLE) -> tuple[fx.GraphModule, Recipe]:
        recipe = make_recipe(name, scheme)
        net = prepare(make_net(recipe), recipe)
        calibrate(net, [frames_real], "minmax")
        with torch.no_grad():
            for number, gain in enumerate(learned_scales(net)):
                gain.mul_(1 + 0.01 * (number % 5))
        return net, recipe

    return make


def convolutions(net: nn.Module) -> dict[str, QuantConv]:
    return {name: module for name, module in net.named_modules() if isinstance(module, QuantConv)}


def only_convolution(net: nn.Module) -> QuantConv:
    (conv,) = convolutions(net).values()
    return conv


@pytest.mark.parametrize("name", ["mobile_unet", "unet"])
@pytest.mark.parametrize("scheme", list(QuantScheme))
def test_every_exported_bias_is_a_whole_number_of_steps(
    name: str, scheme: QuantScheme, make_quantized: Callable[..., tuple[fx.GraphModule, Recipe]], tmp_path: Path
) -> None:
    net, recipe = make_quantized(name, scheme)
    export_canonical(net, CheckpointInfo(kind="qat", recipe=recipe), None, tmp_path / "net.onnx")
    graph = load_graph(tmp_path / "net.onnx")
    moved, seen = 0, 0
    for node in graph.nodes:
        if node.op not in ("Conv", "ConvTranspose"):
            continue
        (read,) = graph.activations[graph.quantized(node.inputs[0]) or ""].scale.reshape(-1)
        step = np.float64(read) * graph.weights[node.inputs[1]].grid.scale
        bias = graph.constants[node.inputs[2]]
        assert np.array_equal(bias / step, np.rint(bias / step))
        assert np.array_equal(bias, bias.astype(np.float16))
        trained = net.get_submodule(node.inputs[2].removesuffix(".bias")).bias
        assert isinstance(trained, Tensor)
        difference = np.abs(bias - trained.detach().numpy())
        assert np.all(difference <= np.maximum(0.5 * step, np.abs(bias) / 256) + 1e-7)  # fp16: 8 to 11 bits
        moved += int((difference > 0.01 * step).sum())
        seen += bias.size
    assert seen > 50
    assert moved > 0.9 * seen  # the trained biases lay anywhere


def test_every_convolution_of_the_networks_knows_its_input(
    make_quantized: Callable[..., tuple[fx.GraphModule, Recipe]],
) -> None:
    for name in ("mobile_unet", "unet"):
        net, _ = make_quantized(name)
        modules = set(net.modules())
        for path, conv in convolutions(net).items():
            (source,) = conv.fed_by
            assert source in modules, path
            assert not any(path in key for key in net.state_dict() if "fed_by" in key)


def test_the_gradient_reaches_the_bias_unchanged() -> None:
    conv = QuantConv(nn.Conv2d(2, 3, 1), "conv")
    source = FakeQuant(-128, 127, fixed_scale=0.25)
    conv.fed_by = (source,)
    x = torch.linspace(-2, 2, 32).reshape(1, 2, 4, 4)
    weights = torch.tensor([1.0, -2.0, 0.5]).reshape(1, 3, 1, 1)
    (conv(x) * weights).sum().backward()
    torch.testing.assert_close(conv.bias.grad, 16 * weights.flatten())
    assert not torch.equal(conv.grid_bias(), conv.bias)


def test_a_watching_or_silent_quantizer_leaves_the_bias_alone() -> None:
    conv = QuantConv(nn.Conv2d(2, 3, 1), "conv")
    source = FakeQuant(-128, 127, fixed_scale=0.25)
    conv.fed_by = (source,)
    for quant in (source, conv.weight_quant):
        quant.enabled = False
        assert torch.equal(conv.grid_bias(), conv.bias)
        quant.enabled = True


def test_a_grouped_transposed_convolution_repeats_its_scales() -> None:
    conv = QuantConv(nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), "up")  # weight (4, 3, 2, 2): 3 scales, 6 biases
    conv.fed_by = (FakeQuant(-128, 127, fixed_scale=0.25),)
    with torch.no_grad():
        codes = conv.grid_bias() / (0.25 * conv.weight_quant.scale.repeat(2))
        torch.testing.assert_close(codes, codes.round(), rtol=1e-6, atol=1e-5)
        assert conv(torch.zeros(1, 4, 3, 3)).shape == (1, 6, 6, 6)


class OnTwoGrids(nn.Module):
    """One convolution called on the frame, whose scale is fixed, and on a tensor of another scale."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 1)
        self.last = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.shared(torch.relu(self.shared(x)))))
        return y


class OnTwoLearned(nn.Module):
    """One convolution called on two tensors that would have scales of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.shared = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shared(torch.relu(self.shared(torch.relu(self.first(x)))))
        return y


def test_a_convolution_on_two_grids_keeps_its_bias(make_recipe: Callable[..., Recipe], frames_real: Tensor) -> None:
    net = prepare(OnTwoGrids(), make_recipe("unet"))
    calibrate(net, [frames_real], "minmax")
    shared = convolutions(net)["shared"]
    assert shared.fed_by == ()
    assert torch.equal(shared.grid_bias(), shared.bias)


def test_the_calls_of_a_convolution_share_their_input_grid(
    make_recipe: Callable[..., Recipe], frames_real: Tensor
) -> None:
    net = prepare(OnTwoLearned(), make_recipe("unet"))
    calibrate(net, [frames_real], "minmax")
    shared = convolutions(net)["shared"]
    readers = [n.args[0].target for n in net.graph.nodes if n.target == "shared"]
    assert len(set(readers)) == 1
    (source,) = shared.fed_by
    assert source is net.get_submodule(readers[0])
    codes = shared.grid_bias() / (source.scale * shared.weight_quant.scale)
    torch.testing.assert_close(codes, codes.round(), rtol=1e-6, atol=1e-5)


def test_the_calls_of_a_pool_keep_their_own_grids(make_recipe: Callable[..., Recipe]) -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1)
            self.pool = nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.pool(self.first(x))  # (N, 4, H/2, W/2)
            logits: Tensor = self.head(self.pool(self.second(y)))  # (N, 1, H/4, W/4)
            return logits

    net = prepare(Pools(), make_recipe("unet"))
    grids = {str(n.args[0]): str(n.target) for n in net.graph.nodes if str(n.target).startswith("quant.")}
    assert grids["first"] == grids["pool"] == "quant.first"
    assert grids["second"] == grids["pool_1"] == "quant.second"


def test_a_convolution_on_one_grid_twice_is_on_that_grid(make_recipe: Callable[..., Recipe]) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((self.conv(x), self.conv(x)), dim=1)  # (N, 2, H, W)

    net = prepare(Twice(), make_recipe("unet"))
    assert only_convolution(net).fed_by == (net.get_submodule("quant.image"),)


def test_a_convolution_that_reads_a_float_tensor_keeps_its_bias(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe("unet")
    net = prepare(nn.Sequential(nn.Conv2d(3, 1, 1)), recipe)
    conv = only_convolution(net)
    assert conv.fed_by == (net.get_submodule("quant.image"),)
    alone = QuantConv(nn.Conv2d(3, 1, 1), "alone")
    assert torch.equal(alone.grid_bias(), alone.bias)
    assert torch.equal(alone.frozen().get_buffer("bias"), alone.bias)


@pytest.mark.parametrize("how", ["deepcopy", "ema"])
def test_a_copy_reads_the_scales_of_the_copy(
    how: str, make_quantized: Callable[..., tuple[fx.GraphModule, Recipe]], frames_real: Tensor
) -> None:
    net, _ = make_quantized("mobile_unet")
    twin = Ema(net, 0.9).net if how == "ema" else copy.deepcopy(net)
    theirs, ours = set(net.modules()), set(twin.modules())
    for conv in convolutions(twin).values():
        (source,) = conv.fed_by
        assert source in ours
        assert source not in theirs
    with torch.no_grad():
        before = twin(frames_real)
        for gain in learned_scales(net):
            gain.mul_(2)  # the original's scales move, the copy's biases do not
        assert torch.equal(twin(frames_real), before)
        conv, original = (convolutions(n)["decoder.0.0.0"] for n in (twin, net))
        assert not torch.equal(conv.grid_bias(), original.grid_bias())


def test_a_restored_network_has_the_same_biases_and_forward(
    make_quantized: Callable[..., tuple[fx.GraphModule, Recipe]], frames_real: Tensor, tmp_path: Path
) -> None:
    net, recipe = make_quantized("mobile_unet")
    save_checkpoint(tmp_path / "q.safetensors", CheckpointInfo(kind="qat", recipe=recipe), net.state_dict())
    again = restore(load_checkpoint(tmp_path / "q.safetensors"))
    pairs = convolutions(again)
    with torch.no_grad():
        for name, conv in convolutions(net).items():
            assert torch.equal(pairs[name].grid_bias(), conv.grid_bias()), name
        assert torch.equal(again(frames_real), net(frames_real))
