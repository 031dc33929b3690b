"""A network that nobody trained, lowered to a target in INT8 and timed: its speed does not depend on its weights."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from edge_unet.core.artifact import Artifact
from edge_unet.core.protocols import Session, Target
from edge_unet.core.recipe import Recipe
from edge_unet.core.report import Schedule
from edge_unet.core.spec import Precision
from edge_unet.graph.from_torch import export_canonical
from edge_unet.measure.latency import Samples, Timed, measure_latency, model_only
from edge_unet.models.checkpoint import CheckpointInfo
from edge_unet.models.edge_unet_plan import Plan, model_of
from edge_unet.quantization.calibrate import calibrate
from edge_unet.quantization.prepare import prepare
from edge_unet.quantization.ptq import frame_batches
from edge_unet.quantization.restore import build_quantized

SCHEDULE = Schedule(warmup_ns=50_000_000, runs=150, limit_ns=2_000_000_000)
"""Thirty bursts of five: a probe takes a tenth of a second to two seconds."""
SEED = 0


@dataclass(frozen=True)
class Bench:
    """Where networks are timed: a target's runtime with so many threads, and what a frame and its classes are."""

    target: Target
    recipe: Recipe
    threads: int = 1

    def sized(self, height: int, width: int) -> Bench:
        """The same for frames of another size."""
        frame = self.recipe.preprocess.model_copy(update={"height": height, "width": width})
        return Bench(self.target, self.recipe.model_copy(update={"preprocess": frame}), self.threads)


def recipe_of(plan: Plan, recipe: Recipe) -> Recipe:
    """The recipe with this plan as its network, and as many head weights as it has heads."""
    weights, heads = recipe.loss.head_weights, len(plan.stages)
    if weights:
        weights = (weights[0],) * max(0, heads - len(weights)) + weights[-heads:]
    loss = recipe.loss.model_copy(update={"head_weights": weights})
    return Recipe.model_validate(recipe.model_copy(update={"model": model_of(plan), "loss": loss}).model_dump())


def lower_plan(plan: Plan, bench: Bench, room: Path) -> Artifact:
    """The artifact of a plan that ends in its deepest head, in the empty folder `room`."""
    recipe = recipe_of(plan, bench.recipe)
    deepest = recipe.model.model_copy(update={"level": f"L{len(plan.stages)}"})
    recipe = recipe.model_copy(update={"model": deepest})
    with _seeded():
        return _lower(build_quantized(recipe), recipe, bench.target, room)


def lower_probe(net: nn.Module, bench: Bench, room: Path, *, binary: bool = True) -> Artifact:
    """The artifact of any float network with frames of the bench's size, in the empty folder `room`."""
    recipe = bench.recipe.model_copy(update={"classes": Recipe().classes}) if binary else bench.recipe
    return _lower(prepare(net.eval(), recipe), recipe, bench.target, room)


@contextmanager
def opened(bench: Bench, room: Path, artifact: Artifact) -> Iterator[Session]:
    """A session of an artifact in `room`."""
    with bench.target.open(room, artifact, threads=bench.threads) as session:
        yield session


def time_plans(plans: Mapping[str, Plan], bench: Bench, schedule: Schedule) -> dict[str, Samples]:
    """Every run of every plan, interleaved. Keys are labels."""
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as folder, ExitStack() as stack:
        sessions: dict[str, Session] = {}
        for number, (label, plan) in enumerate(plans.items()):
            room = Path(folder) / str(number)
            room.mkdir()
            artifact = lower_plan(plan, bench, room)
            sessions[label] = stack.enter_context(opened(bench, room, artifact))
        return time_sessions(sessions, dict.fromkeys(sessions, bench), schedule)


def time_sessions(
    sessions: Mapping[str, Session], benches: Mapping[str, Bench], schedule: Schedule
) -> dict[str, Samples]:
    """Every run of every session, interleaved, each on a frame of its own size. The samples' one stage is the
    processor time that the run took: see `work_ns`."""
    rng = np.random.default_rng(SEED)
    subjects = []
    for label, session in sessions.items():
        frame = benches[label].recipe.preprocess
        pixels = rng.integers(0, 256, (frame.height, frame.width, frame.channels), np.uint8)
        subjects.append(_with_work(model_only(label, session, pixels, frame)))
    timing = measure_latency(subjects, schedule)
    return {samples.label: samples for samples in timing.samples}


def work_ns(samples: Samples, threads: int) -> list[int]:
    """The processor time of each run with one thread: unlike the wall clock's, it leaves out the time in which another
    process had the core. With more threads it would be their sum, so the wall clock is taken."""
    return [cpu for (cpu,) in samples.stage_samples_ns] if threads == 1 else samples.total_ns


def _with_work(subject: Timed) -> Timed:
    """The subject with the processor time of its runs as a stage."""

    def run() -> tuple[int, ...]:
        start = time.process_time_ns()
        subject.run()
        return (time.process_time_ns() - start,)

    return Timed(subject.label, run, ("work",))


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        yield


def _lower(net: fx.GraphModule, recipe: Recipe, target: Target, room: Path) -> Artifact:
    frame = recipe.preprocess
    noise = np.random.default_rng(SEED).integers(0, 256, (2, frame.height, frame.width, frame.channels), np.uint8)
    calibrate(net, frame_batches(noise, frame), "minmax")
    canonical = room / "canonical.onnx"
    info = CheckpointInfo(kind="ptq", recipe=recipe)
    export_canonical(net.eval(), info, None, canonical)
    return target.lower(canonical, Precision.INT8, into=room).model_copy(update={"target": target.name})
