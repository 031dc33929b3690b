"""The latency table of a search: what every part of a network costs on this machine, in INT8, on the target's runtime.

A part's cost is the difference of two chains that hold it once and five times, so that what every call costs cancels.
The chains and a reference network take turns in bursts. Processor time is counted, not the wall clock's, and of that
the fifth percentile: what a run takes that nothing disturbs, also on a machine that is in use. The reference, the same
for all parts, tells how fast the machine was: costs are brought to the median of the table's references.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from statistics import median

from pydantic import ValidationError

from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import ArtifactError, UsageError, in_words
from edge_unet.core.files import canonical_json, write_text
from edge_unet.core.report import Schedule, percentile_ns
from edge_unet.core.spec import Frozen
from edge_unet.measure.environment import read_environment
from edge_unet.models.edge_unet_plan import Plan
from edge_unet.models.edge_unet_probes import Part, parts_of, probe, probe_size
from edge_unet.pipeline.search.probe import SCHEDULE, Bench, lower_probe, opened, time_sessions, work_ns

Say = Callable[[str], None]
UNDISTURBED = 5
"""Percentile."""
GRID = (32, 64, 128, 256)
"""Widths at which parts of two widths are measured; between them their cost is interpolated, which is exact for
a + b * cin + c * cout + d * cin * cout."""
REFERENCE = Part("block", "dense", 64, 64, 8)
REFERENCE_COUNT = 3


class Row(Frozen):
    """One part. `reference_ns`: what the reference took in the same rounds."""

    cost_ns: float
    reference_ns: float
    halves_ns: float
    """How far the costs are apart that the first and the second half of the runs give."""
    runs: int


class TableKey(Frozen):
    """What a table holds for: another machine, runtime, target or size has other costs."""

    cpu: str
    runtime: str
    target: str
    height: int
    width: int
    channels: int
    classes: int
    threads: int


class LatencyTable(Frozen):
    """Costs by the parts' keys. Values are added by `with_rows`, never changed."""

    schema_version: int = 1
    key: TableKey
    rows: Mapping[str, Row] = {}

    @property
    def reference_ns(self) -> float:
        """What the reference takes on this machine: the median over all rows."""
        return median(row.reference_ns for row in self.rows.values())

    def cost_ns(self, part: Part) -> float:
        """Cost of a measured part on the machine as it usually was while the table was measured."""
        row = self.rows[part.key]
        return row.cost_ns * self.reference_ns / row.reference_ns

    def predict_ns(self, plan: Plan) -> float:
        """The sum over the parts. Raises KeyError where one is not measured (see `missing`)."""
        return sum(share * self.cost_ns(corner) for part in parts_of(plan) for corner, share in corners(part))

    def at_least_ns(self, plan: Plan) -> float:
        """The sum over the parts that are measured."""
        pairs = (pair for part in parts_of(plan) for pair in corners(part))
        return sum(share * self.cost_ns(corner) for corner, share in pairs if corner.key in self.rows)

    def missing(self, plans: Iterable[Plan]) -> list[Part]:
        """Parts to measure before these plans can be predicted, each after those it is computed from."""
        wanted: dict[str, Part] = {}
        for plan in plans:
            for part in parts_of(plan):
                for corner, _ in corners(part):
                    for needed in (*corner.minus, corner):
                        if needed.key not in self.rows:
                            wanted.setdefault(needed.key, needed)
        return list(wanted.values())

    def with_rows(self, rows: Mapping[str, Row]) -> LatencyTable:
        """The table with more rows."""
        return self.model_copy(update={"rows": {**self.rows, **rows}})


def corners(part: Part) -> list[tuple[Part, float]]:
    """Measured parts whose weighted sum stands for `part`: itself, or the grid's widths around its two."""
    if part.kind in ("block", "conv", "frame"):
        return [(part, 1.0)]
    pairs = product(_between(part.cin), _between(part.cout))
    return [(Part(part.kind, part.style, a, b, part.stride), p * q) for (a, p), (b, q) in pairs]


def _between(width: int) -> list[tuple[int, float]]:
    """Neighbours on the grid with their weights; a width on the grid or beyond it stands for itself."""
    if width in GRID or not GRID[0] < width < GRID[-1]:
        return [(width, 1.0)]
    above = next(known for known in GRID if known > width)
    below = GRID[GRID.index(above) - 1]
    share = (width - below) / (above - below)
    return [(below, 1 - share), (above, share)]


