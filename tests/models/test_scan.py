"""The scans against a sequential reference in float64 that shares no code with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edge_unet.models.scan import by_doubling, by_steps, chunk_length, segment_sums, selective_scan, state_space_dual

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
FORMS: dict[str, Callable[..., Tensor]] = {
    "steps": selective_scan,
    "doubling": lambda *inputs: selective_scan(*inputs, within=by_doubling),
    "doubling only": lambda *inputs: selective_scan(*inputs, longest=1),
    "steps of 64": lambda *inputs: selective_scan(*inputs, longest=64),
}


def sequential(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The definition, step by step in float64. Shapes as in selective_scan."""
    u, dt, a, b, c = (x.double() for x in (u, dt, a, b, c))
    state = torch.zeros(*u.shape[1:3], a.shape[1], u.shape[3], dtype=torch.float64)  # (N, K, S, D)
    results = []
    for t in range(u.shape[0]):
        state = (dt[t].unsqueeze(2) * a).exp() * state + (dt[t] * u[t]).unsqueeze(2) * b[t].unsqueeze(3)
        results.append(torch.einsum("nksd,nks->nkd", state, c[t]))
    return torch.stack(results)


def make(length: int, low: float, high: float, seed: int = 0, states: int = 16, width: int = 6) -> Inputs:
    """Two frames, four scans; steps log-uniform in low..high, A = -(1..S)."""
    g = torch.Generator().manual_seed(seed)
    u = torch.randn(length, 2, 4, width, generator=g)
    dt = torch.empty_like(u).uniform_(np.log(low), np.log(high), generator=g).exp()
    a = -torch.arange(1.0, states + 1)[None, :, None].expand(4, states, width)
    b, c = (torch.randn(length, 2, 4, states, generator=g) for _ in range(2))
    return u, dt, a, b, c


def make_heads(length: int, low: float, high: float, seed: int = 0, heads: int = 3) -> Inputs:
    """Four scans of three heads of 6 channels: x, dt, a, b, c of state_space_dual; A between -16 and -1."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(4, heads, length, 6, generator=g)
    dt = torch.empty(4, heads, length).uniform_(np.log(low), np.log(high), generator=g).exp()
    a = -torch.empty(4, heads, 1).uniform_(1, 16, generator=g)
    b, c = (torch.randn(4, length, 8, generator=g) for _ in range(2))
    return x, dt, a, b, c


def sequential_heads(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """state_space_dual as the general scan: a head's decay repeated over its channels and states."""
    scans, heads, length, width = x.shape
    u = x.permute(2, 0, 1, 3).reshape(length, 1, scans, heads * width)
    steps = dt.permute(2, 0, 1).repeat_interleave(width, 2).unsqueeze(1)  # (L, 1, M, J * P)
    rates = a[:, :, 0].repeat_interleave(width, 1).unsqueeze(1).expand(-1, b.shape[-1], -1)  # (M, S, J * P)
    y = sequential(u, steps, rates, *(v.transpose(0, 1).unsqueeze(1) for v in (b, c)))
    return y.reshape(length, scans, heads, width).permute(1, 2, 0, 3)


def error(ours: Tensor, real: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((ours.double() - real).abs().max() / real.abs().max())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 2, 13, 64, 121, 256])
@pytest.mark.parametrize(("low", "high"), [(1e-3, 0.1), (1e-3, 10.0), (1.0, 10.0)])
def test_the_scan_is_the_recurrence_at_any_step_size(form: str, length: int, low: float, high: float) -> None:
    inputs = make(length, low, high)
    assert error(FORMS[form](*inputs), sequential(*inputs)) < 2e-6


@pytest.mark.parametrize("length", [1, 13, 64, 121, 256])
@pytest.mark.parametrize(("low", "high"), [(1e-3, 0.1), (1e-3, 10.0), (1.0, 10.0)])
def test_the_dual_form_is_the_recurrence_with_one_decay_per_head(length: int, low: float, high: float) -> None:
    inputs = make_heads(length, low, high)
    assert error(state_space_dual(*inputs), sequential_heads(*inputs)) < 2e-6


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 70),
    low=st.floats(-9, 1),
    span=st.floats(0, 9),
    seed=st.integers(0, 2**16),
    rate=st.floats(0, 16),
)
def test_no_input_gives_nan_and_none_gives_more_than_the_sum_of_its_terms(
    length: int, low: float, span: float, seed: int, rate: float
) -> None:
    u, dt, a, b, c = make(length, 10**low, 10 ** min(low + span, 1.0) + 1e-12, seed, states=4, width=2)
    a = a / 4 * rate
    y = selective_scan(u, dt, a, b, c)
    bound = sequential(u.abs(), dt, torch.zeros_like(a), b.abs(), c.abs())  # no decay, no cancellation
    assert y.isfinite().all()
    assert (y.abs().double() <= bound * (1 + 1e-5) + 1e-30).all()
    assert error(y, sequential(u, dt, a, b, c)) < 1e-5


