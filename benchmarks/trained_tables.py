"""The tables of trained networks: deep-supervision levels, a student with and without its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_unet.core.report import BenchReport, EvaluateResult, Measurement, VerifyResult


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def networks(report: BenchReport) -> list[str]:
    """The names of a report's networks, in its order."""
    names = [e.subject.bundle for e in report.evaluated if e.subject and e.subject.bundle]
    return list(dict.fromkeys(names))


def checkpoint_dice(report: BenchReport, name: str, precision: str) -> float | None:
    """Dice of a network's checkpoint on torch."""
    found: list[EvaluateResult] = [
        e for e in report.evaluated
        if e.subject and e.subject.bundle == name and e.subject.target == "checkpoint"
        and e.subject.precision.value == precision
    ]  # fmt: skip
    return found[0].dice if found else None


def verified(report: BenchReport, name: str, target: str) -> VerifyResult | None:
    """What verify said of a network on a target."""
    return next((v for v in report.verified if v.bundle == name and v.target == target), None)


def p90_ms(report: BenchReport, name: str, target: str, precision: str) -> str:
    """p90 of a network on a target, or ''."""
    rows: list[Measurement] = [
        m for m in report.measurements
        if m.scope == "model" and m.target == target and m.precision.value == precision and m.bundle == name
    ]  # fmt: skip
    return f"{rows[0].p90_ns / 1e6:.2f}" if rows else ""


def _dice_cells(report: BenchReport, name: str) -> list[str]:
    fp32, int8 = checkpoint_dice(report, name, "fp32"), checkpoint_dice(report, name, "int8")
    if fp32 is None or int8 is None:
        return ["", "", ""]
    return [f"{fp32:.4f}", f"{int8:.4f}", f"{100 * (int8 - fp32):+.2f}"]


def _target_cells(report: BenchReport, name: str, target: str) -> list[str]:
    found = verified(report, name, target)
    if found is None:
        return ["blocked", "", "", ""]
    dice = "" if found.dice is None else f"{found.dice:.4f}"
    kib = f"{found.artifact_bytes / 1024:.0f}" if found.artifact_bytes else ""
    return [dice, kib, p90_ms(report, name, target, "int8"), p90_ms(report, name, target, "fp32")]


def levels_table(report: BenchReport) -> str:
    """One row per level: Dice in FP32 and INT8, and what it costs on OpenVINO and LiteRT."""
    rows = [
        [name.rsplit("-", 1)[-1], *_dice_cells(report, name), *_target_cells(report, name, "cpu"),
         *_target_cells(report, name, "android")]
        for name in networks(report)
    ]  # fmt: skip
    costs = ("Dice INT8", "KiB", "p90 INT8 ms", "p90 FP32 ms")
    head = [
        "level",
        "Dice FP32",
        "Dice QAT",
        "points",
        *(f"OpenVINO {c}" for c in costs),
        *(f"LiteRT {c}" for c in costs),
    ]
    return table(head, rows)


def students_table(report: BenchReport) -> str:
    """One row per network: Dice in FP32 and INT8, agreement on every target."""
    targets = list(dict.fromkeys(v.target for v in report.verified))
    rows = []
    for name in networks(report):
        found = [verified(report, name, target) for target in targets]
        rows.append(
            [f"`{name}`", *_dice_cells(report, name),
             *("blocked" if v is None else f"{100 * v.agreement:.3f} %" for v in found),
             p90_ms(report, name, "cpu", "int8"), p90_ms(report, name, "android", "int8")]
        )  # fmt: skip
    head = ["network", "Dice FP32", "Dice INT8", "points", *targets, "OpenVINO INT8 p90 ms", "LiteRT INT8 p90 ms"]
    return table(head, rows)


