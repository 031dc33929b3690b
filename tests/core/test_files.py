"""Files are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_unet.core.errors import UsageError
from edge_unet.core.files import bytes_of, sha256_of, written_whole


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(RuntimeError), written_whole(path) as temporary:  # noqa: PT012 - the failure is the case
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "d"
    for text in ("one", "two"):
        with written_whole(path) as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert [p.name for p in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"), written_whole(tmp_path / "file" / "x") as temporary:
        temporary.write_text("")


def test_folder_hash_sees_names_and_contents(tmp_path: Path) -> None:
    a, b, c = (tmp_path / n for n in "abc")
    for folder, name, text in ((a, "x", "1"), (b, "x", "1"), (c, "y", "1")):
        folder.mkdir()
        (folder / name).write_text(text)
    assert sha256_of(a) == sha256_of(b) != sha256_of(c)
    os.truncate(b / "x", 0)
    assert sha256_of(a) != sha256_of(b)
    assert bytes_of(a) == 1
