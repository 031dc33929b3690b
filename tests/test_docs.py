"""What the documents say is true: generated tables are up to date, links lead somewhere, the README's code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from edge_unet.cli import app
from edge_unet.core.protocols import Target
from edge_unet.core.recipe import parse_recipe, tomllib
from edge_unet.pipeline.export import export
from edge_unet.targets.registry import TARGETS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [p for p in (*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md")) if p.is_file()]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model's cpu bundle."""
    target: Target = TARGETS["cpu"]
    (made,) = export(None, (target,), tmp_path_factory.mktemp("docs"), say=lambda _: None)
    return made.folder


def test_the_two_commands_stand_at_the_top() -> None:
    head = README[:1200]
    assert "make demo" in head
    assert "make test" in head


def test_generated_tables_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "summary.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_verb_in_the_readme_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"edge-unet ([a-z]+)\b", README))
    assert named
    assert named <= known


def test_every_verb_has_help() -> None:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        assert all(getattr(p, "help", None) for p in command.params if p.param_type_name == "option"), name


@pytest.mark.slow
def test_the_readme_python_runs(bundle: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace("out/demo/bundles/endoscopy-cpu-int8", str(bundle))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(256, 256) ('background', 'polyp')" in done.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_named_files_exist(path: Path) -> None:
    """Back-quoted paths with a folder in them, and relative links."""
    text = path.read_text(encoding="utf-8")
    quoted = re.findall(r"`((?:edge_unet|tests|export|benchmarks|docs|calibration|apps)/[\w./-]*\w)`", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [q for q in quoted if not (ROOT / q).exists()] + [k for k in links if not (path.parent / k).exists()]
    assert missing == []


def test_the_readme_recipe_loads() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    recipe = parse_recipe(tomllib.loads(text), source="README.md")
    assert recipe.loss.terms.used == {"focal": 1, "ms_ssim": 1, "iou": 1}
