"""The calibration file: where four points of the image lie on the ground, and which part of the ground is looked at."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from edge_unet.core.errors import UsageError, in_words
from edge_unet.core.spec import Frozen

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Pair = tuple[float, float]


class ImageSize(Frozen):
    """Size of the frames that the points were read from, in pixels."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)


class GroundPoint(Frozen):
    """One point in the image (x, y in pixels) and on the ground (metres right of the vehicle's middle, ahead of it)."""

    image: Pair
    ground: Pair


class View(Frozen):
    """The part of the ground that is looked at, in metres, and the scale of the bird's-eye picture."""

    near_m: float = Field(default=6.0, gt=0)
    far_m: float = Field(default=35.0, gt=0)
    half_width_m: float = Field(default=8.0, gt=0)
    metres_per_pixel: float = Field(default=0.05, gt=0)

    @model_validator(mode="after")
    def _far_is_far(self) -> View:
        if self.far_m <= self.near_m:
            raise ValueError(f"far_m {self.far_m} must be larger than near_m {self.near_m}")
        if max(self.far_m - self.near_m, 2 * self.half_width_m) / self.metres_per_pixel > 8000:
            raise ValueError("the bird's-eye picture has more than 8000 pixels a side; raise metres_per_pixel")
        return self


class Calibration(Frozen):
    """A camera that looks at flat ground. Three of the four points must not lie on one line."""

    image: ImageSize
    points: Annotated[tuple[GroundPoint, ...], Field(min_length=4, max_length=4)]
    view: View = View()
    vehicle_width_m: float = Field(default=1.8, gt=0)

    @model_validator(mode="after")
    def _points_span_a_plane(self) -> Calibration:
        for name, points in (("image", [p.image for p in self.points]), ("ground", [p.ground for p in self.points])):
            for a, b, c in combinations(points, 3):
                if abs((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])) < 1e-6:
                    raise ValueError(f"{name} points {a}, {b} and {c} lie on one line")
        return self


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file (TOML). Raises UsageError where it is missing, no TOML, or not a calibration."""
    try:
        return Calibration.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(
            f"{path}: no calibration ({error.strerror}); copy apps/lanes/calibration.example.toml and put four points "
            "of your camera into it"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML ({error})") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {in_words(error)}; see apps/lanes/calibration.example.toml") from error
