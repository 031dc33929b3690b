"""What the tests of the apps share: a network that finds bright pixels, videos made by the test, running a program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_graph import PALETTE, GraphWriter, frames_u8

from edge_unet.canonical import Metadata, write_metadata
from edge_unet.core.protocols import Target
from edge_unet.core.spec import ClassSpec, PreprocessSpec, QuantScheme
from edge_unet.pipeline.export import export
from edge_unet.segment.camera.sinks import open_sink
from edge_unet.targets.registry import TARGETS

ROOT = Path(__file__).resolve().parents[1]


def bright_bundle(folder: Path, name: str, *, size: int = 128, level: float = 0.9) -> Path:
    """An onnx bundle whose logit is 12 * (mean of red, green and blue - level), in units of the network's input: a
    pixel of grey 128 + 64 * level is undecided. Two 1x1 convolutions with weights set by hand, nothing trained."""
    g = GraphWriter(size, 0)
    first = g.conv("first", "image", 3, 8, 1)
    g.weights["first.weight"] = np.full((8, 3, 1, 1), 1 / 3, np.float32)
    g.constants["first.bias"] = np.full(8, 2.0, np.float32)  # keeps what the activation would cut
    logits = g.conv("score", first, 8, 1, 1, act="logits")
    g.weights["score.weight"] = np.full((1, 8, 1, 1), 1.5, np.float32)
    g.constants["score.bias"] = np.full(1, -12 * (level + 2), np.float32)
    model = g.finish(logits, np.concatenate([frames_u8(4, size), np.full((1, size, size, 3), 255, np.uint8)]))
    classes = ClassSpec(names=("background", "bright"), palette=PALETTE[:2])
    metadata = Metadata(
        name=name, model="bright", kind="ptq", scheme=QuantScheme.PORTABLE,
        preprocess=PreprocessSpec(height=size, width=size), classes=classes,
    )  # fmt: skip
    write_metadata(model, metadata)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    target: Target = TARGETS["onnx"]
    (bundle,) = export(path, (target,), folder, say=lambda _: None)
    return bundle.folder


def write_video(path: Path, frames: list[NDArray[np.uint8]], fps: float = 25) -> str:
    """Write (H, W, 3) RGB frames; returns the URI."""
    sink = open_sink(f"file://{path}", fps)
    for frame in frames:
        sink.show(frame)
    sink.close()
    return f"file://{path}"


class Ran:
    """What a program gave."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def value(self) -> Any:
        """The last line of stdout as JSON."""
        return json.loads(self.out.splitlines()[-1])


def run_app(app: str, *arguments: str | Path) -> Ran:
    """An app in a process of its own."""
    command = [sys.executable, str(ROOT / "apps" / app / f"{app}.py"), *map(str, arguments)]
    return Ran(subprocess.run(command, capture_output=True, text=True, check=False, timeout=300))
