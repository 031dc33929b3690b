"""Target `onnx`: ONNX Runtime on the CPU, and the reference of every comparison."""
