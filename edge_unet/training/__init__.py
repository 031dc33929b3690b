"""Training: a warm-up on pictures alone, FP32, then quantization-aware."""

from edge_unet.training.loop import TrainResult
from edge_unet.training.objective import check_loss
from edge_unet.training.phases import train, train_both
from edge_unet.training.pretrain import pretrain
from edge_unet.training.state import Phase

__all__ = ["Phase", "TrainResult", "check_loss", "pretrain", "train", "train_both"]
