"""The tables of a peers run: what each network costs, how fast each mode is, and how much faster ours are.

Imports no toolchain: it is made from the report alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from peers.costs import read_costs
from peers.runtimes import OPENVINO, OPENVINO_BF16, ORT, convolutions, not_int8

from edge_unet.core.report import BenchReport, Measurement

PEER = "peer "
"""How the target of every peer's row begins; ours are named as everywhere."""

MODES = (
    ("ORT FP32", ORT, "fp32"),
    ("OpenVINO FP32", OPENVINO, "fp32"),
    ("OpenVINO bf16", OPENVINO, "bf16"),
    ("NNCF INT8", OPENVINO, "int8"),
    ("NNCF INT8, rest bf16", OPENVINO_BF16, "int8"),
)
"""Title, target and precision of the modes of a peer."""
OURS = (("ours, OpenVINO INT8", "cpu", "int8"), ("ours, LiteRT INT8", "android", "int8"))


def peers_table(report: BenchReport) -> str:
    """Markdown, a row a network: p50 / p90 in ms per mode, and the fastest mode by p50 with its minimum."""
    rows = [m for m in report.measurements if m.scope == "model"]
    modes = [mode for mode in (*MODES, *OURS) if any(_is(m, mode) for m in rows)]
    head = ["network", "params M", "GMAC", *(title for title, _, _ in modes), "INT8 convs", "best mode", "minimum"]
    head += ["measured / limit"] if report.limits else []
    lines = [_line(report, rows, name, modes) for name in (*_networks(rows, peers=True), *_networks(rows, peers=False))]
    return _markdown(head, lines)


def speed_table(report: BenchReport) -> str:
    """Markdown, a row a peer and a column for each of ours: how many times ours is faster, each at its fastest mode,
    p50 against p50."""
    rows = [m for m in report.measurements if m.scope == "model"]
    ours = {name: best(rows, name) for name in _networks(rows, peers=False)}
    lines = []
    for name in _networks(rows, peers=True):
        fastest = best(rows, name)
        lines.append([f"`{name}`", *(f"{fastest.p50_ns / m.p50_ns:.2f}x" for m in ours.values())])
    return _markdown(["against", *(f"`{name}`" for name in ours)], lines)


def _networks(rows: Sequence[Measurement], *, peers: bool) -> list[str]:
    return list(dict.fromkeys(m.bundle for m in rows if m.target.startswith(PEER) is peers))


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def best(rows: Sequence[Measurement], network: str) -> Measurement:
    """The fastest mode of a network, by its median: the tail is the machine's more than the network's."""
    return min((m for m in rows if m.bundle == network), key=lambda m: m.p50_ns)


def _line(
    report: BenchReport, rows: Sequence[Measurement], name: str, modes: Sequence[tuple[str, str, str]]
) -> list[str]:
    cost = read_costs(report.notes).get(name)
    fastest = best(rows, name)
    paper = [f"{cost.parameters / 1e6:.3g}", f"{cost.macs / 1e9:.3g}"] if cost else ["", ""]
    times = [_time(next((m for m in rows if m.bundle == name and _is(m, mode)), None)) for mode in modes]
    title = next((mode[0] for mode in modes if _is(fastest, mode)), fastest.label)
    own = not fastest.target.startswith(PEER)
    line = [f"**`{name}`**" if own else f"`{name}`", *paper, *times, _integers(rows, name), title]
    line.append(f"{min(fastest.samples_ns) / 1e6:.2f}")
    return line + ([_ratio(report, fastest)] if report.limits else [])


def _is(m: Measurement, mode: tuple[str, str, str]) -> bool:
    return (m.target, m.precision.value) == mode[1:]


def _time(m: Measurement | None) -> str:
    return f"{m.p50_ns / 1e6:.2f} / {m.p90_ns / 1e6:.2f}" if m else ""


def _integers(rows: Sequence[Measurement], name: str) -> str:
    """'27 of 31' convolutions in INT8, of the first INT8 row whose census has convolutions by that name."""
    for m in rows:
        if m.bundle == name and m.precision.value == "int8" and m.census and convolutions(m.census):
            whole = len(convolutions(m.census))
            return f"{whole - len(not_int8(m.census))} of {whole}"
    return ""


def _ratio(report: BenchReport, m: Measurement) -> str:
    """measured / limit of the same artifact in the same mode; '' where it has none."""
    for row in report.limits:
        if (row.bundle, row.target, row.precision) == (m.bundle, m.target, m.precision):
            return f"{row.ratio:.1f}"
    return ""
