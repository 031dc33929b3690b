"""NVIDIA's own TensorRT Python bindings, importable without a GPU and without TensorRT.

The bindings wheels are small and public; the libraries behind them are not. Stub libraries that export the ten
entry points the bindings look up let the module be imported, so that every class, enum member and signature can be
compared with what the kit uses. Nothing can be built or run this way, and nothing here pretends to.

The wheels go to a cache outside the repository: EDGE_UNET_CACHE, else ~/.cache/edge_unet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "tensorrt-cu12-bindings"
VERSIONS = ("10.3.0", "11.4.0.106")
"""JetPack 6's TensorRT, and the newest major."""
CUDA_RUNTIME = "nvidia-cuda-runtime-cu12==12.9.79"
LIBRARIES = ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin")
ENTRY_POINTS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
"""What `nm -D --undefined-only tensorrt.so` lists of TensorRT's own symbols."""


class BindingsUnavailableError(Exception):
    """The bindings cannot be prepared here; the message says why."""


@dataclass(frozen=True)
class Bindings:
    """One prepared version. `environment` makes `import tensorrt_bindings` work in a new interpreter."""

    version: str
    environment: dict[str, str]


def cache_folder() -> Path:
    return Path(os.environ.get("EDGE_UNET_CACHE", Path.home() / ".cache" / "edge_unet"))


def prepare(version: str) -> Bindings:
    """Download, unpack and stub one version; a second call finds it in the cache."""
    folder = cache_folder() / f"{PACKAGE}-{version}-py{sys.version_info.major}{sys.version_info.minor}"
    with filled_once(folder) as room:
        if room is not None:
            unpack(f"{PACKAGE}=={version}", room / "site")
            stub_libraries(room / "lib", version.split(".")[0])
    search = {"PYTHONPATH": str(folder / "site"), "LD_LIBRARY_PATH": str(folder / "lib")}
    return Bindings(version, {**os.environ, **search})


def prepare_cudart() -> Path:
    """NVIDIA's real libcudart: it loads without a GPU, and its calls then fail by name."""
    folder = cache_folder() / CUDA_RUNTIME.replace("==", "-")
    with filled_once(folder) as room:
        if room is not None:
            unpack(CUDA_RUNTIME, room / "site")
    return next((folder / "site").rglob("libcudart.so.*"))


@contextmanager
def filled_once(folder: Path) -> Iterator[Path | None]:
    """None where `folder` is there; else a room to fill, renamed to `folder` at the end (parallel workers may race)."""
    if folder.is_dir():
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        room = Path(name) / folder.name
        room.mkdir()
        yield room
        with suppress(OSError):  # another worker was first
            room.rename(folder)


def unpack(requirement: str, into: Path) -> None:
    into.mkdir(parents=True)
    wheels = into.parent / "wheel"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(wheels), requirement], capture_output=True, text=True, check=False)
    found = sorted(wheels.glob("*.whl")) if done.returncode == 0 else []
    if not found:
        reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel came"]
        raise BindingsUnavailableError(f"{requirement} cannot be downloaded: {reason[-1]}")
    with zipfile.ZipFile(found[0]) as archive:
        archive.extractall(into)


def stub_libraries(into: Path, major: str) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BindingsUnavailableError("no C compiler for the stub libraries; install gcc")
    into.mkdir(parents=True)
    source = into / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRY_POINTS), encoding="utf-8")
    for library in LIBRARIES:
        soname = f"{library}.so.{major}"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(into / soname), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BindingsUnavailableError(f"{soname} does not compile: {done.stderr.strip()}")
