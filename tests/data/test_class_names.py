from __future__ import annotations

from pathlib import Path

import pytest

from edge_unet.core.errors import DataError
from edge_unet.data.class_names import read_classes


def test_ids_names_and_the_ignore_value(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("# road\n1 Road surface\n\n0 Sky\n2 Car\n7 Unlabelled(void,ignore)\n")
    classes = read_classes(file)
    assert classes.names == ("Sky", "Road surface", "Car")
    assert classes.ignore_value == 7
    assert len(set(classes.palette)) == 3


def test_camvid(shared_data: Path) -> None:
    classes = read_classes(shared_data / "camvid" / "classes.txt")
    assert (classes.channels, classes.names[0], classes.names[10]) == (11, "Sky", "Bicyclist")
    assert classes.ignore_value == 11
    assert len(set(classes.palette)) == 11


def test_every_bad_line_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("0 a\nx b\n0 c\n300 d\n5\n4 void\n9 ignore\n2 e\n")
    with pytest.raises(DataError) as caught:
        read_classes(file)
    lines = caught.value.offenders
    assert [line.split(":")[0] for line in lines[:4]] == ["line 2", "line 3", "line 4", "line 5"]
    assert "already taken" in lines[1]
    assert "[0, 2]" in lines[4]
    assert "[4, 9]" in lines[5]


@pytest.mark.parametrize("content", [None, "0 only\n", "\xff\xfe"])
def test_unreadable_or_too_few(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "classes.txt"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=r"classes\.txt"):
        read_classes(file)
