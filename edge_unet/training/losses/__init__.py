"""The terms of the loss, one file per kind, and their weighted sum."""

from edge_unet.training.losses.class_weights import median_frequency
from edge_unet.training.losses.maps import truth_maps
from edge_unet.training.losses.total import TERMS, heads_of, over_heads, segmentation_loss, training_loss
from edge_unet.training.losses.truth import Truth, truth_of

__all__ = [
    "TERMS",
    "Truth",
    "heads_of",
    "median_frequency",
    "over_heads",
    "segmentation_loss",
    "training_loss",
    "truth_maps",
    "truth_of",
]
