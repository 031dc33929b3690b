from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from edge_unet.canonical import load_graph
from edge_unet.canonical.rules import check_canonical
from edge_unet.core.errors import GraphError, UsageError
from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import QuantScheme
from edge_unet.graph.from_torch import export_canonical, export_float
from edge_unet.models.checkpoint import CheckpointInfo
from edge_unet.quantization import FakeQuant, calibrate, learned_scales, prepare

CASES = [("mobile_unet", QuantScheme.PORTABLE), ("unet", QuantScheme.PORTABLE), ("mobile_unet", QuantScheme.AFFINE)]


@pytest.fixture(scope="session")
def make_quantized(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module], frames_real: Tensor
) -> Callable[..., tuple[fx.GraphModule, CheckpointInfo]]:
    """make_quantized(name, scheme) -> a network as QAT leaves it: scales calibrated, then moved."""

    def make(name: str, scheme: QuantScheme = QuantScheme.PORTABLE) -> tuple[fx.GraphModule, CheckpointInfo]:
        recipe = make_recipe(name, scheme)
        net = prepare(make_net(recipe), recipe)
        calibrate(net, [frames_real], "minmax")
        with torch.no_grad():
            for gain in learned_scales(net):
                gain.mul_(0.97)
        return net, CheckpointInfo(kind="qat", recipe=recipe, metrics={"val_dice": 0.5})

    return make


