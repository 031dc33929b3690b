"""classes.txt: the class ids of multi-class masks, one `id name` per line."""

from __future__ import annotations

import colorsys
from pathlib import Path

from pydantic import ValidationError

from edge_unet.core.errors import DataError
from edge_unet.core.spec import ClassSpec

IGNORE_WORDS = ("ignore", "void", "unlabelled", "unlabeled")
"""A name holding one of these, in any case, is not a class but the label of pixels that count nowhere."""


def read_classes(path: Path) -> ClassSpec:
    """Read `0 Sky`, `1 Building`, ..., `11 Unlabelled(void,ignore)` as a ClassSpec with spread-out colours.

    Empty lines and lines that begin with `#` are passed over. Class ids must be 0, 1, 2, ... without a gap; at most
    one line is the ignore value. Raises DataError listing every line it cannot use.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the class names: {error}") from error
    names: dict[int, str] = {}
    ignored: list[int] = []
    offenders: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        label, _, name = line.strip().partition(" ")
        if not label.isdecimal() or int(label) > 255 or not name.strip():
            offenders.append(f"line {number}: {line!r}; expected 'id name' with an id from 0 to 255")
        elif int(label) in names or int(label) in ignored:
            offenders.append(f"line {number}: {line!r}; id {label} is already taken")
        elif any(word in name.lower() for word in IGNORE_WORDS):
            ignored.append(int(label))
        else:
            names[int(label)] = name.strip()
    if sorted(names) != list(range(len(names))):
        offenders.append(f"class ids {sorted(names)}; expected 0, 1, 2, ... without a gap")
    if len(ignored) > 1:
        offenders.append(f"ids {ignored} are all marked to be ignored; expected one")
    if offenders:
        raise DataError(f"{path}: not a list of classes", offenders)
    ordered = tuple(names[label] for label in range(len(names)))
    try:
        return ClassSpec(names=ordered, palette=_palette(len(ordered)), ignore_value=ignored[0] if ignored else None)
    except ValidationError as error:
        raise DataError(f"{path}: {len(ordered)} classes; expected at least 2") from error


def _palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Colours a golden-ratio turn apart, so that neighbouring ids look different."""
    colours = (colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.65, 0.95 - 0.3 * (label % 2)) for label in range(count))
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours)
