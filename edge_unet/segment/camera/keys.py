"""The keyboard of the window, as a function of what is shown: tested without a window."""

from __future__ import annotations

from dataclasses import dataclass, replace

HELP = (
    "q, Esc    quit",
    "space     freeze and go on",
    "s         save a picture",
    "+ / -     opacity of the mask",
    "l         level: automatic, then each",
    "h, ?      this help",
)
ALPHA_STEP = 0.05


@dataclass(frozen=True, slots=True)
class View:
    """What the window shows. `level` is the prune level asked for, None where the deadline decides."""

    alpha: float = 0.45
    frozen: bool = False
    helping: bool = False
    level: int | None = None
    quitting: bool = False
    saving: bool = False
    """One picture is to be saved; it is taken back when that is done."""


def press(view: View, key: str, levels: int = 1) -> View:
    """The view after a key; an unknown key changes nothing. `levels` is how many prune levels there are."""
    if key in ("q", "\x1b"):
        return replace(view, quitting=True)
    if key == " ":
        return replace(view, frozen=not view.frozen)
    if key == "s":
        return replace(view, saving=True)
    if key in ("h", "?"):
        return replace(view, helping=not view.helping)
    if key in ("+", "=", "-"):
        step = -ALPHA_STEP if key == "-" else ALPHA_STEP
        return replace(view, alpha=round(min(1.0, max(0.0, view.alpha + step)), 2))
    if key == "l" and levels > 1:
        following = 0 if view.level is None else view.level + 1
        return replace(view, level=following if following < levels else None)
    return view