@pytest.fixture(scope="session", params=CASES, ids=lambda case: f"{case[0]}-{case[1].value}")
def exported(
    request: pytest.FixtureRequest,
    make_quantized: Callable[..., tuple[fx.GraphModule, CheckpointInfo]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[fx.GraphModule, CheckpointInfo, Path]:
    """A quantized network and its canonical file."""
    net, info = make_quantized(*request.param)
    path = tmp_path_factory.mktemp("canonical") / "canonical.onnx"
    export_canonical(net, info, "a" * 64, path)
    return net, info, path


def run(path: Path, frame: Tensor, extra: tuple[str, ...] = ()) -> dict[str, NDArray[np.float32]]:
    """Run the file on ORT with its optimizations off; `extra` tensors are returned beside the logits."""
    model = onnx.load(path)
    known = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in known)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": frame.numpy()}), strict=True))


def test_the_file_keeps_every_canonical_rule(exported: tuple[fx.GraphModule, CheckpointInfo, Path]) -> None:
    graph = load_graph(exported[2])
    assert check_canonical(graph) == ()
    assert graph.metadata.kind == "qat"
    assert graph.metadata.metrics == {"val_dice": 0.5}
    assert graph.metadata.checkpoint_sha256 == "a" * 64
    assert graph.model.producer_name == "edge_unet"


def test_ort_gives_the_logits_of_the_torch_network(
    exported: tuple[fx.GraphModule, CheckpointInfo, Path], frames_real: Tensor
) -> None:
    net, _, path = exported
    with torch.no_grad():
        pairs = [(run(path, frame)["logits"], net(frame).numpy()) for frame in frames_real.split(1)]
    # Convolutions sum in another order, yet every sum is exact on these scales.
    assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def test_each_layer_gives_the_integers_of_the_torch_network(
    exported: tuple[fx.GraphModule, CheckpointInfo, Path], frames_real: Tensor
) -> None:
    net, _, path = exported
    graph = load_graph(path)
    forced = run(path, frames_real[:1], tuple(graph.activations))
    recorder = _Forced(net, [forced[name] for name in graph.activations])
    with torch.no_grad():
        recorder.run(frames_real[:1])
    assert len(recorder.lsb) == len(graph.activations)
    for name, lsb in zip(graph.activations, recorder.lsb, strict=True):
        assert lsb.max() == 0, name


class _Forced(fx.Interpreter):
    """Runs a quantized network on given integers: each layer sees the exported graph's, and its own are compared."""

    def __init__(self, net: fx.GraphModule, codes: list[NDArray[np.int8]]) -> None:
        super().__init__(net)
        self.codes = iter(codes)
        self.lsb: list[NDArray[np.int32]] = []

    def call_module(self, target: object, args: tuple[object, ...], kwargs: dict[str, object]) -> object:  # type: ignore[override]
        module = self.fetch_attr(str(target))
        if not isinstance(module, FakeQuant):
            return super().call_module(str(target), args, kwargs)  # type: ignore[arg-type]
        assert isinstance(args[0], Tensor)
        theirs = next(self.codes).astype(np.int32)
        self.lsb.append(np.abs(module.codes(args[0]).numpy().astype(np.int32) - theirs))
        return torch.from_numpy(theirs - int(module.zero_point)).float() * module.scale


def test_weights_are_the_integers_of_training(exported: tuple[fx.GraphModule, CheckpointInfo, Path]) -> None:
    net, _, path = exported
    graph = load_graph(path)
    convs = {n: m for n, m in net.named_modules() if hasattr(m, "weight_quant")}
    assert len(graph.weights) == len(convs)
    for name, conv in convs.items():
        weight = graph.weights[f"{name}.weight.dq"]
        assert weight.name == f"{name}.weight"
        assert np.array_equal(weight.values, conv.weight_quant.codes(conv.weight).numpy())
        assert np.array_equal(weight.grid.scale, conv.weight_quant.scale.numpy())
        assert 101 <= np.abs(weight.values.astype(int)).max() <= 127  # 3 bits: a scale up to a quarter above the least
        assert np.array_equal(graph.constants[f"{name}.bias"], conv.grid_bias().detach().numpy())


def test_tensors_are_named_after_modules(exported: tuple[fx.GraphModule, CheckpointInfo, Path]) -> None:
    net, _, path = exported
    graph = load_graph(path)
    modules = dict(net.named_modules())
    for node in graph.nodes:
        assert node.name
        if node.op == "Conv":
            assert node.name in modules
            assert node.output == node.name
        if node.op == "QuantizeLinear":
            assert node.output == f"{node.inputs[0].removesuffix('.dq')}.q"
        if node.op == "Clip" and node.name != "clip":
            assert [float(graph.constants[i]) for i in node.inputs[1:]] == [0.0, 6.0]
    assert (graph.input, graph.outputs) == ("image", ("logits",))
    assert "image.q" in graph.activations
    assert {n.op for n in graph.nodes} <= {
        "QuantizeLinear", "DequantizeLinear", "Conv", "Clip", "Add", "Concat", "Resize", "MaxPool"
    }  # fmt: skip


def test_equal_scales_keep_a_name_for_each_quantizer(exported: tuple[fx.GraphModule, CheckpointInfo, Path]) -> None:
    net, _, path = exported
    graph = load_graph(path)
    used = {n.inputs[1] for n in graph.nodes if n.op == "QuantizeLinear"}
    quants = {n for n, m in net.named_modules() if isinstance(m, FakeQuant) and m.axis is None}
    assert used == {f"{name}.scale" for name in quants}


def test_the_same_network_gives_the_same_bytes_and_is_not_changed(
    make_quantized: Callable[..., tuple[fx.GraphModule, CheckpointInfo]], frames_real: Tensor, tmp_path: Path
) -> None:
    net, info = make_quantized("unet")
    with torch.no_grad():
        before = net(frames_real)
    for name in ("a.onnx", "b.onnx"):
        export_canonical(net, info, None, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    with torch.no_grad():
        assert torch.equal(net(frames_real), before)


def test_an_uncalibrated_network_is_refused_and_nothing_is_written(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module], tmp_path: Path
) -> None:
    recipe = make_recipe("unet")
    net = prepare(make_net(recipe), recipe)
    with pytest.raises(GraphError, match=r"quant\.encoder_0_0_2.*never set.*calibrate"):
        export_canonical(net, CheckpointInfo(kind="ptq", recipe=recipe), None, tmp_path / "c.onnx")
    with pytest.raises(UsageError, match="quantize it first"):
        export_canonical(net, CheckpointInfo(kind="fp32", recipe=recipe), None, tmp_path / "c.onnx")
    assert list(tmp_path.iterdir()) == []


class Later(nn.Module):
    """Ops of networks to come: deconv, a channel gate, average pool, an unfused sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.squeeze, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1)
        self.pool, self.up = nn.AvgPool2d(2), nn.ConvTranspose2d(8, 8, 4, stride=4)
        self.head, self.clip = nn.Conv2d(11, 1, 1), nn.Hardtanh(-127 / 16, 127 / 16)

    def forward(self, x: Tensor) -> Tensor:
        s = self.stem(x)  # (N, 8, H/2, W/2)
        s = s * torch.sigmoid(self.gate(self.squeeze(s)))
        y: Tensor = self.clip(self.head(torch.cat((x, self.up(self.pool(s))), 1)))  # (N, 1, H, W)
        return y


def test_later_ops_export_and_agree(make_recipe: Callable[..., Recipe], frames_real: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    recipe = make_recipe("unet")
    net = prepare(Later().eval(), recipe)
    calibrate(net, [frames_real], "minmax")
    path = tmp_path / "later.onnx"
    export_canonical(net, CheckpointInfo(kind="ptq", recipe=recipe), None, path)
    graph = load_graph(path)
    ops = {n.op for n in graph.nodes}
    assert {"ConvTranspose", "GlobalAveragePool", "AveragePool", "Sigmoid", "Mul", "Relu"} <= ops
    assert graph.weights["up.weight.dq"].axis == 1
    with torch.no_grad():
        lsb = np.abs(run(path, frames_real[:1])["logits"] - net(frames_real[:1]).numpy()) * 16
    assert lsb.max() <= 1
    assert (lsb > 0).mean() < 0.01


def test_the_float_network_exports_without_quantizers(
    make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module], frames_real: Tensor, tmp_path: Path
) -> None:
    recipe = make_recipe("mobile_unet")
    net = make_net(recipe)
    export_float(net, recipe, tmp_path / "float.onnx")
    assert "QuantizeLinear" not in {n.op_type for n in onnx.load(tmp_path / "float.onnx").graph.node}
    with torch.no_grad():
        np.testing.assert_allclose(
            run(tmp_path / "float.onnx", frames_real[:1])["logits"], net(frames_real[:1]).numpy(), rtol=1e-3, atol=1e-3
        )
