"""Which type the forward pass computes in."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from edge_unet.core.errors import UsageError

Amp = Literal["auto", "off", "bf16", "fp16"]


def autocast_type(amp: Amp, device: torch.device, *, quantized: bool = False) -> torch.dtype | None:
    """The autocast type, or None for plain float32.

    "auto" is bf16 where the hardware multiplies it (CUDA 8.0 and later, a CPU with AMX-BF16 or AVX512-BF16), fp16 on
    older CUDA, else off; and off for a fake-quantized network, whose int8 grid times a scale needs more than bf16's
    8 bits. Raises UsageError for fp16 on a CPU.
    """
    if amp == "off" or (amp == "auto" and quantized):
        return None
    if amp == "fp16" and device.type != "cuda":
        raise UsageError(f'amp = "fp16" needs a CUDA device, received {device.type}; use "auto" or "bf16"')
    if amp != "auto":
        return torch.bfloat16 if amp == "bf16" else torch.float16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and cpu_multiplies_bf16() else None


@lru_cache(maxsize=1)
def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bf16 dot products. Emulated bf16 is several times slower than float32."""
    return bool(_cpu_flags() & {"amx_bf16", "avx512_bf16"})


def _cpu_flags() -> set[str]:
    """The CPU's features by name, from torch where it tells (2.12 and later), else from Linux; empty elsewhere."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        return {name for name, present in capabilities().items() if present is True}
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()
