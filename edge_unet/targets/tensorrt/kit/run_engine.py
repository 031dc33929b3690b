# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""Run an engine: one frame in, logits out, each part timed."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

import numpy as np
import tensorrt as trt
from numpy.typing import NDArray

from .cuda import Buffer, Cuda
from .latency import Sample
from .spec import KitError, KitSpec


class Runner:
    """An engine with its buffers and stream, a context manager. Raises KitError where the engine does not load or
    its tensors are not those of the kit."""

    def __init__(self, engine_file: Path, spec: KitSpec, cuda: Cuda) -> None:
        self.spec = spec
        self._cuda = cuda
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine_file.read_bytes())
        if self._engine is None:
            raise KitError(f"{engine_file}: TensorRT {trt.__version__} cannot load it; build it again with build.py")
        check_tensors(self._engine, engine_file, spec)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise KitError(f"{engine_file}: no memory for an execution context; close other programs")
        self._input = Buffer(cuda, spec.input_shape)
        self._output = Buffer(cuda, spec.output_shape)
        self._context.set_tensor_address(spec.input, int(self._input.device.value or 0))
        self._context.set_tensor_address(spec.output, int(self._output.device.value or 0))
        self._stream = cuda.new("cudaStreamCreate")
        self._events = [cuda.new("cudaEventCreate") for _ in range(4)]

    def infer(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, C, H, W) float32 real input -> (1, classes, H, W) float32 logits."""
        np.copyto(self._input.host, image)
        self.run()
        return self._output.host.copy()

    def run(self) -> Sample:
        """One frame from the pinned input buffer to the pinned output buffer, synchronously."""
        start = time.perf_counter_ns()
        self._record(0)
        self._input.upload(self._stream)
        self._record(1)
        if not self._context.execute_async_v3(int(self._stream.value or 0)):
            raise KitError("TensorRT could not enqueue the frame (its messages stand above)")
        self._record(2)
        self._output.download(self._stream)
        self._record(3)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        total_ns = time.perf_counter_ns() - start
        h2d_ns, compute_ns, d2h_ns = (
            self._cuda.elapsed_ns(before, after)
            for before, after in zip(self._events[:-1], self._events[1:])  # noqa: B905 - slices of one list
        )
        return Sample(h2d_ns, compute_ns, d2h_ns, total_ns)

    def inspect(self) -> str:
        """The engine inspector's JSON."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Free buffers, events and stream; the runner must not be used afterwards."""
        for event in self._events:
            self._cuda.call("cudaEventDestroy", event)
        self._cuda.call("cudaStreamDestroy", self._stream)
        self._input.free()
        self._output.free()

    def _record(self, index: int) -> None:
        self._cuda.call("cudaEventRecord", self._events[index], self._stream)

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_tensors(engine: trt.ICudaEngine, engine_file: Path, spec: KitSpec) -> None:
    """The engine must have exactly the kit's float32 input and output. Raises KitError naming what differs."""
    expected = {
        (spec.input, trt.TensorIOMode.INPUT, spec.input_shape),
        (spec.output, trt.TensorIOMode.OUTPUT, spec.output_shape),
    }
    received = set()
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        received.add((name, engine.get_tensor_mode(name), tuple(engine.get_tensor_shape(name))))
        if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
            raise KitError(
                f"{engine_file}: tensor {name!r}: expected float32, received {engine.get_tensor_dtype(name)}"
            )
    if received != expected:
        raise KitError(
            f"{engine_file}: expected tensors {sorted(map(str, expected))}, received {sorted(map(str, received))}"
        )
