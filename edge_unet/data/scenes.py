"""Procedural scenes as a dataset: something to train on where no images may be shipped, the same everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.spec import ClassSpec
from edge_unet.data.scene_endoscopy import endoscopy_scene
from edge_unet.data.scene_lanes import lane_scene
from edge_unet.frames.files import ColorOrder

SceneKind = Literal["endoscopy", "lanes"]
_Painter = Callable[[np.random.Generator, int, int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]

PAINTERS: Mapping[SceneKind, _Painter] = MappingProxyType({"endoscopy": endoscopy_scene, "lanes": lane_scene})
SCENE_CLASSES: Mapping[SceneKind, ClassSpec] = MappingProxyType(
    {
        "endoscopy": ClassSpec(names=("background", "polyp"), palette=((0, 0, 0), (0, 200, 83))),
        "lanes": ClassSpec(names=("background", "lane"), palette=((0, 0, 0), (255, 196, 0))),
    }
)
SCENES_VERSION = 1
"""Counts up whenever a painter draws another picture from the same seed, so that hashes tell them apart."""
SMALLEST = 32


@dataclass(frozen=True, slots=True)
class SceneDataset:
    """`count` scenes; number i depends on kind, seed, i and size alone. Binary. Raises UsageError below 32x32 pixels,
    on an unknown kind, or on multi-class `classes` (default: those of the kind)."""

    kind: SceneKind
    count: int
    seed: int
    height: int
    width: int
    color_order: ColorOrder = "RGB"
    class_spec: ClassSpec | None = None

    def __post_init__(self) -> None:
        if self.kind not in PAINTERS:
            raise UsageError(f"no procedural scene {self.kind!r}; expected one of {', '.join(PAINTERS)}")
        if min(self.height, self.width) < SMALLEST or self.count < 1 or self.seed < 0:
            raise UsageError(
                f"scenes: {self.count} of {self.height}x{self.width} from seed {self.seed}; "
                f"expected at least 1 of {SMALLEST}x{SMALLEST} and a seed from 0"
            )
        if self.classes.channels != 1:
            raise UsageError(
                f"procedural scenes have two classes, the recipe names {len(self.classes.names)}; "
                "set two classes.names, or data.train to folders of your own"
            )

    @property
    def name(self) -> str:
        """`scenes-<kind>`."""
        return f"scenes-{self.kind}"

    @property
    def classes(self) -> ClassSpec:
        """Background and the kind's object."""
        return self.class_spec or SCENE_CLASSES[self.kind]

    @property
    def sha256(self) -> str:
        """Of everything the pictures follow from; none has to be painted for it."""
        key = f"{SCENES_VERSION} {self.kind} {self.count} {self.seed} {self.height}x{self.width}"
        return hashlib.sha256(key.encode()).hexdigest()

    @property
    def names(self) -> Sequence[str]:
        """One name per scene."""
        return tuple(f"{self.name}/{self.seed}/{index:05d}" for index in range(self.count))

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Paint scene `index`: frame (H, W, C) u8 in `color_order` and mask (H, W) u8 of 0 and 1."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        rng = np.random.default_rng([self.seed, index])
        frame, mask = PAINTERS[self.kind](rng, self.height, self.width)
        if self.color_order == "BGR":
            frame = np.ascontiguousarray(frame[..., ::-1])
        elif self.color_order == "GRAY":
            frame = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]  # (H, W, 1)
        return frame, mask

    def frame_sha256(self, index: int) -> str:
        """Of the pixels of scene `index`."""
        return hashlib.sha256(self.load(index)[0].tobytes()).hexdigest()
