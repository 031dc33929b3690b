"""integration/kotlin: compiled without a warning; what it feeds the network and makes of its output is the Segmenter's.

LiteRT itself does not run on a desktop's JVM: a stub with its signatures stands for it and returns what LiteRT's Python
runtime gave, so that every line of the sample is run but no line of LiteRT's Android library.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_unet.core.spec import feed_from_pixels
from edge_unet.data.scenes import SceneDataset
from edge_unet.frames import resize_frame
from edge_unet.segment.segmenter import Segmenter

Bundles = Callable[[str], Path]
STUBS = Path(__file__).parent / "kotlin"
SIZES = [(256, 256), (512, 512), (480, 640), (200, 300), (150, 400), (97, 161)]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("kotlinc") is None, reason="kotlinc is not on PATH (npm install kotlin-compiler)"),
    pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed"),
    pytest.mark.skipif(not cv2.__version__.startswith("5."), reason="the samples' arithmetic is OpenCV 5's"),
]


def compiled(bundle: Path, room: Path) -> Path:
    """The sample of a bundle with the stubs, as a .jar; a warning is an error."""
    sources = [*sorted((bundle / "integration/kotlin").glob("*.kt")), *sorted(STUBS.glob("*.kt"))]
    assert len(sources) == 6
    jar = room / "sample.jar"
    command = ["kotlinc", "-Werror", "-include-runtime", "-d", str(jar), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return jar


@pytest.mark.parametrize("name", ["android-int8", "android-fp32"])
def test_it_compiles_and_its_masks_are_the_segmenters(shipped: Bundles, tmp_path: Path, name: str) -> None:
    bundle = shipped(name)
    jar = compiled(bundle, tmp_path)
    expected, shares = {}, []
    with Segmenter.load(bundle) as segment:
        source, sink = segment.session.artifact.inputs[0], segment.session.artifact.outputs[0]
        for height, width in SIZES:
            place = tmp_path / f"{height}x{width}"
            frame = np.ascontiguousarray(SceneDataset("endoscopy", 1, 77, height, width).load(0)[0])
            feed = feed_from_pixels(resize_frame(frame, segment.preprocess)[None], source, segment.preprocess)
            Path(f"{place}.frame").write_bytes(frame.tobytes())
            Path(f"{place}.{sink.name}.output").write_bytes(
                segment.session.infer({source.name: feed})[sink.name].tobytes()
            )
            expected[place] = feed.tobytes(), segment(frame).mask
            shares.append(expected[place][1].mean())
    cases = [f"{place}:{height}:{width}" for place, (height, width) in zip(expected, SIZES, strict=True)]
    ran = subprocess.run(["java", "-cp", str(jar), "MainKt", *cases], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for place, (feed, mask) in expected.items():
        assert Path(f"{place}.{source.name}.input").read_bytes() == feed, place.name
        assert Path(f"{place}.mask").read_bytes() == mask.tobytes(), place.name
        assert Path(f"{place}.asset").read_text() == segment.session.artifact.path
    assert max(shares) > 0.01, "there is something in the masks"
