"""Bundles for the tests of integration/: with another preprocessing, and frames in and masks out as files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from blocked import run_without
from numpy.typing import NDArray

from edge_unet.core.bundle import Bundle, open_bundle, write_manifest
from edge_unet.frames import read_mask, write_png
from edge_unet.targets.integration import FOLDER, write_integration

RUN = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def rewritten(bundle: Path, folder: Path, **preprocess: Any) -> Bundle:
    """A copy with these values of its preprocessing, as if it had been exported so."""
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("build-cpp", FOLDER))
    values = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    values["preprocess"] |= preprocess
    values["files"] = {name: sha for name, sha in values["files"].items() if not name.startswith(FOLDER)}
    (folder / "manifest.json").write_text(json.dumps(values), encoding="utf-8")
    manifest = open_bundle(folder).manifest
    sources = write_integration(folder, manifest.name, manifest.artifact, manifest.preprocess, manifest.classes)
    write_manifest(folder, manifest.model_copy(update={"files": {**manifest.files, **sources}}))
    return open_bundle(folder)


def write_ppm(path: Path, frame: NDArray[np.uint8]) -> Path:
    """(H, W, 3) RGB or (H, W, 1) as PPM or PGM."""
    height, width, channels = frame.shape
    path.write_bytes(f"P{6 if channels == 3 else 5}\n{width} {height}\n255\n".encode() + frame.tobytes())
    return path


def read_netpbm(data: bytes) -> tuple[NDArray[np.uint8], bytes]:
    """The first image, (H, W, C), and what follows it."""
    kind, size, _, rest = data.split(b"\n", 3)
    width, height = (int(word) for word in size.split())
    channels = 3 if kind == b"P6" else 1
    count = width * height * channels
    return np.frombuffer(rest[:count], np.uint8).reshape(height, width, channels), rest[count:]


def segmented(program: Path, bundle: Path, frame: NDArray[np.uint8], room: Path, *more: str) -> NDArray[np.uint8]:
    """(H, W) mask of the C++ program for an RGB or grey frame."""
    source, mask = write_ppm(room / "frame.ppm", frame), room / "mask.pgm"
    command = [str(program), str(bundle), str(source), str(mask), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return read_netpbm(mask.read_bytes())[0][..., 0]


def python_mask(bundle: Path, frame: NDArray[np.uint8], room: Path) -> NDArray[np.uint8]:
    """The Python sample's mask, where neither edge_unet nor OpenCV nor torch can be imported."""
    write_png(room / "frame.png", frame)
    arguments = [str(bundle / "integration/python/segment.py"), str(room / "frame.png"), str(room / "mask.png")]
    done = run_without(("edge_unet", "cv2", "torch", "pydantic"), RUN, *arguments)
    assert done.returncode == 0, done.stderr
    return read_mask(room / "mask.png")
