"""What is served: a literal table from address to file. An address that is not in it does not exist.

/                       the built page
/files.json             every address, its version and the bundles on offer
/bundles/<version>/…    manifest, model and golden frames of one bundle; another bundle has another version
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_unet.core.bundle import MANIFEST, Bundle, open_bundle
from edge_unet.core.errors import EdgeUnetError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.spec import Precision

TARGET = "onnx"
"""The only target whose artifacts a browser's runtime reads."""
LISTING = "/files.json"
TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".onnx": "application/octet-stream",
    ".txt": "text/plain; charset=utf-8",
}
"""Suffix -> content type. A browser refuses a script or a .wasm under another type."""
KEPT = ("/assets/", "/runtime/", "/bundles/")
"""Below these the address changes with the content, so a browser may keep what it has."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One address: its file, or its bytes where they are made here."""

    content_type: str
    keep: bool
    path: Path | None = None
    body: bytes = b""

    def read(self) -> bytes:
        """What is sent."""
        return self.path.read_bytes() if self.path else self.body


def pair_of(bundle: Path) -> tuple[Bundle, ...]:
    """The bundle, and its twin of the other precision where one lies beside it: lowered from the same graph.

    Raises UsageError for a bundle of another target, ArtifactError for a damaged one.
    """
    first = open_bundle(bundle)
    artifact = first.manifest.artifact
    if artifact.target != TARGET:
        raise UsageError(
            f"{bundle}: is of target {artifact.target}; a browser runs the {TARGET} target: "
            f"edge-unet export --target {TARGET} (and once more with --precision fp32)"
        )
    return (first, *_twins(first))


def _twins(first: Bundle) -> tuple[Bundle, ...]:
    wanted = Precision.FP32 if first.manifest.artifact.precision is Precision.INT8 else Precision.INT8
    for folder in sorted(first.folder.resolve().parent.glob(f"*-{TARGET}-{wanted.value}")):
        try:
            other = open_bundle(folder)
        except EdgeUnetError:  # a neighbour that is damaged is not what was asked for
            continue
        if other.manifest.artifact.parent_sha256 == first.manifest.artifact.parent_sha256:
            return (other,)
    return ()


def site_of(page: Path, bundles: Sequence[Bundle]) -> dict[str, Entry]:
    """Address -> entry, for the built page in `page` and the bundles."""
    files = [file for file in sorted(page.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    table = {f"/{file.relative_to(page).as_posix()}": file for file in files}
    variants = []
    for bundle in bundles:
        base = f"/bundles/{sha256_of(bundle.folder / MANIFEST)[:16]}/"
        manifest = bundle.manifest
        golden = [name for entry in manifest.golden for name in (entry.frame, entry.mask)]
        table |= {base + name: bundle.folder / name for name in (MANIFEST, manifest.artifact.path, *golden)}
        variants.append({"precision": manifest.artifact.precision.value, "base": base})
    site = {address: _file(address, path) for address, path in table.items()}
    if "/index.html" in site:
        site["/"] = site["/index.html"]
    site[LISTING] = Entry(TYPES[".json"], keep=False, body=_listing(table, variants))
    return site


def _file(address: str, path: Path) -> Entry:
    content_type = TYPES.get(path.suffix, "application/octet-stream")
    return Entry(content_type, keep=address.startswith(KEPT), path=path)


def _listing(table: Mapping[str, Path], variants: Sequence[Mapping[str, Any]]) -> bytes:
    hashes = {address: sha256_of(path) for address, path in sorted(table.items())}
    version = hashlib.sha256(json.dumps([hashes, variants]).encode()).hexdigest()[:16]
    return json.dumps({"version": version, "files": list(hashes), "variants": variants}).encode()
