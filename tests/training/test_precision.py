from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from edge_unet.core.errors import UsageError
from edge_unet.training import precision
from edge_unet.training.precision import autocast_type

CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file() or platform.machine() != "x86_64", reason="Linux x86-64 only")
def test_auto_on_a_cpu_agrees_with_the_kernel() -> None:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    expected = torch.bfloat16 if flags & {"amx_bf16", "avx512_bf16"} else None
    assert autocast_type("auto", CPU) is expected


@pytest.mark.parametrize(
    ("flags", "expected"), [({"avx2"}, None), ({"avx512_bf16"}, torch.bfloat16), ({"amx_bf16"}, torch.bfloat16)]
)
def test_auto_follows_the_flags(flags: set[str], expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    precision.cpu_multiplies_bf16.cache_clear()
    assert autocast_type("auto", CPU) is expected
    assert autocast_type("auto", CPU, quantized=True) is None
    precision.cpu_multiplies_bf16.cache_clear()


def test_flags_come_from_the_kernel_where_torch_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/cpuinfo").is_file() or platform.machine() != "x86_64":
        pytest.skip("Linux x86-64 only")
    with_torch = precision.cpu_multiplies_bf16.__wrapped__()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert "sse2" in precision._cpu_flags()
    assert precision.cpu_multiplies_bf16.__wrapped__() is with_torch


@pytest.mark.parametrize(("capability", "expected"), [((7, 2), torch.float16), ((8, 7), torch.bfloat16)])
def test_auto_on_cuda(capability: tuple[int, int], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert autocast_type("auto", torch.device("cuda")) is expected


def test_what_is_asked_for_is_done_or_refused() -> None:
    assert autocast_type("off", CPU) is None
    assert autocast_type("bf16", CPU, quantized=True) is torch.bfloat16
    assert autocast_type("fp16", torch.device("cuda")) is torch.float16
    with pytest.raises(UsageError, match="needs a CUDA device"):
        autocast_type("fp16", CPU)
