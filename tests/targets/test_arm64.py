"""x86 against emulated arm64, on the tiny network. Needs what `make arm64` fetches; skips visibly without it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.canonical import load_graph
from edge_unet.core.errors import ArtifactError, MissingBackendError
from edge_unet.core.spec import Precision
from edge_unet.targets.tflite import ANDROID
from edge_unet.targets.tflite.model_file import parse_model

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks/arm64"
CACHE = Path(os.environ.get("EDGE_UNET_ARM64", ROOT / "out/arm64"))


def load(name: str) -> ModuleType:
    """A program of benchmarks/arm64 as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def programs() -> Iterator[tuple[ModuleType, ModuleType]]:
    """rootfs.py and run.py."""
    yield load("rootfs"), load("run")
    del sys.modules["rootfs"], sys.modules["run"]


@dataclass(frozen=True)
class Elsewhere:
    """Stands where the emulator stands and runs another model, or none, on this machine."""

    model: Path

    def command(self, program: Path) -> list[str]:
        swap = f"import runpy, sys; sys.argv[:2] = [{str(program)!r}, {str(self.model)!r}]; "
        run = f"runpy.run_path({str(program)!r}, run_name='__main__')"
        return [sys.executable, "-c", swap + run]


def subject_of(run: ModuleType, canonical: Path, into: Path, kind: str) -> object:
    artifact = ANDROID.lower(canonical, Precision.INT8, into=into)
    return run.Subject("android", kind, into / artifact.path, artifact.inputs[0], artifact.outputs[0])


@pytest.mark.parametrize("kind", ["xnnpack", "reference"])
def test_arm64_gives_the_same_bytes(
    programs: tuple[ModuleType, ModuleType], kind: str, tiny_canonical: Path, frames_u8: NDArray[np.uint8],
    tmp_path: Path,
) -> None:  # fmt: skip
    rootfs, run = programs
    emulated = rootfs.cached(CACHE)
    if emulated is None:
        pytest.skip(f"no arm64 root in {CACHE}; make arm64 fetches one")
    assert emulated.name().startswith("qemu-aarch64 version 1")
    spec = load_graph(tiny_canonical).metadata.preprocess
    row = run.compare(subject_of(run, tiny_canonical, tmp_path, kind), frames_u8[:2], spec, emulated, tmp_path)
    assert (row["x86"]["machine"], row["arm64"]["machine"]) == (os.uname().machine, "aarch64")
    assert row["x86"]["ai-edge-litert"] == row["arm64"]["ai-edge-litert"]
    assert (row["frames"], row["equal_outputs"], row["equal_masks"]) == (2, 2, 2)
    assert row["output_sha256"]["x86"] == row["output_sha256"]["arm64"]
    assert row["max_difference_lsb"] == 0
    assert not any("_ns" in key or "_ms" in key or "second" in key for key in row)  # an emulator is never timed


def test_another_result_is_seen(
    programs: tuple[ModuleType, ModuleType], tiny_canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path
) -> None:
    """A larger bias in the file that the other side runs."""
    _, run = programs
    (tmp_path / "other").mkdir()
    subject = subject_of(run, tiny_canonical, tmp_path, "xnnpack")
    data = bytearray(subject.model.read_bytes())  # type: ignore[attr-defined]
    file = parse_model(bytes(data), "model")
    bias = next(t for t in file.tensors if t.name.decode().endswith("bias"))
    payload = bytes(file.model.buffers[bias.buffer].data)
    place = bytes(data).index(payload)
    data[place : place + len(payload)] = (np.frombuffer(payload, np.int32) + 4000).astype(np.int32).tobytes()
    other = tmp_path / "other/model.tflite"
    other.write_bytes(bytes(data))
    spec = load_graph(tiny_canonical).metadata.preprocess
    row = run.compare(subject, frames_u8[:2], spec, Elsewhere(other), tmp_path)
    assert row["equal_outputs"] == 0
    assert row["mask_agreement"] < 1
    assert row["max_difference_lsb"] >= 1
    assert row["output_sha256"]["x86"] != row["output_sha256"]["arm64"]


def test_a_failing_run_says_which_model_and_why(
    programs: tuple[ModuleType, ModuleType], tiny_canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path
) -> None:
    _, run = programs
    subject = subject_of(run, tiny_canonical, tmp_path, "xnnpack")
    spec = load_graph(tiny_canonical).metadata.preprocess
    with pytest.raises(ArtifactError, match=r"model\.tflite on xnnpack: exit 1") as caught:
        run.compare(subject, frames_u8[:1], spec, Elsewhere(tmp_path / "nowhere.tflite"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_download_that_fails_says_what_and_that_it_goes_on(
    programs: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rootfs, _ = programs
    with pytest.raises(MissingBackendError, match=r"could not get a thing: .*; run it again to go on"):
        rootfs._run([sys.executable, "-c", "import sys; sys.exit('E: no such package')"], "a thing")
    assert rootfs.cached(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingBackendError, match="apt-get is not here"):
        rootfs.fetch(tmp_path / "cache")


def test_a_step_that_is_done_is_not_done_again(programs: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    rootfs, _ = programs
    done: list[Path] = []
    for _ in range(2):
        rootfs._step(tmp_path, "once", done.append)
    assert done == [tmp_path]


def test_the_recorded_result_is_equal_everywhere() -> None:
    """What `make arm64` found for the shipped model."""
    for path in sorted((ROOT / "benchmarks/results").glob("*-arm64.json")):
        result = json.loads(path.read_text())
        assert "never timed" in result["label"]
        assert {row["target"] for row in result["rows"]} == {"android", "mcu", "onnx", "canonical"}
        for row in result["rows"]:
            assert row["equal_masks"] == row["frames"] == len(result["frames"])
