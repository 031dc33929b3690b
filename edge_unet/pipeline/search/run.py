"""One search from its table to its report; see start.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import torch
from torch import Tensor

from edge_unet.core.errors import UsageError
from edge_unet.core.files import canonical_json, write_text
from edge_unet.core.protocols import Target
from edge_unet.core.recipe import Recipe, TrainSpec
from edge_unet.core.report import FULL, RAPID
from edge_unet.data.cache import load_resized
from edge_unet.data.datasets import Dataset
from edge_unet.data.open import open_data
from edge_unet.data.subset import seeded_subset
from edge_unet.measure.environment import read_environment
from edge_unet.models import build_whole
from edge_unet.models.cost import cost_of
from edge_unet.models.edge_unet_plan import PLANS, Plan, format_plan, model_of
from edge_unet.models.levels import cut_to_level
from edge_unet.pipeline.search.probe import Bench, recipe_of, time_plans
from edge_unet.pipeline.search.report import Measured, Result, Tried, choose, page
from edge_unet.pipeline.search.space import Space
from edge_unet.pipeline.search.start import Say, SearchOptions, short_frame
from edge_unet.pipeline.search.study import (
    Judge,
    Scored,
    enqueue_shipped,
    open_study,
    plan_of_trial,
    run_trials,
    shipped_plans,
    storage_of,
    trained,
)
from edge_unet.pipeline.search.table import Measurer
from edge_unet.pipeline.search.toml import recipe_toml
from edge_unet.training.short import PROXY_FRAMES, ShortScore, naswot, short_score

FEWEST_PROXIES = 8
"""Trained plans before the proxy may stop one."""
PROXY_SHARE = 0.25
"""Plans below this quantile of the trained ones' proxies are skipped."""
BATCH = 16