def card_table(report: BenchReport) -> str:
    """One network: its checkpoints and every target, Dice on every set, agreement, latency."""
    (name,) = networks(report)
    sets = list(dict.fromkeys(e.data for e in report.evaluated if e.data))
    rows = []
    for precision, title in (("fp32", "FP32 checkpoint (torch)"), ("int8", "QAT checkpoint (torch, fake-quant)")):
        dice = [_dice_on(report, "checkpoint", precision, data) for data in sets]
        rows.append([title, "", *dice, "", "", "", ""])
    for v in report.verified:
        on_first = "" if v.dice is None else f"{v.dice:.4f}"
        dice = [on_first, *(_dice_on(report, v.target, v.precision.value, data) for data in sets[1:])]
        agreement = [f"{100 * v.agreement:.3f} %", f"{v.int8_layers} of {v.int8_layers + v.float_layers}"]
        times = [p90_ms(report, name, v.target, p) for p in ("int8", "fp32")]
        kib = f"{v.artifact_bytes / 1024:.0f}" if v.artifact_bytes else ""
        rows.append([f"`{v.target}` int8{'' if v.on_device else ' *'}", kib, *dice, *agreement, *times])
    head = ["artifact", "KiB", *(f"Dice {data}" for data in sets), "mask agreement", "INT8 layers"]
    return table([*head, "p90 INT8 ms", "p90 FP32 ms"], rows)


def shipped_table(reports: Mapping[str, BenchReport], said: Mapping[str, str]) -> str:
    """One row a shipped model: what it is (`said`), its quality in FP32 and INT8 on its first set, size and p50."""
    rows = []
    for name, report in reports.items():
        found = {
            e.subject.precision.value: e
            for e in reversed(report.evaluated)
            if e.subject and e.subject.target == "checkpoint"
        }
        several = len(found["int8"].per_class) > 2
        scores = [f"{e.iou if several else e.dice:.4f}" for e in (found["fp32"], found["int8"])]
        v = next(v for v in report.verified if v.target == "android" and v.precision.value == "int8")
        times = [
            next(f"{m.p50_ns / 1e6:.2f}" for m in report.measurements
                 if (m.scope, m.target, m.precision.value) == ("model", target, "int8"))
            for target in ("android", "cpu")
        ]  # fmt: skip
        metric = f"{'mIoU' if several else 'Dice'}, {(found['int8'].data or '').split('/')[0]}"
        rows.append([f"`{name}`", said[name], metric, *scores, f"{(v.artifact_bytes or 0) / 1024:.0f}", *times])
    head = ["name", "what", "quality", "FP32", "INT8", "LiteRT KiB", "LiteRT p50 ms", "OpenVINO p50 ms"]
    return table(head, rows)


def alike_table(report: BenchReport) -> str:
    """One row a network: Dice (mIoU of several classes) of the float weights on every set, and after one epoch of QAT
    where there was one."""
    sets = list(dict.fromkeys(e.data for e in report.evaluated if e.data))
    several = any(len(e.per_class) > 2 for e in report.evaluated)
    found = {
        (e.subject.bundle, e.subject.precision.value, e.data): f"{e.iou if several else e.dice:.4f}"
        for e in report.evaluated
        if e.subject
    }
    rows = [
        [f"`{name}`", *(found.get((name, precision, data), "") for precision in ("fp32", "int8") for data in sets)]
        for name in networks(report)
    ]
    head = [f"{title} {data}" for title in ("mIoU" if several else "Dice", "after QAT") for data in sets]
    return table(["network", *head], rows)


def _dice_on(report: BenchReport, target: str, precision: str, data: str) -> str:
    for e in report.evaluated:
        if e.subject and (e.subject.target, e.subject.precision.value, e.data) == (target, precision, data):
            return f"{e.dice:.4f}"
    return ""


def machine_line(report: BenchReport, file: str) -> str:
    """Where and how it was measured."""
    environment, schedule = report.environment, report.schedule
    runs = f"{schedule.runs} runs or {schedule.limit_ns / 1e9:.0f} s a row, interleaved" if schedule else "not timed"
    blocked = "".join(f" {note}." for note in report.notes if "blocked" in note)
    return (
        f"{environment.cpu_model}, {environment.threads} thread, {runs}. "
        f"Result file: `benchmarks/results/{file}`.{blocked}"
    )
