"""The server of the camera page: one table of addresses, the headers that give a page threads, TLS for phones."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from edge_unet.core.errors import UsageError
from edge_unet.segment.web.certificate import Certificate
from edge_unet.segment.web.site import Entry

HEADERS: Mapping[str, str] = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
"""The first two give the page shared memory and so threads; the policies keep it from talking to anybody else."""
KEEP = "public, max-age=31536000, immutable"


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of the table; everything else is refused."""

    protocol_version = "HTTP/1.1"
    server_version = "edge-unet"
    sys_version = ""
    timeout = 30
    site: Mapping[str, Entry] = {}

    def do_GET(self) -> None:
        """Send one entry."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Send the headers of one entry."""
        self._send(with_body=False)

    def _send(self, *, with_body: bool) -> None:
        entry = self.site.get(urlsplit(self.path).path)
        try:
            body = entry.read() if entry else b"not here\n"
        except OSError:  # the file was removed while the server runs
            entry, body = None, b"no longer here\n"
        self.send_response(HTTPStatus.OK if entry else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Type", entry.content_type if entry else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", KEEP if entry and entry.keep else "no-cache")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal keeps the address to open."""


class _Server(ThreadingHTTPServer):
    """One thread a connection; TLS is spoken in that thread, so that a silent client holds up nobody."""

    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection. One that fails to speak TLS, or breaks off, is dropped without a trace."""
        try:
            if self.context:
                request.settimeout(_Handler.timeout)
                request = self.context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
        except (ssl.SSLError, ConnectionError, TimeoutError):
            pass
        finally:
            if self.context and isinstance(request, ssl.SSLSocket):
                request.close()


def make_server(
    site: Mapping[str, Entry], host: str, port: int, certificate: Certificate | None
) -> ThreadingHTTPServer:
    """A bound server, not yet serving; port 0 takes a free one. TLS where there is a certificate.

    Raises UsageError where the address cannot be bound.
    """
    handler = type("Handler", (_Handler,), {"site": site})
    try:
        server = _Server((host, port), handler)
    except OSError as error:
        raise UsageError(
            f"cannot serve on {host}:{port}: {error.strerror or error}; choose another --host or --port"
        ) from error
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate.certificate, certificate.key)
        server.context = context
    return server
