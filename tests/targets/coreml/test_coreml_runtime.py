"""What the saved package computes, against the canonical graph on ONNX Runtime with optimizations off.

Two claims, at two strengths:
- Teacher-forced, every segment between two quantizers is within 1 LSB. That is the proof of the lowering: each op is
  right, and what is left is fp16 storage (a value near a rounding tie).
- Free-running with fused int8 kernels, which round once, the masks are the reference's but for ties and for what fp16
  storage does to the tiny graphs' biases (training puts them on fp16, the tiny graphs do not).
- Free-running with every fp16 tensor rounded, single steps add up. The tiny graphs have random weights, so 3 to 5 %
  of their pixels lie exactly on the decision boundary and 9 to 13 % within one step (1/16) of it; ONNX Runtime agrees
  with itself (optimizations on and off) on only 98 to 99 % of the pixels. Asserted are therefore 99 % of the pixels
  that are more than one step from the boundary, and 97 % of all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from coreml_packages import Lowered, Lowerer
from numpy.typing import NDArray

from edge_unet.canonical import load_graph, strip_qdq
from edge_unet.core.errors import UsageError
from edge_unet.core.protocols import LayerSession, ModelledSession
from edge_unet.core.spec import Precision, mask_from_logits
from edge_unet.targets.coreml import TARGET
from edge_unet.targets.coreml.runtime import UNFUSED

STEP = 1 / 16
ToReal = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def start(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def with_codes(path: Path) -> ort.InferenceSession:
    """The canonical graph with every quantizer's codes as an output too."""
    model, names = onnx.load(path), load_graph(path).activations
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8, None))
    return start(model)


def run(session: ort.InferenceSession, real: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"image": real}), strict=True))


