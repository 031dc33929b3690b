"""kit.json: what the device must know about the model, written when the kit was lowered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KIT = "kit.json"


class KitError(Exception):
    """An error the user can act on. `exit_code`: 1 failure, 2 usage, 3 masks disagree, 5 something is not installed."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(message)


@dataclass(frozen=True)
class GraphFile:
    """One ONNX file of the kit. `float32_islands`: parts of it do not fit into FP16."""

    precision: str
    path: Path
    sha256: str
    float32_islands: bool = False

    @property
    def strongly_typed(self) -> bool:
        """Whether every layer must have the type that the graph gives it. Else TensorRT 10 may compute the float
        layers of a Q/DQ graph in FP16."""
        return self.precision != "int8" or self.float32_islands


@dataclass(frozen=True)
class KitSpec:
    """The model's interface. real input = (pixel - mean) * scale; shapes are NCHW; `logit_step` is the step of the
    quantized logits in the canonical graph (the engine leaves them float)."""

    folder: Path
    name: str
    input: str
    input_shape: tuple[int, int, int, int]
    output: str
    output_shape: tuple[int, int, int, int]
    color_order: str
    mean: float
    scale: float
    logit_step: float
    activation_bytes: int
    graphs: dict[str, GraphFile]


def load_kit(folder: Path) -> KitSpec:
    """Read kit.json and check the sha256 of every graph. Raises KitError naming the file that is missing or changed."""
    path = folder / KIT
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        graphs = {
            precision: GraphFile(
                precision, folder / entry["file"], entry["sha256"], bool(entry.get("float32_islands", False))
            )
            for precision, entry in values.pop("graphs").items()
        }
        for key in ("input_shape", "output_shape"):
            values[key] = tuple(values[key])
        spec = KitSpec(folder=folder, graphs=graphs, **values)
    except FileNotFoundError as error:
        raise KitError(f"{path}: not a build kit; copy the whole folder to the device", 2) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KitError(f"{path}: damaged ({type(error).__name__}: {error}); export the kit again") from error
    for graph in spec.graphs.values():
        received = sha256_of(graph.path) if graph.path.is_file() else "no file"
        if received != graph.sha256:
            raise KitError(
                f"{graph.path}: sha256 expected {graph.sha256[:12]}, received {received[:12]}; copy the kit again"
            )
    return spec


def sha256_of(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys, whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)
