"""Runs a saved package off a Mac: its MIL ops, one by one, as an ONNX graph on ONNX Runtime.

It models MIL semantics (integer grids, fp16 storage of every variable declared fp16), not the Neural Engine, whose
accumulators, rounding and op placement Apple does not document. Nothing here looks at the canonical graph: what is
executed is what lies in the package.
"""

from edge_unet.targets.coreml.interpreter.translate import OPS, Translation, translate

__all__ = ["OPS", "Translation", "translate"]
