"""Each peer as the files that its runtimes open, made once: a folder is named after the hash of all that went into it.

An interrupted run loses nothing that was finished: a folder is put in its place whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from peers.costs import Cost
from peers.networks import check_size, count, settled_peer, sources
from peers.runtimes import OPENVINO, ORT

from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import ArtifactError, require
from edge_unet.core.files import bytes_of, canonical_json, sha256_of, written_whole
from edge_unet.core.recipe import DataSpec, Recipe
from edge_unet.core.spec import Precision, PreprocessSpec, TensorSpec
from edge_unet.data.calibration_set import FEWEST, build_calibration_set
from edge_unet.data.open import ROOT_VARIABLE, open_data
from edge_unet.measure.environment import installed
from edge_unet.pipeline.frames import scenes
from edge_unet.targets.openvino.lower import BIN, XML

OPSET = 21
CALIBRATION = "kvasir_seg"
CHECKS = 4
"""Frames on which every runtime is compared with torch."""
ONNX, TRUTH, COST = "model.onnx", "logits.npy", "cost.json"
FP32_IR, INT8_IR = "fp32", "int8"


@dataclass(frozen=True)
class Exported:
    """A peer as ONNX, and what torch gives for the check frames."""

    network: str
    folder: Path
    size: int

    @property
    def onnx(self) -> Path:
        """The float model."""
        return self.folder / ONNX

    @property
    def truth(self) -> NDArray[np.float32]:
        """(CHECKS, 1, size, size) logits of torch."""
        logits: NDArray[np.float32] = np.load(self.folder / TRUTH)
        return logits

    @property
    def cost(self) -> Cost:
        """Parameters and MACs."""
        return Cost(**json.loads((self.folder / COST).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Calibration:
    """The frames that INT8 ranges are taken from. `name` says which."""

    frames: NDArray[np.uint8]  # (N, size, size, 3)
    name: str

    @property
    def sha256(self) -> str:
        """Of the pixels."""
        return hashlib.sha256(self.frames.tobytes()).hexdigest()


def frame_spec(size: int) -> PreprocessSpec:
    """The input grid of edge_unet, which every peer takes too."""
    return PreprocessSpec(height=size, width=size)


def as_input(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, h, w, C) u8 -> (N, C, h, w) float32 on the input grid."""
    spec = frame_spec(frames.shape[1])
    return np.ascontiguousarray(spec.normalize(frames).transpose(0, 3, 1, 2))


def check_frames(size: int) -> NDArray[np.uint8]:
    """(CHECKS, size, size, 3) procedural scenes."""
    return scenes(frame_spec(size), "endoscopy", CHECKS).frames


def calibration(size: int, images: int) -> Calibration:
    """`images` training frames of kvasir_seg below $EDGE_UNET_DATA, else as many procedural scenes."""
    spec, root = frame_spec(size), Path(os.environ.get(ROOT_VARIABLE, ""))
    if ROOT_VARIABLE not in os.environ or not (root / CALIBRATION).is_dir() or images < FEWEST:
        found = scenes(spec, "endoscopy", images, seed=1)
        return Calibration(found.frames, found.name)
    recipe = Recipe(preprocess=spec, data=DataSpec(train=(CALIBRATION,)))
    dataset = open_data(recipe, "train", root)
    chosen = build_calibration_set(dataset, "train", name="peers", why="NNCF's calibration", count=images)
    return Calibration(chosen.frames(dataset, spec), f"{images} training images of {CALIBRATION}")


def export_peer(name: str, size: int, room: Path) -> Exported:
    """ONNX of a settled peer, static shape, batch 1. Raises UsageError for a size that it cannot take, ArtifactError
    naming what torch's exporter stumbled over."""
    check_size(name, size)
    packages = installed(("torch", "onnx", "onnxscript"))
    key = _key(name, str(size), canonical_json(packages), *map(sha256_of, (*sources(name), Path(__file__))))

    def write(folder: Path) -> None:
        net = settled_peer(name)
        parameters, macs = count(net, size)
        frames = torch.from_numpy(as_input(check_frames(size)))
        with torch.no_grad():
            truth = np.concatenate([net(frame[None]).numpy() for frame in frames])
        (folder / ONNX).write_bytes(_onnx_bytes(name, net, size))
        np.save(folder / TRUTH, truth)
        (folder / COST).write_text(canonical_json(asdict(Cost(name, parameters, macs))), encoding="utf-8")

    return Exported(name, _kept(room / f"{name}-{size}-onnx-{key}", write), size)


