"""`edge-unet models`: the networks a recipe can name, what they cost, and what INT8 does with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from edge_unet.core.errors import require
from edge_unet.core.recipe import ModelSpec, Recipe

if TYPE_CHECKING:
    from edge_unet.models.cost import Cost

STATUS = "int8_status.json"
"""Preset -> target -> what the last full matrix found; generated with the table in export/README.md."""
COSTS = "models.json"
"""Preset -> its counts; written by export/costs.py, so that listing the networks needs no torch and no minute."""


def list_models() -> Iterator[dict[str, Any]]:
    """One row per preset: parameters, multiply-accumulates and peak INT8 activation memory at 256x256 (three channels,
    one class), heads with the cost of each level, INT8 status per target."""
    status = int8_status()
    for name, counts in _shipped(COSTS).items():
        yield {"name": name, **counts, "int8": status.get(name, {})}


def count_model(spec: ModelSpec) -> dict[str, Any]:
    """Network, parameters, macs, activation_bytes and levels of a preset, counted at 256x256; needs torch."""
    require("torch", "train")
    import torch

    from edge_unet.models import build_whole
    from edge_unet.models.cost import cost_of
    from edge_unet.models.levels import cut_to_level, levels_of

    with torch.device("meta"):
        net = build_whole(Recipe(model=spec))
    names = levels_of(net)
    costs = {level: cost_of(cut_to_level(net, level), 3, 256, 256) for level in names}
    whole = costs[names[-2]] if names else cost_of(net, 3, 256, 256)
    levels = {level: _as_row(cost) for level, cost in costs.items()}
    return {"model": spec.name, **_as_row(whole), "levels": levels}


def _as_row(cost: Cost) -> dict[str, int]:
    return {"parameters": cost.parameters, "macs": cost.macs, "activation_bytes": cost.activation_bytes}


def int8_status() -> Mapping[str, Mapping[str, str]]:
    """Preset -> target -> 'passed', 'failed: …' or 'blocked: …'; empty for a preset that was not in the matrix."""
    return _shipped(STATUS)


def _shipped(name: str) -> Mapping[str, Any]:
    """A generated table of the package; empty where it was not generated yet."""
    path = files("edge_unet") / "reference" / name
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def describe(row: Mapping[str, Any]) -> str:
    """One line for a reader."""
    heads = [name for name in row["levels"] if name != "mean"]
    passed = [target for target, state in row["int8"].items() if state == "passed"]
    others = [f"{target} {state}" for target, state in row["int8"].items() if state != "passed"]
    span = f"{heads[0]}..{heads[-1]}" if heads else "1"
    int8 = "; ".join(filter(None, (", ".join(passed), *others))) or "not in the matrix"
    return (
        f"{row['name']:<24} {row['parameters'] / 1e6:8.3f} M parameters {row['macs'] / 1e9:8.3f} G MACs "
        f"{row['activation_bytes'] / 2**20:6.1f} MiB activations  heads {span:<6} INT8: {int8}"
    )
