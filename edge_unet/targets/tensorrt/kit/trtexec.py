# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""Build with NVIDIA's trtexec instead of the Python API: the same graph, flags and cache, from a command line that
can be repeated by hand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from .spec import GraphFile, KitError

USUAL_PLACE = Path("/usr/src/tensorrt/bin/trtexec")


def find_trtexec(given: str | None) -> Path:
    """The binary: as given, on PATH, or where JetPack puts it. Raises KitError naming the places."""
    for place in (given, shutil.which("trtexec"), str(USUAL_PLACE)):
        if place and Path(place).is_file():
            return Path(place)
    raise KitError(f"trtexec not found ({given or f'PATH, {USUAL_PLACE}'}); install it: sudo apt install tensorrt", 5)


def major_from_banner(text: str) -> int:
    """10 from 'RUNNING TensorRT.trtexec [TensorRT v100300] [b26]'. Raises KitError for older ones (v8401 is 8.4.1)."""
    found = re.search(r"\[TensorRT v(\d+)\]", text)
    number = int(found.group(1)) if found else 0
    if number < 100_000:
        raise KitError(f"trtexec: expected TensorRT 10 or 11, received {found.group(0) if found else 'no version'}", 5)
    return number // 10_000


def command(
    binary: Path, major: int, graph: GraphFile, engine: Path, workspace_bytes: int, timing_cache: Path, layers: Path
) -> list[str]:
    """The command line. TensorRT 11 knows no precision flags; 10 needs them for the Q/DQ graph."""
    line = [
        str(binary), f"--onnx={graph.path}", f"--saveEngine={engine}", f"--timingCacheFile={timing_cache}",
        f"--memPoolSize=workspace:{workspace_bytes >> 20}", "--profilingVerbosity=detailed",
        f"--exportLayerInfo={layers}", "--skipInference",
    ]  # fmt: skip
    if major == 10:
        line += ["--stronglyTyped"] if graph.strongly_typed else ["--int8", "--fp16"]
    return line


def build_with_trtexec(
    binary: Path, graph: GraphFile, engine: Path, workspace_bytes: int, timing_cache: Path
) -> tuple[bytes, list[str]]:
    """(serialized engine, the command). Raises KitError with the last lines trtexec printed where it fails."""
    banner = subprocess.run([str(binary), "--help"], capture_output=True, text=True, check=False)
    major = major_from_banner(banner.stdout + banner.stderr)
    layers = engine.with_name(engine.name + ".layers.json")
    line = command(binary, major, graph, engine, workspace_bytes, timing_cache, layers)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not engine.is_file():
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise KitError(f"{' '.join(line)}\nended with {done.returncode}:\n{tail}")
    return engine.read_bytes(), line
