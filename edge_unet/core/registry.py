"""Literal registries that refuse duplicates and answer a wrong name with the nearest right one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from edge_unet.core.errors import UsageError

T = TypeVar("T")


def registry(entries: Iterable[tuple[str, T]]) -> Mapping[str, T]:
    """A read-only mapping. Raises ValueError on a name given twice (a bug, not a user's mistake)."""
    table: dict[str, T] = {}
    for name, value in entries:
        if name in table:
            raise ValueError(f"{name!r} is registered twice")
        table[name] = value
    return MappingProxyType(table)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest known one, else the whole list."""
    choices = sorted(known)
    match = difflib.get_close_matches(name, choices, n=1)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(choices)}"


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """The entry called `name`, or UsageError with the nearest one."""
    if name not in table:
        raise UsageError(f"unknown {kind} {name!r}; {nearest(name, table)}")
    return table[name]
