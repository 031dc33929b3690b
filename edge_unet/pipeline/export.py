"""Checkpoint -> canonical ONNX -> one bundle per target."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_unet.canonical import CanonicalGraph, load_graph
from edge_unet.core.artifact import Artifact, Census
from edge_unet.core.bundle import CANONICAL, MANIFEST, Bundle, GoldenFrame, Manifest, open_bundle, write_manifest
from edge_unet.core.errors import GraphError, UsageError, require
from edge_unet.core.files import sha256_of, written_whole
from edge_unet.core.protocols import Target
from edge_unet.core.registry import lookup
from edge_unet.core.spec import Precision
from edge_unet.frames import write_png
from edge_unet.measure.masks import predictor
from edge_unet.pipeline.frames import GOLDEN, scenes
from edge_unet.pipeline.reference import model_file, reference_card, shipped_name
from edge_unet.targets.integration import write_integration
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.registry import TARGETS

Say = Callable[[str], None]


def resolve_targets(name: str) -> tuple[Target, ...]:
    """One target by name, or every one for 'all'. Raises UsageError with the nearest name."""
    if name == "all":
        return tuple(TARGETS.values())
    return (lookup(TARGETS, name, "target"),)


def write_canonical(model: Path, into: Path) -> None:
    """Write the canonical ONNX of a quantized checkpoint, or copy a canonical .onnx after checking its rules.

    Raises UsageError for a checkpoint without scales (fp32), ArtifactError for a damaged file, GraphError for an ONNX
    that breaks a canonical rule.
    """
    from edge_unet.canonical.rules import require_canonical

    if model.suffix == ".onnx":
        require_canonical(load_graph(model))
        shutil.copyfile(model, into)
        return
    require("torch", "train")
    from torch import fx

    from edge_unet.graph.from_torch import export_canonical
    from edge_unet.models.checkpoint import load_checkpoint
    from edge_unet.models.levels import cut_to_level, levels_of
    from edge_unet.quantization.restore import restore

    checkpoint = load_checkpoint(model)
    if checkpoint.info.kind == "fp32":
        raise UsageError(
            f"{model}: an fp32 checkpoint has no scales; train with quantization (edge-unet train), "
            f"or calibrate it: edge-unet quantize --ptq {model}"
        )
    net, info = restore(checkpoint), checkpoint.info
    assert isinstance(net, fx.GraphModule)  # every kind but fp32 is one
    if names := levels_of(net):
        net = cut_to_level(net, names[-2])
        deepest = info.recipe.model.model_copy(update={"level": names[-2]})
        info = info.model_copy(update={"recipe": info.recipe.model_copy(update={"model": deepest})})
    export_canonical(net, info, checkpoint.sha256, into)


def export(
    model: Path | None,
    targets: Sequence[Target],
    out: Path,
    precision: Precision = Precision.INT8,
    say: Say = print,
    *,
    leave_out: bool = False,
) -> list[Bundle]:
    """Write one bundle per target into `out`. `model`: a file, a shipped model's name, or None for the default one.

    With `leave_out` a target that has no lowering for one of the model's ops is passed over with a line that says so;
    without it that is a GraphError. An existing bundle of the same name is replaced only once the new one is complete.
    A target that does not offer the precision raises UsageError before anything is written.
    """
    for target in targets:
        if precision not in target.precisions:
            offered = ", ".join(p.value for p in target.precisions)
            raise UsageError(f"target {target.name} has no {precision.value}; it offers {offered}")
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        prepared = prepare(model, Path(room), precision)
        graph = prepared.graph
        say(f"canonical graph: {len(graph.weights)} int8 weights, {len(graph.activations)} quantized activations")
        bundles = []
        for target in targets:
            try:
                bundles.append(write_bundle(prepared, target, out))
            except GraphError as error:
                if not leave_out:
                    raise
                say(f"{target.name}: left out: {error}")
                continue
            artifact = bundles[-1].manifest.artifact
            say(f"{target.name}: {artifact.bytes / 1024:.0f} KiB {target.format}, {bundles[-1].folder}")
    return bundles


@dataclass(frozen=True)
class Prepared:
    """What the bundles of all targets are made from, and is the same in each."""

    canonical: Path
    graph: CanonicalGraph
    precision: Precision
    golden: Path
    entries: tuple[GoldenFrame, ...]
    card: str | None
    """The model card of a shipped model; None for another."""


def prepare(model: Path | None, room: Path, precision: Precision = Precision.INT8) -> Prepared:
    """Write the canonical graph, the golden frames and the reference's masks of them into the folder `room`."""
    name = shipped_name(model)
    card = None if name is None else reference_card(name)
    canonical, golden = room / CANONICAL, room / "golden"
    write_canonical(model_file(model), canonical)
    graph = load_graph(canonical)
    return Prepared(canonical, graph, precision, golden, write_golden(canonical, graph, golden, precision), card)