def test_the_past_never_sees_the_future() -> None:
    for make_inputs, scan, axis in ((make, selective_scan, 0), (make_heads, state_space_dual, 2)):
        inputs = make_inputs(48, 1e-3, 1.0)
        changed = inputs[0].clone()
        changed.narrow(axis, 30, 18).add_(5)
        before, after = scan(*inputs), scan(changed, *inputs[1:])
        assert torch.equal(before.narrow(axis, 0, 30), after.narrow(axis, 0, 30))
        assert not torch.equal(before.narrow(axis, 30, 1), after.narrow(axis, 30, 1))


@pytest.mark.parametrize(
    ("scan", "reference", "make_inputs"),
    [
        (selective_scan, sequential, make),
        (FORMS["doubling"], sequential, make),
        (state_space_dual, sequential_heads, make_heads),
    ],
    ids=["steps", "doubling", "dual"],
)
def test_gradients_are_those_of_the_recurrence(
    scan: Callable[..., Tensor], reference: Callable[..., Tensor], make_inputs: Callable[..., Inputs]
) -> None:
    inputs = [x.clone().requires_grad_() for x in make_inputs(32, 1e-2, 3.0)]
    weight = torch.randn(reference(*inputs).shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((scan(*inputs) * weight).sum(), inputs)
    real = torch.autograd.grad((reference(*inputs) * weight).sum(), inputs)
    assert [error(o, r.double()) < 5e-6 for o, r in zip(ours, real, strict=True)] == [True] * 5


def test_chunks_divide_the_length() -> None:
    assert [chunk_length(n, 16) for n in (1, 4, 16, 36, 49, 64, 121, 17)] == [1, 4, 16, 12, 7, 16, 11, 1]
    assert [chunk_length(n, 8) for n in (16, 36, 121)] == [8, 6, 1]


def test_segment_sums_are_sums_of_their_own_terms() -> None:
    x = torch.tensor([1e8, 1.0, 2.0, 4.0])  # differences of running sums would give 0 for 1 + 2 + 4
    sums, mask = segment_sums(x)
    assert sums.tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [3, 2, 0, 0], [7, 6, 4, 0]]
    assert torch.equal(mask, torch.ones(4, 4).tril())


class Whole(nn.Module):
    """A scan as a module."""

    def __init__(self, scan: Callable[..., Tensor]) -> None:
        super().__init__()
        self.scan = scan

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.scan(*inputs)


@pytest.mark.parametrize(
    ("scan", "make_inputs", "ops"),
    [
        (selective_scan, make, {"Exp", "Mul", "Add", "Concat", "Slice", "Reshape", "Unsqueeze", "ReduceSum"}),
        (
            state_space_dual,
            make_heads,
            {"Exp", "Mul", "Add", "Concat", "Slice", "Reshape", "Unsqueeze", "MatMul", "Transpose"},
        ),
    ],
    ids=["selective", "dual"],
)
def test_the_exported_graph_is_static_and_equals_torch(
    scan: Callable[..., Tensor], make_inputs: Callable[..., Inputs], ops: set[str], tmp_path: Path
) -> None:
    inputs = make_inputs(64, 1e-3, 10.0)
    path = tmp_path / "scan.onnx"
    torch.onnx.export(
        Whole(scan).eval(), inputs, path, dynamo=True, opset_version=21, verbose=False, external_data=False
    )
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    assert {n.op_type for n in model.graph.node} <= ops, Counter(n.op_type for n in model.graph.node)
    ranks = [len(v.type.tensor_type.shape.dim) for v in (*model.graph.value_info, *model.graph.output)]
    assert max(ranks) <= 5
    dims = [d for v in model.graph.value_info for d in v.type.tensor_type.shape.dim]
    assert all(d.HasField("dim_value") for d in dims)
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    (y,) = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
    assert error(torch.from_numpy(y), scan(*inputs).double()) < 1e-6


def test_the_steps_form_makes_the_products_of_the_doubling_form() -> None:
    decay, drive = torch.rand(3, 16, 5), torch.randn(3, 16, 5)
    for ours, theirs in zip(by_steps(decay, drive, 1), by_doubling(decay, drive, 1), strict=True):
        torch.testing.assert_close(ours, theirs)
