from __future__ import annotations

import numpy as np
import pytest

from edge_unet.core.errors import DataError
from edge_unet.core.spec import ClassSpec
from edge_unet.data.datasets import JoinedDataset, content_hash
from edge_unet.data.scenes import SceneDataset


def scenes(count: int, seed: int) -> SceneDataset:
    return SceneDataset("lanes", count, seed, 32, 32)


def test_index_runs_over_the_parts() -> None:
    parts = [scenes(2, 0), scenes(1, 1), scenes(3, 2)]
    joined = JoinedDataset(parts)
    assert len(joined) == len(joined.names) == 6
    for index, (part, within) in enumerate([(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]):
        np.testing.assert_array_equal(joined.load(index)[0], parts[part].load(within)[0])
        assert joined.names[index] == parts[part].names[within]
        assert joined.frame_sha256(index) == parts[part].frame_sha256(within)


@pytest.mark.parametrize("index", [-1, 3])
def test_index_out_of_range(index: int) -> None:
    with pytest.raises(IndexError, match="of 3"):
        JoinedDataset([scenes(3, 0)]).load(index)


def test_hash_does_not_depend_on_the_order_of_parts() -> None:
    one, two = scenes(2, 0), scenes(2, 1)
    assert JoinedDataset([one, two]).sha256 == JoinedDataset([two, one]).sha256
    assert JoinedDataset([one, two]).sha256 != JoinedDataset([one]).sha256


def test_nothing_to_join() -> None:
    with pytest.raises(DataError, match="no dataset"):
        JoinedDataset([])


def test_other_classes_are_refused() -> None:
    other = ClassSpec(names=("a", "b"), palette=((0, 0, 0), (1, 1, 1)))
    with pytest.raises(DataError, match="different classes") as caught:
        JoinedDataset([scenes(2, 0), SceneDataset("lanes", 2, 1, 32, 32, class_spec=other)])
    assert caught.value.offenders == ("scenes-lanes",)


def test_content_hash_is_sorted_and_separates_its_fields() -> None:
    assert content_hash([("a", "1"), ("b", "2")]) == content_hash([("b", "2"), ("a", "1")])
    assert content_hash([("a", "12")]) != content_hash([("a1", "2")])
