"""A training recipe: everything that shapes a model, read from TOML. An unknown key is an error with the nearest
match, so that a typo never trains something else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator

from edge_unet.core.errors import UsageError
from edge_unet.core.registry import nearest
from edge_unet.core.spec import ClassSpec, Frozen, PreprocessSpec, QuantScheme

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


Stage = tuple[PositiveInt, PositiveInt]
"""(input height in pixels, epochs)."""


class ModelSpec(Frozen):
    """Which network, and how large. `width` multiplies the channels of the mobile networks (rounded to 8), `base` is
    the first level's channels of the U-Nets, `variant` names a row of a network's own size table."""

    name: str = "mobile_unet"
    variant: str = ""
    """A row of the size table in the network's file, where it has one ("b0", "s", …); empty = its default."""
    width: float = Field(default=0.5, gt=0)
    base: int = Field(default=32, gt=0)
    depth: int = Field(default=5, ge=2, le=5)
    """Downsamplings: mobile_unet at depth 5 reaches 1/32, unet at depth 4 reaches 1/16."""
    decoder: tuple[int, ...] = (96, 64, 32, 16)
    """mobile_unet: channels of the decoder levels, coarse to fine, before `width` (the last `depth - 1` are used)."""
    upsample: Literal["nearest", "bilinear", "deconv"] = "nearest"
    """bilinear is half-pixel; align_corners does not exist here because runtimes disagree on it. deconv is a 2x2
    transposed convolution of stride 2, where the network has one."""
    deep: bool = False
    """Train every head that the network has (deep supervision). Off, only its last one exists."""
    level: str | None = Field(default=None, pattern=r"^(L[1-9]|mean)$")
    """The head that a pruned network ends in: L1 (cheapest) .. Ln, or the mean of all."""


class AugmentSpec(Frozen):
    """Joint augmentation; probabilities and ranges. Masks are only ever sampled nearest."""

    flip_horizontal: float = Field(default=0.5, ge=0, le=1)
    flip_vertical: float = Field(default=0.5, ge=0, le=1)
    rotate_degrees: float = Field(default=180.0, ge=0, le=180)
    scale: tuple[float, float] = (0.7, 1.4)
    shift: float = Field(default=0.1, ge=0, le=0.5)
    elastic_pixels: float = Field(default=10.0, ge=0)
    """Standard deviation of the displacements on a coarse 3x3 grid, U-Net paper section 3.1."""
    elastic: float = Field(default=0.3, ge=0, le=1)
    brightness: float = Field(default=0.25, ge=0, le=1)
    contrast: float = Field(default=0.25, ge=0, le=1)
    saturation: float = Field(default=0.3, ge=0, le=1)
    hue: float = Field(default=0.05, ge=0, le=0.5)
    blur: float = Field(default=0.15, ge=0, le=1)
    noise: float = Field(default=0.15, ge=0, le=1)
    patch: float = Field(default=1.0, gt=0, le=1)
    """Height and width of the window that is cut from the frame, as a share of the frame's. It fills the training
    input, so things keep their size where the stage's height is `patch` times the recipe's."""
    foreground_bias: float = Field(default=0.0, ge=0, le=1)
    """Probability that a window is centred on a foreground pixel (any class but the first), as far as the frame's
    edge allows; else it lies anywhere in the frame. Needs `patch` below 1."""

    @model_validator(mode="after")
    def _a_bias_needs_a_window(self) -> AugmentSpec:
        if self.foreground_bias and self.patch == 1:
            raise ValueError("foreground_bias moves a window of the frame, but patch = 1 shows it all; set patch < 1")
        return self


