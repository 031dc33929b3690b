"""`edge-unet search` from end to end on a small folder, what it refuses, and the recipe it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_road import quiet, write_pairs

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import LossSpec, ModelSpec, Recipe, load_recipe, parse_recipe, tomllib
from edge_unet.models import PRESETS, build
from edge_unet.models.edge_unet_plan import PLANS, plan_of
from edge_unet.models.edge_unet_probes import Part
from edge_unet.pipeline.search import SearchOptions, search
from edge_unet.pipeline.search.probe import Bench, recipe_of
from edge_unet.pipeline.search.table import LatencyTable, Row, key_of
from edge_unet.pipeline.search.toml import recipe_toml
from edge_unet.targets.registry import TARGETS

RECIPE = """
name = "discs"
[model]
name = "edge_unet"
variant = "portable-nano"
depth = 5
deep = true
[preprocess]
height = 64
width = 64
[loss]
head_weights = [0.1, 0.2, 0.3, 0.4]
[train]
batch = 8
learning_rate = 1e-2
amp = "off"
"""


def write_table(path: Path, recipe: Recipe) -> None:
    """A stand-in table that knows every part of the space, at 50 ms each, so that nothing is measured part by part."""
    key = key_of(Bench(TARGETS["cpu"], recipe))
    row = Row(cost_ns=5e7, reference_ns=1000.0, halves_ns=0, runs=1)
    widths, strides = range(32, 385, 32), (4, 8, 16, 32)
    kinds = [("block", "dense"), ("block", "large"), ("conv", "dense"), ("conv", "large")]
    parts = [Part(kind, style, c, c, stride) for kind, style in kinds for c in widths for stride in strides]
    pairs = [("frame", ""), ("down", "k2"), ("down", "k3"), ("lift", ""), ("point", "")]
    parts += [
        Part(kind, style, a, b, stride) for kind, style in pairs for a in widths for b in widths for stride in strides
    ]
    table = LatencyTable(key=key, rows={part.key: row for part in parts})
    path.write_text(table.model_dump_json(), encoding="utf-8")


@pytest.mark.slow
def test_a_whole_search_writes_a_recipe_that_builds(tmp_path: Path) -> None:
    """Trials and finals; then the same command again trains nothing more, and another budget is refused."""
    data = tmp_path / "data"
    write_pairs(data / "train", 12, 1)
    write_pairs(data / "val", 4, 2)
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    options = SearchOptions(
        budget_ms=800, target="cpu", recipe=tmp_path / "recipe.toml", data=data, trials=2, epochs=1, size=32,
        images=8, out=tmp_path / "out", table=tmp_path / "table.json", finalists=1, seeds=1, validate=0, rapid=True,
        busy=True,
    )  # fmt: skip
    write_table(tmp_path / "table.json", load_recipe(tmp_path / "recipe.toml"))
    found = search(options, say=quiet)
    kept = json.loads((tmp_path / "out/search.json").read_text(encoding="utf-8"))
    assert kept == found
    shipped = {row["shipped"] for row in found["tried"]}
    assert shipped == {"nano", None}  # with 50 ms a part it takes 750 ms, the others more; and one plan of its own
    assert all(row["parameters"] > 0 and row["macs"] > 0 and row["seconds"] > 0 for row in found["tried"])
    assert {row["name"] for row in found["measured"]} == shipped
    assert found["median_relative_error"] > 1  # the stand-in table knows nothing
    assert found["rank_correlation"] is None  # two plans have no order worth telling
    assert len(found["again"]) == 2
    recipe = load_recipe(tmp_path / "out/best.toml")
    assert plan_of(recipe.model.variant) == plan_of(found["best"])
    assert recipe.data.train == (str(data.resolve()),)
    assert build(recipe) is not None
    assert "# Search: cpu, work 800 ms at 64x64" in (tmp_path / "out/search.md").read_text(encoding="utf-8")
    heard: list[str] = []
    again = search(options, say=heard.append)
    assert again["tried"] == found["tried"]
    assert again["again"] == found["again"]
    assert not [line for line in heard if line.startswith(("table", "trial"))]
    with pytest.raises(UsageError, match="its budget_ms is 800"):
        search(SearchOptions(**{**vars(options), "budget_ms": 2.0}), say=quiet)


def test_a_target_that_is_not_timed_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"target ios is not timed on this machine; one of: cpu, android"):
        search(SearchOptions(budget_ms=1, target="ios", out=tmp_path), say=quiet)
    with pytest.raises(UsageError, match=r"--busy counts the processor time of one thread"):
        search(SearchOptions(budget_ms=1, busy=True, threads=2, out=tmp_path), say=quiet)
    with pytest.raises(UsageError, match=r"--size gives 40x32; expected multiples of 16"):
        search(SearchOptions(budget_ms=1, size=40, out=tmp_path), say=quiet)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_recipe_survives_toml(name: str) -> None:
    recipe = Recipe(name='a "b" \\ c', model=PRESETS[name])
    assert parse_recipe(tomllib.loads(recipe_toml(recipe, "why")), source="toml") == recipe


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20), st.floats(1e-9, 1e3))
@example("\x7f", 1.0)  # JSON leaves it as it is, TOML does not take it
@settings(max_examples=50, deadline=None)
def test_any_text_and_number_survives_toml(text: str, rate: float) -> None:
    base = Recipe(name=text)
    recipe = base.model_copy(update={"train": base.train.model_copy(update={"learning_rate": rate})})
    assert parse_recipe(tomllib.loads(recipe_toml(recipe)), source="toml") == recipe


def test_head_weights_follow_the_heads() -> None:
    shallow = ModelSpec(name="edge_unet", variant="nano-shallow", depth=4)
    three = Recipe(model=shallow, loss=LossSpec(head_weights=(1, 2, 3)))
    assert recipe_of(PLANS["portable-nano"], three).loss.head_weights == (1, 1, 2, 3)
    four = three.model_copy(update={"loss": LossSpec(head_weights=(1, 2, 3, 4))})
    assert recipe_of(plan_of("nano-shallow"), four).loss.head_weights == (2, 3, 4)
    assert recipe_of(PLANS["small"], Recipe()).loss.head_weights == ()
