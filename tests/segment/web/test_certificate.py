"""The certificate: for this machine's names, kept for its owner alone, made anew when it must be."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import stat
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed (extra camera)")
from cryptography import x509

from edge_unet.segment.web.certificate import certificate_for, machine_names, user_folder

NAMES = ("localhost", "127.0.0.1", "machine.local")
NOW = dt.datetime(2026, 11, 21, tzinfo=dt.timezone.utc)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_it_names_the_machine_and_lasts_as_long_as_browsers_allow(tmp_path: Path) -> None:
    made = certificate_for(NAMES, tmp_path / "new", NOW)
    found = read(made.certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "machine.local"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    assert dt.timedelta(days=300) < found.not_valid_after_utc - NOW < dt.timedelta(days=398)
    assert made.fingerprint.count(":") == 31


def test_the_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    made = certificate_for(NAMES, tmp_path, NOW)
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600


def test_it_is_kept_until_it_expires(tmp_path: Path) -> None:
    first = certificate_for(NAMES, tmp_path, NOW)
    assert certificate_for(NAMES[:2], tmp_path, NOW + dt.timedelta(days=363)) == first
    later = certificate_for(NAMES, tmp_path, NOW + dt.timedelta(days=365))
    assert later.fingerprint != first.fingerprint
    assert stat.S_IMODE(later.key.stat().st_mode) == 0o600


def test_another_address_needs_another_one(tmp_path: Path) -> None:
    first = certificate_for(NAMES, tmp_path, NOW)
    assert certificate_for((*NAMES, "10.0.0.7"), tmp_path, NOW).fingerprint != first.fingerprint


@pytest.mark.parametrize("damage", ["certificate.pem", "key.pem"])
def test_a_damaged_file_is_replaced(tmp_path: Path, damage: str) -> None:
    first = certificate_for(NAMES, tmp_path, NOW)
    (tmp_path / damage).write_text("damaged", encoding="utf-8")
    again = certificate_for(NAMES, tmp_path, NOW)
    assert again.fingerprint != first.fingerprint
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(again.certificate, again.key)


def test_a_key_of_another_certificate_is_replaced(tmp_path: Path) -> None:
    other = certificate_for(NAMES, tmp_path / "other", NOW)
    first = certificate_for(NAMES, tmp_path / "one", NOW)
    first.key.write_bytes(other.key.read_bytes())
    assert certificate_for(NAMES, tmp_path / "one", NOW).fingerprint != first.fingerprint


def test_names_and_folder_are_this_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {"localhost", "127.0.0.1", "::1"} <= set(machine_names())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert user_folder().is_relative_to(tmp_path)