class LossTerms(Frozen):
    """The weight of every term of the loss; 0 = not computed. training/losses/ has one function for each name."""

    ce: float = Field(default=0.0, ge=0)
    """Cross-entropy: binary with one output channel, else softmax."""
    dice: float = Field(default=0.0, ge=0)
    focal: float = Field(default=0.0, ge=0)
    """Cross-entropy times (1 - p of the truth) ** focal_gamma."""
    tversky: float = Field(default=0.0, ge=0)
    border_ce: float = Field(default=0.0, ge=0)
    """Cross-entropy, heavier between neighbouring objects: the U-Net paper's weight map."""
    boundary: float = Field(default=0.0, ge=0)
    """Distance to the true outline, over all wrong probability. Wants a region term beside it."""
    structure: float = Field(default=0.0, ge=0)
    """Cross-entropy + IoU, both heavier along outlines (PraNet)."""
    ms_ssim: float = Field(default=0.0, ge=0)
    """Multi-scale structural similarity. UNet 3+ trains with focal + ms_ssim + iou."""
    iou: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _there_is_a_loss(self) -> LossTerms:
        if not self.used:
            raise ValueError(f"every weight is 0; give at least one of {', '.join(LossTerms.model_fields)} a weight")
        return self

    @property
    def used(self) -> dict[str, float]:
        """Name -> weight of the terms that count."""
        return {name: weight for name in LossTerms.model_fields if (weight := getattr(self, name))}


