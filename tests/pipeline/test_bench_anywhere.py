"""Which way `edge-unet bench` takes, and what it refuses on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_unet.core.errors import UsageError
from edge_unet.pipeline.bench_anywhere import Options, bench_anywhere


def refused(device: str, options: Options, bundle: Path, out: Path) -> str:
    with pytest.raises(UsageError) as caught:
        bench_anywhere(device, [bundle], out, options, say=print)
    assert not out.exists()
    return str(caught.value)


def test_what_does_not_belong_together_is_refused_before_anything_runs(tmp_path: Path) -> None:
    out, absent = tmp_path / "bench.json", tmp_path / "absent"
    assert "--imported takes the place" in refused("ssh://host", Options(imported=absent), absent, out)
    assert "--layers profiles this machine" in refused("adb://1", Options(layers=True), absent, out)
    assert "expected local" in refused("serial://x", Options(), absent, out)


def test_each_way_reaches_its_own_checks(bundles: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert "benchmark_model" in refused("adb://1", Options(), bundles["android"], out)  # the binary is missing
    assert "not a bundle" in refused("ssh://nobody.invalid", Options(), tmp_path, out)
    assert "cannot read" in refused("local", Options(imported=tmp_path / "mac.json"), bundles["ios"], out)
