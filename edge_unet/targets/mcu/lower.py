"""Lower a canonical graph to an int8 .tflite file for TFLite Micro, and compile it for Ethos-U where Vela is there.

    model.tflite               what TFLite Micro runs: int8 tensors and integer arithmetic only
    ethos-u/ACCELERATOR.tflite the same file compiled by Vela
    ethos-u/estimates.json     what Vela estimates for each: nothing in it was measured

The file is lowered only if TFLite Micro takes it; the smallest arena that works is found by trying.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from edge_unet.canonical import CanonicalGraph, load_graph
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import ArtifactError, GraphError, UsageError, require
from edge_unet.core.spec import Precision
from edge_unet.targets.mcu import vela
from edge_unet.targets.mcu.arena import smallest_arena_bytes
from edge_unet.targets.mcu.ops import TABLE
from edge_unet.targets.tflite import lower as tflite
from edge_unet.targets.tflite.model_file import ModelFile, parse_model
from edge_unet.targets.tflite.writer import schema

PRECISIONS = (Precision.INT8,)


def lower(canonical: Path, precision: Precision, *, into: Path) -> Artifact:
    """Write `into`/model.tflite and what Vela makes of it, and describe it.

    Raises UsageError on a precision other than INT8, GraphError naming the node that has no integer form,
    MissingBackendError without tflite-micro or ai-edge-litert.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"target 'mcu' has no precision {precision.value!r}; expected int8")
    require("tflite_micro", "mcu")
    _refuse_islands(load_graph(canonical))
    artifact = tflite.lower(canonical, precision, into=into, target="mcu", nearest="resize", ops=TABLE)
    path = into / artifact.path
    try:
        data = path.read_bytes()
        _refuse_floats(parse_model(data, str(path)))
        arena = smallest_arena_bytes(data)
    except ArtifactError as error:
        path.unlink()
        raise GraphError(f"{canonical}: TFLite Micro refuses the lowered file: {error}") from error
    except GraphError:
        path.unlink()
        raise
    toolchain = {**artifact.toolchain, "tflite-micro": version("tflite-micro")}
    notes = [*artifact.notes, f"arena of TFLite Micro on a 64-bit host: {arena} bytes, the smallest that works"]
    estimates = vela.compile_all(path, into / vela.FOLDER)
    if estimates is None:
        notes.append("not compiled for Ethos-U: vela is not installed (pip install ethos-u-vela)")
    else:
        toolchain["ethos-u-vela"] = estimates.vela
        notes += [row.note() for row in estimates.rows]
    return artifact.model_copy(update={"toolchain": toolchain, "notes": tuple(notes)})


def _refuse_islands(graph: CanonicalGraph) -> None:
    """Raise GraphError on the first node of a float island: it would need float32 kernels."""
    for node in graph.nodes:
        if (path := graph.island(node)) is not None:
            raise GraphError(
                f"node {node.name!r} ({node.op}): lies in the float island {path} ({graph.metadata.islands[path]}); "
                "target mcu computes in integers only: choose a network without float islands, or target android"
            )


def _refuse_floats(file: ModelFile) -> None:
    """Raise GraphError on the first op that reads or writes a float32 tensor."""
    wide = schema().TensorType.FLOAT32
    for operator in file.operators:
        for index in (*operator.inputs, *operator.outputs):
            tensor = file.tensors[int(index)]
            if tensor.type == wide:
                raise GraphError(
                    f"node {tensor.name.decode()!r} ({file.code(operator)}): float32 in a file that must be integers "
                    "only; this is a gap of target mcu: report it with the graph"
                )
