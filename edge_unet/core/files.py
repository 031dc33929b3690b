"""Files that are either whole or absent, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge_unet.core.errors import UsageError


def sha256_of(path: Path) -> str:
    """sha256 of a file, or of a directory's sorted relative names and contents (an .mlpackage is a directory)."""
    digest = hashlib.sha256()
    if not path.is_dir():
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + sha256_of(file).encode())
    return digest.hexdigest()


def bytes_of(path: Path) -> int:
    """Size of a file, or of all files below a directory."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write a file or directory to; rename it to `path` on success.

    On failure the temporary is removed and what stood at `path` before is untouched.
    Raises UsageError where the folder cannot be created or written, or where a file would take the place of a folder
    or a folder that of a file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose a writable --out") from error
    temporary = room / path.name
    try:
        yield temporary
        _refuse_other_kind(path, folder=temporary.is_dir())
        if path.is_dir() and not path.is_symlink():
            path.rename(room / "replaced")
        os.replace(temporary, path)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _refuse_other_kind(path: Path, *, folder: bool) -> None:
    """A file named as --out must not swallow a folder full of results, nor the other way round."""
    if path.exists() and path.is_dir() != folder:
        there, new = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise UsageError(f"cannot write {path}: it is a {there}, and a {new} is to be written; choose another --out")


def require_writable(path: Path) -> None:
    """Raise UsageError where no file can be written at `path`: asked before long work, so that nothing is lost."""
    _refuse_other_kind(path, folder=False)
    with suppress(_NotWanted), written_whole(path):
        raise _NotWanted


class _NotWanted(Exception):  # noqa: N818 - not an error
    """Leaves written_whole as a failure does: nothing is put at the path."""


def write_text(path: Path, text: str) -> None:
    """Write `text` whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and a final newline: the same value gives the same bytes."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
