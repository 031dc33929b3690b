"""Running `edge-unet` in a test, and bundles that are damaged on purpose."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edge_unet.core.files import sha256_of

VERBS = (
    "train",
    "quantize",
    "prune",
    "export",
    "search",
    "verify",
    "evaluate",
    "bench",
    "report",
    "compare",
    "camera",
    "demo",
    "models",
    "devices",
    "doctor",
)
"""Every verb of the command, in the order of a project."""


@dataclass(frozen=True)
class Outcome:
    """What one command gave."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The last line of stdout as JSON."""
        return json.loads(self.out.splitlines()[-1])


Call = Callable[..., Outcome]


def edge_unet(*arguments: str | Path, cwd: Path | None = None) -> Outcome:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "edge_unet.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)
    return Outcome(done.returncode, done.stdout, done.stderr)


def wrong_scale(bundle: Path, folder: Path) -> Path:
    """A copy of an onnx bundle with one activation scale changed, and every hash in its manifest made to fit."""
    shutil.copytree(bundle, folder)
    model = onnx.load(folder / "model.onnx")
    middle = [node for node in model.graph.node if node.op_type == "QuantizeLinear"][2]
    scale = next(i for i in model.graph.initializer if i.name == middle.input[1])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.5), scale.name))
    onnx.save(model, folder / "model.onnx")
    fix_hashes(folder)
    return folder


def fix_hashes(folder: Path) -> None:
    """Write the hashes of the files as they are now into the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: sha256_of(folder / name) for name in manifest["files"]}
    manifest["artifact"]["sha256"] = manifest["files"][manifest["artifact"]["path"]]
    (folder / "manifest.json").write_text(json.dumps(manifest))
