# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""This device, with TensorRT and CUDA found or named as missing."""

from __future__ import annotations

import importlib.util

from .cuda import Cuda
from .machine import Machine, read_l4t
from .spec import KitError


def require_tensorrt() -> None:
    """Raise KitError (exit code 5) where TensorRT's Python bindings are missing."""
    if importlib.util.find_spec("tensorrt") is None:
        raise KitError(
            "TensorRT's Python bindings are missing; on a Jetson: sudo apt install python3-libnvinfer, and run this "
            "with the system's python3 (a virtual environment needs --system-site-packages)",
            5,
        )


def this_machine(cuda: Cuda) -> Machine:
    """What engines built here are tied to. Raises KitError without TensorRT or with an unknown version of it."""
    require_tensorrt()
    from .build_engine import tensorrt_version

    return Machine(tensorrt_version(), cuda.compute_capability(), read_l4t())
