"""Write the generated tables of README.md, export/README.md and the reference model's card from result files.

python benchmarks/summary.py           rewrite what lies between the markers
python benchmarks/summary.py --check   exit 1 where a file is out of date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_unet.core.report import BenchReport, EvaluateResult, Measurement, VerifyResult, read_report
from edge_unet.targets.registry import TARGETS

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "edge_unet" / "reference" / "endoscopy.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
    """Model-only and end-to-end latency, and the ratio to the slowest habit: ONNX Runtime FP32."""
    rows = {m.label: m for m in report.measurements if m.scope == "model"}
    whole = {m.label: m for m in report.measurements if m.scope == "end_to_end"}
    base = rows["onnx fp32"]
    lines = [_latency_row(m, whole.get(label), base) for label, m in sorted(rows.items(), key=lambda i: i[1].p90_ns)]
    head = [
        "runtime",
        "precision",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "end to end p90 ms",
        "p90 against ONNX Runtime FP32",
        "peak MiB",
    ]
    return table(head, lines)


def _latency_row(m: Measurement, whole: Measurement | None, base: Measurement) -> list[str]:
    return [
        f"`{m.target}` {m.runtime}",
        m.precision.value,
        *(f"{value / 1e6:.2f}" for value in (m.p50_ns, m.p90_ns, m.p99_ns)),
        f"{whole.p90_ns / 1e6:.2f}" if whole else "",
        f"{base.p90_ns / m.p90_ns:.2f}x",
        f"{m.peak_rss_bytes / 2**20:.0f}" if m.peak_rss_bytes else "",
    ]


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


def filled(text: str, name: str, block: str) -> str:
    """`text` with `block` between the markers called `name`."""
    pattern = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no markers <!-- {name}:begin --> … <!-- {name}:end -->")
    return pattern.sub(lambda m: f"{m.group(1)}\n{block}\n\n{m.group(2)}", text)


def generated() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    report = read_report(newest("reference"))
    quality, latency, machine = quality_table(report), latency_table(report), machine_line(report)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = filled(filled(filled(readme, "quality", quality), "latency", latency), "machine", machine)
    card = filled(filled(CARD.read_text(encoding="utf-8"), "quality", quality), "latency", latency)
    exports = ROOT / "export" / "README.md"
    return {
        ROOT / "README.md": readme,
        CARD: filled(card, "machine", machine),
        exports: filled(exports.read_text(encoding="utf-8"), "ops", operators_table()),
    }


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [path for path, text in generated().items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not check:
            path.write_text(generated()[path], encoding="utf-8")
        print(f"{'out of date' if check else 'wrote'}: {path.relative_to(ROOT)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
