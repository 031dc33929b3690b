"""Which executed layers belong to a float island: every census says so, with the reason that the graph gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_unet.canonical.graph import island_of


@dataclass(frozen=True, slots=True)
class Islands:
    """Path of every declared float island -> the reason."""

    reasons: Mapping[str, str]

    def note(self, names: Iterable[str]) -> str:
        """What a census adds to the unit of a layer made of nodes `names`; '' for a layer that is in no island."""
        paths = dict.fromkeys(path for name in names if (path := island_of(name, self.reasons)) is not None)
        return "".join(f", float island {path}: {self.reasons[path]}" for path in paths)

    def notes(self) -> tuple[str, ...]:
        """One line per reason, for an INT8 artifact's notes."""
        counts = Counter(self.reasons.values())
        return tuple(f"{count} float island{'s' if count > 1 else ''}: {why}" for why, count in counts.items())
