"""A seeded split that never puts one patient, video or road into both halves."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

from edge_unet.core.errors import DataError, UsageError


def split_groups(
    names: Sequence[str], *, share: float, seed: int, pattern: str | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split `names` into (train, val), each in the order of `names`; about `share` of the groups go to val.

    The first group of the regular expression `pattern`, searched in a name, says which group the name belongs to;
    without a pattern every name is its own group. Groups are ranked by a hash of (seed, group), so the result depends
    neither on the order of the names nor on Python's random state, and one more group moves few of the others.
    Raises UsageError on a pattern without a group, DataError listing the names it does not match, and DataError where
    there are fewer than two groups.
    """
    groups = _group(names, pattern)
    if len(groups) < 2:
        raise DataError(
            f"{len(groups)} group in {len(names)} files cannot be split into train and val; "
            "give a folder with train/ and val/, or a group_pattern that tells more groups apart"
        )
    ranked = sorted(groups, key=lambda group: (hashlib.sha256(f"{seed}\0{group}".encode()).digest(), group))
    held_out = min(max(1, round(share * len(ranked))), len(ranked) - 1)
    val = {name for group in ranked[:held_out] for name in groups[group]}
    return tuple(name for name in names if name not in val), tuple(name for name in names if name in val)


def _group(names: Sequence[str], pattern: str | None) -> dict[str, list[str]]:
    """Group -> its names."""
    groups: dict[str, list[str]] = defaultdict(list)
    if pattern is None:
        for name in names:
            groups[name].append(name)
        return groups
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"data.group_pattern {pattern!r} is not a regular expression: {error}") from error
    if expression.groups < 1:
        raise UsageError(f"data.group_pattern {pattern!r} has no group; put the part that names the group in (...)")
    strangers = []
    for name in names:
        found = expression.search(name)
        if found is None or found.group(1) is None:
            strangers.append(name)
        else:
            groups[found.group(1)].append(name)
    if strangers:
        raise DataError(f"data.group_pattern {pattern!r} does not match {len(strangers)} of {len(names)}", strangers)
    return groups
