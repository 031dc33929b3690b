"""Layers by precision of a built engine, from the engine inspector's JSON.

The format is NVIDIA's (Developer Guide, "Engine Inspector"): {"Layers": [...], "Bindings": [...]}. With detailed
profiling verbosity a layer is an object with "Name", "LayerType", "Inputs" and "Outputs" (each with
"Format/Datatype", for example "Thirty-two wide channel vectorized row major Int8 format"), "TacticName" and, in newer
releases, "Precision". Without it a layer is only its name and nothing can be said.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

PRECISIONS = (
    ("int8", r"int8|i8i8"), ("fp8", r"fp8"), ("fp16", r"fp16|half"), ("bf16", r"bf16|bfloat16"),
    ("fp32", r"fp32|float"), ("int32", r"int32|int64"), ("bool", r"bool"),
)  # fmt: skip
MOVES = re.compile(
    r"^(reformat|reformatting|nop|noop|constant|shuffle|copy|signal|wait|shapehostto|cast)", re.IGNORECASE
)
"""Layer types that move or rearrange bytes: they are no layers of the census."""


@dataclass(frozen=True)
class EngineLayer:
    """One executed layer. `precision` is 'unknown' where the inspector does not say."""

    name: str
    op: str
    precision: str
    unit: str
    """Tactic (kernel) name, or the layer type where there is none."""


def parse_inspector(text: str) -> tuple[EngineLayer, ...]:
    """Layers in execution order, without those that only move bytes.

    Raises ValueError where the text is not the inspector's JSON, or the engine was built without detailed verbosity.
    """
    values = json.loads(text)
    layers = values.get("Layers") if isinstance(values, dict) else None
    if not isinstance(layers, list):
        raise ValueError("expected an object with a list 'Layers', as get_engine_information(JSON) returns")
    if layers and all(isinstance(layer, str) for layer in layers):
        raise ValueError("the engine holds layer names only; build with ProfilingVerbosity.DETAILED")
    found = [_layer(layer) for layer in layers if isinstance(layer, dict)]
    return tuple(layer for layer in found if not MOVES.match(layer.op))


def counts(layers: tuple[EngineLayer, ...]) -> dict[str, int]:
    """Layer count per precision, sorted by name."""
    table: dict[str, int] = {}
    for layer in layers:
        table[layer.precision] = table.get(layer.precision, 0) + 1
    return dict(sorted(table.items()))


def _layer(values: dict[str, Any]) -> EngineLayer:
    kind = str(values.get("LayerType", "unknown"))
    return EngineLayer(
        name=str(values.get("Name", "")), op=kind, precision=_precision(values),
        unit=str(values.get("TacticName") or kind),
    )  # fmt: skip


def _precision(values: dict[str, Any]) -> str:
    """The arithmetic: what the inspector names; else that of the weights; else of the inputs. A layer with INT8 inputs
    and FP32 weights dequantizes first, so weights go before inputs."""
    weights = values.get("Weights")
    inputs = values.get("Inputs") or values.get("Outputs") or []
    named = [
        str(values.get("Precision") or ""),
        str(weights.get("Type") or "") if isinstance(weights, dict) else "",
        *(str(i.get("Format/Datatype") or i.get("Datatype") or i.get("Format") or "") for i in inputs),
    ]
    for text in named:
        for precision, pattern in PRECISIONS:
            if re.search(pattern, text, re.IGNORECASE):
                return precision
    return "unknown"
