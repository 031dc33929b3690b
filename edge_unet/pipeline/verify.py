"""`edge-unet verify`: an artifact against the canonical graph it was lowered from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_unet.core.bundle import open_bundle
from edge_unet.core.registry import lookup
from edge_unet.core.report import VerifyResult
from edge_unet.measure.verify import verify_bundle
from edge_unet.pipeline.frames import FrameSet, frames_from
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.registry import TARGETS


def verify(
    path: Path,
    data: Path | None = None,
    *,
    frames: FrameSet | None = None,
    layers: bool = False,
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> VerifyResult:
    """Verify one bundle on the val split of `data`, on frames already loaded, or on procedural scenes.

    INT8 is compared with the canonical graph, a float bundle with its float twin.
    Raises UsageError or ArtifactError for a bad bundle; a failed gate is a result with `passed` False.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    target = lookup(TARGETS, manifest.artifact.target, "target")
    chosen = frames or frames_from(data, manifest.preprocess, manifest.classes, scene=manifest.scene)
    with open_reference(bundle.canonical, manifest.artifact.precision) as reference:
        result = verify_bundle(bundle, target, reference, chosen.frames, chosen.truths, layers=layers, threads=threads)
    _tell(result, chosen, say)
    return result


def _tell(result: VerifyResult, frames: FrameSet, say: Callable[[str], None]) -> None:
    """The result in a few plain lines."""
    same = {True: "equal", False: "DIFFERENT", None: "none stored"}
    dice = f", Dice {result.dice:.4f} ({result.dice_delta:+.4f})" if result.dice_delta is not None else ""
    say(
        f"{result.label}: agreement {100 * result.agreement:.3f} % over {result.images} images of {frames.name}{dice}, "
        f"max {result.max_lsb:.1f} LSB, scales {same[result.scales_equal]}, payloads {same[result.payloads_equal]}, "
        f"{result.int8_layers} int8 and {result.float_layers} float layers ({result.census.source}): "
        f"{'passed' if result.passed else 'FAILED'} at {100 * result.gate:g} %"
    )
    for other in result.other_models:
        say(
            f"  with {other.assumption}: agreement {100 * other.agreement:.3f} %, max {other.max_lsb:.1f} LSB, "
            f"teacher-forced {other.forced_max_lsb} LSB"
        )
    for reason in result.reasons:
        say(f"  {reason}")
    if result.layers is not None:
        for row in result.layers.rows:
            say(f"  {row.name:<48} {row.sqnr_db:7.1f} dB  cosine {row.cosine:.6f}  max {row.max_lsb} LSB")
        say(f"  first bad layer: {result.layers.first_bad or 'none'}")
