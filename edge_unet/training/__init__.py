"""Training: FP32, then quantization-aware."""

from edge_unet.training.loop import TrainResult
from edge_unet.training.objective import check_loss
from edge_unet.training.phases import train, train_both
from edge_unet.training.state import Phase

__all__ = ["Phase", "TrainResult", "check_loss", "train", "train_both"]
