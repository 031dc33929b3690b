"""A phone with benchmark_model on it: load a bundle, time it, profile it, and run single frames through it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.artifact import Artifact, Census
from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.spec import Tensors, TensorSpec
from edge_unet.devices.benchmark_model import WHERE, Feed, Output, arguments, parse
from edge_unet.devices.device import Completed, Device, DeviceError
from edge_unet.targets.feeds import check_feeds

CALL_S = 300.0
"""A call ends by itself after this time, with fewer runs than asked for."""
_SLACK_S = 60.0
"""Loading, the warm-up and the run in which the limit falls."""
_ELF_MACHINES = {"arm64-v8a": 183, "armeabi-v7a": 40, "armeabi": 40, "x86_64": 62, "x86": 3, "riscv64": 243}
"""Android's name of an instruction set -> e_machine of its programs."""


class NoLogits(DeviceError):  # noqa: N818 - what is missing
    """This benchmark_model cannot write what the network gave."""


@dataclass(frozen=True)
class Model:
    """A bundle's model on the phone, and what its first call said."""

    bundle: Bundle
    path: PurePosixPath
    first: Output


@dataclass
class PhoneSession:
    """Session: every frame is one call of the program on the phone. Frames seen before are not run again."""

    phone: LiteRTPhone
    model: Model
    seen: dict[bytes, Tensors] = field(default_factory=dict)

    @property
    def artifact(self) -> Artifact:
        """What was opened."""
        return self.model.bundle.manifest.artifact

    @property
    def runtime(self) -> str:
        """As of the timings."""
        return self.phone.runtime

    def infer(self, feeds: Tensors) -> Tensors:
        """Run once. Raises NoLogits where the program cannot write its outputs, DeviceError where it fails."""
        check_feeds(feeds, self.artifact)
        if len(self.artifact.inputs) != 1:
            raise NoLogits(f"the model has {len(self.artifact.inputs)} inputs, expected one")
        frame = np.ascontiguousarray(feeds[self.artifact.inputs[0].name])
        key = frame.tobytes()
        if key not in self.seen:
            raw = self.phone.logits(self.model, key, frame.shape, len(self.seen))
            self.seen[key] = _split(raw, self.artifact.outputs)
        return self.seen[key]

    def census(self) -> Census:
        """See LiteRTPhone.census."""
        return self.phone.census(self.model)


