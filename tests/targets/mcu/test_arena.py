"""The search for the smallest arena outlives the process that tries the sizes."""

from __future__ import annotations

import pytest

from edge_unet.core.errors import ArtifactError
from edge_unet.targets.mcu.arena import bounds_after


def test_every_answer_moves_a_bound() -> None:
    assert bounds_after("50\nfits\n25\nsmall\n37\nsmall\n", 0, 100, 0) == (37, 50)
    assert bounds_after("", 7, 8, 0) == (7, 8)


def test_a_size_that_kills_the_child_is_too_small() -> None:
    assert bounds_after("50\nfits\n25\n", 0, 100, -11) == (25, 50)
    assert bounds_after("50\n", 0, 100, -11) == (50, 100)


def test_another_end_is_an_error_with_its_last_line() -> None:
    with pytest.raises(ArtifactError, match=r"ended with code 1 \(ModuleNotFoundError: no tflite\)"):
        bounds_after("50\n", 0, 100, 1, "Traceback\nModuleNotFoundError: no tflite\n")