class LossSpec(Frozen):
    """What training minimises: a weighted sum of terms, each a mean over images. A `[loss.terms]` of a recipe
    replaces the default ce + dice as a whole."""

    terms: LossTerms = LossTerms(ce=1, dice=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Of the cross-entropies (ce, border_ce, structure): this share of the truth is spread evenly over all classes."""
    class_weights: Literal["none", "median_frequency"] = "none"
    """Of the pixel-wise terms (ce, focal, border_ce). median_frequency: median of the classes' frequencies over the
    class's own, a frequency being its share of the pixels of the images that show it (Eigen & Fergus 2015)."""
    focal_gamma: float = Field(default=2.0, ge=0)
    focal_alpha: float | None = Field(default=None, gt=0, lt=1)
    """Weight of the foreground; the first class has 1 - alpha. Left out, both count 1."""
    tversky_alpha: float = Field(default=0.3, ge=0)
    """Price of a false positive (Salehi et al. 2017)."""
    tversky_beta: float = Field(default=0.7, ge=0)
    """Price of a false negative."""
    border_w0: float = Field(default=10.0, ge=0)
    """Height of the border weight where two objects touch, U-Net paper equation 2."""
    border_sigma: float = Field(default=5.0, gt=0)
    """Its width in pixels of the training input."""
    head_weights: tuple[float, ...] = ()
    """Deep supervision: the share of each head L1..Ln, in any unit. Empty = all alike."""

    @model_validator(mode="after")
    def _some_head_learns(self) -> LossSpec:
        if self.head_weights and (min(self.head_weights) < 0 or not any(self.head_weights)):
            raise ValueError(f"head_weights = {self.head_weights}; expected none below 0 and at least one above")
        return self


class DistillSpec(Frozen):
    """What a student learns from a teacher (`edge-unet train --teacher`), beside the loss. No effect without one."""

    logits: float = Field(default=1.0, ge=0)
    """Weight of the divergence from the teacher's probabilities, per pixel (Hinton et al. 2015)."""
    temperature: float = Field(default=2.0, gt=0)
    """Both logits are divided by it, and the divergence is multiplied by its square, which keeps gradients alike."""
    features: float = Field(default=0.0, ge=0)
    """Weight of the distance between what the two deepest heads read, through a learnt 1x1 adapter that is not kept."""
    feature_loss: Literal["cosine", "l2"] = "cosine"

    @model_validator(mode="after")
    def _something_is_learnt(self) -> DistillSpec:
        if not self.logits and not self.features:
            raise ValueError("logits = 0 and features = 0 leave nothing to learn; give one a weight, or no teacher")
        return self


class DataSpec(Frozen):
    """Folders of images/ + masks/. Empty `train` means the procedural scenes."""

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    split: float = Field(default=0.15, gt=0, lt=1)
    """Share of groups held out where a folder has no val split of its own."""
    group_pattern: str | None = None
    """Regular expression whose first group names what must not be split (a patient, a video)."""
    scene: Literal["endoscopy", "lanes"] = "endoscopy"
    scene_count: int = Field(default=256, gt=0)


class TrainSpec(Frozen):
    """One phase of training (FP32, or QAT with a tenth of the learning rate)."""

    epochs: int = Field(default=100, gt=0)
    """All epochs; may be left out where `stages` is given, and must then be their sum."""
    batch: int = Field(default=16, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    warmup_epochs: float = Field(default=3, ge=0)
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    clip_norm: float = Field(default=5.0, gt=0)
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """auto: fp16 on CUDA without bf16, bf16 on CUDA or a CPU with AMX or AVX512-BF16, else off."""
    stages: tuple[Stage, ...] = ()
    """Progressive sizes: (height, epochs) pairs in the order they are trained. The width follows the recipe's own
    aspect ratio. Empty = all epochs at the recipe's own size."""
    validate_every: int = Field(default=1, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _epochs_follow_the_stages(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("stages") or "epochs" in values:
            return values
        try:
            return {**values, "epochs": sum(int(epochs) for _, epochs in values["stages"])}
        except (TypeError, ValueError):
            return values  # the field's own check names what is wrong

    @model_validator(mode="after")
    def _stages_fill_the_epochs(self) -> TrainSpec:
        staged = sum(epochs for _, epochs in self.stages)
        if self.stages and staged != self.epochs:
            raise ValueError(f"the stages hold {staged} epochs but epochs = {self.epochs}; leave epochs out")
        return self


class PretrainSpec(Frozen):
    """The self-supervised warm-up (`edge-unet train --phase pretrain`): hidden patches of pictures are painted, no mask
    is read. No effect on the other phases; they start from its checkpoint with --init."""

    images: tuple[str, ...] = ()
    """Folders of images beside the training images of [data]; of one with splits, train/ alone."""
    patch: int = Field(default=32, gt=0)
    """Edge of a patch in pixels of the training input."""
    hidden: float = Field(default=0.6, gt=0, lt=1)
    """Share of the patches that are hidden (SimMIM's)."""
    train: TrainSpec = TrainSpec()


class QuantizeSpec(Frozen):
    """How scales are first set, and the QAT phase that then learns them."""

    scheme: QuantScheme = QuantScheme.PORTABLE
    observer: Literal["minmax", "percentile", "entropy", "mse"] = "mse"
    percentile: float = Field(default=99.99, gt=50, le=100)
    calibration_images: int = Field(default=64, ge=32)
    qat: TrainSpec = TrainSpec(epochs=10, learning_rate=2e-4, warmup_epochs=0.5, weight_decay=1e-4)


class Recipe(Frozen):
    """Everything that shapes a model. Stored inside every checkpoint and bundle."""

    name: str = "model"
    seed: int = 0
    licence: str = "unspecified: the weights carry the licence of their training data"
    model: ModelSpec = ModelSpec()
    preprocess: PreprocessSpec = PreprocessSpec(height=256, width=256)
    classes: ClassSpec = ClassSpec(names=("background", "foreground"), palette=((0, 0, 0), (0, 200, 83)))
    data: DataSpec = DataSpec()
    augment: AugmentSpec = AugmentSpec()
    loss: LossSpec = LossSpec()
    distill: DistillSpec = DistillSpec()
    pretrain: PretrainSpec = PretrainSpec()
    train: TrainSpec = TrainSpec()
    quantize: QuantizeSpec = QuantizeSpec()


def load_recipe(path: Path) -> Recipe:
    """Read a TOML recipe. Raises UsageError on unreadable TOML, an unknown key (the nearest is named), a bad value."""
    try:
        return parse_recipe(tomllib.loads(path.read_text(encoding="utf-8")), source=str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot read the recipe: {error}") from error


def parse_recipe(values: object, *, source: str) -> Recipe:
    """Validate nested values as a Recipe; `source` is named in errors."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UsageError("; ".join(_explain(e["type"], e["loc"], e["msg"], source) for e in error.errors())) from error


def _explain(kind: str, location: tuple[int | str, ...], message: str, source: str) -> str:
    """One line for one pydantic error."""
    where = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        return f"{source}: {where}: {message}"
    section: type[Frozen] = Recipe
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, Frozen):
            section = annotation
    return f"{source}: unknown key {where!r}; {nearest(str(location[-1]), section.model_fields)}"
