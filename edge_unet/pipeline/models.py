"""`edge-unet models`: the networks a recipe can name."""

from __future__ import annotations

from typing import Any

from edge_unet.core.errors import require
from edge_unet.core.recipe import ModelSpec, Recipe


def list_models() -> list[dict[str, Any]]:
    """One row per preset: parameters and multiply-accumulates at 256x256, three channels, one class."""
    require("torch", "train")
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from edge_unet.models import MODELS, build

    presets = {
        "mobile_unet": (ModelSpec(width=0.35), ModelSpec(width=0.5), ModelSpec(width=1.0)),
        "unet": (ModelSpec(name="unet", base=16, depth=4), ModelSpec(name="unet", base=32, depth=4)),
    }
    rows = []
    for name in MODELS:
        for spec in presets.get(name, (ModelSpec(name=name),)):
            net = build(Recipe(model=spec)).eval()
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                net(torch.zeros(1, 3, 256, 256))
            size = f"{spec.width:g}" if name.startswith("mobile") else f"{spec.base}"
            parameters = sum(p.numel() for p in net.parameters())
            rows.append({"name": f"{name}-{size}", "parameters": parameters, "macs": counter.get_total_flops() // 2})
    return rows
