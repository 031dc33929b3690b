"""JUnit XML, which every CI shows as a list of tests: a failed gate is a failure, what was not measured is skipped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from edge_unet.core.report import BenchReport, Measurement, VerifyResult
from edge_unet.core.spec import Precision
from edge_unet.measure.report import tables
from edge_unet.measure.report.wording import NOT_MEASURED, SPACE, milliseconds, share

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML document may hold."""


@dataclass(frozen=True)
class Case:
    """One test case: failed, skipped, or passed."""

    classname: str
    name: str
    seconds: float | None = None
    failure: str | None = None
    skipped: str | None = None
    output: str = ""


def render_junit(report: BenchReport) -> str:
    """One test case for each bundle, target and precision. Its time is the p90 of one frame, model only."""
    return suite(report.title, _cases(report), tables.environment_rows(report), report.created)


def suite(
    name: str, cases: Sequence[Case], properties: Sequence[tuple[str, str]] = (), timestamp: str | None = None
) -> str:
    """The XML of one test suite."""
    failed = sum(case.failure is not None for case in cases)
    skipped = sum(case.failure is None and case.skipped is not None for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": str(skipped)}
    total = sum(case.seconds or 0.0 for case in cases)
    root = ElementTree.Element("testsuites", {"name": _text(name), **counts})
    stamp = {"timestamp": timestamp} if timestamp else {}
    body = ElementTree.SubElement(root, "testsuite", {"name": _text(name), **counts, "time": f"{total:.6f}", **stamp})
    if properties:
        held = ElementTree.SubElement(body, "properties")
        for key, value in properties:
            ElementTree.SubElement(held, "property", {"name": _text(key), "value": _text(value)})
    for case in cases:
        _add(body, case)
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(body: ElementTree.Element, case: Case) -> None:
    time = {} if case.seconds is None else {"time": f"{case.seconds:.6f}"}
    element = ElementTree.SubElement(
        body, "testcase", {"classname": _text(case.classname), "name": _text(case.name), **time}
    )
    if case.failure is not None:
        ElementTree.SubElement(element, "failure", {"message": _text(case.failure)}).text = _text(case.failure)
    elif case.skipped is not None:
        ElementTree.SubElement(element, "skipped", {"message": _text(case.skipped)})
    if case.output:
        ElementTree.SubElement(element, "system-out").text = _text(case.output)


def _text(value: str) -> str:
    return _NOT_XML.sub("?", value.replace(SPACE, " "))


Key = tuple[str, str, Precision]


def _cases(report: BenchReport) -> list[Case]:
    measured = {_key(m): m for m in report.measurements if m.scope == "model"}
    verified = {_key(v): v for v in report.verified}
    reasons = {(n.target, n.precision): n.reason for n in report.not_measured}
    keys = dict.fromkeys([*measured, *verified])
    cases = [_case(key, measured.get(key), verified.get(key), reasons.get(key[1:])) for key in keys]
    known = {key[1:] for key in keys}
    return cases + [
        Case(classname=report.title, name=f"{n.target} {n.precision.value}", skipped=f"{NOT_MEASURED}: {n.reason}")
        for n in report.not_measured if (n.target, n.precision) not in known
    ]  # fmt: skip


def _key(subject: Measurement | VerifyResult) -> Key:
    return subject.bundle, subject.target, subject.precision


def _case(key: Key, m: Measurement | None, v: VerifyResult | None, reason: str | None) -> Case:
    bundle, target, precision = key
    lines = []
    if m is not None:
        lines.append(
            f"p50 {milliseconds(m.p50_ns)}, p90 {milliseconds(m.p90_ns)}, p99 {milliseconds(m.p99_ns)}, {m.runs} runs"
        )
    if v is not None:
        lines.append(f"agreement {share(v.agreement)}, at least {share(v.gate)} asked, {v.images} images")
    skipped = None
    if m is None and reason is not None:
        gate = "" if v is None else "; the accuracy gate passed"
        skipped = f"latency {NOT_MEASURED}: {reason}{gate}"
    return Case(
        classname=bundle,
        name=f"{target} {precision.value}",
        seconds=None if m is None else m.p90_ns / 1e9,
        failure=None if v is None or v.passed else "; ".join(v.reasons),
        skipped=skipped,
        output="\n".join(lines),
    )
