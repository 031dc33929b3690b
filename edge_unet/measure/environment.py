"""The machine, as the kernel describes it, before a run and after. What cannot be read is None: not measured.

One implementation reads this machine and, packed into the runner, a device: edge_unet/devices/runner/machine.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_unet.core.machine import Environment, MachineState
from edge_unet.devices.runner import heat, machine

PACKAGES = ("edge-unet", "numpy", "onnx", "onnxruntime", "openvino", "ai-edge-litert", "coremltools", "opencv-python-headless")  # noqa: E501  # fmt: skip
"""What shapes a number; only those installed are recorded."""

installed = machine.installed


def read_environment(
    *, threads: int | None = None, packages: Iterable[str] = PACKAGES, root: Path = Path("/")
) -> Environment:
    """Describe this machine. `threads` is what the runtimes were told to use; `root` is where /proc and /sys lie."""
    return Environment.model_validate({**machine.probe(root, packages), "threads": threads})


def with_after(environment: Environment, *, root: Path = Path("/")) -> Environment:
    """The same environment with the state of now as `after`, and what that says about the time since `before`."""
    state = environment.before or MachineState()
    before = heat.State(state.mhz, state.temperature_c, state.throttle_count)
    after = heat.read_state(root)
    changes = {
        "after": MachineState.model_validate(after.as_json()),
        "throttled": heat.was_throttled(before, after),
        "warnings": (*environment.warnings, *heat.changes(before, after)),
    }
    return environment.model_copy(update=changes)
