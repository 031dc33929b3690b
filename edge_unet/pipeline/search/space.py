"""What a search may choose: stages, and of each its width, blocks, kind and downsampling; of each decoder step its
width, convolutions and kind. Names say the stride, so that a choice means the same at every depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from edge_unet.models.edge_unet_plan import Block, Plan, Stage, Step

WIDTH_STEP = 32
"""Channels come in multiples of it: INT8 kernels work on 16 to 64 at a time."""
KINDS: tuple[Block, ...] = ("dense", "large")


class Chooser(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """An integer from low to high."""
        ...

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""
        ...


@dataclass(frozen=True)
class Space:
    """Bounds of a search; the shipped plans lie within."""

    stages: tuple[int, int] = (3, 4)
    stem: int = 128
    """Most channels of the first stage."""
    width: int = 384
    """Most channels of the others."""
    blocks: tuple[int, int] = (1, 7)
    step: int = 128
    """Most channels of a decoder step."""
    convs: tuple[int, int] = (1, 2)

    def suggest(self, trial: Chooser) -> Plan:
        """A plan as the trial chooses it."""
        count = self.stages[0]
        if self.stages[0] < self.stages[1]:
            count = trial.suggest_int("stages", *self.stages)
        stages = tuple(self._stage(trial, number) for number in range(count))
        steps = tuple(self._step(trial, number) for number in reversed(range(count - 1)))
        return Plan(stages, steps)

    def _stage(self, trial: Chooser, number: int) -> Stage:
        at = f"@{4 * 2**number}"
        most = self.width if number else self.stem
        width = trial.suggest_int(f"width{at}", WIDTH_STEP, most, step=WIDTH_STEP)
        blocks = trial.suggest_int(f"blocks{at}", *self.blocks)
        kind = trial.suggest_categorical(f"kind{at}", KINDS)
        kernel = trial.suggest_categorical(f"down{at}", (3, 2)) if number else 3
        return Stage(width, blocks, kind, kernel)

    def _step(self, trial: Chooser, number: int) -> Step:
        at = f"@{4 * 2**number}"
        width = trial.suggest_int(f"step{at}", WIDTH_STEP, self.step, step=WIDTH_STEP)
        kind = trial.suggest_categorical(f"step_kind{at}", KINDS)
        convs = trial.suggest_int(f"convs{at}", *self.convs) if kind == "dense" else 1
        return Step(width, convs, kind)

    def choices(self, plan: Plan) -> dict[str, Any] | None:
        """What `suggest` must be told to give this plan back; None where it lies outside."""
        teller = _Teller(plan)
        try:
            again = self.suggest(teller)
        except _OutsideError:
            return None
        return teller.told if again == plan else None


class _OutsideError(Exception):
    """The plan has a value that the space does not offer."""


class _Teller:
    """Answers as a given plan would."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.told: dict[str, Any] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """The plan's own value, where the space offers it."""
        value = self._value(name)
        if not low <= value <= high or (value - low) % step:
            raise _OutsideError
        self.told[name] = value
        return int(value)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """The plan's own value."""
        value = self._value(name)
        if value not in choices:
            raise _OutsideError
        self.told[name] = value
        return value

    def _value(self, name: str) -> Any:
        if name == "stages":
            return len(self.plan.stages)
        what, _, stride = name.partition("@")
        number = (int(stride) // 4).bit_length() - 1
        if what in ("step", "step_kind", "convs"):
            step = self.plan.steps[len(self.plan.steps) - 1 - number]
            return {"step": step.channels, "step_kind": step.kind, "convs": step.convs}[what]
        stage = self.plan.stages[number]
        return {"width": stage.channels, "blocks": stage.blocks, "kind": stage.kind, "down": stage.kernel}[what]
