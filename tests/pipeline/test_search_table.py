"""The latency table: its arithmetic, and a real one of a small network."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.recipe import Recipe
from edge_unet.core.report import Schedule, percentile_ns
from edge_unet.core.spec import PreprocessSpec
from edge_unet.models.edge_unet_plan import PLANS, TRIED, parse_plan
from edge_unet.models.edge_unet_probes import Part, parts_of, predictable
from edge_unet.pipeline.search.probe import Bench, time_plans, work_ns
from edge_unet.pipeline.search.table import LatencyTable, Measurer, Row, TableKey, corners, read_table, row_of
from edge_unet.targets.registry import TARGETS

KEY = TableKey(cpu="a", runtime="openvino 1", target="cpu", height=64, width=64, channels=3, classes=1, threads=1)


def row(cost_ns: float, reference_ns: float = 1000.0) -> Row:
    return Row(cost_ns=cost_ns, reference_ns=reference_ns, halves_ns=0, runs=30)


def test_parts_of_a_plan() -> None:
    keys = [part.key for part in parts_of(parse_plan("32x2,64x1Lk2,96x1/48x2,32L"))]
    assert keys == [
        "frame 32 @4",
        "block dense 32 @4",
        "block dense 32 @4",
        "down k2 32-64 @8",
        "block large 64 @8",
        "down k3 64-96 @16",
        "block dense 96 @16",
        "lift 96-48 @8",
        "point 64-48 @8",
        "conv dense 48 @8",
        "conv dense 48 @8",
        "lift 48-32 @4",
        "conv large 32 @4",
    ]


def test_another_stem_is_not_predicted() -> None:
    assert predictable(PLANS["nano"])
    assert predictable(TRIED["nano-branches"])  # folded away
    for name in ("nano-overlap", "nano-bilinear", "nano-concat", "nano-detail"):
        assert not predictable(TRIED[name])
        with pytest.raises(UsageError, match="cannot be predicted"):
            parts_of(TRIED[name])


def test_every_shipped_plan_is_the_sum_of_its_parts() -> None:
    """With parts of cost 1 the prediction counts them."""
    for plan in PLANS.values():
        rows = {part.key: row(1.0) for one in PLANS.values() for p in parts_of(one) for part, _ in corners(p)}
        assert LatencyTable(key=KEY, rows=rows).predict_ns(plan) == pytest.approx(len(parts_of(plan)))


def test_between_grid_widths_a_cost_is_interpolated() -> None:
    """Exactly, for what grows with cin * cout."""
    part = Part("down", "k3", 96, 160, 8)
    found = corners(part)
    assert {(corner.cin, corner.cout) for corner, _ in found} == {(64, 128), (64, 256), (128, 128), (128, 256)}
    rows = {corner.key: row(7 + 0.5 * corner.cin * corner.cout) for corner, _ in found}
    table = LatencyTable(key=KEY, rows=rows)
    assert sum(share * table.cost_ns(corner) for corner, share in found) == pytest.approx(7 + 0.5 * 96 * 160)
    assert corners(Part("down", "k3", 64, 512, 8)) == [(Part("down", "k3", 64, 512, 8), 1.0)]


def test_a_busy_machine_is_taken_out_by_the_reference() -> None:
    """Three rows taken while all was twice as slow say what the quiet ones say."""
    quiet, busy = Part("block", "dense", 32, 32, 4), Part("block", "dense", 64, 64, 4)
    rows = {quiet.key: row(10.0), busy.key: row(40.0, reference_ns=2000.0), "other": row(1.0)}
    table = LatencyTable(key=KEY, rows=rows)
    assert table.cost_ns(quiet) == 10.0
    assert table.cost_ns(busy) == 20.0


def test_a_row_is_the_difference_of_two_chains() -> None:
    """Fixed costs and disturbed runs drop out; what a link holds beside the part is taken off."""
    times = {"1": [100, 900, 104, 950], "5": [144, 990, 140, 999], "reference": [50, 80, 50, 90]}
    table = LatencyTable(key=KEY)
    block = Part("block", "dense", 32, 32, 4)
    assert row_of(block, times, table) == Row(cost_ns=10.0, reference_ns=50.0, halves_ns=2.0, runs=4)
    assert row_of(Part("point", "", 32, 64, 4), times, table).cost_ns == 5.0  # there and back
    down = Part("down", "k3", 32, 64, 8)
    (lift,) = down.minus
    assert lift.key == "lift 64-32 @4"
    with_lift = table.with_rows({lift.key: Row(cost_ns=8.0, reference_ns=100.0, halves_ns=0, runs=4)})
    assert row_of(down, times, with_lift).cost_ns == 6.0  # the lift at half the reference costs 4


def test_what_is_missing_comes_after_what_it_is_computed_from() -> None:
    missing = [part.key for part in LatencyTable(key=KEY).missing([PLANS["nano"]])]
    assert missing.index("lift 128-64 @8") < missing.index("down k3 64-128 @16")
    assert len(missing) == len(set(missing))
    rows = {key: row(1.0) for key in missing}
    assert LatencyTable(key=KEY, rows=rows).missing([PLANS["nano"]]) == []


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(LatencyTable(key=KEY, rows={"a": row(1)}).model_dump_json(), encoding="utf-8")
    assert read_table(path, KEY).rows["a"].cost_ns == 1
    with pytest.raises(UsageError, match=r"this table is for height 64, the search is for 96; give another --table"):
        read_table(path, KEY.model_copy(update={"height": 96}))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match="damaged latency table"):
        read_table(path, KEY)


def test_a_plan_over_the_budget_is_not_measured_to_the_end(tmp_path: Path) -> None:
    """Known parts alone may say that it is too slow."""
    bench = Bench(TARGETS["cpu"], Recipe(preprocess=PreprocessSpec(height=64, width=64)))
    measurer = Measurer(bench, tmp_path / "table.json", say=lambda _: None)
    measurer.table = LatencyTable(key=measurer.key, rows={"block dense 64 @4": row(3e6)})
    assert measurer.predict_ns(PLANS["nano"], 2e6) == 3e6
    assert not (tmp_path / "table.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "android"])
def test_a_real_table_predicts_a_small_network(tmp_path: Path, target: str) -> None:
    """Every kind of part is measured, kept, and their sum is near the network's own work. The machine may be busy: the
    test asks for the right order of magnitude and for more work to cost more."""
    pytest.importorskip("openvino" if target == "cpu" else "ai_edge_litert")
    frame = PreprocessSpec(height=64, width=64)
    bench = Bench(TARGETS[target], Recipe(preprocess=frame))
    quick = Schedule(warmup_ns=1_000_000, runs=50, limit_ns=1_000_000_000)
    small, large = parse_plan("32x1,64x1Lk2/32"), parse_plan("64x6,64x6/32L")
    measurer = Measurer(bench, tmp_path / "table.json", say=lambda _: None, schedule=quick)
    assert measurer.fill([small, large]) == len(measurer.table.rows) > 8
    again = Measurer(bench, tmp_path / "table.json", say=lambda _: None, schedule=quick)
    assert again.fill([small, large]) == 0
    predicted = [again.predict_ns(plan) for plan in (small, large)]
    times = time_plans({"small": small, "large": large}, bench, quick)
    measured = [percentile_ns(work_ns(times[name], 1), 5) for name in ("small", "large")]
    assert measured[0] < measured[1]
    assert predicted[0] < predicted[1]
    for ours, theirs in zip(predicted, measured, strict=True):
        assert 0.4 < ours / theirs < 2.5
