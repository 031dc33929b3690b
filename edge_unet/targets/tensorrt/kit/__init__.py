"""What runs on the device: builds and runs TensorRT engines with numpy and TensorRT's own Python bindings only.

The folder is copied as it stands into every build kit, so nothing in it may import the rest of the package; its
modules find each other by relative imports because the copy has another parent.
"""
