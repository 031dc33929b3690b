"""edge_unet: U-Net segmentation trained once with quantization in the loop, INT8 on every edge runtime."""

__version__ = "0.1.0"

__all__ = ["__version__"]
