"""A stand-in for coremltools, written into a folder that a subprocess imports first. It is not Core ML: its model runs
the bundle's canonical graph on ONNX Runtime. It has what bench_coreml.py touches, under coremltools 9's names."""

from __future__ import annotations

from pathlib import Path

PACKAGE = """
import enum, os
from pathlib import Path

import numpy as np

__version__ = "9.0-stand-in"


class ComputeUnit(enum.Enum):
    ALL = 1
    CPU_AND_GPU = 2
    CPU_ONLY = 3
    CPU_AND_NE = 4


class MLModel:
    last_predict_duration_in_nano_seconds = None

    def __init__(self, path, compute_units=ComputeUnit.ALL):
        import onnxruntime

        assert isinstance(compute_units, ComputeUnit)
        if os.environ.get("STAND_IN") == "refuses":
            raise RuntimeError("Error compiling model")
        self.units = compute_units
        self._session = onnxruntime.InferenceSession(str(Path(path).parent / "canonical.onnx"))
        self._count = 0

    def predict(self, inputs):
        (image,) = inputs.values()
        assert image.mode == "RGB"
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
        feed = {self._session.get_inputs()[0].name: (pixels - 128) / 64}
        (logits,) = self._session.run(None, feed)
        if os.environ.get("STAND_IN") == "wrong":
            logits = -logits
        self._count += 1
        if os.environ.get("STAND_IN") != "no clock":
            self.last_predict_duration_in_nano_seconds = 1_000_000 + self._count
        return {"logits": logits}

    def get_compiled_model_path(self):
        return "model.mlmodelc"




"""
PLAN = """
from types import SimpleNamespace as Record


class MLNeuralEngineComputeDevice: ...


class MLCPUComputeDevice: ...


class MLComputePlan:
    @classmethod
    def load_from_path(cls, path, compute_units):
        assert path == "model.mlmodelc"
        plan = cls()
        operations = [
            Record(operator_name="const", outputs=[Record(name="w")]),
            Record(operator_name="ios17.conv", outputs=[Record(name=NAME)]),
            Record(operator_name="ios16.upsample_bilinear", outputs=[Record(name="up")]),
        ]
        plan.model_structure = Record(program=Record(functions={"main": Record(block=Record(operations=operations))}))
        return plan

    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        if operation.operator_name == "const":
            return None
        device = MLCPUComputeDevice() if "upsample" in operation.operator_name else MLNeuralEngineComputeDevice()
        return Record(preferred_compute_device=device)

    def get_estimated_cost_for_mlprogram_operation(self, operation):
        return Record(weight=0.75) if "conv" in operation.operator_name else None
"""


def write_stand_in(folder: Path, first_layer: str) -> Path:
    """The package below `folder`; `first_layer` is the name its plan gives the convolution."""
    models = folder / "coremltools/models"
    models.mkdir(parents=True)
    (folder / "coremltools/__init__.py").write_text(PACKAGE + "from coremltools import models  # noqa\n")
    (models / "__init__.py").write_text("from coremltools import MLModel\n")
    (models / "compute_plan.py").write_text(PLAN.replace("NAME", repr(first_layer)))
    return folder