def _onnx_bytes(name: str, net: torch.nn.Module, size: int) -> bytes:
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), _named(f"{name}: torch cannot export it to ONNX"):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                net, (torch.zeros(1, 3, size, size),), dynamo=True, opset_version=OPSET, input_names=["image"],
                output_names=["logits"], external_data=False, optimize=True, verbose=False,
            )  # fmt: skip
            if program is None:
                raise RuntimeError("no program came back")
            model = program.model_proto
    finally:
        log.setLevel(level)
    for node in model.graph.node:
        del node.metadata_props[:]  # where in torch it came from, with paths of this machine
    onnx.checker.check_model(model)
    made: bytes = model.SerializeToString(deterministic=True)
    return made


def float_ir(exported: Exported, room: Path) -> Path:
    """The folder that holds the OpenVINO IR of a float peer."""
    key = _key(sha256_of(exported.onnx), canonical_json(installed(("openvino",))))

    def write(folder: Path) -> None:
        with _named(f"{exported.network}: OpenVINO cannot convert it"):
            _save(_converted(exported), folder / FP32_IR)

    return _kept(room / f"{exported.network}-{exported.size}-{FP32_IR}-{key}", write)


def int8_ir(exported: Exported, given: Calibration, room: Path) -> Path:
    """The folder that holds the IR after nncf.quantize with its defaults."""
    packages = canonical_json(installed(("openvino", "nncf")))
    key = _key(sha256_of(exported.onnx), given.sha256, packages)

    def write(folder: Path) -> None:
        nncf = require("nncf", "dev")
        nncf.set_log_level(logging.ERROR)
        feeds = nncf.Dataset([as_input(frame[None]) for frame in given.frames])
        with _named(f"{exported.network}: NNCF cannot quantize it"):
            _save(nncf.quantize(_converted(exported), feeds), folder / INT8_IR)

    return _kept(room / f"{exported.network}-{exported.size}-{INT8_IR}-{key}", write)


def _converted(exported: Exported) -> Any:
    """The OpenVINO model with its constants folded: convert_model does that, Core.read_model does not. Behind the
    Reshape of an unfolded weight NNCF sees no constant, and leaves every depthwise convolution in float."""
    return require("openvino", "openvino").convert_model(str(exported.onnx))


def _save(model: Any, folder: Path) -> None:
    folder.mkdir()
    require("openvino", "openvino").serialize(model, str(folder / XML), str(folder / BIN))


def onnx_artifact(exported: Exported) -> tuple[Path, Artifact]:
    """For ONNX Runtime: the folder and what lies in it."""
    return exported.folder, _artifact(exported, exported.folder, ONNX, ORT, Precision.FP32)


def ir_artifact(
    exported: Exported, folder: Path, precision: Precision, target: str = OPENVINO
) -> tuple[Path, Artifact]:
    """For OpenVINO: the folder of float_ir or int8_ir and what lies in it."""
    name = INT8_IR if precision is Precision.INT8 else FP32_IR
    return folder, _artifact(exported, folder, name, target, precision)


def _artifact(exported: Exported, folder: Path, name: str, target: str, precision: Precision) -> Artifact:
    size = exported.size
    return Artifact(
        path=name,
        sha256=sha256_of(folder / name),
        bytes=bytes_of(folder / name),
        target=target,
        precision=precision,
        inputs=(TensorSpec(name="image", shape=(1, 3, size, size), dtype="float32", layout="NCHW"),),
        outputs=(TensorSpec(name="logits", shape=(1, 1, size, size), dtype="float32", layout="NCHW"),),
        toolchain=installed(("torch", "onnx", "openvino", "nncf")),
        parent_sha256=sha256_of(exported.onnx),
    )


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _kept(folder: Path, write: Callable[[Path], None]) -> Path:
    """`folder`, filled by `write` where it is not there yet."""
    if not folder.is_dir():
        with written_whole(folder) as temporary:
            temporary.mkdir()
            write(temporary)
    return folder


@contextmanager
def _named(what: str) -> Iterator[None]:
    """A toolchain's failure as one line; their exceptions share no base class below Exception. The innermost one names
    the op, those around it give advice."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ArtifactError(f"{what} ({in_line(str(cause) or type(cause).__name__)})") from error


def in_line(text: str, most: int = 300) -> str:
    """All of a message in one line, cut after `most` characters: the op that blocked may stand anywhere in it."""
    joined = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    return joined if len(joined) <= most else joined[: most - 1] + "…"


def versions(given: Sequence[str] = ("torch", "onnx", "onnxruntime", "openvino", "nncf", "ai-edge-litert")) -> str:
    """'torch 2.13.0, …' of what is installed."""
    return ", ".join(f"{name} {version}" for name, version in installed(given).items())
