"""Write the generated tables of README.md, export/README.md and the reference model's card from result files.

python benchmarks/summary.py           rewrite what lies between the markers
python benchmarks/summary.py --check   exit 1 where a file is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from front import front_svg, points
from peers.table import peers_table, speed_table
from trained_tables import alike_table, card_table, levels_table, shipped_table, students_table, table
from trained_tables import machine_line as trained_line

from edge_unet.core.limits import LimitRow
from edge_unet.core.report import BenchReport, EvaluateResult, Measurement, VerifyResult, read_report
from edge_unet.pipeline.reference import REFERENCE, SHIPPED
from edge_unet.targets.registry import TARGETS

ROOT = Path(__file__).resolve().parent.parent
EXPORT = ROOT / "export"
STATUS = ROOT / "edge_unet" / "reference" / "int8_status.json"
CARDS = ROOT / "edge_unet" / "reference"
CARD = CARDS / f"{REFERENCE}.md"
FRONT = "Dice on kvasir_seg val against p50 latency at 256x256, networks trained alike"
OTHER_RESULTS = {"endoscopy-mobile": "2026-11-21c-reference.json"}
"""Cards whose result file was written under another name."""
STAND_INS = "Rows marked * did not run on their hardware: stand-ins, as the README explains."


def newest(kind: str) -> Path:
    """The newest result file of a kind; names start with the date."""
    return sorted((ROOT / "benchmarks" / "results").glob(f"*-{kind}.json"))[-1]


def find(evaluated: Sequence[EvaluateResult], target: str, precision: str, data: str) -> EvaluateResult | None:
    """The quality of one subject on one set of images."""
    for result in evaluated:
        subject = result.subject
        if (
            subject
            and subject.target == target
            and subject.precision.value == precision
            and data in (result.data or "")
        ):
            return result
    return None


def dice(result: EvaluateResult | None) -> str:
    """Dice to four places."""
    return f"{result.dice:.4f}" if result else "not measured"


def quality_table(report: BenchReport) -> str:
    """Dice on both sets, agreement and integers of every artifact."""
    rows = []
    for precision, name in (("fp32", "FP32 checkpoint (torch)"), ("int8", "QAT checkpoint (torch, fake-quant)")):
        found = [find(report.evaluated, "checkpoint", precision, data) for data in ("kvasir_seg", "cvc_clinicdb")]
        if any(found):
            rows.append([name, "", *(dice(f) for f in found), "", "", "", ""])
    rows += [_verified_row(v, report) for v in report.verified]
    head = [
        "artifact",
        "KiB",
        "Dice kvasir_seg val",
        "Dice cvc_clinicdb val",
        "mask agreement",
        "scales",
        "payloads",
        "INT8 layers",
    ]
    return table(head, rows)


def _verified_row(v: VerifyResult, report: BenchReport) -> list[str]:
    equal = {True: "equal", False: "different", None: "none"}
    label = f"`{v.target}` {v.precision.value}" + ("" if v.on_device else " *")
    qualities = [find(report.evaluated, v.target, v.precision.value, d) for d in ("kvasir_seg", "cvc_clinicdb")]
    return [
        label,
        f"{v.artifact_bytes / 1024:.0f}" if v.artifact_bytes else "",
        *(dice(q) for q in qualities),
        f"{100 * v.agreement:.3f} %"
        + "".join(f" ({100 * m.agreement:.2f} % with {m.assumption})" for m in v.other_models),
        f"{v.scales_compared} {equal[v.scales_equal]}",
        f"{v.payloads_compared} {equal[v.payloads_equal]}",
        f"{v.int8_layers} of {v.int8_layers + v.float_layers}",
    ]


def latency_table(report: BenchReport) -> str:
    """Model-only and end-to-end latency, the ratio to the slowest habit, ONNX Runtime FP32, and to the limit that the
    machine's own peaks set, where they were measured."""
    rows = {m.label: m for m in report.measurements if m.scope == "model"}
    whole = {m.label: m for m in report.measurements if m.scope == "end_to_end"}
    limits = {limit.label: limit for limit in report.limits}
    base = rows["onnx fp32"]
    head = ["runtime", "precision", "p50 ms", "p90 ms", "p99 ms", "end to end p90 ms", "p90 against ONNX Runtime FP32",
            "limit ms", "p50 / limit", "peak MiB"]  # fmt: skip
    lines = [
        _latency_row(m, whole.get(label), base, limits.get(label))
        for label, m in sorted(rows.items(), key=lambda i: i[1].p90_ns)
    ]
    return table(head, lines)


