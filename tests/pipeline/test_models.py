"""The list of networks that ships: it is what counting them gives."""

from __future__ import annotations

import pytest

from edge_unet.models import PRESETS
from edge_unet.pipeline.models import count_model, list_models

ROWS = {row["name"]: row for row in list_models()}


def test_every_preset_is_listed_once() -> None:
    assert sorted(ROWS) == sorted(PRESETS)


@pytest.mark.parametrize("name", ["mobile_unet-0.5", "unetpp-8", "unext-s", "vm_unet_v2-tiny"])
def test_what_ships_is_what_is_counted(name: str) -> None:
    """If this fails: python export/costs.py."""
    shipped = {key: value for key, value in ROWS[name].items() if key not in ("name", "int8")}
    assert shipped == count_model(PRESETS[name])
