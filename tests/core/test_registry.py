"""Registries refuse duplicates and help with misspelt names."""

from __future__ import annotations

import pytest

from edge_unet.core.errors import MissingBackendError, UsageError, require
from edge_unet.core.registry import lookup, registry


def test_a_duplicate_is_a_bug() -> None:
    with pytest.raises(ValueError, match="'a' is registered twice"):
        registry((("a", 1), ("a", 2)))


def test_a_misspelt_name_gets_the_nearest() -> None:
    table = registry((("jetson", 1), ("android", 2)))
    assert lookup(table, "jetson", "target") == 1
    with pytest.raises(UsageError, match=r"unknown target 'jetsn'; did you mean 'jetson'\?"):
        lookup(table, "jetsn", "target")
    with pytest.raises(UsageError, match="known: android, jetson"):
        lookup(table, "zzz", "target")


def test_a_missing_toolchain_names_its_extra() -> None:
    with pytest.raises(MissingBackendError, match=r"pip install 'edge-unet\[tflite\]'") as caught:
        require("no_such_module_anywhere", "tflite")
    assert caught.value.exit_code == 5
