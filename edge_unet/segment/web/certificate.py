"""A self-signed certificate for the names of this machine, made on first use and kept for the user alone.

A phone asks once whether it trusts it; the same certificate is used until it expires or the machine's names change.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_unet.core.errors import require
from edge_unet.core.files import written_whole

if TYPE_CHECKING:
    from cryptography import x509

DAYS = 365
"""Browsers refuse certificates that are valid for much longer."""
SPARE = dt.timedelta(days=1)
"""One that expires within a day is renewed now, not in the middle of a demonstration."""
NOWHERE = ("192.0.2.1", 9)
"""An address that is nobody's (RFC 5737): asking for the way to it names this machine's own address."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files of the certificate and its key, and the sha256 that a careful user compares with the phone's."""

    certificate: Path
    key: Path
    fingerprint: str


def user_folder() -> Path:
    """Where the certificate is kept: $XDG_CONFIG_HOME/edge-unet or ~/.config/edge-unet."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "edge-unet" / "camera-web"


def lan_addresses() -> tuple[str, ...]:
    """This machine's addresses in the local network, the one of the default route first. No packet is sent."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):  # no network at all
        probe.connect(NOWHERE)
        found.append(probe.getsockname()[0])
    with suppress(OSError):  # the host's own name does not resolve
        found += [str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    return tuple(a for a in dict.fromkeys(found) if not ipaddress.ip_address(a).is_loopback)


def machine_names() -> tuple[str, ...]:
    """Every name and address under which a phone may reach this machine."""
    host = socket.gethostname().lower()
    names = [*lan_addresses(), host, *([] if "." in host else [f"{host}.local"]), "localhost", "127.0.0.1", "::1"]
    return tuple(dict.fromkeys(names))


def certificate_for(names: Sequence[str], folder: Path, now: dt.datetime | None = None) -> Certificate:
    """The kept certificate, or a new one where there is none, it expires or lacks one of `names`.

    Raises MissingBackendError without cryptography, UsageError where the folder cannot be written.
    """
    require("cryptography", "camera")
    moment = now or dt.datetime.now(dt.timezone.utc)
    pair = folder / "certificate.pem", folder / "key.pem"
    known = _read(*pair)
    if known is None or not _still_good(known, names, moment):
        known = _make(names, moment, *pair)
    return Certificate(*pair, fingerprint=_fingerprint(known))


def _read(certificate: Path, key: Path) -> x509.Certificate | None:
    """The certificate that is kept; None where it or its key is absent, damaged or not the other's."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        made = x509.load_pem_x509_certificate(certificate.read_bytes())
        owner = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError):
        return None
    return made if owner.public_key() == made.public_key() else None


def _still_good(known: x509.Certificate, names: Sequence[str], now: dt.datetime) -> bool:
    from cryptography import x509

    held = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    covered = {str(entry.value) for entry in held}
    return set(names) <= covered and known.not_valid_before_utc <= now < known.not_valid_after_utc - SPARE


def _make(names: Sequence[str], now: dt.datetime, certificate: Path, key: Path) -> x509.Certificate:
    """Sign a new certificate with a new key and keep both; the key is readable by its owner alone from the start."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    owner = ec.generate_private_key(ec.SECP256R1())
    title = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge_unet camera")])
    made = (
        x509.CertificateBuilder()
        .subject_name(title)
        .issuer_name(title)
        .public_key(owner.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # a phone's clock may be slow
        .not_valid_after(now + dt.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(owner, hashes.SHA256())
    )
    secret = owner.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with written_whole(key) as temporary:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        temporary.write_bytes(secret)
    with written_whole(certificate) as temporary:
        temporary.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _fingerprint(known: x509.Certificate) -> str:
    """sha256 as browsers show it: AB:CD:…"""
    from cryptography.hazmat.primitives import hashes

    return known.fingerprint(hashes.SHA256()).hex(":").upper()
