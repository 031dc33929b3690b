"""Files are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_unet.core.errors import UsageError
from edge_unet.core.files import bytes_of, require_writable, sha256_of, write_text, written_whole


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


def test_a_file_never_replaces_a_folder_nor_a_folder_a_file(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/kept").write_text("precious")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError, match="it is a folder, and a file is to be written"):
        write_text(tmp_path / "results", "x")
    with pytest.raises(UsageError, match="it is a file, and a folder"), written_whole(tmp_path / "file") as temporary:
        temporary.mkdir()
    assert (tmp_path / "results/kept").read_text() == (tmp_path / "file").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "results"]


def test_asking_whether_a_file_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("kept")
    for name in ("old.json", "new.json"):
        require_writable(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "kept"
    for wrong in (tmp_path, tmp_path / "old.json/x"):
        with pytest.raises(UsageError, match="cannot write"):
            require_writable(wrong)


def test_folder_hash_sees_names_and_contents(tmp_path: Path) -> None:
    a, b, c = (tmp_path / n for n in "abc")
    for folder, name, text in ((a, "x", "1"), (b, "x", "1"), (c, "y", "1")):
        folder.mkdir()
        (folder / name).write_text(text)
    assert sha256_of(a) == sha256_of(b) != sha256_of(c)
    os.truncate(b / "x", 0)
    assert sha256_of(a) != sha256_of(b)
    assert bytes_of(a) == 1
