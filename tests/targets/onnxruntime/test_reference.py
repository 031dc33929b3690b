from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.reference
import pytest
from numpy.typing import NDArray

from edge_unet.canonical import load_graph, strip_qdq
from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.protocols import LayerSession
from edge_unet.core.spec import Precision, feed_from_pixels, mask_from_logits
from edge_unet.targets.onnxruntime.reference import ReferenceSession, open_reference


def feeds_for(session: ReferenceSession, path: Path, frame: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    spec = session.artifact.inputs[0]
    return {spec.name: feed_from_pixels(frame[None], spec, load_graph(path).metadata.preprocess)}


def test_masks_equal_an_independent_evaluation(tiny_canonical: Path, frames_u8: NDArray[np.uint8]) -> None:
    evaluator = onnx.reference.ReferenceEvaluator(str(tiny_canonical))
    with open_reference(tiny_canonical) as session:
        feeds = feeds_for(session, tiny_canonical, frames_u8[0])
        logits = session.infer(feeds)["logits"]
        expected = evaluator.run(None, feeds)[0]
    assert np.mean(mask_from_logits(logits) == mask_from_logits(expected)) >= 0.999
    assert 0.02 < mask_from_logits(logits).mean() < 0.98  # a mask of one class would agree with anything


def test_codes_show_every_quantized_tensor(tiny_canonical: Path, frames_u8: NDArray[np.uint8]) -> None:
    graph = load_graph(tiny_canonical)
    with open_reference(tiny_canonical) as session:
        assert isinstance(session, LayerSession)
        feeds = feeds_for(session, tiny_canonical, frames_u8[0])
        codes = session.codes(feeds)
        logits = session.infer(feeds)["logits"]
    assert list(codes) == list(graph.activations)
    assert all(code.dtype == np.int8 for code in codes.values())
    first, last = next(iter(codes)), list(codes)[-1]
    assert np.array_equal(codes[first][0].transpose(1, 2, 0), (frames_u8[0].astype(np.int16) - 128).astype(np.int8))
    assert np.array_equal(codes[last] * graph.activations[last].scale, logits)


def test_forcing_its_own_codes_changes_nothing_and_other_codes_do(
    tiny_canonical: Path, frames_u8: NDArray[np.uint8]
) -> None:
    with open_reference(tiny_canonical) as session:
        feeds = feeds_for(session, tiny_canonical, frames_u8[0])
        free = session.codes(feeds)
        same = session.codes(feeds, force=free)
        assert all(np.array_equal(free[name], same[name]) for name in free)
        middle = list(free)[len(free) // 2]
        changed = session.codes(feeds, force={middle: np.zeros_like(free[middle])})
    assert np.array_equal(changed[middle], free[middle])  # recorded before it is replaced
    after = list(free)[-1]
    assert not np.array_equal(changed[after], free[after])


def test_errors_name_the_fault(tiny_canonical: Path, tmp_path: Path) -> None:
    broken = tmp_path / "canonical.onnx"
    broken.write_bytes(tiny_canonical.read_bytes()[:-2000])
    with pytest.raises(ArtifactError, match=r"canonical\.onnx"), open_reference(broken):
        pass
    with pytest.raises(UsageError, match="no such"), open_reference(tmp_path / "absent.onnx"):
        pass
    with open_reference(tiny_canonical) as session:
        with pytest.raises(UsageError, match="expected feeds"):
            session.infer({})
        with pytest.raises(UsageError, match="received float64"):
            session.infer({"image": np.zeros((1, 3, 64, 64))})
        image = {"image": np.zeros((1, 3, 64, 64), np.float32)}
        with pytest.raises(UsageError, match="unknown tensors nonsense"):
            session.codes(image, force={"nonsense": np.zeros(1, np.int8)})


def test_census_says_that_the_reference_is_float(tiny_canonical_multiclass: Path) -> None:
    with open_reference(tiny_canonical_multiclass) as session:
        census = session.census()
    assert census.by_precision() == {"fp32": len(census.layers)}
    assert {"Conv", "Add", "Concat", "Resize"} <= {layer.op for layer in census.layers}


def test_the_reference_of_float_artifacts_is_the_float_twin(tiny_canonical: Path, frames_u8: NDArray[np.uint8]) -> None:
    graph = load_graph(tiny_canonical)
    twin = onnx.reference.ReferenceEvaluator(strip_qdq(graph))
    for precision in (Precision.FP32, Precision.FP16):
        with open_reference(tiny_canonical, precision) as session:
            spec = session.artifact.inputs[0]
            feeds = {"image": feed_from_pixels(frames_u8[:1], spec, graph.metadata.preprocess)}
            np.testing.assert_allclose(session.infer(feeds)["logits"], twin.run(None, feeds)[0], atol=1e-3)
            assert session.artifact.precision is Precision.FP32
            assert session.runtime.endswith("float twin")
            with pytest.raises(UsageError, match="no codes"):
                session.codes(feeds)
