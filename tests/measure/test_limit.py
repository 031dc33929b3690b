"""The limit against numbers worked out by hand, and what happens to a peak that something exceeds."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from island_graphs import ISLANDS, write_piece
from onnx import TensorProto, helper

from edge_unet.canonical import CanonicalGraph, load_graph, strip_qdq, view_graph
from edge_unet.core.errors import GraphError
from edge_unet.core.limits import LayerTime, LayerTimes, Peaks
from edge_unet.core.machine import Environment
from edge_unet.core.report import BenchReport, Measurement
from edge_unet.core.spec import Precision
from edge_unet.measure.limit import (
    COSTS,
    LayerCost,
    foreign_graph,
    layer_costs,
    limit_ns,
    limit_rows,
    raised_to_seen,
    with_limits,
)
from edge_unet.pipeline.export import write_canonical
from edge_unet.pipeline.reference import reference_checkpoint
from edge_unet.targets.registry import TARGETS
from edge_unet.targets.tensorrt.rules import OPS

PEAKS = Peaks(
    threads=1, int8_macs_per_s=4e9, bf16_macs_per_s=2e9, fp32_macs_per_s=1e9, small_bytes_per_s=1e9,
    large_bytes_per_s=0.5e9, method="planned",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tiny_canonical: Path) -> CanonicalGraph:
    return load_graph(tiny_canonical)


def by_name(graph: CanonicalGraph, precision: Precision) -> dict[str, LayerCost]:
    return {layer.name: layer for layer in layer_costs(graph, precision)}


def measured(p50_ns: int, precision: Precision = Precision.INT8, scope: str = "model") -> Measurement:
    return Measurement.model_validate(
        {
            "target": "cpu", "precision": precision, "runtime": "r 1", "bundle": "b", "artifact_sha256": "aa",
            "scope": scope, "warmup_runs": 1, "samples_ns": (p50_ns,),
        }
    )  # fmt: skip


def report_of(*measurements: Measurement, times: tuple[LayerTimes, ...] = ()) -> BenchReport:
    return BenchReport(title="t", environment=Environment(), measurements=measurements, layer_times=times)


def test_costs_by_hand(tiny: CanonicalGraph) -> None:
    """64x64 frame: stem 3 -> 8 stride 2, depthwise 16 at 32², residual of 8 at 32², pool of 16 from 16² to 8²."""
    int8 = by_name(tiny, Precision.INT8)
    assert (int8["stem"].macs, int8["stem"].bytes_moved) == (
        8 * 32 * 32 * 27,
        3 * 64 * 64 + 8 * 27 + 8 * 4 + 8 * 32 * 32,
    )
    assert (int8["depthwise"].macs, int8["depthwise"].bytes_moved) == (16 * 1024 * 9, 16 * 1024 * 2 + 16 * 9 + 16 * 4)
    assert (int8["residual"].macs, int8["residual"].bytes_moved) == (0, 8 * 1024)
    assert (int8["pool"].macs, int8["pool"].bytes_moved) == (0, 16 * 16 * 16 + 16 * 8 * 8)
    assert (int8["resize"].macs, int8["resize"].bytes_moved) == (0, 32 * 32 + 64 * 64)
    assert {layer.op for layer in int8.values()} == {"Conv", "Add", "MaxPool", "Resize"}  # Concat, Clip, Q/DQ are free
    assert {layer.precision for layer in int8.values()} == {Precision.INT8}
    fp32, bf16 = by_name(tiny, Precision.FP32)["stem"], by_name(tiny, Precision.BF16)["stem"]
    assert fp32.bytes_moved == 4 * (3 * 64 * 64 + 8 * 27 + 8 * 32 * 32) + 8 * 4
    assert bf16.bytes_moved == 2 * (3 * 64 * 64 + 8 * 27 + 8 * 32 * 32) + 8 * 4
    assert (fp32.precision, bf16.precision) == (Precision.FP32, Precision.BF16)
    assert fp32.macs == bf16.macs == int8["stem"].macs


def test_a_graph_without_qdq_is_costed_as_if_all_of_it_were_integers(tiny: CanonicalGraph, tmp_path: Path) -> None:
    onnx.save(strip_qdq(tiny), tmp_path / "float.onnx")
    plain = foreign_graph(tmp_path / "float.onnx")
    assert not plain.activations
    ours, theirs = by_name(tiny, Precision.INT8), by_name(plain, Precision.INT8)
    assert theirs["stem"] == ours["stem"]
    assert {layer.precision for layer in theirs.values()} == {Precision.INT8}
    assert theirs["depthwise"].bytes_moved == ours["depthwise"].bytes_moved
    assert by_name(plain, Precision.FP32)["stem"].bytes_moved == by_name(tiny, Precision.FP32)["stem"].bytes_moved


def test_a_layer_takes_the_longer_of_the_two() -> None:
    def seconds(macs: int, moved: int, precision: Precision = Precision.INT8) -> float | None:
        return LayerCost("x", "Conv", macs, moved, precision).seconds(PEAKS)

    assert seconds(8_000_000, 1000) == 0.002
    assert seconds(8_000_000, 1000, Precision.FP32) == 0.008
    assert seconds(1000, 1_499_999) == pytest.approx(0.001499999)  # small bandwidth
    assert seconds(1000, 1_500_000) == 0.003  # large bandwidth
    assert seconds(1000, 1000, Precision.FP16) is None
    assert seconds(0, 1000, Precision.FP16) == 1e-6  # nothing to multiply: no peak needed
    layers = [LayerCost("x", "Conv", 8_000_000, 0, Precision.INT8), LayerCost("y", "Add", 0, 1000, Precision.INT8)]
    assert limit_ns(layers, PEAKS) == 2_001_000
    assert limit_ns(layers, PEAKS.model_copy(update={"int8_macs_per_s": None})) is None


def test_islands_are_float(tmp_path: Path) -> None:
    """Attention of two heads of 8 channels over 64 places: products of float tensors, at the FP32 peak."""
    graph = load_graph(write_piece(tmp_path / "a.onnx", ISLANDS["attention"]))
    products = [layer for layer in layer_costs(graph, Precision.INT8) if layer.op == "MatMul"]
    assert [p.macs for p in products] == [2 * 64 * 64 * 8] * 2
    assert {p.precision for p in products} == {Precision.FP32}
    assert products[0].bytes_moved == 4 * (2 * 64 * 8 * 2 + 2 * 64 * 64)
    assert products[1].bytes_moved == 4 * (2 * 8 * 64 + 2 * 64 * 64) + 2 * 8 * 64  # what leaves the island is int8
    assert {layer.precision for layer in layer_costs(graph, Precision.INT8) if layer.op == "Conv"} == {Precision.INT8}


def test_a_float_operand_makes_a_float_product() -> None:
    """Also where no island is declared: what is not dequantized is no integer."""
    (layer,) = layer_costs(one_node("MatMul", (4, 8), constant=(8, 2)), Precision.INT8)
    assert layer == LayerCost("node", "MatMul", 4 * 8 * 2, 4 * (4 * 8 + 8 * 2 + 4 * 2), Precision.FP32)


@pytest.mark.parametrize(
    ("equation", "left", "right", "macs"),
    [("bij,bjk->bik", (2, 3, 4), (2, 4, 5), 120), ("bl, bd -> bld", (2, 3), (2, 4), 24)],
)
def test_einsum_by_hand(equation: str, left: tuple[int, ...], right: tuple[int, ...], macs: int) -> None:
    graph = one_node("Einsum", left, constant=right, equation=equation)
    (layer,) = layer_costs(graph, Precision.FP32)
    assert layer.macs == macs


def one_node(
    op: str, shape: tuple[int, ...], *, constant: tuple[int, ...] | None = None, **attributes: object
) -> CanonicalGraph:
    inputs = ["x", "c"] if constant is not None else ["x"]
    values = [helper.make_tensor("c", TensorProto.FLOAT, constant, [0.5] * len_of(constant))] if constant else []
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(op, inputs, ["y"], "node", **attributes)],
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            values,
        ),
        opset_imports=[helper.make_opsetid("", 21)],
    )
    return view_graph(onnx.shape_inference.infer_shapes(model))


def len_of(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def test_transposed_and_plain_products() -> None:
    deconv = one_node("ConvTranspose", (1, 3, 8, 8), constant=(3, 5, 2, 2), strides=[2, 2])
    assert layer_costs(deconv, Precision.FP32)[0].macs == 3 * 8 * 8 * 5 * 4
    gemm = one_node("Gemm", (7, 2), constant=(7, 4), transA=1)
    assert layer_costs(gemm, Precision.FP32)[0].macs == 7 * 2 * 4


def test_an_unknown_op_is_an_error() -> None:
    with pytest.raises(GraphError, match=r"'node' \(Selu\): the limit has no cost"):
        layer_costs(one_node("Selu", (1, 3, 4, 4)), Precision.FP32)


def test_every_op_of_every_target_has_a_cost() -> None:
    known = {op for target in TARGETS.values() for op in target.ops} | set(OPS)
    assert known - set(COSTS) == set()


def test_macs_are_those_of_the_network(tmp_path: Path) -> None:
    """The shipped model's graph against the count on the network itself."""
    torch = pytest.importorskip("torch")
    from edge_unet.models import build_whole
    from edge_unet.models.checkpoint import load_checkpoint
    from edge_unet.models.cost import cost_of

    write_canonical(reference_checkpoint("endoscopy-mobile"), tmp_path / "c.onnx")
    graph = load_graph(tmp_path / "c.onnx")
    with torch.device("meta"):
        net = build_whole(load_checkpoint(reference_checkpoint("endoscopy-mobile")).info.recipe)
    height, width = graph.shapes[graph.input][2:]
    expected = cost_of(net, 3, height, width).macs
    assert sum(layer.macs for layer in layer_costs(graph, Precision.INT8)) == expected > 10**8


