"""How far from the machine's limit, and where the time goes: the roofline and the layer bars of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_unet.core.limits import LayerTime, LayerTimes, LimitRow, Peaks
from edge_unet.core.report import BenchReport
from edge_unet.core.spec import Precision
from edge_unet.measure.report import charts
from edge_unet.measure.report.tables import Table
from edge_unet.measure.report.view import Dot, place_dots
from edge_unet.measure.report.wording import SPACE, Names, milliseconds

GIGA = 1e9
TOP = 12
"""Layers that get a bar of their own; the rest share one."""


@dataclass(frozen=True)
class Roof:
    """One line of the roofline in a 100 x 100 box, y upwards, and its label."""

    kind: str
    """A precision, 'caches' or 'memory'."""
    x1: float
    y1: float
    x2: float
    y2: float
    label: str


@dataclass(frozen=True)
class Roofline:
    """The plot: roofs, one dot for each artifact, axes of MACs per byte and of GMAC/s."""

    roofs: tuple[Roof, ...]
    dots: tuple[Dot, ...]
    marks: tuple[Dot, ...]
    x: charts.Axis
    y: charts.Axis


@dataclass(frozen=True)
class LayerBar:
    """One layer, or the rest of them."""

    name: str
    detail: str
    at: float | None
    """Length in per cent of the slowest layer's; None for the rest, which is no single layer."""
    share: str
    time: str


@dataclass(frozen=True)
class LayerChart:
    """The layers of one artifact, slowest first."""

    name: str
    detail: str
    precision: str
    bars: tuple[LayerBar, ...]


def roofline(report: BenchReport) -> Roofline | None:
    """None without peaks or without a model to show under them."""
    if report.peaks is None or not report.limits:
        return None
    peaks = _peaks(report.peaks)
    at = [(_intensity(row), _rate(row)) for row in report.limits]
    cache, memory = report.peaks.small_bytes_per_s / GIGA, report.peaks.large_bytes_per_s / GIGA
    top = max([*peaks.values(), *(rate for _, rate in at)])
    slowest = min(memory, cache)
    x = charts.Axis(min(i for i, _ in at) / 3, max([top / slowest, *(i for i, _ in at)]) * 2, logarithmic=True)
    y = charts.Axis(min([*(rate for _, rate in at), *peaks.values()]) / 4, top * 2, logarithmic=True)
    roofs = [_slope("caches", cache, top, x, y), _slope("memory", memory, top, x, y)]
    roofs += [_level(name, peak, max(cache, memory), x, y) for name, peak in peaks.items()]
    points = [
        (x.percent(intensity), y.percent(rate), row.precision.value)
        for row, (intensity, rate) in zip(report.limits, at, strict=True)
    ]
    return Roofline(tuple(roofs), *place_dots(points), x, y)


def limits_table(report: BenchReport, names: Names) -> Table:
    """One row for each artifact with a limit."""
    head = ("artifact", "measured / limit", "measured p50", "limit", "GMAC/s", "MACs", "bytes moved", "MACs a byte")
    rows = tuple(
        (
            f"{number}. {names.of(row)}", f"{row.ratio:.2f}x", milliseconds(row.measured_ns),
            milliseconds(row.limit_ns), f"{_rate(row):.1f}", f"{row.macs / 1e6:.1f}{SPACE}M",
            f"{row.bytes_moved / 1e6:.2f}{SPACE}MB", f"{_intensity(row):.1f}",
        )
        for number, row in enumerate(report.limits, start=1)
    )  # fmt: skip
    return Table(head, rows)


def peaks_rows(report: BenchReport) -> list[tuple[str, str]]:
    """The peaks of the machine, with how they were found; empty where they were not measured."""
    if (p := report.peaks) is None:
        return []
    rows = [(f"{name.upper()} peak", f"{peak:.1f} GMAC/s") for name, peak in _peaks(p).items()]
    rows.append(("bandwidth in the caches (1 MB)", f"{p.small_bytes_per_s / GIGA:.1f} GB/s"))
    rows.append(("bandwidth of memory (64 MB)", f"{p.large_bytes_per_s / GIGA:.1f} GB/s"))
    return [*rows, ("threads", str(p.threads))]


