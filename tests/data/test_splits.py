from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_unet.core.errors import DataError, UsageError
from edge_unet.data.splits import split_groups

PATTERN = r"^(p\d+)_"


@st.composite
def grouped_names(draw: st.DrawFn) -> list[str]:
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=12))
    return [f"p{patient}_{frame}.png" for patient, size in enumerate(sizes) for frame in range(size)]


@settings(max_examples=60, deadline=None)
@given(names=grouped_names(), share=st.floats(0.01, 0.99), seed=st.integers(0, 10_000), shuffle=st.randoms())
def test_no_group_is_in_both_and_order_does_not_matter(
    names: list[str], share: float, seed: int, shuffle: random.Random
) -> None:
    train, val = split_groups(names, share=share, seed=seed, pattern=PATTERN)
    patients = [{name.split("_")[0] for name in part} for part in (train, val)]
    assert not patients[0] & patients[1]
    assert patients[0]
    assert patients[1]
    assert sorted(train + val) == sorted(names)

    shuffled = list(names)
    shuffle.shuffle(shuffled)
    again = split_groups(shuffled, share=share, seed=seed, pattern=PATTERN)
    assert (set(again[0]), set(again[1])) == (set(train), set(val))


def test_share_counts_groups_and_seed_matters() -> None:
    names = [f"p{i}_0" for i in range(40)]
    train, val = split_groups(names, share=0.15, seed=0)
    assert (len(train), len(val)) == (34, 6)
    assert split_groups(names, share=0.15, seed=1)[1] != val


def test_order_of_names_is_kept() -> None:
    names = [f"p{i}" for i in range(20)]
    for part in split_groups(names, share=0.3, seed=3):
        assert list(part) == [name for name in names if name in part]


@pytest.mark.parametrize(
    ("pattern", "words"), [("(unclosed", "not a regular expression"), ("nogroup", r"no group; put .*\(\.\.\.\)")]
)
def test_bad_patterns(pattern: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        split_groups(["a", "b"], share=0.5, seed=0, pattern=pattern)


def test_names_the_pattern_does_not_match_are_all_listed() -> None:
    with pytest.raises(DataError) as caught:
        split_groups(["p1_a", "x", "p2_b", "y"], share=0.5, seed=0, pattern=PATTERN)
    assert caught.value.offenders == ("x", "y")


def test_an_optional_group_that_stays_empty_is_no_group() -> None:
    with pytest.raises(DataError, match="does not match 1 of 2"):
        split_groups(["p1_a", "_b"], share=0.5, seed=0, pattern=r"(p\d+)?_")


@pytest.mark.parametrize("names", [[], ["p1_a"], ["p1_a", "p1_b"]])
def test_fewer_than_two_groups(names: list[str]) -> None:
    with pytest.raises(DataError, match="cannot be split"):
        split_groups(names, share=0.5, seed=0, pattern=PATTERN)
