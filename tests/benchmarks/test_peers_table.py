"""The table of a peers run, from the report alone."""

from __future__ import annotations

from pathlib import Path

from blocked import run_without
from peers.costs import Cost, cost_of_graph, read_costs
from peers.table import peers_table, speed_table

from edge_unet.canonical import load_graph
from edge_unet.core.artifact import Census, LayerPlacement
from edge_unet.core.limits import LimitRow
from edge_unet.core.machine import Environment
from edge_unet.core.recipe import load_recipe
from edge_unet.core.report import BenchReport, Measurement
from edge_unet.core.spec import Precision

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def measured(network: str, target: str, precision: str, ms: float, float_convs: int | None = None) -> Measurement:
    """A row whose p50 is `ms` and whose p90 is 1 ms more; a census of four convolutions and an addition."""
    layers = [
        LayerPlacement(name=f"conv{n}", op="Conv", precision="fp32" if n < (float_convs or 0) else "int8", unit="test")
        for n in range(4)
    ]
    layers.append(LayerPlacement(name="add", op="Add", precision="fp32", unit="test"))
    return Measurement(
        target=target, precision=Precision(precision), runtime="test 1", bundle=network, artifact_sha256="0" * 64,
        scope="model", warmup_runs=1, samples_ns=(round(ms * 1e6),) * 8 + (round((ms + 1) * 1e6),) * 2,
        census=None if float_convs is None else Census(layers=tuple(layers), source="test"),
    )  # fmt: skip


def report(**more: object) -> BenchReport:
    rows = (
        measured("endoscopy", "cpu", "int8", 1),
        measured("endoscopy", "android", "int8", 3),
        measured("slow_net", "peer onnxruntime", "fp32", 39),
        measured("slow_net", "peer openvino", "bf16", 7),
        measured("slow_net", "peer openvino", "int8", 9, float_convs=3),
        measured("other_net", "peer openvino", "int8", 4, float_convs=0),
    )
    notes = ("something else", Cost("slow_net", 31_037_633, 48_170_000_000).note(), Cost("endoscopy", 500, 99).note())
    values = {"title": "t", "environment": Environment(), "measurements": rows, "notes": notes, **more}
    return BenchReport.model_validate(values)


def cells(text: str) -> list[dict[str, str]]:
    """Rows of a Markdown table by column title."""
    head, _, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    assert all(len(row) == len(head) for row in rows)
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_each_peer_is_compared_at_its_best_mode() -> None:
    slow, other, ours = cells(peers_table(report()))
    assert slow == {
        "network": "`slow_net`", "params M": "31", "GMAC": "48.2", "ORT FP32": "39.00 / 40.00",
        "OpenVINO bf16": "7.00 / 8.00", "NNCF INT8": "9.00 / 10.00", "ours, OpenVINO INT8": "",
        "ours, LiteRT INT8": "", "INT8 convs": "1 of 4", "best mode": "OpenVINO bf16", "minimum": "7.00",
    }  # fmt: skip
    assert (other["best mode"], other["minimum"]) == ("NNCF INT8", "4.00")
    assert (other["params M"], other["OpenVINO bf16"], other["INT8 convs"]) == ("", "", "4 of 4"), "nothing invented"
    assert (ours["network"], ours["best mode"]) == ("**`endoscopy`**", "ours, OpenVINO INT8")
    assert ours["ours, LiteRT INT8"] == "3.00 / 4.00"
    assert cells(speed_table(report())) == [
        {"against": "`slow_net`", "`endoscopy`": "7.00x"},
        {"against": "`other_net`", "`endoscopy`": "4.00x"},
    ]


def test_the_distance_to_the_limit_is_that_of_the_best_mode() -> None:
    limit = LimitRow(
        target="peer openvino", precision=Precision.BF16, runtime="test 1", bundle="slow_net", artifact_sha256="0" * 64,
        macs=1, bytes_moved=1, limit_ns=2_000_000, measured_ns=7_000_000,
    )  # fmt: skip
    slow, other, _ = cells(peers_table(report(limits=(limit,))))
    assert slow["measured / limit"] == "3.5"
    assert other["measured / limit"] == ""


def test_costs_survive_the_notes_of_a_report() -> None:
    costs = [Cost("unext_s", 253_385, 99_966_976), Cost("a-b.c", 1, 2)]
    notes = [*(c.note() for c in costs), "cost: nothing", "cost: x: 1 parameters, 2 MACs and more"]
    assert read_costs(notes) == {c.network: c for c in costs}


def test_the_cost_of_a_bundle_is_that_of_its_network(bundles: dict[str, Path], road: object) -> None:
    import torch

    from edge_unet.models import build
    from edge_unet.models.cost import cost_of

    with torch.device("meta"):
        net = build(load_recipe(road.recipe))  # type: ignore[attr-defined]
    expected = cost_of(net, 3, 64, 64)
    found = cost_of_graph("discs", load_graph(bundles["cpu"] / "canonical.onnx"))
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    folded = sum(m.num_features for m in norms)  # scale and shift become one bias
    assert found == Cost("discs", expected.parameters - folded, expected.macs)


def test_the_table_needs_no_toolchain() -> None:
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import peers.table; print('torch' in sys.modules)"
    done = run_without(("torch", "openvino", "onnxruntime", "nncf"), code)
    assert done.stdout.strip() == "False", done.stderr
