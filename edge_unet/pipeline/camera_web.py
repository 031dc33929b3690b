"""`edge-unet camera --web`: the camera page of a phone, served from this machine with a bundle."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path

from edge_unet.core.errors import UsageError
from edge_unet.segment.web.certificate import certificate_for, lan_addresses, machine_names, user_folder
from edge_unet.segment.web.page import built_page
from edge_unet.segment.web.server import make_server
from edge_unet.segment.web.site import pair_of, site_of

EVERYWHERE = "0.0.0.0"
PORT = 8443


def serve_camera(bundle: Path, host: str, port: int, *, plain: bool, say: Callable[[str], None]) -> None:
    """Serve until interrupted. `plain` is HTTP without a certificate, for this machine alone.

    Raises UsageError for a bundle of another target or an address that cannot be bound, MissingBackendError where the
    page is not built and cannot be.
    """
    server = open_server(bundle, host, port, plain=plain, say=say)
    try:
        server.serve_forever()
    finally:
        server.server_close()


def open_server(
    bundle: Path, host: str, port: int, *, plain: bool, say: Callable[[str], None], page: Path | None = None
) -> ThreadingHTTPServer:
    """The bound server, with the lines that say what to open; port 0 takes a free one."""
    if plain and not _is_this_machine(host):
        raise UsageError(f"--http serves this machine alone, not {host}: browsers give no camera to http:// elsewhere")
    bundles = pair_of(bundle)
    site = site_of(page or built_page(say), bundles)
    names = machine_names() if host in (EVERYWHERE, "::", "") else (*machine_names(), host)
    certificate = None if plain else certificate_for(tuple(dict.fromkeys(names)), user_folder())
    server = make_server(site, host, port, certificate)
    offered = ", ".join(b.manifest.artifact.precision.value for b in bundles)
    say(f"{bundles[0].manifest.name}: {offered}")
    if len(bundles) == 1:
        other = "fp32" if offered == "int8" else "int8"
        say(
            f"no {other} bundle of it beside this one; to time both: edge-unet export --target onnx --precision {other}"
        )
    for url in addresses(host, server.server_address[1], plain=plain):
        say(f"open  {url}")
    if certificate:
        say("the browser warns of a self-signed certificate; go on, and compare if you like: sha256")
        say(f"  {certificate.fingerprint}")
    say("Ctrl-C ends it")
    return server


def addresses(host: str, port: int, *, plain: bool) -> tuple[str, ...]:
    """What to type into the phone: every address of this machine where it listens everywhere."""
    scheme = "http" if plain else "https"
    hosts = (*lan_addresses(), "localhost") if host in (EVERYWHERE, "::", "") else (host,)
    return tuple(f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}/" for name in hosts)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
