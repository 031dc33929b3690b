"""What a person sees while a large image is segmented: a bar on a terminal, a line for every tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edge_unet.segment.tiles import Progress as Told


@contextmanager
def tile_progress(name: str, *, say: Callable[[str], None], terminal: bool | None = None) -> Iterator[Told]:
    """Yield what to call with (tiles done, tiles in all). `terminal` is None to ask standard error."""
    if not (sys.stderr.isatty() if terminal is None else terminal):
        yield _lines(name, say)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, tiles: bar.update(task, completed=done, total=tiles)


def _lines(name: str, say: Callable[[str], None]) -> Told:
    tenths = 0

    def tell(done: int, tiles: int) -> None:
        nonlocal tenths
        if done * 10 // tiles > tenths:
            tenths = done * 10 // tiles
            say(f"{name}: {done} of {tiles} tiles")

    return tell
