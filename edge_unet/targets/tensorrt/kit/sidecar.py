# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""<engine>.json beside every engine: where it was built and what was found. An engine without it, or from another
machine, is refused: TensorRT itself may load such a plan and give slow or wrong frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .machine import Machine
from .spec import KitError, sha256_of, write_json

CHOSEN = "chosen.json"


def engines_folder(kit: Path) -> Path:
    """Where engines go: beside the kit, because the kit's own bytes are hashed by the bundle that holds it."""
    return kit.with_name(kit.name + "-engines")


def sidecar_of(engine: Path) -> Path:
    """model.int8.engine -> model.int8.engine.json."""
    return engine.with_name(engine.name + ".json")


def write_sidecar(engine: Path, machine: Machine, facts: dict[str, Any]) -> None:
    """Write the sidecar; `facts` is anything else worth keeping (graph sha256, census, agreement, latency)."""
    write_json(sidecar_of(engine), {**facts, "machine": machine.as_json(), "engine_sha256": sha256_of(engine)})


def read_sidecar(engine: Path) -> dict[str, Any]:
    """The sidecar's values. Raises KitError where it is missing or damaged."""
    path = sidecar_of(engine)
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values["machine"], dict) or not isinstance(values["engine_sha256"], str):
            raise TypeError("machine and engine_sha256 must be an object and a string")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"{path}: missing or damaged ({error}); build the engine on this device: build.py") from error
    return values


def check_sidecar(engine: Path, machine: Machine, graphs_sha256: set[str]) -> dict[str, Any]:
    """The sidecar of an engine that was built on this machine from this kit.

    Raises KitError naming the first thing that differs: a changed engine file, another TensorRT, GPU or JetPack,
    or a graph that is not in this kit.
    """
    values = read_sidecar(engine)
    if not engine.is_file():
        raise KitError(f"{engine}: no such engine; build it on this device: build.py")
    if sha256_of(engine) != values["engine_sha256"]:
        raise KitError(f"{engine}: changed after it was built; build it again: build.py")
    for key, ours in machine.as_json().items():
        theirs = values["machine"].get(key)
        if theirs != ours:
            raise KitError(
                f"{engine}: built elsewhere: {key} expected {ours}, received {theirs}; engines are not portable, "
                "build it on this device: build.py"
            )
    if values.get("graph_sha256") not in graphs_sha256:
        raise KitError(f"{engine}: built from another graph than this kit's; build it again: build.py")
    return values


def read_chosen(folder: Path) -> Path:
    """The engine that build.py chose. Raises KitError where nothing was built yet."""
    path = folder / CHOSEN
    try:
        return folder / str(json.loads(path.read_text(encoding="utf-8"))["engine"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"{path}: no engine chosen yet; run build.py on this device first", 2) from error
