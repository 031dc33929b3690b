"""A planted slowdown: a real session that burns a share of its own median more on every run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from edge_unet.core.artifact import Artifact, Census
from edge_unet.core.protocols import Runtime, Session, Target
from edge_unet.core.report import percentile_ns
from edge_unet.core.spec import Tensors


class SlowerSession:
    """`inner`, and then as many nanoseconds of busy waiting as are `share` of the median of its last runs."""

    def __init__(self, inner: Session, share: float) -> None:
        self._inner, self._share = inner, share
        self._took: deque[int] = deque(maxlen=51)
        self.artifact, self.runtime = inner.artifact, inner.runtime

    def infer(self, feeds: Tensors) -> Tensors:
        started = time.perf_counter_ns()
        outputs = self._inner.infer(feeds)
        done = time.perf_counter_ns()
        self._took.append(done - started)
        until = done + round(self._share * percentile_ns(self._took, 50))
        while time.perf_counter_ns() < until:
            pass
        return outputs

    def census(self) -> Census:
        return self._inner.census()


def slower(target: Target, share: float) -> Target:
    """The same target, `share` slower."""
    return replace(target, open=_slower_open(target.open, share))


def _slower_open(opens: Runtime, share: float) -> Runtime:
    @contextmanager
    def opened(folder: Path, artifact: Artifact, threads: int, bf16: bool) -> Iterator[Session]:
        with opens(folder, artifact, threads=threads, bf16=bf16) as session:
            yield SlowerSession(session, share)

    def run(
        folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False
    ) -> AbstractContextManager[Session]:
        return opened(folder, artifact, threads, bf16)

    return run
