"""Times as a user writes them."""

import pytest

from edge_unet.core.duration import parse_ms
from edge_unet.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"), [("20ms", 20), ("10 ms", 10), ("0.02 s", 20), ("0.5S", 500), ("20", 20), ("7.5", 7.5)]
)
def test_times(text: str, value: float) -> None:
    assert parse_ms(text, "--budget") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "soon", "-3ms", "0", "inf", "inf ms", "nan"])
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError, match=f"--deadline {text!r}: expected a positive time such as 20ms"):
        parse_ms(text, "--deadline")
