"""The floor plan: wings, layers, what a light install imports, and that everything public says what it does."""

from __future__ import annotations

import ast
import json
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocked import run_without

import edge_unet

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "edge_unet"
TORCH_WING = ("training", "quantization", "graph", "models", "data")
DEVICE_WING = ("segment", "measure", "devices", "targets", "canonical", "frames", "core")
TOOLCHAINS = ("openvino", "coremltools", "ai_edge_litert", "onnxruntime", "tensorrt", "tensorflow", "av", "matplotlib")
IMPORT_ALL = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def modules(*packages: str) -> list[str]:
    """Every module below edge_unet.<package>."""
    found = [m.name for m in pkgutil.walk_packages(edge_unet.__path__, "edge_unet.")]
    return [name for name in found if name.split(".")[1] in packages]


def loaded(blocked: tuple[str, ...], names: list[str]) -> set[str]:
    """Top-level packages in sys.modules once `names` are imported where `blocked` cannot be."""
    done = run_without(blocked, IMPORT_ALL, json.dumps(names))
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_core_and_device_wing_import_without_torch_and_toolchains() -> None:
    kit = "edge_unet.targets.tensorrt.kit."  # programs for the device, where TensorRT is
    names = [name for name in modules(*DEVICE_WING, "cli") if not name.startswith(kit)]
    assert len(names) > 60
    assert not loaded(("torch", "safetensors", "jinja2", *TOOLCHAINS), names) & {"torch", *TOOLCHAINS}


def test_the_steps_of_the_pipeline_import_without_torch() -> None:
    """`edge-unet verify` on a Jetson: the step modules are imported there, the torch wing is not. A search trains: of
    its folder only the start is imported without torch."""
    search = "edge_unet.pipeline.search."
    names = [name for name in modules("pipeline") if not name.startswith(search) or name == f"{search}start"]
    found = loaded(("torch", *TOOLCHAINS), names)
    assert not found & {"torch", *TOOLCHAINS}


def test_the_torch_wing_needs_no_toolchain_of_a_target() -> None:
    assert "torch" in loaded(TOOLCHAINS, modules(*TORCH_WING))


def test_import_contracts_hold() -> None:
    linter = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("import-linter is not installed (extra dev)")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 kept, 0 broken" in done.stdout


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public modules, classes, functions and methods without a docstring."""
    if ast.get_docstring(tree) is None and tree.body:
        yield "module"
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef | ast.Module):
            continue
        if isinstance(node, ast.ClassDef) and node.name.startswith("_"):
            continue
        for child in node.body:
            public = isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_")
            if public and ast.get_docstring(child) is None:  # type: ignore[arg-type]
                yield f"{child.name} (line {child.lineno})"  # type: ignore[union-attr]


def test_everything_public_says_what_it_does() -> None:
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for name in undocumented(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert missing == set()


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_files_and_functions_stay_readable() -> None:
    """At most 400 lines a file and 50 a function."""
    long = []
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > 400:
            long.append(f"{file.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (length := (node.end_lineno or 0) - node.lineno + 1) > 50:
                long.append(f"{file.relative_to(ROOT)}: {node.name} has {length} lines")
    assert long == []
