"""From a torch network to the canonical Q/DQ ONNX, the single hand-over to every target."""
