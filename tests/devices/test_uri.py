"""--device: three forms, and nothing that a shell or ssh could take for something else."""

from __future__ import annotations

import pytest

from edge_unet.core.errors import UsageError
from edge_unet.devices.open import open_device, open_host
from edge_unet.devices.uri import DeviceUri, parse_uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local", DeviceUri("local")),
        ("ssh://orin", DeviceUri("ssh", host="orin")),
        ("ssh://pi@10.0.0.7:2222", DeviceUri("ssh", host="10.0.0.7", user="pi", port=2222)),
        ("ssh://nv_1@lab-3.example.org", DeviceUri("ssh", host="lab-3.example.org", user="nv_1")),
        ("ssh://[fe80::1]:22", DeviceUri("ssh", host="fe80::1", port=22)),
        ("adb://emulator-5554", DeviceUri("adb", serial="emulator-5554")),
        ("adb://192.168.1.5:5555", DeviceUri("adb", serial="192.168.1.5:5555")),
    ],
)
def test_the_three_forms(text: str, expected: DeviceUri) -> None:
    assert parse_uri(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "local ", "LOCAL", "ssh://", "ssh://-oProxyCommand=x", "ssh://-x@host", "ssh://host:0",
        "ssh://host:65536", "ssh://host:22x", "ssh://a b", "ssh://host\n", "ssh://$(id)", "ssh://h;id", "ssh://h'",
        'ssh://h"', "ssh://h/dir", "ssh://u@-h", "ssh://u:p@h", "adb://", "adb://-s", "adb://a b", "adb://x;y",
        "adb://$(id)", "http://h", "-h", "ssh:host",
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected local, ssh://\[user@\]host\[:port\] or adb://SERIAL") as caught:
        parse_uri(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("orin", "ssh://orin"),
        ("shs://pi@orin:22", "ssh://pi@orin:22"),
        ("ssh://-oProxyCommand=touch x", "ssh://oProxyCommandtouchx"),
        ("locl", "local"),
        ("abd://R5CT", "adb://R5CT"),
        ("adb://", "adb://SERIAL"),
        ("ssh://", "ssh://HOST"),
        ("ssh:/orin", "ssh://orin"),
        ("ssh://orin:99999", "ssh://orin"),
    ],
)
def test_the_nearest_form_is_named(text: str, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_uri(text)
    assert str(caught.value).endswith(f"did you mean {nearest}?")
    if "SERIAL" not in nearest and "HOST" not in nearest:
        assert str(parse_uri(nearest)) == nearest


def test_a_device_by_its_uri() -> None:
    with open_device("local") as device:
        assert (device.kind, device.label) == ("local", "local")
    assert open_device("ssh://pi@orin:2222").label == "ssh://pi@orin:2222"  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="phone"):
        open_host("adb://R5CT")
