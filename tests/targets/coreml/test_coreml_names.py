from __future__ import annotations

import re

import pytest

from edge_unet.core.errors import ArtifactError
from edge_unet.targets.coreml.names import Names, NameTable, WeightName, base_name, parse_names


def test_identifiers_are_legal_unique_and_stable() -> None:
    onnx = ["a.b", "a/b", "a_b", "1x", "_x", "fp16", "state", "x_cast_fp16", "x_cast_fp16_2", "layer::0", "a_b_v2"]
    names, again = Names(["logits"]), Names(["logits"])
    first = [names.mil(name) for name in onnx]
    assert len(set(first)) == len(onnx)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) and name != "fp16" for name in first)
    assert [again.mil(name) for name in onnx] == first
    assert [names.mil(name) for name in onnx] == first


def test_kept_names_are_not_taken_by_an_inner_tensor() -> None:
    names = Names(["logits.0", "image"])
    assert names.mil("logits_0") != names.mil("logits.0") == "logits_0"


@pytest.mark.parametrize("name", ["a", "x_cast_fp16", "x_cast_fp16_1"])
def test_the_fp16_suffix_is_undone(name: str) -> None:
    mil = Names([]).mil(name)
    assert base_name(mil) == mil
    assert base_name(f"{mil}_cast_fp16") == mil
    assert base_name(f"{mil}_cast_fp16_3") == mil


def test_the_table_survives_json_and_damage_is_named() -> None:
    table = NameTable(activations={"a_q": "a.q"}, weights={"w": WeightName(name="w.0", per_channel=True)})
    assert parse_names(table.dump(), source="p") == table
    with pytest.raises(ArtifactError, match=r"some\.mlpackage"):
        parse_names(table.dump()[:-20], source="some.mlpackage")
