"""A device behind ssh: this machine, through a real sshd."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from devices.loopback import Loopback, loopback, unavailable

from edge_unet.devices.ssh import CONFIG_VARIABLE


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """A running sshd; its rooms are empty before each test that checks them."""
    if reason := unavailable():
        pytest.skip(reason)
    with loopback(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def ssh_config(sshd: Loopback, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What EDGE_UNET_SSH_CONFIG names."""
    monkeypatch.setenv(CONFIG_VARIABLE, str(sshd.config))
    return sshd.config


@pytest.fixture
def brief() -> Iterator[Path]:
    """A temporary folder with a short name: pytest's own are too long for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="e-", dir="/tmp") as folder:
        yield Path(folder)
