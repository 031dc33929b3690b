"""The peaks of this machine: plausible, refused where the arithmetic is another one, kept only where asked."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from blocked import run_without

from edge_unet.core.limits import Peaks
from edge_unet.core.spec import Precision
from edge_unet.measure import peaks as module
from edge_unet.measure.peaks import Shape, cache_path, conv_rate, machine_peaks, measure_peaks

QUICK = 0.03
WITHOUT = """
from edge_unet.measure.peaks import measure_peaks
print(measure_peaks(rapid=True).model_dump_json())
"""


@pytest.fixture(scope="module")
def measured() -> Peaks:
    pytest.importorskip("openvino")
    return measure_peaks(rapid=True)


def test_peaks_are_plausible(measured: Peaks) -> None:
    assert measured.threads == 1
    assert measured.int8_macs_per_s is not None
    assert measured.fp32_macs_per_s is not None
    assert 1e9 < measured.fp32_macs_per_s < 1e13
    assert measured.int8_macs_per_s > measured.fp32_macs_per_s
    assert 1e9 < measured.large_bytes_per_s < measured.small_bytes_per_s * 1.2
    assert "OpenVINO" in measured.method
    assert "measured 20" in measured.method


def test_bf16_only_where_the_cpu_has_it(measured: Peaks) -> None:
    from edge_unet.targets.openvino.runtime import has_bf16

    assert (measured.bf16_macs_per_s is not None) == has_bf16()


def test_a_rate_counts_every_convolution() -> None:
    """Twice the channels are four times the work: a rate that lost one of the factors would change with the shape."""
    pytest.importorskip("openvino")
    assert Shape(128, 64, 3).macs == 128 * 128 * 9 * 64 * 64
    small, large = (conv_rate(Shape(c, 32, 3), Precision.FP32, seconds=0.1) for c in (64, 128))
    assert small is not None
    assert large is not None
    assert 0.4 < small / large < 2.5


def test_another_arithmetic_is_no_peak() -> None:
    """Asked for FP16 the plugin computes in FP32: that is no FP16 rate."""
    pytest.importorskip("openvino")
    assert conv_rate(Shape(16, 8, 3), Precision.FP16, seconds=QUICK) is None


def test_without_openvino_numpy_stands_in() -> None:
    done = run_without(("openvino",), WITHOUT)
    assert done.returncode == 0, done.stderr
    found = Peaks.model_validate(json.loads(done.stdout.splitlines()[-1]))
    assert (found.int8_macs_per_s, found.bf16_macs_per_s) == (None, None)
    assert found.fp32_macs_per_s is not None
    assert found.fp32_macs_per_s > 1e8
    assert "numpy" in found.method
    assert "no INT8 and bf16 peaks" in found.method


def test_the_cache_is_used_only_when_asked(measured: Peaks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "SWEEP", (Shape(16, 16, 3),))
    path = cache_path(1)
    assert path.parent == tmp_path / "edge-unet"
    assert path.name.startswith("peaks-")
    assert cache_path(2) != path
    machine_peaks(rapid=True, cached=True)
    assert not path.exists()  # a rapid measurement is not kept
    first = machine_peaks(cached=True)
    assert path.exists()
    planted = first.model_copy(update={"fp32_macs_per_s": 1234.0})
    path.write_text(planted.model_dump_json())
    kept = machine_peaks(cached=True)
    assert kept.fp32_macs_per_s == 1234.0
    assert kept.method == f"{first.method}, read from the cache"
    again = machine_peaks()
    assert again.fp32_macs_per_s != 1234.0
    assert Peaks.model_validate_json(path.read_text()) == again
    path.write_text("{damaged")
    assert machine_peaks(cached=True).fp32_macs_per_s != 1234.0


def test_a_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(module, "SWEEP", (Shape(16, 16, 3),))
    assert machine_peaks().small_bytes_per_s > 0


def test_two_threads_share_the_working_set(monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.perf_counter()
    rate = module._bandwidth(1 << 20, 2, QUICK)
    assert 1e8 < rate < 1e13
    assert time.perf_counter() - start < 5