def _latency_row(m: Measurement, whole: Measurement | None, base: Measurement, limit: LimitRow | None) -> list[str]:
    return [
        f"`{m.target}` {m.runtime}",
        m.precision.value,
        *(f"{value / 1e6:.2f}" for value in (m.p50_ns, m.p90_ns, m.p99_ns)),
        f"{whole.p90_ns / 1e6:.2f}" if whole else "",
        f"{base.p90_ns / m.p90_ns:.2f}x",
        *((f"{limit.limit_ns / 1e6:.2f}", f"{limit.ratio:.1f}") if limit else ("", "")),
        f"{m.peak_rss_bytes / 2**20:.0f}" if m.peak_rss_bytes else "",
    ]


def tools_table() -> str:
    """What a user waits for: medians of whole processes."""
    found = json.loads(newest("tools").read_text(encoding="utf-8"))
    rows = [
        [f"`edge-unet {name}`", f"{row['wall_median_s']:.2f}", f"{row['cpu_median_s']:.2f}", str(len(row["wall_s"]))]
        for name, row in found["commands"].items()
    ]
    line = f"{found['environment']['cpu_model']}. Result file: `benchmarks/results/{newest('tools').name}`."
    return table(["command", "s", "CPU s", "runs"], rows) + "\n\n" + line


def machine_line(report: BenchReport) -> str:
    """Where and how it was measured."""
    environment, schedule = report.environment, report.schedule
    runs = (
        f"{schedule.runs} runs or {schedule.limit_ns / 1e9:.0f} s a row, bursts of {schedule.burst} in turn"
        if schedule
        else ""
    )
    return f"{environment.cpu_model}, {environment.threads} thread, {runs}. Result file: `benchmarks/results/{newest('reference').name}`."  # noqa: E501


def operators_table() -> str:
    """ONNX op by target."""
    ops = sorted(set().union(*(t.ops for t in TARGETS.values())))
    rows = [[op, *("yes" if op in t.ops else "" for t in TARGETS.values())] for op in ops]
    return table(["op", *TARGETS], rows)


