"""Scales and integers as they stand in a saved IR, under canonical names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import METADATA_KEY, parse_metadata
from edge_unet.canonical.graph import island_of
from edge_unet.core.artifact import Artifact, Grid, ReadBack
from edge_unet.core.errors import ArtifactError, require
from edge_unet.core.spec import Precision
from edge_unet.targets.grids import same_grid
from edge_unet.targets.islands import Islands
from edge_unet.targets.openvino.ir import STEP
from edge_unet.targets.openvino.lower import BIN, XML

MOVES = frozenset({"Concat", "MaxPool", "Interpolate", "Reshape", "Transpose", "Slice", "Pad", "ReduceMax"})
"""Operator types that may stand under a canonical name in place of a FakeQuantize: they keep their inputs' grid."""


def read_model(folder: Path, artifact: Artifact) -> Any:
    """The saved openvino.Model. Raises ArtifactError where it is absent, damaged or truncated."""
    ov = require("openvino", "openvino")
    path = folder / artifact.path
    for name in (XML, BIN):
        if not (path / name).is_file():
            raise ArtifactError(f"{path / name}: no such file; lower the model again")
    try:
        return ov.Core().read_model(str(path / XML), str(path / BIN))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArtifactError(f"{path / XML}: damaged or truncated IR ({reason}); lower the model again") from error


def islands_in(model: Any) -> Islands:
    """The float islands that a saved model declares."""
    return Islands(parse_metadata(model.get_rt_info([METADATA_KEY]).value).islands)


def read_back(folder: Path, artifact: Artifact) -> ReadBack:
    """Scales from FakeQuantize ranges and weight multipliers, integers from the i8 constants.

    A FakeQuantize holds -128 s and 127 s in float32. -128 s is exact, so s is recovered exactly, and 127 s must be
    what float32 gives for it: equality here is equality of scales, with no tolerance. The input's grid has zero point
    128, because it reads u8 pixels. An FP32 artifact holds neither scales nor integers.
    Raises ArtifactError for ranges that are no int8 grid.
    """
    if artifact.precision is not Precision.INT8:
        return ReadBack(activations={}, weights={}, absent={})
    activations: dict[str, Grid] = {}
    weights: dict[str, tuple[NDArray[np.int8], Grid]] = {}
    model = read_model(folder, artifact)
    islands = islands_in(model).reasons
    for node in model.get_ordered_ops():
        kind, name = node.get_type_name(), node.get_friendly_name()
        if kind == "FakeQuantize":
            activations[name] = _grid(node)
        elif kind in MOVES and island_of(name, islands) is None:  # inside a float island no tensor is quantized
            if (grid := _moved(node, activations)) is not None:
                activations[name] = grid
        elif kind == "Constant" and node.get_element_type().get_type_name() == "i8":
            weights[name] = _weight(node)
    named = {name: grid for name, grid in activations.items() if STEP not in name}
    return ReadBack(activations=named, weights=weights, absent={})


def _moved(node: Any, grids: Mapping[str, Grid]) -> Grid | None:
    """The one grid of a moving op's inputs; None where it computes new values or its inputs have no common grid."""
    attributes = node.get_attributes()
    if attributes.get("mode", "nearest") != "nearest" or attributes.get("pad_mode") == "constant":
        return None
    parameters = () if node.get_type_name() == "Concat" else ("Constant",)  # sizes and axes, not data
    sources = [value.get_node() for value in node.input_values()]
    found = [grids.get(s.get_friendly_name()) for s in sources if s.get_type_name() not in parameters]
    first = found[0]
    return first if first is not None and all(g is not None and same_grid(first, g) for g in found) else None


def _grid(node: Any) -> Grid:
    """The grid of a FakeQuantize."""
    name = node.get_friendly_name()
    ranges = [value.get_node() for value in node.input_values()[1:]]
    bounds = [np.asarray(constant.data, np.float32).reshape(-1) for constant in ranges]
    low_in, high_in, low, high = (bound[0] for bound in bounds)
    scale = np.float32(low / np.float32(-128))
    levels = int(node.get_attributes()["levels"])
    pixels = (low_in, high_in) == (0, 255)
    if any(bound.size != 1 for bound in bounds) or levels != 256 or high != np.float32(127) * scale:
        raise ArtifactError(
            f"FakeQuantize {name!r}: expected 256 levels from -128 s to 127 s, received {low} .. {high}"
        )
    if not pixels and (low_in, high_in) != (low, high):
        raise ArtifactError(f"FakeQuantize {name!r}: reads {low_in} .. {high_in} but writes {low} .. {high}")
    return Grid(np.asarray(scale, np.float32), 128 if pixels else 0)


def _weight(constant: Any) -> tuple[NDArray[np.int8], Grid]:
    """Integers in canonical layout and the multiplier behind them."""
    values = np.array(constant.data, np.int8)
    convert = next(iter(constant.output(0).get_target_inputs())).get_node()
    multiply = next(iter(convert.output(0).get_target_inputs())).get_node()
    scale = np.array(multiply.input_value(1).get_node().data, np.float32)
    reader = next(iter(multiply.output(0).get_target_inputs())).get_node()
    if reader.get_type_name() == "GroupConvolution":
        values = values.reshape(-1, *values.shape[2:])  # (G, O/G, I, H, W) -> (O, I, H, W)
    return values, Grid(scale if scale.ndim == 0 else scale.reshape(-1), 0)
