"""Point accuracy of lanes, as the TuSimple lane detection challenge defines it.

Source of the definition: github.com/TuSimple/tusimple-benchmark, doc/lane_detection/readme.md (format, accuracy,
FP, FN) and the constants of its evaluation (20 pixels, 0.85, four lanes). A lane is a list of x, one for each row
("h_samples"), ABSENT where there is none.

- A point is right where it is within 20 pixels / cos(angle of the labelled lane) of the label; absent in both is right.
- A lane's accuracy is its share of right points, absent ones too, with the predicted lane that suits it best.
- A label is matched at 0.85 or more. A frame's accuracy is the mean over its labels; FP = unmatched predictions /
  predictions; FN = unmatched labels / labels. Of five or more labels the worst is forgiven, and the mean is over four.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError, UsageError
from edge_unet.segment.lanes.birdseye import BirdsEye
from edge_unet.segment.lanes.curve import LaneCurve

ABSENT = -2
PIXELS = 20.0
MATCHED = 0.85
COUNTED_LANES = 4
_FAR_AWAY = -100.0  # what an absent point is compared as: never within reach of one that is in the image


@dataclass(frozen=True, slots=True)
class LaneFrame:
    """One line of a file of labels or predictions."""

    name: str
    rows: tuple[int, ...]
    lanes: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class PointScore:
    """Of a frame, or the mean over frames. `accuracy` 1 is perfect, the two rates 0."""

    accuracy: float
    false_positives: float
    false_negatives: float


def score_frame(
    predicted: Sequence[Sequence[float]], labelled: Sequence[Sequence[float]], rows: Sequence[int]
) -> PointScore:
    """Score one frame. Raises DataError where a lane has not one x per row."""
    wrong = [len(lane) for lane in (*predicted, *labelled) if len(lane) != len(rows)]
    if wrong or not rows:
        raise DataError(f"lanes of {sorted(set(wrong))} points; expected one for each of {len(rows)} rows")
    best = [_best_accuracy(np.asarray(lane, np.float64), predicted, rows) for lane in labelled]
    missed = sum(accuracy < MATCHED for accuracy in best)
    wrong_predictions = len(predicted) - (len(best) - missed)
    total = sum(best)
    if len(best) > COUNTED_LANES:
        total -= min(best)
        missed -= missed > 0
    return PointScore(
        accuracy=total / max(1, min(COUNTED_LANES, len(best))),
        false_positives=wrong_predictions / len(predicted) if predicted else 0.0,
        false_negatives=missed / max(1, len(best)),
    )


def _best_accuracy(label: NDArray[np.float64], predicted: Sequence[Sequence[float]], rows: Sequence[int]) -> float:
    """Share of right points with the prediction that suits a label best; 0 without predictions."""
    reach = PIXELS / np.cos(np.arctan(_slope(label, rows)))
    wanted = np.where(label >= 0, label, _FAR_AWAY)
    given = [np.where(np.asarray(lane) >= 0, lane, _FAR_AWAY) for lane in predicted]
    return max((float((np.abs(lane - wanted) < reach).mean()) for lane in given), default=0.0)


def _slope(label: NDArray[np.float64], rows: Sequence[int]) -> float:
    """Pixels to the side per row, by least squares over the points that exist; 0 for fewer than two."""
    there = label >= 0
    if there.sum() < 2:
        return 0.0
    y = np.asarray(rows, np.float64)[there]
    away = y - y.mean()
    return float(away @ (label[there] - label[there].mean()) / (away @ away))


def mean_score(scores: Sequence[PointScore]) -> PointScore:
    """Mean over frames. Raises DataError for none."""
    if not scores:
        raise DataError("no frame to score")
    table = np.asarray([(s.accuracy, s.false_positives, s.false_negatives) for s in scores])
    return PointScore(*table.mean(axis=0).tolist())


def score_files(predictions: Path, labels: Path) -> PointScore:
    """Score a file against a file; a labelled frame that is not predicted counts as one without a lane.

    Raises DataError naming predictions of frames that have no label.
    """
    wanted = {frame.name: frame for frame in read_frames(labels)}
    given = {frame.name: frame for frame in read_frames(predictions)}
    if unknown := sorted(set(given) - set(wanted)):
        raise DataError(f"{predictions}: {len(unknown)} frames have no label in {labels}", unknown[:5])
    lanes = {name: given[name].lanes if name in given else () for name in wanted}
    return mean_score([score_frame(lanes[name], frame.lanes, frame.rows) for name, frame in wanted.items()])


def read_frames(path: Path) -> list[LaneFrame]:
    """Read a file of one JSON object a line: raw_file, lanes, h_samples. Raises UsageError naming a bad line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot read: {error.strerror}") from error
    frames = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
            rows = tuple(int(v) for v in row["h_samples"])
            frames.append(
                LaneFrame(str(row["raw_file"]), rows, tuple(tuple(map(float, lane)) for lane in row["lanes"]))
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path}, line {number}: {error!r}; expected an object with raw_file, lanes and h_samples"
            ) from error
    return frames


def frame_line(frame: LaneFrame) -> str:
    """One line of such a file."""
    lanes = [[round(x) for x in lane] for lane in frame.lanes]
    return json.dumps({"raw_file": frame.name, "lanes": lanes, "h_samples": list(frame.rows)})


def lanes_of_instances(instances: NDArray[np.uint8], rows: Sequence[int]) -> list[list[float]]:
    """(H, W) instance ids, 0 = none -> per instance the mean x of its pixels in every row, ABSENT where it has none."""
    lanes = []
    for value in np.unique(instances[instances > 0]):
        found = [np.nonzero(instances[row] == value)[0] for row in rows]
        lanes.append([float(xs.mean()) if len(xs) else float(ABSENT) for xs in found])
    return lanes


def lane_of_curve(curve: LaneCurve, birdseye: BirdsEye, rows: Sequence[int]) -> list[float]:
    """The x of a ground curve in every image row between its near and far end, ABSENT elsewhere."""
    pixels = birdseye.pixels_of(curve.along(np.linspace(curve.near_m, curve.far_m, 200)))  # near to far: rows fall
    order = np.argsort(pixels[:, 1])
    u, v = pixels[order, 0], pixels[order, 1]
    width = birdseye.calibration.image.width
    xs = np.interp(rows, v, u)
    there = (np.asarray(rows) >= v[0]) & (np.asarray(rows) <= v[-1]) & (xs >= 0) & (xs < width)
    return [float(x) for x in np.where(there, xs, float(ABSENT))]