def test_rows_of_a_report(tiny: CanonicalGraph) -> None:
    report = report_of(
        measured(10**9), measured(10**9, Precision.BF16), measured(10**9, scope="end_to_end")
    )  # fmt: skip
    int8, bf16 = limit_rows(report, {"aa": tiny}, PEAKS)
    costs = layer_costs(tiny, Precision.INT8)
    assert int8.limit_ns == sum(max(c.macs / 4e9, c.bytes_moved / 1e9) for c in costs) * 1e9 // 1
    assert (int8.macs, int8.bytes_moved) == (sum(c.macs for c in costs), sum(c.bytes_moved for c in costs))
    assert int8.ratio == 10**9 / int8.limit_ns
    assert bf16.limit_ns > int8.limit_ns
    assert limit_rows(report, {"other": tiny}, PEAKS) == ()
    without = PEAKS.model_copy(update={"bf16_macs_per_s": None})
    assert [row.precision for row in limit_rows(report, {"aa": tiny}, without)] == [Precision.INT8]


def test_a_model_below_its_limit_raises_the_peaks(tiny: CanonicalGraph) -> None:
    (honest,) = limit_rows(report_of(measured(10**9)), {"aa": tiny}, PEAKS)
    report = with_limits(report_of(measured(honest.limit_ns // 4)), {"aa": tiny}, PEAKS)
    assert report.peaks is not None
    assert report.limits[0].ratio == pytest.approx(1, abs=1e-4)
    assert report.limits[0].ratio >= 1
    assert report.peaks.int8_macs_per_s == pytest.approx(16e9, rel=1e-4)
    assert report.peaks.fp32_macs_per_s == 1e9  # nothing here used it
    assert "raised by 4.00: cpu int8 took less than its limit" in report.peaks.method
    quiet = with_limits(report_of(measured(honest.limit_ns)), {"aa": tiny}, PEAKS)
    assert quiet.peaks == PEAKS


def test_a_layer_above_the_peak_raises_it(tiny: CanonicalGraph) -> None:
    """Of two kernels of one layer the sum counts; what took less than profilers can tell proves nothing."""

    def times(*spent: tuple[str, int]) -> tuple[LayerTimes, ...]:
        layers = tuple(LayerTime(name=name, op="Conv", unit="u", time_ns=ns) for name, ns in spent)
        return (
            LayerTimes(
                target="cpu", precision=Precision.INT8, runtime="r 1", bundle="b", artifact_sha256="aa", source="s",
                runs=1, layers=layers,
            ),
        )  # fmt: skip

    macs = by_name(tiny, Precision.INT8)["deep"].macs
    low = PEAKS.model_copy(update={"int8_macs_per_s": macs / 100_000 * 1e9 / 2})
    raised = raised_to_seen(low, report_of(times=times(("deep", 60_000), ("deep", 40_000))), {"aa": tiny})
    assert raised.int8_macs_per_s == pytest.approx(macs / 100_000 * 1e9)
    assert "reached by deep in cpu int8" in raised.method
    assert raised_to_seen(low, report_of(times=times(("deep", 1000))), {"aa": tiny}) == low
    assert raised_to_seen(low, report_of(times=times(("elsewhere", 100_000))), {"aa": tiny}) == low
