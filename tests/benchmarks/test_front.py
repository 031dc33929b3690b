"""The picture of Dice against latency."""

import re

import pytest
from front import HEIGHT, LETTER_PX, LINE_PX, WIDTH, Point, front_svg

CROWD = (
    Point("edge_unet-portable-nano", 1.0, 0.7255, True),
    Point("edge_unet-nano", 2.1, 0.7408, True),
    Point("unext_s", 2.7, 0.6233, False),
    Point("lraspp_mobilenet_v3", 4.6, 0.7552, False),
    Point("ddrnet_23_slim", 4.8, 0.7634, False),
    Point("edge_unet-small", 5.4, 0.7657, True),
    Point("pidnet_s", 6.0, 0.7556, False),
    Point("linknet_r18", 8.2, 0.7638, False),
)
LABEL = re.compile(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(start|end)" fill="#\w+" font-weight="\w+">([^<]+)<')


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    found = {}
    for x, y, anchor, name in LABEL.findall(svg):
        wide = len(name) * LETTER_PX
        left = float(x) - (wide if anchor == "end" else 0)
        found[name] = (left, float(y) - LINE_PX + 4, left + wide, float(y) + 4)
    return found


def test_every_network_has_its_name_inside_and_no_name_covers_another() -> None:
    found = boxes(front_svg(CROWD, "Dice & latency"))
    assert set(found) == {p.name for p in CROWD}
    for name, (left, top, right, bottom) in found.items():
        assert left >= 0, name
        assert top >= 0, name
        assert right <= WIDTH, name
        assert bottom <= HEIGHT, name
        for other, box in found.items():
            apart = right <= box[0] or box[2] <= left or bottom <= box[1] or box[3] <= top
            assert apart or other == name, (name, other)


def test_nothing_measured_is_no_picture() -> None:
    with pytest.raises(ValueError, match="no network was both timed and trained"):
        front_svg((), "empty")