def layer_charts(report: BenchReport, names: Names) -> list[LayerChart]:
    """Where the time of each profiled artifact goes."""
    return [
        LayerChart(
            names.of(times), f"{times.source}, {times.runs} runs, {milliseconds(times.total_ns)} in all",
            times.precision.value, _bars(times),
        )
        for times in report.layer_times if times.layers
    ]  # fmt: skip


def _bars(times: LayerTimes) -> tuple[LayerBar, ...]:
    ordered = sorted(times.layers, key=lambda layer: -layer.time_ns)
    top, rest = ordered[:TOP], ordered[TOP:]
    total = max(1, times.total_ns)
    rest_ns = sum(layer.time_ns for layer in rest)
    longest = max(1, top[0].time_ns)

    def share(time_ns: int) -> str:
        return f"{100 * time_ns / total:.1f}{SPACE}%"

    bars = tuple(
        LayerBar(
            layer.name,
            _kernel(layer),
            round(100 * layer.time_ns / longest, 2),
            share(layer.time_ns),
            _micro(layer.time_ns),
        )
        for layer in top
    )
    return (*bars, LayerBar(f"{len(rest)} other layers", "", None, share(rest_ns), _micro(rest_ns))) if rest else bars


def _kernel(layer: LayerTime) -> str:
    return ", ".join(dict.fromkeys(filter(None, (layer.op, layer.unit))))


def _micro(time_ns: int) -> str:
    """Layers are short: microseconds below a millisecond."""
    return f"{time_ns / 1000:.0f}{SPACE}µs" if time_ns < 1_000_000 else milliseconds(time_ns)


def _peaks(peaks: Peaks) -> dict[str, float]:
    """GMAC/s of each arithmetic the machine has, the highest first."""
    found = {
        Precision.INT8.value: peaks.int8_macs_per_s,
        Precision.BF16.value: peaks.bf16_macs_per_s,
        Precision.FP32.value: peaks.fp32_macs_per_s,
    }
    known = {name: peak / GIGA for name, peak in found.items() if peak is not None}
    return dict(sorted(known.items(), key=lambda item: -item[1]))


def _intensity(row: LimitRow) -> float:
    return max(row.macs, 1) / max(row.bytes_moved, 1)


def _rate(row: LimitRow) -> float:
    """GMAC/s that the artifact reached."""
    return max(row.macs, 1) / max(row.measured_ns, 1)


def _slope(name: str, rate: float, top: float, x: charts.Axis, y: charts.Axis) -> Roof:
    """MAC/s = bytes/s x MACs/byte, from the left or the bottom edge up to the highest roof."""
    left = max(x.low, y.low / rate)
    right = top / rate
    ends = (x.percent(left), y.percent(left * rate), x.percent(right), y.percent(top))
    return Roof(name, *ends, f"{name} {rate:.0f} GB/s")


def _level(name: str, peak: float, bandwidth: float, x: charts.Axis, y: charts.Axis) -> Roof:
    """A peak, from where the fastest bandwidth reaches it to the right edge."""
    height = y.percent(peak)
    return Roof(name, x.percent(peak / bandwidth), height, 100.0, height, f"{name.upper()} {peak:.0f} GMAC/s")


def slowest_layers(charts_of: Sequence[LayerChart], most: int = 5) -> list[str]:
    """A line for each artifact: its slowest layers, for places without pictures."""
    return [
        f"{chart.name}: " + ", ".join(f"{bar.name} {bar.share}" for bar in chart.bars[:most]) + f" ({chart.detail})"
        for chart in charts_of
    ]
