"""Frames: reading image files and bringing a frame to the network's input size and a mask back to the frame's.

Both wings use these functions, so training, calibration, benchmark and camera see the same pixels.
"""

from edge_unet.frames.files import read_frame, read_mask, write_png
from edge_unet.frames.resize import resize_frame, resize_labels, restore_mask

__all__ = ["read_frame", "read_mask", "resize_frame", "resize_labels", "restore_mask", "write_png"]
