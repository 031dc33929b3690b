"""Several bundles on one frame: the levels of one network, for what they agree and disagree on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.spec import ClassSpec, PreprocessSpec
from edge_unet.segment.colours import in_order
from edge_unet.segment.segmenter import Segmenter, Timing
from edge_unet.segment.uncertainty import disagreement, entropy_bits


@dataclass(frozen=True, slots=True)
class Opinion:
    """Probabilities of one frame at the network's output size, and where they are unsure (bits)."""

    probabilities: NDArray[np.float32]  # (classes, h, w), the mean where there are several heads
    entropy: NDArray[np.float32] | None  # (h, w), of the mean; None unless asked for
    mutual_information: NDArray[np.float32] | None  # (h, w); None with one head, or unless asked for
    timing: Timing


class Ensemble:
    """One or more bundles of the same classes and input, opened together. A context manager."""

    def __init__(self, bundles: Sequence[Path], *, threads: int = 1) -> None:
        with ExitStack() as stack:
            self.members = [stack.enter_context(Segmenter.load(bundle, threads=threads)) for bundle in bundles]
            for bundle, member in zip(bundles, self.members, strict=True):
                self._require_alike(bundle, member)
            self._stack = stack.pop_all()

    def _require_alike(self, bundle: Path, member: Segmenter) -> None:
        first = self.members[0]
        if member.classes.names != first.classes.names:
            raise UsageError(
                f"{bundle}: classes {member.classes.names}, expected {first.classes.names} as the first bundle has; "
                "an ensemble is several levels of one network"
            )
        if member.preprocess != first.preprocess:
            raise UsageError(
                f"{bundle}: input {member.preprocess.width}x{member.preprocess.height} and its preprocessing differ "
                f"from the first bundle's {first.preprocess.width}x{first.preprocess.height}; export them alike"
            )

    @property
    def preprocess(self) -> PreprocessSpec:
        """How frames become the networks' input."""
        return self.members[0].preprocess

    @property
    def classes(self) -> ClassSpec:
        """Names and colours of the classes."""
        return self.members[0].classes

    @property
    def title(self) -> str:
        """Name, target and precision of the first bundle, and how many there are."""
        manifest = self.members[0].bundle.manifest
        more = f" x{len(self.members)}" if len(self.members) > 1 else ""
        return f"{manifest.name}{more} {manifest.artifact.target} {manifest.artifact.precision.value}"

    def __call__(self, frame: NDArray[np.uint8], *, uncertainty: bool = False) -> Opinion:
        """Ask every member about one RGB frame, (H, W, 3) u8."""
        ordered = in_order(frame, self.preprocess.color_order)
        results = [member(ordered, probabilities=True) for member in self.members]
        heads = [result.probabilities for result in results if result.probabilities is not None]
        parts = [result.timing for result in results]
        timing = Timing(
            sum(t.preprocess_ns for t in parts), sum(t.infer_ns for t in parts), sum(t.postprocess_ns for t in parts)
        )
        if len(heads) > 1:
            found = disagreement(heads)
            information = found.mutual_information if uncertainty else None
            return Opinion(found.mean, found.entropy if uncertainty else None, information, timing)
        return Opinion(heads[0], entropy_bits(heads[0]) if uncertainty else None, None, timing)

    def close(self) -> None:
        """Free the runtimes."""
        self._stack.close()

    def __enter__(self) -> Ensemble:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def class_index(classes: ClassSpec, name: str | None) -> int:
    """The id of a class by name; the first foreground class for None. Raises UsageError for an unknown name."""
    if name is None:
        return 1
    if name not in classes.names[1:]:
        raise UsageError(f"no class {name!r} in this bundle; it has {', '.join(classes.names[1:])}")
    return classes.names.index(name)
