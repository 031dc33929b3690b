"""The example workflow: it is YAML, its commands exist with the options it uses, and what it reads is written."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from edge_unet.cli import app
from edge_unet.pipeline.compare import FORMS

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "docs" / "ci" / "edge-unet.yml"


@pytest.fixture(scope="module")
def steps() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    held = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    (job,) = held["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def commands(steps: list[dict[str, Any]]) -> list[list[str]]:
    """Every edge-unet command line of the workflow, as words."""
    lines = [line.strip() for step in steps for line in step.get("run", "").splitlines()]
    found = [re.split(r"\s(?:\|\||&&|;)\s?", line)[0] for line in lines if line.startswith("edge-unet ")]
    return [shlex.split(line) for line in found]


def test_the_whole_road_is_in_it(steps: list[dict[str, Any]]) -> None:
    assert [words[1] for words in commands(steps)] == ["export", "verify", "bench", "report", "compare"]


def test_every_command_and_option_exists(steps: list[dict[str, Any]]) -> None:
    """Parsed by the command line itself, up to the call of the verb."""
    known = get_command(app).commands  # type: ignore[attr-defined]
    for words in commands(steps):
        verb = words[1]
        context = known[verb].make_context(verb, words[2:])
        assert set(context.params) >= {"as_json"}


def test_files_that_steps_read_are_written_by_a_verb(steps: list[dict[str, Any]]) -> None:
    text = PATH.read_text(encoding="utf-8")
    from edge_unet.pipeline import report

    written = Path(report.__file__).read_text(encoding="utf-8")
    named = set(re.findall(r"out/report/([\w.]+\w)", text))
    assert named == {"report.md", "smaller.json", "bigger.json"}
    assert all(f'"{name}"' in written for name in named)
    assert FORMS["markdown"] in text
    tools = {step["with"]["tool"]: step["with"]["output-file-path"] for step in steps if "tool" in step.get("with", {})}
    assert tools == {
        "customSmallerIsBetter": "out/report/smaller.json", "customBiggerIsBetter": "out/report/bigger.json",
    }  # fmt: skip


def test_a_failed_gate_fails_the_step_after_all_were_compared(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    """The shell of the compare step with a stand-in for the command: what CI sees is the gate's exit code."""
    (script,) = (step["run"] for step in steps if step.get("name") == "Compare")
    for name in ("a", "b", "c", "d"):
        (tmp_path / "out/export" / name).mkdir(parents=True)
    for name in ("a", "b", "c"):
        (tmp_path / "baseline" / name).mkdir(parents=True)
    fake = tmp_path / "bin/edge-unet"
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\necho "$2" >> called\nmkdir -p "out/compare/$(basename "$2")"\n'
        'echo summary > "out/compare/$(basename "$2")/comparison.md"\n[ "$2" != baseline/b ] || exit 4\n'
    )
    fake.chmod(0o755)
    environment = {"PATH": f"{fake.parent}:/usr/bin:/bin", "GITHUB_STEP_SUMMARY": "summary", "DATA": "d"}
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 4
    assert (tmp_path / "called").read_text().split() == ["baseline/a", "baseline/b", "baseline/c"]
    assert (tmp_path / "summary").read_text() == "summary\n" * 3
