"""Peak memory belongs to the artifact's own process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from measure.planted import open_failing, open_greedy, open_planted

from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import ArtifactError
from edge_unet.measure.memory import peak_rss_bytes


def test_the_peak_is_the_childs_own(bundle_of: Callable[..., Bundle]) -> None:
    bundle = bundle_of()
    ballast = np.ones(400_000_000, np.uint8)  # what this process holds must not show
    plain = peak_rss_bytes(open_planted, bundle.folder, bundle.manifest.artifact)
    assert ballast[-1] == 1
    del ballast
    greedy = peak_rss_bytes(open_greedy, bundle.folder, bundle.manifest.artifact)
    assert plain is not None
    assert greedy is not None
    assert 20_000_000 < plain < 350_000_000
    assert greedy - plain == pytest.approx(300_000_000, rel=0.25)


def test_a_failing_child_is_an_error(bundle_of: Callable[..., Bundle]) -> None:
    bundle = bundle_of()
    with pytest.raises(ArtifactError, match="no room on the accelerator"):
        peak_rss_bytes(open_failing, bundle.folder, bundle.manifest.artifact)
