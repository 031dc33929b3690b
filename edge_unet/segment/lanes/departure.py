"""Lane departure warning: the room between a wheel and a line, with hysteresis so that it does not chatter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_unet.core.errors import UsageError
from edge_unet.segment.lanes.track import EgoLane, TrackedLine

Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class DepartureRules:
    """Room in metres below which a warning begins and above which it ends, each held for `frames` frames in a row.
    Frames in which no line is known count for neither; after `forget_frames` of them a warning ends."""

    begin_m: float = 0.2
    end_m: float = 0.4
    frames: int = 3
    forget_frames: int = 25

    def __post_init__(self) -> None:
        if self.end_m <= self.begin_m or self.frames < 1 or self.forget_frames < 1:
            raise UsageError(
                f"departure: expected begin_m < end_m and at least one frame, received {self.begin_m}, {self.end_m}, "
                f"{self.frames} and {self.forget_frames}"
            )


@dataclass(frozen=True, slots=True)
class Margins:
    """Metres between the vehicle's side and the line on that side; negative: over it. None: no such line is known."""

    left_m: float | None
    right_m: float | None


def margins(lane: EgoLane, at_m: float, vehicle_width_m: float) -> Margins:
    """The room on both sides at `at_m`."""

    def room(line: TrackedLine | None) -> float | None:
        return None if line is None else abs(line.curve.at(at_m)) - vehicle_width_m / 2

    return Margins(room(lane.left), room(lane.right))


class DepartureWarning:
    """Frame after frame: None, or the side on which the vehicle leaves its lane.

    The side is that on which the warning began, also when the line has passed under the vehicle's middle.
    """

    def __init__(self, rules: DepartureRules | None = None) -> None:
        self.rules = rules or DepartureRules()
        self.side: Side | None = None
        self._run = self._unknown = 0

    def __call__(self, room: Margins) -> Side | None:
        """One frame's margins in, the warning out."""
        known = [(value, side) for value, side in ((room.left_m, "left"), (room.right_m, "right")) if value is not None]
        if not known:
            self._unknown += 1
            if self._unknown >= self.rules.forget_frames:
                self.side, self._run = None, 0
            return self.side
        self._unknown = 0
        least, where = min(known)
        turning = least > self.rules.end_m if self.side else least < self.rules.begin_m
        self._run = self._run + 1 if turning else 0
        if self._run >= self.rules.frames:
            self._run = 0
            self.side = None if self.side else ("left" if where == "left" else "right")
        return self.side

    def reset(self) -> None:
        """Forget everything, at a scene cut."""
        self.side, self._run, self._unknown = None, 0, 0
