"""`edge-unet models`: the networks a recipe can name, what they cost, and what INT8 does with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from edge_unet.core.errors import require
from edge_unet.core.recipe import Recipe

STATUS = "int8_status.json"
"""Preset -> target -> what the last full matrix found; generated with the table in export/README.md."""


def list_models() -> Iterator[dict[str, Any]]:
    """One row per preset, as soon as it is counted: parameters, multiply-accumulates and peak INT8 activation memory
    at 256x256 (three channels, one class), heads with the cost of each level, INT8 status per target."""
    require("torch", "train")
    import torch

    from edge_unet.models import PRESETS, build_whole
    from edge_unet.models.cost import cost_of
    from edge_unet.models.levels import cut_to_level, levels_of

    status = int8_status()
    for name, spec in PRESETS.items():
        with torch.device("meta"):
            net = build_whole(Recipe(model=spec))
        names = levels_of(net)
        costs = {level: cost_of(cut_to_level(net, level), 3, 256, 256) for level in names}
        whole = costs[names[-2]] if names else cost_of(net, 3, 256, 256)
        yield {
            "name": name,
            "model": spec.name,
            "parameters": whole.parameters,
            "macs": whole.macs,
            "activation_bytes": whole.activation_bytes,
            "levels": {
                level: {"parameters": c.parameters, "macs": c.macs, "activation_bytes": c.activation_bytes}
                for level, c in costs.items()
            },
            "int8": status.get(name, {}),
        }


def int8_status() -> Mapping[str, Mapping[str, str]]:
    """Preset -> target -> 'passed', 'failed: …' or 'blocked: …'; empty for a preset that was not in the matrix."""
    path = files("edge_unet") / "reference" / STATUS
    found: Mapping[str, Mapping[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
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