def write_bundle(prepared: Prepared, target: Target, out: Path) -> Bundle:
    """One target's bundle in `out`. One that stands there is replaced only once the new one is complete."""
    folder = out / f"{prepared.graph.metadata.name}-{target.name}-{prepared.precision.value}"
    _require_replaceable(folder)
    with written_whole(folder) as temporary:
        temporary.mkdir()
        _fill(temporary, target, prepared)
    return open_bundle(folder)


def _require_replaceable(folder: Path) -> None:
    """Only a bundle gives way to a bundle."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder}: holds files but is no bundle (no {MANIFEST}); remove it or choose another --out")


def write_golden(canonical: Path, graph: CanonicalGraph, folder: Path, precision: Precision) -> tuple[GoldenFrame, ...]:
    """Write golden frames (procedural scenes) and the masks that the reference of `precision` gives for them."""
    folder.mkdir()
    metadata = graph.metadata
    frames = scenes(metadata.preprocess, metadata.scene, GOLDEN).frames
    entries = []
    with open_reference(canonical, precision) as reference:
        predict = predictor(reference, metadata.preprocess)
        for number, frame in enumerate(frames):
            entry = GoldenFrame(frame=f"golden/{number:02d}.png", mask=f"golden/{number:02d}.mask.png")
            write_png(folder.parent / entry.frame, frame)
            write_png(folder.parent / entry.mask, predict(frame))
            entries.append(entry)
    return tuple(entries)


def _fill(folder: Path, target: Target, prepared: Prepared) -> None:
    """Everything of one bundle, the manifest last."""
    graph, canonical = prepared.graph, prepared.canonical
    metadata = graph.metadata
    shutil.copyfile(canonical, folder / CANONICAL)
    shutil.copytree(prepared.golden, folder / "golden")
    artifact = target.lower(canonical, prepared.precision, into=folder).model_copy(update={"target": target.name})
    census = census_of(target, folder, artifact)
    (folder / "MODEL_CARD.md").write_text(prepared.card or _card(graph), encoding="utf-8")
    (folder / "LICENSE.txt").write_text(metadata.licence + "\n", encoding="utf-8")
    names = sorted(entry.name for entry in folder.iterdir())
    sources = write_integration(folder, metadata.name, artifact, metadata.preprocess, metadata.classes)
    manifest = Manifest(
        name=metadata.name,
        artifact=artifact,
        preprocess=metadata.preprocess,
        classes=metadata.classes,
        scheme=metadata.scheme,
        scene=metadata.scene,
        census=census,
        golden=prepared.entries,
        licence=metadata.licence,
        checkpoint_sha256=metadata.checkpoint_sha256,
        calibration_sha256=metadata.calibration_sha256,
        metrics=metadata.metrics,
        files={**{name: sha256_of(folder / name) for name in names}, **sources},
    )
    write_manifest(folder, manifest)


def census_of(target: Target, folder: Path, artifact: Artifact) -> Census:
    """Layers by precision, as the runtime (or its stand-in) reports them."""
    with target.open(folder, artifact) as session:
        return session.census()


def _card(graph: CanonicalGraph) -> str:
    """The model card of a user's model: what is known about it, nothing more."""
    meta = graph.metadata
    frame = meta.preprocess
    lines = [
        f"# {meta.name}",
        "",
        f"- Network: {meta.model}, input {frame.width}x{frame.height} {frame.color_order}",
        f"- Classes: {', '.join(meta.classes.names)}",
        f"- Quantization: {meta.kind}, {meta.scheme.value} scheme",
        f"- Licence of the weights: {meta.licence}",
        f"- Checkpoint sha256: {meta.checkpoint_sha256 or 'not recorded'}",
        f"- Training data sha256: {meta.data_sha256 or 'not recorded'}",
        *(f"- {name}: {value:.4f}" for name, value in sorted(meta.metrics.items())),
    ]
    return "\n".join(lines) + "\n"
