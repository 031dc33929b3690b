"""Quantization in training: fake-quant with learned scales, observers, and the networks rebuilt around them."""

from edge_unet.quantization.calibrate import calibrate
from edge_unet.quantization.fake_quant import FakeQuant, learned_scales
from edge_unet.quantization.prepare import prepare
from edge_unet.quantization.ptq import frame_batches, quantize_ptq
from edge_unet.quantization.restore import restore

__all__ = ["FakeQuant", "calibrate", "frame_batches", "learned_scales", "prepare", "quantize_ptq", "restore"]
