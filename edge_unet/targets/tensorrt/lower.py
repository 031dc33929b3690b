"""Lower a canonical graph to a build kit: the ONNX graphs and the programs that make engines on the device."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import onnx

from edge_unet.canonical import CanonicalGraph, load_graph, view_graph
from edge_unet.canonical.rules import require_rules
from edge_unet.canonical.rules_grids import LOGIT_SCALE
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import UsageError
from edge_unet.core.files import bytes_of, canonical_json, sha256_of
from edge_unet.core.spec import Precision, TensorSpec
from edge_unet.targets.islands import Islands
from edge_unet.targets.tensorrt.graphs import activation_bytes, fp16_graph, int8_graph, wide_islands
from edge_unet.targets.tensorrt.rules import RULES_FOR_TENSORRT, known_ops

PRECISIONS = (Precision.INT8, Precision.FP16)
KIT_FOLDER = "jetson"
PROGRAMS = "edge_unet_kit"
GRAPH, FP16_BESIDE = "model.onnx", "model.fp16.onnx"
SOURCES = Path(__file__).parent / "kit"

LAUNCHER = '''"""{what} See README.txt."""

import sys

sys.dont_write_bytecode = True  # the kit's bytes are hashed by the bundle that holds it

from {programs}.{verb} import main  # noqa: E402

sys.exit(main())
'''

README = """Build kit for TensorRT: {name}

Engines are tied to one GPU, one TensorRT and one JetPack, so they are built here, on the device that runs them.
Needed: TensorRT 10 or 11 with its Python bindings and numpy (JetPack 6 has them: python3-libnvinfer, python3-numpy),
the system's python3. Nothing is downloaded and nothing is installed.

  python3 build.py            build {engines}, check masks, time, keep the best
  python3 infer.py FRAME.png  write the class-id mask of a {width}x{height} frame; --bench FILE.json times it

Engines, timing cache, measurements and chosen.json are written to the folder {folder}-engines beside this one.
Golden frames are taken from the folder golden beside this one (--golden FOLDER, or --no-golden).
Before timing: sudo nvpmodel -m 0 && sudo jetson_clocks. More: python3 build.py --help
"""

NOTES = {
    Precision.INT8: (
        "the Q/DQ pair before the output is dropped: logits are float and the host rounds them to the step of the "
        "dropped pair, as the reference does",
        "declared as ONNX opset 20, which the parser of TensorRT 10.3 knows; no op differs from opset 21",
        "model.fp16.onnx is the strongly typed FP16 twin: build.py times both and keeps the faster that passes",
    ),
    Precision.FP16: ("the canonical graph without its Q/DQ, weights and tensors FP16, strongly typed",),
}


def lower(canonical: Path, precision: Precision, *, into: Path) -> Artifact:
    """Write the kit into `into`/jetson. Input float32 NCHW "image", output float32 NCHW "logits", both precisions.

    Raises GraphError listing every rule the Q/DQ graph breaks for TensorRT, UsageError for another precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"the jetson target has no {precision.value}; expected one of int8, fp16")
    graph = load_graph(canonical)
    require_rules(graph, {"tensorrt-ops": known_ops}, what=str(canonical))
    models, dropped = {"fp16": fp16_graph(graph)}, None
    if precision is Precision.INT8:
        models["int8"], dropped = int8_graph(graph)
        require_rules(view_graph(models["int8"]), RULES_FOR_TENSORRT, what=f"{canonical}, as lowered for TensorRT,")
    kit = into / KIT_FOLDER
    kit.mkdir()
    files = {precision.value: GRAPH, **({"fp16": FP16_BESIDE} if precision is Precision.INT8 else {})}
    for name, file in files.items():
        (kit / file).write_bytes(models[name].SerializeToString(deterministic=True))
    (kit / "kit.json").write_text(canonical_json(_kit_values(graph, kit, files, models)), encoding="utf-8")
    if dropped is not None:
        (kit / "dropped.json").write_text(canonical_json([dropped]), encoding="utf-8")
    _write_programs(kit, graph, files)
    return _artifact(canonical, graph, kit, precision)


def _artifact(canonical: Path, graph: CanonicalGraph, kit: Path, precision: Precision) -> Artifact:
    source, sink = graph.input, graph.outputs[0]
    rounding: dict[str, float] = {}
    if precision is Precision.INT8:
        rounding = {"scale": float(graph.activations[graph.producers[sink].inputs[0]].scale), "zero_point": 0}
    specs = [
        TensorSpec(name=source, shape=graph.shapes[source], dtype="float32", layout="NCHW"),
        TensorSpec.model_validate(
            {"name": sink, "shape": graph.shapes[sink], "dtype": "float32", "layout": "NCHW", **rounding}
        ),
    ]
    return Artifact(
        path=KIT_FOLDER, sha256=sha256_of(kit), bytes=bytes_of(kit), target="jetson", precision=precision,
        inputs=(specs[0],), outputs=(specs[1],), toolchain={"onnx": onnx.__version__},
        parent_sha256=sha256_of(canonical), notes=(*NOTES[precision], *_island_notes(graph, precision)),
    )  # fmt: skip


def _island_notes(graph: CanonicalGraph, precision: Precision) -> tuple[str, ...]:
    """What the lowering did with the float islands."""
    count = len(wide_islands(graph))
    wide = (f"{count} float island(s) with exp, log or softplus are computed in float32, not FP16",) if count else ()
    return (*Islands(graph.islands).notes(), *wide) if precision is Precision.INT8 else wide


def _kit_values(
    graph: CanonicalGraph, kit: Path, files: Mapping[str, str], models: Mapping[str, onnx.ModelProto]
) -> dict[str, object]:
    """kit.json, as kit/spec.py reads it."""
    preprocess = graph.metadata.preprocess
    return {
        "name": graph.metadata.name,
        "input": graph.input,
        "input_shape": graph.shapes[graph.input],
        "output": graph.outputs[0],
        "output_shape": graph.shapes[graph.outputs[0]],
        "color_order": preprocess.color_order,
        "mean": preprocess.mean,
        "scale": preprocess.scale,
        "logit_step": LOGIT_SCALE,
        "activation_bytes": activation_bytes(models["fp16"]),
        "graphs": {
            name: {"file": file, "sha256": sha256_of(kit / file), "float32_islands": bool(wide_islands(graph))}
            for name, file in sorted(files.items())
        },
    }


def _write_programs(kit: Path, graph: CanonicalGraph, files: Mapping[str, str]) -> None:
    """Copy the programs as they stand, and write their launchers and the README."""
    (kit / PROGRAMS).mkdir()
    for source in sorted(SOURCES.glob("*.py")):
        shutil.copyfile(source, kit / PROGRAMS / source.name)
    for verb, what in (("build", "Build the engines on this device."), ("infer", "Run the chosen engine.")):
        text = LAUNCHER.format(what=what, programs=PROGRAMS, verb=verb)
        (kit / f"{verb}.py").write_text(text, encoding="utf-8")
    _, _, height, width = graph.shapes[graph.input]
    engines = " and ".join(name.upper() for name in sorted(files, reverse=True))
    text = README.format(
        name=graph.metadata.name, engines=engines, width=width, height=height, folder=KIT_FOLDER
    )  # fmt: skip
    (kit / "README.txt").write_text(text, encoding="utf-8")
