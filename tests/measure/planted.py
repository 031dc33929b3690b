"""A real target for these tests: the artifact is an ONNX file in the canonical form, run by ONNX Runtime. Errors are
planted by editing that file, so what verify finds is found in a real artifact by a real run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_unet.canonical import load_graph
from edge_unet.core.artifact import Artifact, Census, LayerPlacement, ReadBack
from edge_unet.core.bundle import CANONICAL, Bundle, GoldenFrame, Manifest, open_bundle, write_manifest
from edge_unet.core.files import bytes_of, sha256_of
from edge_unet.core.protocols import Session, Target
from edge_unet.core.spec import Precision, QuantScheme, TensorSpec
from edge_unet.frames import write_png
from edge_unet.measure.masks import predictor
from edge_unet.targets.onnxruntime.reference import ReferenceSession, open_reference

Edit = Callable[[onnx.ModelProto], None]


def lower(canonical: Path, precision: Precision, *, into: Path) -> Artifact:
    path = into / "model.onnx"
    path.write_bytes(canonical.read_bytes())
    return _describe(path, sha256_of(canonical), precision)


def _describe(path: Path, parent: str, precision: Precision = Precision.INT8) -> Artifact:
    graph = load_graph(path)
    source, sink = graph.input, graph.outputs[0]
    return Artifact(
        path=path.name, sha256=sha256_of(path), bytes=bytes_of(path), target="planted", precision=precision,
        inputs=(TensorSpec(name=source, shape=graph.shapes[source], dtype="float32", layout="NCHW"),),
        outputs=(TensorSpec(name=sink, shape=graph.shapes[sink], dtype="float32", layout="NCHW"),),
        toolchain={"onnx": onnx.__version__}, parent_sha256=parent,
    )  # fmt: skip


class PlantedSession(ReferenceSession):
    def census(self) -> Census:
        """As a runtime would say it: the convolutions in INT8, the resizes in float."""
        layers = tuple(
            LayerPlacement(name=n.name, op=n.op, precision="fp32" if n.op == "Resize" else "int8", unit="test")
            for n in self._graph.nodes if n.op in ("Conv", "Add", "Concat", "Resize", "MaxPool")
        )  # fmt: skip
        return Census(layers=layers, source="test session")


class _Opened:
    def __init__(self, path: Path, artifact: Artifact) -> None:
        self.path, self.artifact = path, artifact

    def __enter__(self) -> PlantedSession:
        return PlantedSession(load_graph(self.path), self.artifact, self.path)

    def __exit__(self, *_: object) -> None:
        return None


def open_planted(
    folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False
) -> AbstractContextManager[Session]:
    return _Opened(folder / artifact.path, artifact)


def open_greedy(
    folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False
) -> AbstractContextManager[Session]:
    """As open_planted, but holds 300 MB more while it opens."""
    np.ones(300_000_000, np.uint8).sum()
    return open_planted(folder, artifact)


def open_failing(
    folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False
) -> AbstractContextManager[Session]:
    raise RuntimeError("no room on the accelerator")


def read_back(folder: Path, artifact: Artifact) -> ReadBack:
    graph = load_graph(folder / artifact.path)
    return ReadBack(dict(graph.activations), {w.name: (w.values, w.grid) for w in graph.weights.values()}, {})


TARGET = Target(
    name="planted", format="onnx", precisions=(Precision.INT8,), scheme=QuantScheme.PORTABLE, ops=frozenset(),
    extra="onnx", executes_here=True, lower=lower, open=open_planted, read_back=read_back,
)  # fmt: skip
INTERPRETED = replace(TARGET, name="interpreted", executes_here=False)


def make_bundle(
    folder: Path, canonical: Path, frames: NDArray[np.uint8], *, edit: Edit | None = None, name: str = "tiny"
) -> Bundle:
    """A bundle with two golden frames, its artifact changed by `edit`."""
    (folder / "golden").mkdir(parents=True)
    (folder / CANONICAL).write_bytes(canonical.read_bytes())
    artifact = lower(folder / CANONICAL, Precision.INT8, into=folder)
    metadata = load_graph(canonical).metadata
    golden = []
    with open_reference(canonical) as reference:
        predict = predictor(reference, metadata.preprocess)
        for number, frame in enumerate(frames[:2]):
            names = GoldenFrame(frame=f"golden/{number:02}.png", mask=f"golden/{number:02}.mask.png")
            write_png(folder / names.frame, frame)
            write_png(folder / names.mask, predict(frame))
            golden.append(names)
    if edit is not None:
        model = onnx.load(folder / "model.onnx")
        edit(model)
        onnx.save(model, folder / "model.onnx")
        artifact = _describe(folder / "model.onnx", sha256_of(folder / CANONICAL))
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    manifest = Manifest(
        name=name, artifact=artifact, preprocess=metadata.preprocess, classes=metadata.classes,
        scheme=metadata.scheme, census=Census(layers=(), source="test"), golden=tuple(golden), licence="Apache-2.0",
        checkpoint_sha256=None, calibration_sha256=None, metrics={},
        files={p.relative_to(folder).as_posix(): sha256_of(p) for p in files},
    )  # fmt: skip
    write_manifest(folder, manifest)
    return open_bundle(folder)


def change_initializer(name: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Edit:
    """Rewrite one constant of the artifact."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = next(i for i in model.graph.initializer if i.name == name)
        values = numpy_helper.to_array(tensor).copy()
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(change(values), values.dtype), name))

    return edit


def change_scale(codes: str, factor: float) -> Edit:
    """Give one Q/DQ pair (named by the QuantizeLinear output) a scale of its own, `factor` times the old one."""

    def edit(model: onnx.ModelProto) -> None:
        quantize = next(n for n in model.graph.node if n.output[0] == codes)
        dequantize = next(n for n in model.graph.node if n.input[0] == codes)
        old = next(numpy_helper.to_array(i) for i in model.graph.initializer if i.name == quantize.input[1])
        model.graph.initializer.append(numpy_helper.from_array(np.float32(old * factor), "planted.scale"))
        quantize.input[1] = dequantize.input[1] = "planted.scale"

    return edit


def drop_last_qdq(model: onnx.ModelProto) -> None:
    """Leave the last logits float, as the jetson target does."""
    dequantize = next(n for n in model.graph.node if n.output[0] == "logits")
    quantize = next(n for n in model.graph.node if n.output[0] == dequantize.input[0])
    maker = next(n for n in model.graph.node if n.output[0] == quantize.input[0])
    model.graph.node.remove(dequantize)
    model.graph.node.remove(quantize)
    maker.output[0] = "logits"