def margin(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1, C, H, W) -> (1, H, W): how far each pixel is from another class."""
    if logits.shape[1] == 1:
        return np.abs(logits[:, 0])
    ranked = np.sort(logits, axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2])


def agreement(
    made: Lowered, session: ort.InferenceSession, frames: NDArray[np.uint8], to_real: ToReal, *, unfused: bool = False
) -> tuple[float, float]:
    """Share of equal mask pixels: of all, and of those more than a step from the boundary."""
    equal, clear = [], []
    with TARGET.open(made.folder, made.artifact) as opened:
        assert isinstance(opened, ModelledSession)
        ours = opened.other_models()[UNFUSED] if unfused else opened
        for frame in frames[:, None]:
            logits = ours.infer({"image": frame})["logits"]
            expected = np.asarray(run(session, to_real(frame))["logits"], np.float32)
            assert logits.shape == expected.shape
            assert logits.dtype == np.float32
            equal.append(mask_from_logits(logits) == mask_from_logits(expected))
            clear.append(margin(expected) > STEP)
    same, far = np.array(equal), np.array(clear)
    return float(same.mean()), float(same[far].mean())


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("deployment", ["iOS17", "iOS18"])
def test_int8_masks_agree(
    lowered: Lowerer, frames_u8: NDArray[np.uint8], to_real: ToReal, deployment: str, classes: int
) -> None:
    made = lowered(Precision.INT8, deployment, classes=classes)
    reference = with_codes(made.canonical)
    fused, fused_clear = agreement(made, reference, frames_u8, to_real)
    assert fused_clear >= 0.998
    everywhere, clear = agreement(made, reference, frames_u8, to_real, unfused=True)
    assert clear >= 0.99
    assert everywhere >= 0.97
    assert fused > everywhere, "one rounding, as in the reference, instead of one per fp16 tensor"


@pytest.mark.parametrize("classes", [1, 3])
def test_fp16_masks_agree_with_the_float_twin(
    lowered: Lowerer, frames_u8: NDArray[np.uint8], to_real: ToReal, classes: int
) -> None:
    made = lowered(Precision.FP16, classes=classes)
    everywhere, clear = agreement(made, start(strip_qdq(load_graph(made.canonical))), frames_u8, to_real)
    assert clear >= 0.999
    assert everywhere >= 0.995


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("deployment", "storage"), [("iOS17", "int8"), ("iOS18", "int8"), ("iOS17", "uint8")])
def test_every_segment_is_within_one_step_when_teacher_forced(
    lowered: Lowerer,
    frames_u8: NDArray[np.uint8],
    to_real: ToReal,
    deployment: str,
    storage: str,
    classes: int,
) -> None:
    made = lowered(Precision.INT8, deployment, storage, classes)
    reference, names = with_codes(made.canonical), load_graph(made.canonical).activations
    different = total = 0
    with TARGET.open(made.folder, made.artifact) as opened:
        assert isinstance(opened, ModelledSession)
        session = opened.other_models()[UNFUSED]
        assert isinstance(session, LayerSession)
        for frame in frames_u8[:4, None]:
            expected = run(reference, to_real(frame))
            codes = session.codes({"image": frame}, force={name: expected[name] for name in names})
            assert set(codes) == set(names)
            for name, own in codes.items():
                error = np.abs(own.astype(int) - expected[name].astype(int))
                assert own.dtype == np.int8
                assert error.max() <= 1, name
                different, total = different + int((error > 0).sum()), total + error.size
    assert different / total < 0.01  # 0.28 % seen


def test_the_first_quantizer_gives_pixel_minus_128(lowered: Lowerer) -> None:
    frame = (np.arange(64 * 64 * 3) % 256).astype(np.uint8).reshape(1, 64, 64, 3)
    for deployment in ("iOS17", "iOS18"):
        made = lowered(Precision.INT8, deployment)
        with TARGET.open(made.folder, made.artifact) as session:
            assert isinstance(session, LayerSession)
            codes = session.codes({"image": frame})["image.q"]
        np.testing.assert_array_equal(codes.transpose(0, 2, 3, 1), frame.astype(int) - 128)


def test_forcing_replaces_the_codes_behind_a_quantizer_but_reports_its_own(
    lowered: Lowerer, frames_u8: NDArray[np.uint8]
) -> None:
    made, feeds = lowered(Precision.INT8), {"image": frames_u8[:1]}
    with TARGET.open(made.folder, made.artifact) as session:
        assert isinstance(session, LayerSession)
        free = session.codes(feeds)
        forced = session.codes(feeds, force={"concat1.q": np.zeros_like(free["concat1.q"])})
        same = session.codes(feeds, force={"concat1.q": free["concat1.q"]})
        with pytest.raises(UsageError, match=r"no quantized tensor nowhere\.q"):
            session.codes(feeds, force={"nowhere.q": free["image.q"]})
    np.testing.assert_array_equal(forced["concat1.q"], free["concat1.q"])
    assert not np.array_equal(forced["last.dw.act.q"], free["last.dw.act.q"])
    for name, codes in free.items():
        np.testing.assert_array_equal(same[name], codes, name)


def test_logits_are_what_fp16_can_hold(lowered: Lowerer, frames_u8: NDArray[np.uint8]) -> None:
    made = lowered(Precision.FP16)
    with TARGET.open(made.folder, made.artifact) as session:
        logits = session.infer({"image": frames_u8[:1]})["logits"]
        assert "not Core ML" in session.runtime
    np.testing.assert_array_equal(logits, logits.astype(np.float16).astype(np.float32))
    assert np.unique(logits).size > 1000


def test_census_counts_int8_layers_and_says_what_it_is(lowered: Lowerer) -> None:
    made = lowered(Precision.INT8)
    with TARGET.open(made.folder, made.artifact) as session:
        census = session.census()
    assert "not where the Neural Engine places" in census.source
    arithmetic = [
        n for n in load_graph(made.canonical).nodes if n.op not in ("QuantizeLinear", "DequantizeLinear", "Clip")
    ]
    assert census.int8_layers == len(arithmetic)
    assert [layer.name for layer in census.layers if layer.precision != "int8"] == [
        "image__scaled__",
        "image__biased__",
    ]
    half = lowered(Precision.FP16)
    with TARGET.open(half.folder, half.artifact) as session:
        assert session.census().by_precision() == {"fp16": len(arithmetic), "fp32": 2}


def test_wrong_requests(lowered: Lowerer, frames_u8: NDArray[np.uint8]) -> None:
    made, half = lowered(Precision.INT8), lowered(Precision.FP16)
    with pytest.raises(UsageError, match="fp16, not bf16"), TARGET.open(made.folder, made.artifact, bf16=True):
        pass
    with TARGET.open(half.folder, half.artifact) as session:
        assert isinstance(session, LayerSession)
        with pytest.raises(UsageError, match="fp16 artifact has no codes"):
            session.codes({"image": frames_u8[:1]})
        with pytest.raises(UsageError, match=r"expects uint8 \(1, 64, 64, 3\)"):
            session.infer({"image": frames_u8[:1].astype(np.float32)})
