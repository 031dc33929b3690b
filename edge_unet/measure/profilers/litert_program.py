"""The child that profiles a .tflite file inside LiteRT's delegate, through the C library of the wheel.

A process of its own: the interpreter of the Python package has no profiler, and a library that differs from what is
declared here may end the process. Answers with one JSON line: [[kernel, index, [microseconds of every run]], …].

Arguments: library, model, feeds (one .npy file per input, in the signature's order), runs, threads.
"""

from __future__ import annotations

import ctypes
import json
import sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from typing import Any

import numpy as np

CPU, WRITE = 1, 1
"""Of LiteRtHwAccelerators and LiteRtTensorBufferLockMode."""
OPERATOR, DELEGATE_OPERATOR, IN_DELEGATE = 2, 4, 8
"""Event types of an operator: the runtime's own, and those inside a delegate."""
RECORD = 104
"""Bytes of one event: tag, type, start, elapsed, two times three memory figures, two indices, source."""
ROOM = 256
UNTOUCHED = 0xAB
TYPE_BYTES = 128
"""More than a tensor's type and shape take."""


class Library:
    """The functions of libLiteRt; each returns 0 or ends the process with its name and status."""

    def __init__(self, path: str) -> None:
        self._functions = ctypes.CDLL(path)
        self.alive: list[Any] = []  # what the library keeps pointers to

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function that answers with a status."""
        function = getattr(self._functions, name)
        function.restype = c_int
        if status := function(*arguments):
            sys.exit(f"{name} failed with status {status}")

    def made(self, name: str, *arguments: Any) -> c_void_p:
        """Call a function whose last argument receives a handle."""
        handle = c_void_p()
        self.call(name, *arguments, byref(handle))
        return handle

    def option(self, options: c_void_p, kind: bytes, text: bytes) -> None:
        """Add options written as text; nothing is freed before the process ends."""
        payload = ctypes.create_string_buffer(text)
        release = ctypes.CFUNCTYPE(None, c_void_p)(lambda _: None)
        self.alive += [payload, release]
        made = self.made("LiteRtCreateOpaqueOptions", c_char_p(kind), ctypes.cast(payload, c_void_p), release)
        self.call("LiteRtAddOpaqueOptions", options, made)


class Model:
    """A compiled model with its buffers and its profiler."""

    def __init__(self, library: Library, path: str, feeds: list[str], threads: int) -> None:
        self._library = library
        environment = library.made("LiteRtCreateEnvironment", 0, None)
        model = library.made("LiteRtCreateModelFromFile", environment, path.encode())
        options = library.made("LiteRtCreateOptions")
        library.call("LiteRtSetOptionsHardwareAccelerators", options, c_int(CPU))
        library.option(options, b"runtime_options_string", b"enable_profiling = true\n")
        library.option(options, b"xnnpack", f"num_threads = {threads}\n".encode())
        self._compiled = library.made("LiteRtCreateCompiledModel", environment, model, options)
        self._profiler = library.made("LiteRtCompiledModelGetProfiler", self._compiled)
        signature = library.made("LiteRtGetModelSignature", model, c_size_t(0))
        self._inputs = self._buffers(environment, signature, "Input")
        self._outputs = self._buffers(environment, signature, "Output")
        for buffer, feed in zip(self._inputs, feeds, strict=True):
            self._fill(c_void_p(buffer), np.load(feed))

    def _buffers(self, environment: c_void_p, signature: c_void_p, side: str) -> Any:
        """One buffer for each input or output of the signature."""
        count = c_size_t()
        self._library.call(f"LiteRtGetNumSignature{side}s", signature, byref(count))
        buffers = (c_void_p * count.value)()
        for place in range(count.value):
            tensor = self._library.made(f"LiteRtGetSignature{side}TensorByIndex", signature, c_size_t(place))
            kind = (ctypes.c_byte * TYPE_BYTES)()
            self._library.call("LiteRtGetRankedTensorType", tensor, kind)
            needs = self._library.made(
                f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, c_size_t(0), c_size_t(place)
            )
            name = "LiteRtCreateManagedTensorBufferFromRequirements"
            buffers[place] = self._library.made(name, environment, kind, needs).value
        return buffers

    def _fill(self, buffer: c_void_p, array: Any) -> None:
        size, address = c_size_t(), c_void_p()
        self._library.call("LiteRtGetTensorBufferPackedSize", buffer, byref(size))
        if size.value != array.nbytes:
            sys.exit(f"the input takes {size.value} bytes, received {array.nbytes}")
        self._library.call("LiteRtLockTensorBuffer", buffer, byref(address), c_int(WRITE))
        ctypes.memmove(address, np.ascontiguousarray(array).ctypes.data, array.nbytes)
        self._library.call("LiteRtUnlockTensorBuffer", buffer)

    def run(self) -> list[tuple[str, int, int]]:
        """(kernel, its index, microseconds) of one run."""
        self._library.call("LiteRtResetProfiler", self._profiler)
        self._library.call("LiteRtStartProfiler", self._profiler)
        sides = (c_size_t(len(self._inputs)), self._inputs, c_size_t(len(self._outputs)), self._outputs)
        self._library.call("LiteRtRunCompiledModel", self._compiled, c_size_t(0), *sides)
        self._library.call("LiteRtStopProfiler", self._profiler)
        count = c_int()
        self._library.call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        room = (ctypes.c_ubyte * (count.value * ROOM))(*([UNTOUCHED] * (count.value * ROOM)))
        self._library.call("LiteRtGetProfilerEvents", self._profiler, count, room)
        return events(bytes(room), count.value)


def events(data: bytes, count: int) -> list[tuple[str, int, int]]:
    """The operators among `count` records. Ends the process where records are not of the size they are read with."""
    words = np.frombuffer(data, np.uint64)
    size = RECORD // 8
    records, rest = words[: count * size].reshape(count, size), words[count * size :]
    untouched = np.uint64(int.from_bytes(bytes([UNTOUCHED]) * 8, "little"))
    last = {int(record[-1]) & 0xFFFFFFFF for record in records}  # the source of the event: 0, 1 or 2
    if (rest != untouched).any() or not last <= {0, 1, 2}:
        sys.exit(f"the profiler's records are not of {RECORD} bytes: this LiteRT is another one than 2.3")
    found = []
    for record in records:
        if int(record[1]) & 0xFFFFFFFF in (OPERATOR, DELEGATE_OPERATOR, IN_DELEGATE):
            found.append((ctypes.string_at(int(record[0])).decode(), int(record[10]), int(record[3])))
    return found


def main(library: str, path: str, feeds: list[str], runs: int, threads: int) -> None:
    """Run and answer."""
    model = Model(Library(library), path, feeds, threads)
    table: list[tuple[str, int, list[int]]] = []
    for _ in range(runs):
        found = model.run()
        table = table or [(kernel, index, []) for kernel, index, _ in found]
        if [row[:2] for row in table] != [event[:2] for event in found]:
            sys.exit("two runs executed different kernels")
        for row, event in zip(table, found, strict=True):
            row[2].append(event[2])
    sys.stdout.write(json.dumps(table) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:-2], int(sys.argv[-2]), int(sys.argv[-1]))