def results_of(name: str) -> Mapping[str, Any]:
    """What lies in export/results."""
    found: Mapping[str, Any] = json.loads((EXPORT / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def costs_table() -> str:
    """Parameters and MACs of every preset and level, beside the counts of the authors' networks."""
    rows = []
    for name, entry in results_of("costs")["presets"].items():
        rows.append(_cost_row(f"`{name}`", entry))
        rows += [_cost_row(f"&nbsp;&nbsp;{level}", cost) for level, cost in entry["levels"].items() if level != "mean"]
    head = ["preset", "parameters M", "theirs", "", "MACs G", "theirs", "", "activations MiB", "whose count"]
    return table(head, rows)


def _cost_row(name: str, entry: Mapping[str, Any]) -> list[str]:
    theirs = entry.get("published", {})
    cells = [name]
    for ours, key in ((entry["parameters"] / 1e6, "parameters_m"), (entry["macs"] / 1e9, "macs_g")):
        given = theirs.get(key)
        off = f"{100 * (ours / given - 1):+.1f} %" if given else ""
        cells += [f"{ours:.3f}", f"{given:g}" if given else "", off]
    return [*cells, f"{entry['activation_bytes'] / 2**20:.1f}", theirs.get("source", "")]


def matrix_table() -> str:
    """Network x level x target."""
    rows = []
    for name, entry in results_of("matrix")["presets"].items():
        rows += [_matrix_row(name, row) for row in entry["rows"]]
    head = ["network", "level", "target", "KiB", "INT8 layers", "float layers", "islands", "agreement", "max LSB",
            "p90 ms", "result"]  # fmt: skip
    return table(head, rows)


def _matrix_row(name: str, row: Mapping[str, Any]) -> list[str]:
    def shown(key: str, form: str, factor: float = 1) -> str:
        return "" if row[key] is None else form.format(row[key] * factor)

    runs_here = TARGETS[row["target"]].executes_here
    result = row["status"] if row["status"] == "passed" else f"{row['status']}: {row['reason']}"
    return [
        f"`{name}`", row["level"], row["target"] + ("" if runs_here else " *"), shown("bytes", "{:.0f}", 1 / 1024),
        shown("int8_layers", "{}"), shown("float_layers", "{}"), shown("islands", "{}"),
        shown("agreement", "{:.3f} %", 100), shown("max_lsb", "{:.0f}"), shown("p90_ms", "{:.2f}"),
        result.replace("|", "/"),
    ]  # fmt: skip


def family_table() -> str:
    """One row per network trained on real images: Dice in FP32 and INT8, the lowest agreement of its levels."""
    rows = []
    for name, entry in results_of("matrix")["presets"].items():
        if not entry["dice"]:
            continue
        fp32, int8 = entry["dice"]["fp32"], entry["dice"]["int8"]
        cells = [f"`{name}`", f"{fp32:.4f}", f"{int8:.4f}", f"{100 * (int8 - fp32):+.2f}"]
        for target in TARGETS:
            found = [row["agreement"] for row in entry["rows"] if row["target"] == target]
            lowest = "" if not found else "blocked" if None in found else f"{100 * min(found):.3f} %"
            cells.append(lowest)  # '' is not measured
        rows.append([*cells, entry["rows"][0]["weights"].removeprefix("trained: ")])
    return table(["network", "Dice FP32", "Dice INT8", "points", *TARGETS, "training"], rows)


def matrix_line() -> str:
    """How the matrix was measured."""
    presets = results_of("matrix")["presets"].values()
    cpus = sorted({entry["cpu"] for entry in presets})
    weights = sorted({row["weights"] for entry in presets for row in entry["rows"]})
    sizes = sorted({f"{row['width']}x{row['height']}" for entry in presets for row in entry["rows"]})
    return f"Input {', '.join(sizes)}; one thread of {', '.join(cpus)}; weights: {'; '.join(weights)}."


def int8_status() -> str:
    """The matrix in short, for `edge-unet models`: the worst level of every target counts."""
    found: dict[str, dict[str, str]] = {}
    for name, entry in results_of("matrix")["presets"].items():
        for row in entry["rows"]:
            state = row["status"] if row["status"] == "passed" else f"{row['status']}: {row['reason']}"
            if found.setdefault(name, {}).get(row["target"], "passed") == "passed":
                found[name][row["target"]] = state
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def filled(text: str, name: str, block: str) -> str:
    """`text` with `block` between the markers called `name`."""
    pattern = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no markers <!-- {name}:begin --> … <!-- {name}:end -->")
    return pattern.sub(lambda m: f"{m.group(1)}\n{block}\n\n{m.group(2)}", text)


def shipped_result(name: str) -> Path:
    """The result file of a shipped model."""
    if name == REFERENCE:
        return newest("reference")
    return ROOT / "benchmarks" / "results" / OTHER_RESULTS[name] if name in OTHER_RESULTS else newest(name)


def shipped() -> str:
    """All shipped models in one table."""
    reports = {name: read_report(shipped_result(name)) for name in SHIPPED}
    cpus = sorted({report.environment.cpu_model for report in reports.values()})
    files = ", ".join(f"`{shipped_result(name).name}`" for name in SHIPPED)
    line = f"One thread of {', '.join(cpus)}; each was timed in a run of its own: {files} in `benchmarks/results`."
    return shipped_table(reports, SHIPPED) + "\n\n" + line


def alike_block(file: Path) -> str:
    """Networks trained alike, and how."""
    report = read_report(file)
    return f"{alike_table(report)}\n\n{' '.join(report.notes)} Result file: `benchmarks/results/{file.name}`."


def cards() -> dict[Path, str]:
    """The model cards of what ships beside the reference model."""
    made = {}
    for name in SHIPPED:
        path = CARDS / f"{name}.md"
        if path != CARD:
            result = shipped_result(name)
            report = read_report(result)
            block = "\n\n".join((card_table(report), trained_line(report, result.name), STAND_INS))
            made[path] = filled(path.read_text(encoding="utf-8"), "card", block)
    return made


def generated() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    report = read_report(newest("reference"))
    quality, latency, machine = quality_table(report), latency_table(report), machine_line(report)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = filled(filled(filled(readme, "quality", quality), "latency", latency), "machine", machine)
    readme = filled(readme, "shipped", shipped())
    for kind, block in (("unetpp", levels_table), ("student", students_table)):
        trained = read_report(newest(kind))
        readme = filled(readme, kind, block(trained) + "\n\n" + trained_line(trained, newest(kind).name))
    for size in (256, 352):
        file = newest(f"peers-{size}")
        peers = read_report(file)
        block = "\n\n".join((peers_table(peers), speed_table(peers), trained_line(peers, file.name)))
        readme = filled(readme, f"peers-{size}", block)
    for kind in ("alike", "alike-camvid"):
        readme = filled(readme, kind, alike_block(newest(kind)))
    alike = read_report(newest("alike"))
    bench = filled((ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8"), "tools", tools_table())
    card = filled(filled(CARD.read_text(encoding="utf-8"), "quality", quality), "latency", latency)
    exports = EXPORT / "README.md"
    text = filled(exports.read_text(encoding="utf-8"), "ops", operators_table())
    for name, block in (
        ("costs", costs_table()),
        ("matrix", matrix_table()),
        ("how", matrix_line()),
        ("family", family_table()),
    ):
        text = filled(text, name, block)
    return {
        **cards(),
        ROOT / "README.md": readme,
        ROOT / "docs" / "front.svg": front_svg(points(read_report(newest("peers-256")), alike, "kvasir_seg"), FRONT),
        ROOT / "benchmarks" / "README.md": bench,
        CARD: filled(card, "machine", machine),
        exports: text,
        STATUS: int8_status(),
    }


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wanted = generated()
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not check:
            path.write_text(wanted[path], encoding="utf-8")
        print(f"{'out of date' if check else 'wrote'}: {path.relative_to(ROOT)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
