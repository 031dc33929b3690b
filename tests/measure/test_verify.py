"""verify names what was planted, and passes what is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from measure.planted import INTERPRETED, TARGET, change_initializer, change_scale, drop_last_qdq, make_bundle, read_back
from numpy.typing import NDArray

from edge_unet.core.artifact import Artifact, Census, Grid, LayerPlacement, ReadBack
from edge_unet.core.bundle import Bundle, open_bundle, write_manifest
from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.protocols import Session
from edge_unet.core.report import VerifyResult
from edge_unet.core.spec import Precision
from edge_unet.measure.masks import predictor
from edge_unet.measure.verify import _Agreement, verify_bundle
from edge_unet.targets.onnxruntime.reference import open_reference

BundleOf = Callable[..., Bundle]


def test_the_right_artifact_passes(bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]) -> None:
    result = verify_bundle(bundle_of(), TARGET, reference, frames_u8)
    assert result.passed
    assert result.reasons == ()
    assert (result.agreement, result.worst_agreement, result.max_lsb) == (1.0, 1.0, 0.0)
    assert (result.golden_agreement, result.golden_equal, result.golden_images) == (1.0, 2, 2)
    assert result.images == 8
    assert (result.scales_equal, result.payloads_equal, result.offenders) == (True, True, ())
    assert result.payloads_compared == 10  # one for each convolution
    assert result.near_zero_pixels is None
    assert result.forced_max_lsb is None
    assert result.dice is None
    assert result.float_layers == 3  # the three resizes
    assert result.on_device


def test_truths_give_dice_on_both_sides(bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]) -> None:
    bundle = bundle_of()
    predict = predictor(reference, bundle.manifest.preprocess)
    truths = np.stack([predict(frame) for frame in frames_u8])
    result = verify_bundle(bundle, TARGET, reference, frames_u8, truths)
    assert (result.dice, result.iou, result.reference_dice, result.reference_iou) == (1.0, 1.0, 1.0, 1.0)
    assert result.dice_delta == 0.0
    assert result.iou_delta == 0.0


def test_a_wrong_scale_is_named(bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]) -> None:
    result = verify_bundle(bundle_of(change_scale("mid.act.q", 2.0)), TARGET, reference, frames_u8)
    assert not result.passed
    assert result.scales_equal is False
    assert result.payloads_equal is True
    assert len(result.offenders) == 1
    assert result.offenders[0].startswith("activation mid.act.q: scale expected ")
    assert any("mid.act.q" in reason for reason in result.reasons)


def test_a_wrong_payload_is_named(bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]) -> None:
    def flip(values: NDArray[np.generic]) -> NDArray[np.generic]:
        values.reshape(-1)[:3] = np.asarray([1, 2, 3], values.dtype) + values.reshape(-1)[:3] // 2 + 1
        return values

    result = verify_bundle(bundle_of(change_initializer("deep.weight", flip)), TARGET, reference, frames_u8)
    assert not result.passed
    assert (result.scales_equal, result.payloads_equal) == (True, False)
    assert len(result.offenders) == 1
    assert result.offenders[0].startswith("weight deep.weight: ")
    assert result.offenders[0].endswith(" of 2304 integers differ")


def test_a_wrong_weight_scale_is_named(bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]) -> None:
    def double_channel_5(values: NDArray[np.generic]) -> NDArray[np.generic]:
        values[5] *= 2
        return values

    bundle = bundle_of(change_initializer("down.weight.scale", double_channel_5))
    result = verify_bundle(bundle, TARGET, reference, frames_u8)
    assert result.scales_equal is False
    assert result.offenders[0].startswith("weight down.weight: scale expected ")
    assert "(channel 5, 1 of 16 differ)" in result.offenders[0]


def test_a_wrong_mask_fails_though_all_integers_are_equal(
    bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    bundle = bundle_of(change_initializer("head.bias", lambda bias: bias + np.float32(1)))
    predict = predictor(reference, bundle.manifest.preprocess)
    truths = np.stack([predict(frame) for frame in frames_u8])
    result = verify_bundle(bundle, TARGET, reference, frames_u8, truths)
    assert not result.passed
    assert (result.scales_equal, result.payloads_equal) == (True, True)
    with TARGET.open(bundle.folder, bundle.manifest.artifact) as session:
        masks = np.stack([predictor(session, bundle.manifest.preprocess)(frame) for frame in frames_u8])
    shares = (masks == truths).mean(axis=(1, 2))
    assert result.agreement == pytest.approx(shares.mean())
    assert result.worst_image == int(shares.argmin())
    assert result.worst_agreement == pytest.approx(shares.min())
    assert result.max_lsb == pytest.approx(16, abs=1)  # a bias of 1 is 16 steps of 1/16
    kinds = [reason.split(" ")[0] for reason in result.reasons]
    assert kinds == ["mask", "Dice", "IoU", "golden"]


def test_a_stale_golden_mask_is_named(bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]) -> None:
    bundle = bundle_of()
    mask = bundle.folder / "golden/01.mask.png"
    cv2.imwrite(str(mask), 1 - cv2.imread(str(mask), cv2.IMREAD_UNCHANGED))
    files = {**bundle.manifest.files, "golden/01.mask.png": sha256_of(mask)}
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"files": files}))
    result = verify_bundle(open_bundle(bundle.folder), TARGET, reference, frames_u8)
    assert [reason[:42] for reason in result.reasons] == ["stale golden mask golden/01.mask.png: only"]


def test_float_logits_differ_only_near_zero(
    bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    bundle = bundle_of(drop_last_qdq)
    strict = verify_bundle(bundle, TARGET, reference, frames_u8, gate=1.0)
    assert strict.near_zero_pixels is None
    assert 0 < strict.max_lsb <= 0.5  # what the dropped rounding did
    assert not strict.passed
    assert any("resize.q: no scale in the artifact" in line for line in strict.offenders)

    def read_without_logits(folder: Path, artifact: Artifact) -> ReadBack:
        return replace(read_back(folder, artifact), absent={"resize.q": "the logits are left float"})

    target = replace(TARGET, float_output=True, read_back=read_without_logits)
    result = verify_bundle(bundle, target, reference, frames_u8, gate=1.0)
    assert result.passed, result.reasons
    assert result.agreement == 1.0
    assert result.near_zero_pixels is not None
    assert result.near_zero_pixels > 0
    assert result.absent == {"resize.q": "the logits are left float"}


def test_near_zero_excuses_only_where_the_reference_is_near_zero_too() -> None:
    step = 1 / 16
    reference = np.array([[[[0.0, 0.0, 1.0, -1.0]]]], np.float32)
    target = np.array([[[[0.03, 0.5, -0.01, 0.02]]]], np.float32)
    agreement = _Agreement(step)
    agreement.add(reference, target)
    assert agreement.near_zero_pixels == 1  # only the first pixel
    assert agreement.shares == [0.0]  # the other three are real differences
    strict = _Agreement(None)
    strict.add(reference, target)
    assert (strict.near_zero_pixels, strict.shares) == (0, [0.0])


def test_near_ties_between_classes_are_counted_apart() -> None:
    step = 1 / 16
    reference = np.array([[1.0, 1.0], [1.0, 2.0], [0.0, 0.0]], np.float32).reshape(1, 3, 1, 2)
    target = np.array([[0.99, 2.0], [1.01, 1.9], [0.0, 0.0]], np.float32).reshape(1, 3, 1, 2)
    agreement = _Agreement(step)
    agreement.add(reference, target)
    assert agreement.near_zero_pixels == 1  # the tie 1.0 / 1.0; the second pixel's margin is a whole unit
    assert agreement.shares == [0.0]


def test_teacher_forcing_where_an_interpreter_stands_in(
    bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    good = verify_bundle(bundle_of(name="good"), INTERPRETED, reference, frames_u8)
    assert good.passed
    assert good.forced_max_lsb == 0
    assert not good.on_device
    bad = verify_bundle(
        bundle_of(change_initializer("deep.bias", lambda b: b + np.float32(0.5)), name="bad"), INTERPRETED,
        reference, frames_u8,
    )  # fmt: skip
    assert bad.forced_max_lsb is not None
    assert bad.forced_max_lsb > 1
    assert any(reason.startswith("teacher-forced: tensor deep.act.q differs by") for reason in bad.reasons)


def test_the_layer_table_names_the_first_bad_layer(
    bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    bundle = bundle_of(change_initializer("deep.bias", lambda b: b + np.float32(3)))
    result = verify_bundle(bundle, TARGET, reference, frames_u8, layers=True)
    assert result.layers is not None
    assert result.layers.first_bad == "deep.act.q"
    rows = {row.name: row for row in result.layers.rows}
    assert rows["pool.q"].sqnr_db == float("inf")
    assert rows["pool.q"].equal == 1.0
    assert rows["up0.q"].max_lsb == rows["deep.act.q"].max_lsb > 1  # a bystander after the bad one
    assert VerifyResult.model_validate_json(result.model_dump_json()) == result  # infinity survives JSON


def test_u8_zero_point_128_is_the_same_grid(
    bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    def shifted(by: int) -> Callable[[Path, Artifact], ReadBack]:
        def read(folder: Path, artifact: Artifact) -> ReadBack:
            held = read_back(folder, artifact)
            return replace(held, activations={n: Grid(g.scale, by) for n, g in held.activations.items()})

        return read

    bundle = bundle_of()
    assert verify_bundle(bundle, replace(TARGET, read_back=shifted(128)), reference, frames_u8).passed
    wrong = verify_bundle(bundle, replace(TARGET, read_back=shifted(127)), reference, frames_u8)
    assert wrong.scales_equal is False
    assert "zero point expected 0 (or 128 more, as u8), received 127" in wrong.offenders[0]


def test_int8_that_runs_in_float_fails(
    bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Census(
        layers=(LayerPlacement(name="stem", op="Conv", precision="fp32", unit="jit"),), source="runtime model"
    )
    monkeypatch.setattr("measure.planted.PlantedSession.census", lambda self: silent)
    result = verify_bundle(bundle_of(), TARGET, reference, frames_u8)
    assert result.int8_layers == 0
    assert result.reasons == ("the artifact is INT8 but runtime model says that none of its 1 layers runs in it",)


def test_several_classes(tmp_path: Path, tiny_canonical_multiclass: Path, frames_u8: NDArray[np.uint8]) -> None:
    bundle = make_bundle(tmp_path / "b", tiny_canonical_multiclass, frames_u8)
    with open_reference(tiny_canonical_multiclass) as reference:
        result = verify_bundle(bundle, TARGET, reference, frames_u8[:2])
    assert result.passed
    assert result.images == 2


def test_bad_input_is_a_usage_error(bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]) -> None:
    bundle = bundle_of()
    with pytest.raises(UsageError, match=r"expected at least one uint8 picture of shape \(64, 64, 3\)"):
        verify_bundle(bundle, TARGET, reference, frames_u8[:, :32])
    with pytest.raises(UsageError, match="one mask for each frame"):
        verify_bundle(bundle, TARGET, reference, frames_u8, np.zeros((3, 64, 64), np.uint8))
    with pytest.raises(UsageError, match="at least one"):
        verify_bundle(bundle, TARGET, reference, frames_u8[:0])


def test_an_artifact_of_another_graph_is_refused(
    bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    bundle = bundle_of()
    artifact = bundle.manifest.artifact.model_copy(update={"parent_sha256": "0" * 64})
    other = bundle.model_copy(update={"manifest": bundle.manifest.model_copy(update={"artifact": artifact})})
    with pytest.raises(ArtifactError, match="lowered from another canonical graph"):
        verify_bundle(other, TARGET, reference, frames_u8)


def test_the_json_row(bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]) -> None:
    row = verify_bundle(bundle_of(), TARGET, reference, frames_u8[:1]).row()
    assert list(row) == [
        "agreement", "max_lsb", "scales_equal", "payloads_equal", "int8_layers", "float_layers", "passed",
    ]  # fmt: skip
    assert row["passed"] is True


def test_forcing_leaves_out_what_the_target_dropped(
    bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    bundle = bundle_of(drop_last_qdq)  # its session refuses codes for resize.q
    target = replace(
        INTERPRETED, float_output=True,
        read_back=lambda folder, artifact: replace(read_back(folder, artifact), absent={"resize.q": "left float"}),
    )  # fmt: skip
    result = verify_bundle(bundle, target, reference, frames_u8, layers=True)
    assert result.passed, result.reasons
    assert result.forced_max_lsb == 0
    assert result.layers is not None
    assert result.layers.missing == ("resize.q",)


def test_a_float_artifact_has_no_integers_to_compare(
    bundle_of: BundleOf, reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    bundle = bundle_of()
    artifact = bundle.manifest.artifact.model_copy(update={"precision": Precision.FP32})
    manifest = bundle.manifest.model_copy(update={"artifact": artifact})
    result = verify_bundle(bundle.model_copy(update={"manifest": manifest}), TARGET, reference, frames_u8, layers=True)
    assert result.passed
    assert (result.scales_equal, result.payloads_equal, result.layers) == (None, None, None)