class Measurer:
    """Measures the rows that are missing and keeps the file up to date after each."""

    def __init__(
        self, bench: Bench, path: Path | None = None, *, say: Say = print, schedule: Schedule = SCHEDULE
    ) -> None:
        self.bench, self.say, self.schedule = bench, say, schedule
        self.key = key_of(bench)
        self.path = path or cache_path(self.key)
        self.table = read_table(self.path, self.key)
        self._room = tempfile.TemporaryDirectory(prefix="edge-unet-")
        self._reference: Artifact | None = None

    def predict_ns(self, plan: Plan, most_ns: float = float("inf")) -> float:
        """The predicted latency; measures what is missing first, as long as the known parts stay within `most_ns`:
        above it, what is returned is what they come to."""
        for part in self.table.missing([plan]):
            known_ns = self.table.at_least_ns(plan)
            if known_ns > most_ns:
                return known_ns
            self._add(part, "")
        return self.table.predict_ns(plan)

    def fill(self, plans: Iterable[Plan]) -> int:
        """Measure the missing parts of all plans; returns how many there were."""
        todo = self.table.missing(plans)
        for number, part in enumerate(todo, start=1):
            self._add(part, f" {number}/{len(todo)}")
        return len(todo)

    def _add(self, part: Part, place: str) -> None:
        """Measure one part and write it down."""
        row = self._measure(part)
        fresh = read_table(self.path, self.key)  # another process may have added to it
        self.table = fresh.with_rows({**self.table.rows, part.key: row})
        write_text(self.path, canonical_json(self.table.model_dump(mode="json")))
        self.say(f"table{place}: {part.key} {row.cost_ns / 1e3:.1f} us")

    def _measure(self, part: Part) -> Row:
        """One row; of a frame there is one probe, of all others two and their difference."""
        with tempfile.TemporaryDirectory(prefix="edge-unet-") as folder, ExitStack() as stack:
            sessions, benches = {}, {}
            for count in part.counts:
                label, room = str(count), Path(folder) / str(count)
                room.mkdir()
                benches[label] = self._sized(part)
                artifact = self._lowered(part, count, room)
                sessions[label] = stack.enter_context(opened(benches[label], room, artifact))
            if self._reference is None:
                self._reference = self._lowered(REFERENCE, REFERENCE_COUNT, Path(self._room.name))
            benches["reference"] = self._sized(REFERENCE)
            sessions["reference"] = stack.enter_context(
                opened(benches["reference"], Path(self._room.name), self._reference)
            )
            samples = time_sessions(sessions, benches, self.schedule)
        return row_of(part, {label: work_ns(found, self.bench.threads) for label, found in samples.items()}, self.table)

    def _sized(self, part: Part) -> Bench:
        frame = self.bench.recipe.preprocess
        return self.bench.sized(*probe_size(part, frame.height, frame.width))

    def _lowered(self, part: Part, count: int, room: Path) -> Artifact:
        classes = self.bench.recipe.classes.channels
        net = probe(part, count, self.bench.recipe.preprocess.channels, classes)
        return lower_probe(net, self._sized(part), room, binary=part.kind != "frame")


def row_of(part: Part, times: Mapping[str, Sequence[int]], table: LatencyTable) -> Row:
    """The row of a part from all runs of its chains ('1', '5') and of the reference."""
    reference_ns = percentile_ns(times["reference"], UNDISTURBED)
    beside = sum(table.rows[o.key].cost_ns * reference_ns / table.rows[o.key].reference_ns for o in part.minus)

    def cost_ns(runs: slice) -> float:
        taken = [percentile_ns(times[str(count)][runs], UNDISTURBED) for count in part.counts]
        links = part.counts[-1] - part.counts[0] if len(taken) > 1 else 1
        whole = taken[-1] - taken[0] if len(taken) > 1 else taken[0]
        return (whole / links - beside) / part.per_link

    fewest = min(len(runs) for runs in times.values())
    first, second = cost_ns(slice(None, fewest // 2)), cost_ns(slice(fewest // 2, None))
    return Row(cost_ns=cost_ns(slice(None)), reference_ns=reference_ns, halves_ns=abs(first - second), runs=fewest)


def key_of(bench: Bench) -> TableKey:
    """What the costs that `bench` measures hold for."""
    frame = bench.recipe.preprocess
    environment = read_environment()
    packages = environment.packages
    runtime = " ".join(f"{name} {packages[name]}" for name in sorted(packages) if name in RUNTIMES[bench.target.name])
    return TableKey(
        cpu=environment.cpu_model or environment.machine or "unknown",
        runtime=runtime,
        target=bench.target.name,
        height=frame.height,
        width=frame.width,
        channels=frame.channels,
        classes=bench.recipe.classes.channels,
        threads=bench.threads,
    )


RUNTIMES: Mapping[str, tuple[str, ...]] = {
    "cpu": ("openvino",),
    "android": ("ai-edge-litert",),
    "embedded-linux": ("ai-edge-litert",),
    "onnx": ("onnxruntime",),
}
"""Target that executes here -> the packages whose version shapes its speed."""


def cache_path(key: TableKey) -> Path:
    """Where the table for this key is kept."""
    digest = hashlib.sha256(key.model_dump_json().encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "edge-unet" / f"latency-{key.target}-{digest}.json"


def read_table(path: Path, key: TableKey) -> LatencyTable:
    """The table kept there, or an empty one. Raises ArtifactError for a damaged file, UsageError for another key."""
    if not path.is_file():
        return LatencyTable(key=key)
    try:
        table = LatencyTable.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise ArtifactError(f"{path}: damaged latency table ({reason}); remove it to measure again") from error
    other = {name: value for name, value in table.key.model_dump().items() if value != getattr(key, name)}
    if other:
        name, value = next(iter(other.items()))
        raise UsageError(
            f"{path}: this table is for {name} {value!r}, the search is for {getattr(key, name)!r}; "
            "give another --table"
        )
    return table
