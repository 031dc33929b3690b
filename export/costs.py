"""Parameters and multiply-accumulates of every preset and level, beside those of the authors' code where known.

python export/costs.py        writes export/results/costs.json, of which `python benchmarks/summary.py` makes the
                              table, and edge_unet/reference/models.json, which `edge-unet models` prints
"""

from __future__ import annotations

from pathlib import Path

from edge_unet.core.files import canonical_json, write_text
from edge_unet.models import PRESETS
from edge_unet.pipeline.models import COSTS, count_model

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "export" / "results" / "costs.json"
SHIPPED = ROOT / "edge_unet" / "reference" / COSTS

COUNTED = "the authors' code, instantiated and counted at 256x256, one class"
LAYOUT = "the paper's layout, counted at 256x256, one class"
PUBLISHED: dict[str, tuple[float, float | None, str]] = {
    "unet-64": (31.04, 48.17, LAYOUT),
    "unet-32": (7.77, 12.07, LAYOUT),
    "attention_unet-64": (34.88, 66.42, "the common PyTorch port, counted at 256x256"),
    "resunet-64": (8.22, 45.23, LAYOUT),
    "unetpp-32": (9.05, 29.79, LAYOUT),
    "unet3p-64": (26.99, 197.72, COUNTED),
    "unet_v2-b2-paper": (25.145, 5.555, COUNTED),
    "vm_unet_v2-2292": (22.771, 5.34, f"{COUNTED}, without the scan"),
    "vm_unet_v2-2222": (14.40, 3.30, f"{COUNTED}, without the scan"),
    "vm_unet_v2-22272": (44.29, 10.58, f"{COUNTED}, without the scan"),
    "transunet-b16": (105.32, 38.38, COUNTED),
    "unext": (1.472, 0.562, COUNTED),
    "unext-s": (0.2536, 0.0992, COUNTED),
    "mobile_unet-1.0": (1.888, 0.433, "MobileNetV2-1.0 with a depthwise-separable decoder 128-64-32-16, counted"),
}
"""Preset -> (million parameters, giga MACs, whose count)."""
PUBLISHED_LEVELS = {
    ("unetpp-32", "L3"): (2.209, 17.47),
    ("unetpp-32", "L2"): (0.513, 8.92),
    ("unetpp-32", "L1"): (0.102, 3.51),
}


def main() -> None:
    """Count and write."""
    counted = {name: count_model(spec) for name, spec in PRESETS.items()}
    write_text(SHIPPED, canonical_json(counted))
    presets = {}
    for name, row in counted.items():
        entry = {key: row[key] for key in ("parameters", "macs", "activation_bytes", "levels")}
        if name in PUBLISHED:
            millions, giga, source = PUBLISHED[name]
            entry["published"] = {"parameters_m": millions, "macs_g": giga, "source": source}
        for level in entry["levels"]:
            if (name, level) in PUBLISHED_LEVELS:
                millions, giga = PUBLISHED_LEVELS[name, level]
                entry["levels"][level]["published"] = {"parameters_m": millions, "macs_g": giga}
        presets[name] = entry
    write_text(RESULTS, canonical_json({"schema_version": 1, "presets": presets}))


if __name__ == "__main__":
    main()
