"""A recipe as TOML: what load_recipe reads back as the same recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from edge_unet.core.recipe import Recipe


def recipe_toml(recipe: Recipe, *comments: str) -> str:
    """TOML with every value written out; what is None is left out, as its default is None too."""
    lines = [f"# {comment}" for comment in comments]
    lines += _lines(recipe.model_dump(mode="json"), ())
    return "\n".join(lines) + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """A table: its own values first, then its tables."""
    if path:
        yield from ("", f"[{'.'.join(path)}]")
    for key, value in table.items():
        if value is not None and not isinstance(value, dict):
            yield f"{key} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, (*path, key))


def _value(value: Any) -> str:
    """A TOML value; JSON's strings, numbers and booleans are TOML's."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML wants this one escaped too
