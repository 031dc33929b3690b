"""OpenVINO's performance counters.

The plugin tells the mean of each layer over all runs since it was compiled, in whole microseconds. The time of one run
is therefore a difference of two sums, good to as many microseconds as there were runs: the artifact is compiled anew
for every few of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_unet.canonical import CanonicalGraph
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import UsageError
from edge_unet.core.spec import Precision, Tensors
from edge_unet.measure.profilers.profile import WARM, Names, Profile, layer_time
from edge_unet.targets.openvino.census import CANONICAL
from edge_unet.targets.openvino.read_back import read_model
from edge_unet.targets.openvino.runtime import OpenVinoSession, has_bf16

BLOCK = 8
"""Counted runs per compilation."""

_Samples = dict[tuple[str, str, str], list[float]]
"""(name, type, execution type) -> nanoseconds of every counted run."""


class _Counting(OpenVinoSession):
    """A session as bench opens it, with the counters on."""

    def _compile(self, model: Any) -> Any:
        self._options = {**self._options, "PERF_COUNT": True}
        return super()._compile(model)

    def totals_us(self, runs: int) -> dict[tuple[str, str, str], float]:
        """Microseconds of each layer in all `runs` since compilation together."""
        return {
            (i.node_name, i.node_type, i.exec_type): i.real_time.total_seconds() * 1e6 * runs
            for i in self._request.profiling_info
        }

    def merged(self) -> dict[str, list[str]]:
        """Layer -> the nodes of the saved model that it was made of."""
        facts = {n.get_friendly_name(): n.get_rt_info() for n in self._compiled.get_runtime_model().get_ordered_ops()}
        key = "originalLayersNames"
        return {name: str(f[key].value).split(",") for name, f in facts.items() if key in f and str(f[key].value)}


def profile(
    folder: Path, artifact: Artifact, feeds: Tensors, runs: int, *, graph: CanonicalGraph, threads: int, bf16: bool
) -> Profile:
    """Median of each executed layer over `runs` runs; layers that were never executed or took no time are left out.

    Raises UsageError where bf16 is asked of an INT8 artifact or of a CPU without it.
    """
    if bf16 and (artifact.precision is not Precision.FP32 or not has_bf16()):
        raise UsageError(f"{artifact.path}: bf16 needs an fp32 artifact and a CPU with bfloat16; profile it without")
    samples: _Samples = {}
    for start in range(0, runs, BLOCK):
        session = _Counting(folder, artifact, threads, "bf16" if bf16 else "f32")
        _sample(session, feeds, min(BLOCK, runs - start), samples)
    names = Names(graph)
    merged, owners = session.merged(), _owners(read_model(folder, artifact), names)
    layers = []
    for (name, kind, unit), times in samples.items():
        if any(times):
            parts = [owners.get(part, part) for part in merged.get(name, ())]
            node = names.node(parts, alone=kind == "FakeQuantize")
            layers.append(layer_time(name, CANONICAL.get(kind, kind), unit, node, times))
    return Profile("OpenVINO performance counters", session.runtime, runs, tuple(layers))


def _sample(session: _Counting, feeds: Tensors, runs: int, samples: _Samples) -> None:
    before: dict[tuple[str, str, str], float] = {}
    for number in range(1, WARM + runs + 1):
        session.infer(feeds)
        after = session.totals_us(number)
        if number > WARM:
            for key, total in after.items():
                samples.setdefault(key, []).append((total - before.get(key, 0.0)) * 1000)
        before = after


def _owners(model: Any, names: Names) -> dict[str, str]:
    """Node that the lowering added without a name -> the named node that reads its result, directly or not."""
    owners: dict[str, str] = {}
    for node in reversed(model.get_ordered_ops()):
        name = node.get_friendly_name()
        readers = [r.get_node().get_friendly_name() for o in node.outputs() for r in o.get_target_inputs()]
        if readers and names.node([name], alone=True) is None:
            owners[name] = owners.get(readers[0], readers[0])
    return owners