@dataclass
class Run:
    """A search with its options."""

    options: SearchOptions
    recipe: Recipe
    target: Target
    say: Say

    def __post_init__(self) -> None:
        frame = self.recipe.preprocess
        self.budget_ns = self.options.budget_ms * 1e6
        self.bench = Bench(self.target, self.recipe, self.options.threads)
        deep = frame.height % 32 == 0 and frame.width % 32 == 0
        self.space = Space() if deep else Space(stages=(3, 3))
        self.shipped = shipped_plans(frame.height, frame.width)
        self.measurer = Measurer(self.bench, self.options.table, say=self.say)

    def run(self) -> dict[str, Any]:
        """Table, trials, finals; writes the results."""
        options = self.options
        storage = options.storage or str(options.out / "study.db")
        study = open_study(storage_of(storage), self.settings(), options.seed)
        self.measurer.fill(self.shipped.values())
        predicted = {name: self.measurer.predict_ns(plan) for name, plan in self.shipped.items()}
        within = {name: plan for name, plan in self.shipped.items() if predicted[name] <= self.budget_ns}
        for name, ns in sorted(predicted.items(), key=lambda item: item[1]):
            self.say(f"{name}: predicted {ns / 1e6:.2f} ms{'' if name in within else ', over the budget'}")
        enqueue_shipped(study, self.space, within, self.say)
        held = run_trials(
            study, self.space, self.judge(), budget_ns=self.budget_ns, trials=options.trials, say=self.say
        )
        self.say(f"{held} plans trained, {len(study.get_trials(deepcopy=False))} looked at")
        names = {format_plan(plan): name for name, plan in self.shipped.items()}
        tried = [
            Tried.model_validate(
                {**t.user_attrs, "number": t.number, "score": t.value, "shipped": names.get(t.user_attrs["plan"])}
            )
            for t in trained(study)
        ]
        measured = self.measured([plan_of_trial(t) for t in trained(study)], tried)
        again = self.again(study, measured, tried)
        result = Result(
            settings=self.settings(),
            environment=read_environment(threads=options.threads),
            looked_at=len(study.get_trials(deepcopy=False)),
            tried=tuple(tried),
            measured=tuple(measured),
            again=again,
            busy=options.busy,
            table_rows=len(self.measurer.table.rows),
            table_reference_ns=self.measurer.table.reference_ns,
        )
        return self.write(choose(result))

    def settings(self) -> dict[str, Any]:
        """What a study is bound to: another value of any of these is another search."""
        options = self.options
        return {
            "target": self.target.name,
            "budget_ms": options.budget_ms,
            "recipe": self.recipe.model_dump(mode="json", exclude={"model", "name", "licence"}),
            "epochs": options.epochs,
            "size": options.size,
            "images": options.images,
            "seed": options.seed,
            "proxy": options.proxy,
            "machine": self.measurer.key.model_dump(mode="json"),
            "data": self.data[0].sha256,
            "space": {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self.space).items()},
        }

    @cached_property
    def short_recipe(self) -> Recipe:
        """The recipe of a short training, less the network."""
        height, width = short_frame(self.recipe, self.options.size)
        spec = TrainSpec.model_validate(
            {
                **self.recipe.train.model_dump(exclude={"stages", "epochs"}),
                "epochs": self.options.epochs,
                "batch": min(BATCH, self.recipe.train.batch),
                "warmup_epochs": min(1.0, self.options.epochs / 4),
                "ema_decay": 0.95,
                "validate_every": self.options.epochs,
            }
        )
        frame = self.recipe.preprocess.model_copy(update={"height": height, "width": width})
        return self.recipe.model_copy(update={"train": spec, "preprocess": frame, "seed": self.options.seed})

    @cached_property
    def data(self) -> tuple[Dataset, Dataset]:
        """Training subset and validation set of the short trainings."""
        if not self.recipe.data.train:
            self.say("no data given: plans are scored on procedural scenes (--data, or [data] of a recipe)")
        train = seeded_subset(open_data(self.short_recipe, "train"), self.options.images, self.options.seed)
        return train, open_data(self.short_recipe, "val")

    def judge(self) -> Judge:
        """Latency by the table, score by a short training."""
        return Judge(
            predict_ns=self.measurer.predict_ns,
            score=lambda plan: self.scored(plan, self.options.seed),
            paper=self.paper,
            passes_proxy=self.passes_proxy,
        )

    def scored(self, plan: Plan, seed: int) -> Scored:
        """A short training."""
        recipe = recipe_of(plan, self.short_recipe).model_copy(update={"seed": seed})
        found: ShortScore = short_score(recipe, *self.data)
        return Scored(found.score, {"seconds": round(found.seconds, 1)})

    def paper(self, plan: Plan) -> Mapping[str, Any]:
        """Parameters and MACs of the network that ends in its deepest head, at the recipe's size."""
        frame = self.recipe.preprocess
        with torch.device("meta"):
            net = cut_to_level(build_whole(recipe_of(plan, self.recipe)), f"L{len(plan.stages)}")
        cost = cost_of(net, frame.channels, frame.height, frame.width)
        return {"parameters": cost.parameters, "macs": cost.macs}

    @cached_property
    def proxy_frames(self) -> Tensor:
        """Training frames for the proxy."""
        frames, _ = load_resized(self.data[0], self.short_recipe.preprocess)
        return torch.from_numpy(frames[:PROXY_FRAMES])

    def passes_proxy(self, plan: Plan, noted: dict[str, Any], known: list[float]) -> bool:
        """NASWOT, always noted; with --proxy the lowest quarter is not trained."""
        value = naswot(recipe_of(plan, self.short_recipe), self.proxy_frames)
        if value is not None:
            noted["proxy"] = value
        if not self.options.proxy or len(known) < FEWEST_PROXIES:
            return True
        return value is not None and value >= sorted(known)[int(len(known) * PROXY_SHARE)]

    def measured(self, plans: Sequence[Plan], tried: Sequence[Tried]) -> list[Measured]:
        """Finalists and shipped plans, to validate the table also random ones and those over the budget, timed
        together for real beside their prediction."""
        found = [row for row in tried if row.shipped is None]
        best = sorted(found, key=lambda row: -row.score)[: 2 * self.options.finalists]
        trained_too = {row.plan for row in tried}
        wanted = {
            format_plan(plan): plan
            for plan in self.shipped.values()
            if self.options.validate or format_plan(plan) in trained_too
        }
        wanted |= {format_plan(plan): plan for plan in plans if format_plan(plan) in {row.plan for row in best}}
        wanted |= {format_plan(plan): plan for plan in self.random_plans()}
        self.measurer.fill(wanted.values())
        self.say(f"measuring {len(wanted)} plans on {self.target.name}")
        schedule = RAPID if self.options.rapid else FULL.model_copy(update={"runs": 256, "limit_ns": 10_000_000_000})
        times = time_plans(wanted, self.bench, schedule)
        names = {format_plan(plan): name for name, plan in PLANS.items()}
        rows = [
            Measured.of(
                text,
                names.get(text),
                self.measurer.table.predict_ns(plan),
                times[text],
                self.options.threads,
            )
            for text, plan in wanted.items()
        ]
        for row in rows:
            self.say(row.line())
        return rows

    def random_plans(self) -> list[Plan]:
        """Plans drawn without regard to the score, at most twice the budget: what the table is checked on."""
        rng = Random(self.options.seed)
        found: list[Plan] = []
        for _ in range(2000):
            if len(found) == self.options.validate:
                break
            plan = self.space.suggest(_Rolls(rng))
            if self.measurer.predict_ns(plan, 2 * self.budget_ns) <= 2 * self.budget_ns:
                found.append(plan)
        return found

    def again(self, study: Any, measured: Sequence[Measured], tried: Sequence[Tried]) -> dict[str, tuple[float, ...]]:
        """Scores of the finalists and the best shipped plan within the measured budget, with fresh seeds; kept in the
        study, so that a resumed search has them."""
        keeps = {row.plan for row in measured if row.held_ns(self.options.busy) <= self.budget_ns}
        ranked = [row for row in sorted(tried, key=lambda row: -row.score) if row.plan in keeps]
        ours = [row.plan for row in ranked if row.shipped is None][: self.options.finalists]
        theirs = [row.plan for row in ranked if row.shipped is not None][:1]
        if not ranked:
            raise UsageError(
                f"search: no trained plan keeps {self.options.budget_ms:g} ms when it is measured "
                "as a whole; raise --budget or --trials, or measure on a quieter machine (or with --busy)"
            )
        plans = {format_plan(plan_of_trial(t)): plan_of_trial(t) for t in trained(study)}
        found: dict[str, tuple[float, ...]] = {}
        for text in (*theirs, *ours):
            scores = []
            for seed in range(self.options.seed + 1, self.options.seed + 1 + self.options.seeds):
                key = f"again {text} {seed}"
                if key not in study.user_attrs:
                    study.set_user_attr(key, self.scored(plans[text], seed).score)
                scores.append(float(study.user_attrs[key]))
            found[text] = tuple(scores)
            self.say(f"{text} with {len(scores)} other seeds: {', '.join(f'{score:.4f}' for score in scores)}")
        return found

    def write(self, result: Result) -> dict[str, Any]:
        """best.toml, search.json, search.md."""
        out, best = self.options.out, result.best_plan
        recipe = recipe_of(best, self.recipe)
        recipe = recipe.model_copy(update={"name": f"{self.recipe.name}-searched", "model": model_of(best)})
        write_text(out / "best.toml", recipe_toml(recipe, f"Found by edge-unet search: {result.verdict}"))
        values = result.model_dump(mode="json")
        write_text(out / "search.json", canonical_json(values))
        write_text(out / "search.md", page(result))
        self.say(result.verdict)
        self.say(f"{out / 'best.toml'}: edge-unet train --recipe {out / 'best.toml'}")
        return values


class _Rolls:
    """A chooser that rolls dice."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """Any of them, small ones as often as large ones."""
        return self.rng.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Any of them."""
        return self.rng.choice(list(choices))
