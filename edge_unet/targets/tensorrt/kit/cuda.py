# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""The few calls of the CUDA runtime that an inference needs, by ctypes: JetPack ships the library but no Python
package for it."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .spec import KitError

LIBRARIES = (
    "libcudart.so.13", "libcudart.so.12", "libcudart.so", "/usr/local/cuda/lib64/libcudart.so",
)  # fmt: skip
POINTER = ctypes.POINTER(ctypes.c_void_p)
SIGNATURES: dict[str, list[Any]] = {
    "cudaSetDevice": [ctypes.c_int],
    "cudaDeviceGetAttribute": [ctypes.POINTER(ctypes.c_int), ctypes.c_int, ctypes.c_int],
    "cudaRuntimeGetVersion": [ctypes.POINTER(ctypes.c_int)],
    "cudaMemGetInfo": [ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)],
    "cudaMalloc": [POINTER, ctypes.c_size_t],
    "cudaFree": [ctypes.c_void_p],
    "cudaHostAlloc": [POINTER, ctypes.c_size_t, ctypes.c_uint],
    "cudaFreeHost": [ctypes.c_void_p],
    "cudaMemcpyAsync": [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p],
    "cudaStreamCreate": [POINTER],
    "cudaStreamSynchronize": [ctypes.c_void_p],
    "cudaStreamDestroy": [ctypes.c_void_p],
    "cudaEventCreate": [POINTER],
    "cudaEventRecord": [ctypes.c_void_p, ctypes.c_void_p],
    "cudaEventElapsedTime": [ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_void_p],
    "cudaEventDestroy": [ctypes.c_void_p],
}
"""Argument types; every call returns cudaError_t. Without them ctypes would cut 64-bit pointers to 32 bits."""

COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, Minor
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2  # cudaMemcpyKind


class Cuda:
    """libcudart, device 0. Raises KitError (exit code 5) where the library or a device is missing."""

    def __init__(self, libraries: tuple[str, ...] = LIBRARIES) -> None:
        self._library = _load(libraries)
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self._library.cudaGetErrorString.argtypes = [ctypes.c_int]
        for name, types in SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = types, ctypes.c_int
        self.call("cudaSetDevice", 0)

    def call(self, name: str, *arguments: Any) -> None:
        """One CUDA call. Raises KitError with CUDA's own words where it fails."""
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            words = self._library.cudaGetErrorString(code).decode(errors="replace")
            raise KitError(f"{name} failed with CUDA error {code}: {words}", 5 if name == "cudaSetDevice" else 1)

    def compute_capability(self) -> str:
        """'8.7' on an Orin."""
        parts = []
        for attribute in (COMPUTE_MAJOR, COMPUTE_MINOR):
            value = ctypes.c_int()
            self.call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, 0)
            parts.append(str(value.value))
        return ".".join(parts)

    def runtime_version(self) -> str:
        """'12.6' for 12060."""
        value = ctypes.c_int()
        self.call("cudaRuntimeGetVersion", ctypes.byref(value))
        return f"{value.value // 1000}.{value.value % 1000 // 10}"

    def free_bytes(self) -> int:
        """Free memory of the device; on a Jetson a part of the same memory that MemAvailable counts."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return int(free.value)

    def new(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """A call that fills one handle or pointer."""
        handle = ctypes.c_void_p()
        self.call(name, ctypes.byref(handle), *arguments)
        return handle

    def elapsed_ns(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> int:
        """Nanoseconds between two recorded events (CUDA's clock has a step of about 500 ns)."""
        milliseconds = ctypes.c_float()
        self.call("cudaEventElapsedTime", ctypes.byref(milliseconds), start, end)
        return round(milliseconds.value * 1e6)


class Buffer:
    """One tensor: device memory and pinned host memory of the same shape, float32."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...]) -> None:
        self._cuda = cuda
        self.bytes = int(np.prod(shape)) * 4
        self.device = cuda.new("cudaMalloc", self.bytes)
        self._pinned = cuda.new("cudaHostAlloc", self.bytes, 0)
        raw = (ctypes.c_ubyte * self.bytes).from_address(int(self._pinned.value or 0))
        self.host: NDArray[np.float32] = np.ctypeslib.as_array(raw).view(np.float32).reshape(shape)

    def upload(self, stream: ctypes.c_void_p) -> None:
        """Queue host to device."""
        self._cuda.call("cudaMemcpyAsync", self.device, self._pinned, self.bytes, HOST_TO_DEVICE, stream)

    def download(self, stream: ctypes.c_void_p) -> None:
        """Queue device to host."""
        self._cuda.call("cudaMemcpyAsync", self._pinned, self.device, self.bytes, DEVICE_TO_HOST, stream)

    def free(self) -> None:
        """Give both memories back; `host` must not be touched afterwards."""
        self._cuda.call("cudaFree", self.device)
        self._cuda.call("cudaFreeHost", self._pinned)


def _load(libraries: tuple[str, ...]) -> ctypes.CDLL:
    failures = []
    for name in libraries:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            failures.append(str(error))
    raise KitError(
        f"the CUDA runtime library is missing (tried {', '.join(libraries)}: {failures[-1]}); "
        "on a Jetson install it with: sudo apt install nvidia-jetpack",
        5,
    )
