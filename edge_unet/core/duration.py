"""Times as a user writes them on a command line."""

from __future__ import annotations

from edge_unet.core.errors import UsageError

MS_PER_S = 1000.0


def parse_ms(text: str, option: str) -> float:
    """'20ms', '0.02 s' or '20' (milliseconds) -> 20.0. Raises UsageError, naming `option`, for anything that is not a
    positive time."""
    stripped = text.strip().lower()
    unit = 1.0
    if stripped.endswith("ms"):
        stripped = stripped[:-2]
    elif stripped.endswith("s"):
        stripped, unit = stripped[:-1], MS_PER_S
    try:
        value = float(stripped) * unit
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{option} {text!r}: expected a positive time such as 20ms")
    return value