class LiteRTPhone:
    """benchmark_model in a room of a device, with models beside it. Names in the room are ours."""

    def __init__(
        self, device: Device, room: PurePosixPath, program: Path, *, threads: int, abis: Sequence[str] = ()
    ) -> None:
        """Raises UsageError where the program is built for another instruction set than `abis`, the phone's."""
        _check_abi(program, abis)
        self._device = device
        self._room = room
        self._program = room / "benchmark_model"
        self._threads = threads
        self._models = 0
        self.program_sha256 = sha256_of(program)
        device.push(program, self._program)
        self._expect(["chmod", "700", str(self._program)])

    @property
    def runtime(self) -> str:
        """The program by its hash: it has no version of its own."""
        return f"LiteRT benchmark_model {self.program_sha256[:12]}, XNNPACK"

    def load(self, bundle: Bundle) -> Model:
        """Copy the model there and run it twice, with its memory watched."""
        path = self._room / f"model-{self._models}.tflite"
        self._models += 1
        self._device.push(bundle.artifact, path)
        line = arguments(str(self._program), str(path), threads=self._threads, runs=1, memory=True)
        return Model(bundle, path, self._call(line))

    def session(self, model: Model) -> PhoneSession:
        """A session on a model that was loaded."""
        return PhoneSession(self, model)

    def time(self, model: Model, runs: int, warmup_runs: int, warmup_ns: int) -> Output:
        """One call of `runs` runs after a warm-up."""
        return self._call(
            arguments(
                str(self._program), str(model.path), threads=self._threads, runs=runs,
                warmup_runs=warmup_runs, warmup_s=warmup_ns / 1e9, limit_s=CALL_S,
            )
        )  # fmt: skip

    def profile(self, model: Model, runs: int) -> Output:
        """One call with the operators' times."""
        return self._call(
            arguments(str(self._program), str(model.path), threads=self._threads, runs=runs, profile=True)
        )

    def logits(self, model: Model, frame: bytes, shape: tuple[int, ...], number: int) -> bytes:
        """The bytes of all outputs for the bytes of one input."""
        there, back = self._room / f"frame-{number}.bin", self._room / f"logits-{number}.bin"
        feed = Feed(shape, str(there), str(back))
        with tempfile.TemporaryDirectory(prefix="edge-unet-") as folder:
            local = Path(folder) / "tensor.bin"
            local.write_bytes(frame)
            self._device.push(local, there)
            line = arguments(str(self._program), str(model.path), threads=self._threads, runs=1, feed=feed)
            self._call(line)
            if self._device.run(["ls", str(back)], timeout_s=_SLACK_S).code:
                raise NoLogits(f"this benchmark_model has no --output_filepath; {WHERE}")
            self._device.pull(back, local)
            self._expect(["rm", "-f", str(there), str(back)])
            return local.read_bytes()

    def census(self, model: Model) -> Census:
        """The bundle's layers, with what the program says on the phone about who runs them."""
        census, first = model.bundle.manifest.census, model.first
        if first.delegate is None:
            unit, source = (
                None,
                "benchmark_model does not say which layers XNNPACK took; units as on the exporting machine",
            )
        elif first.partitions == 1:
            unit, source = first.delegate, f"benchmark_model on the phone: {first.delegate} runs the whole graph"
        else:
            pieces = first.partitions or 0
            unit = f"{first.delegate} or built-in kernel"
            source = f"benchmark_model on the phone: {first.delegate} runs {pieces} pieces of the graph, not all of it"
        layers = census.layers if unit is None else tuple(la.model_copy(update={"unit": unit}) for la in census.layers)
        return Census(layers=layers, source=source)

    def _call(self, line: Sequence[str]) -> Output:
        done = self._device.run(line, timeout_s=2 * CALL_S + _SLACK_S, folder=self._room)
        if done.code:
            raise DeviceError(f"{self._device.label}: benchmark_model failed: {_words(done)}")
        return parse(done.stdout)

    def _expect(self, line: Sequence[str]) -> None:
        done = self._device.run(line, timeout_s=_SLACK_S)
        if done.code:
            raise DeviceError(f"{self._device.label}: {line[0]} failed: {_words(done)}")


def _words(done: Completed) -> str:
    """The line in which the program says why, and what a well-known exit code means."""
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    bad = [line for line in lines if line.startswith(("ERROR", "FATAL")) and "Benchmarking failed" not in line]
    said = (bad or lines or ["it said nothing"])[-1][:200]
    meaning = {126: "; the phone cannot start this program", 137: "; it was killed, perhaps for memory"}
    return f"{said} (exit code {done.code}{meaning.get(done.code, '')})"


def _split(raw: bytes, outputs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    """The outputs one after the other, each in its dtype and shape."""
    sizes = [int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in outputs]
    if len(raw) != sum(sizes):
        raise NoLogits(f"benchmark_model wrote {len(raw)} bytes of outputs, expected {sum(sizes)}")
    starts = np.cumsum([0, *sizes])
    return {
        spec.name: np.frombuffer(raw[start : start + size], spec.dtype).reshape(spec.shape)
        for spec, start, size in zip(outputs, starts, sizes, strict=False)
    }


def _check_abi(program: Path, abis: Sequence[str]) -> None:
    with program.open("rb") as stream:
        head = stream.read(20)
    if head[:4] != b"\x7fELF" or len(head) < 20 or not abis:
        return
    machine = int.from_bytes(head[18:20], "little")
    if machine not in {_ELF_MACHINES.get(abi) for abi in abis}:
        built = next((abi for abi, number in _ELF_MACHINES.items() if number == machine), f"machine {machine}")
        raise UsageError(f"{program}: built for {built}, the phone runs {', '.join(abis)}; {WHERE}")
