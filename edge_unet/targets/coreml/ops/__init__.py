"""The op table: ONNX op type -> the function that writes it in MIL. An op is added by writing one function."""

from edge_unet.targets.coreml.ops.table import OPS, lower_node

__all__ = ["OPS", "lower_node"]
