"""Every TensorRT name, enum member and call of the kit exists in NVIDIA's own bindings of both majors."""

from __future__ import annotations

import ast
import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from targets.tensorrt import bindings

from edge_unet.targets.tensorrt.kit import cuda
from edge_unet.targets.tensorrt.kit.spec import KitError
from edge_unet.targets.tensorrt.lower import SOURCES

WALKER = Path(__file__).parent / "api_use.py"
KIT_FILES = sorted(SOURCES.glob("*.py"))


def check(version: str, *files: Path) -> dict[str, Any]:
    try:
        prepared = bindings.prepare(version)
    except bindings.BindingsUnavailableError as error:
        pytest.skip(str(error))
    command = [sys.executable, str(WALKER), *map(str, files)]
    done = subprocess.run(command, env=prepared.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["version"] == version
    return report


@pytest.mark.parametrize("version", bindings.VERSIONS)
def test_the_kit_uses_only_what_the_bindings_have(version: str) -> None:
    report = check(version, *KIT_FILES)
    assert report["faults"] == []
    assert {"Builder.build_serialized_network(2)", "IExecutionContext.execute_async_v3(1)"} <= set(report["checked"])
    assert len(report["checked"]) >= 60  # the walker follows the whole of both modules, not a few names


def test_integer_flags_are_gone_from_the_newer_major() -> None:
    """Why functions named _trt10 exist: the same line is right in 10 and wrong in 11."""
    older, newer = (set(check(version, *KIT_FILES)["checked"]) for version in bindings.VERSIONS)
    assert older - newer == {
        "BuilderFlag.FP16", "BuilderFlag.INT8", "IBuilderConfig.set_flag", "IBuilderConfig.set_flag(1)",
        "tensorrt_bindings.BuilderFlag",
    }  # fmt: skip
    assert newer <= older


FAULTY = [
    ("trt.Builder(trt.Logger(trt.Logger.LOUD))", "Logger.LOUD does not exist"),
    ("trt.Builder(trt.Logger()).build_engine(1, 2)", "Builder.build_engine does not exist"),
    ("trt.Builder(trt.Logger()).create_network(0, 1)", "received 2 positional"),
    ("trt.Builder()", "received 0 positional"),
    ("trt.Runtime(trt.Logger()).deserialize_cuda_engine(b'').num_bindings", "ICudaEngine.num_bindings does not exist"),
    ("trt.Builder(trt.Logger()).create_network(explicit=1)", "['explicit']"),
    ("[e.code_of() for e in ()] and trt.OnnxParser(1, 2).get_error(0).codes()", "ParserError.codes does not exist"),
]


@pytest.mark.parametrize(("line", "message"), FAULTY, ids=[message for _, message in FAULTY])
def test_the_walker_finds_wrong_use(tmp_path: Path, line: str, message: str) -> None:
    source = tmp_path / "wrong.py"
    source.write_text(f"import tensorrt as trt\n\ndef use():\n    value = {line}\n    return value\n", encoding="utf-8")
    for version in bindings.VERSIONS:
        faults = check(version, source)["faults"]
        assert len(faults) == 1, faults
        assert "wrong.py:4" in faults[0]
        assert message in faults[0]


def test_the_walker_follows_self_annotations_and_assignments(tmp_path: Path) -> None:
    source = tmp_path / "wrong.py"
    source.write_text(
        "import tensorrt as trt\n"
        "class Owner:\n"
        "    def use(self):\n"
        "        self._engine.binding_names\n"
        "    def __init__(self):\n"
        "        self._engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(b'')\n"
        "def annotated(engine: trt.ICudaEngine):\n"
        "    engine.num_layers = 3\n"
        "def old_trt10(config: trt.IBuilderConfig):\n"
        "    config.set_flag(trt.BuilderFlag.INT8)\n",
        encoding="utf-8",
    )
    for version in bindings.VERSIONS:
        faults = check(version, source)["faults"]
        assert [fault.split(": ", 1)[1].split(" in ")[0] for fault in faults] == [
            "ICudaEngine.binding_names does not exist", "ICudaEngine.num_layers cannot be assigned",
        ]  # fmt: skip


def test_nothing_of_tensorrt_leaves_the_two_modules_that_import_it() -> None:
    """The walker follows values inside a file; so only files that import tensorrt may hold TensorRT objects."""
    users = {file.name for file in KIT_FILES if "import tensorrt as trt" in file.read_text(encoding="utf-8")}
    assert users == {"build_engine.py", "run_engine.py"}
    for file in KIT_FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
                assert "trt." not in ast.unparse(node.returns), f"{file.name}: {node.name} hands a TensorRT object out"


def test_every_cuda_call_is_in_the_real_runtime_library() -> None:
    try:
        library = bindings.prepare_cudart()
    except bindings.BindingsUnavailableError as error:
        pytest.skip(str(error))
    loaded = ctypes.CDLL(str(library))
    missing = [name for name in (*cuda.SIGNATURES, "cudaGetErrorString") if not hasattr(loaded, name)]
    assert missing == []
    used = {
        argument.value
        for file in KIT_FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        for argument in node.args[:1]
        if isinstance(argument, ast.Constant) and str(argument.value).startswith("cuda")
    }
    assert used == set(cuda.SIGNATURES)


def test_without_a_gpu_cuda_says_so() -> None:
    if Path("/dev/nvidiactl").exists() or Path("/dev/nvhost-ctrl-gpu").exists():
        pytest.skip("this machine has a GPU")
    try:
        library = bindings.prepare_cudart()
    except bindings.BindingsUnavailableError as error:
        pytest.skip(str(error))
    with pytest.raises(KitError, match=r"cudaSetDevice failed with CUDA error \d+: ") as caught:
        cuda.Cuda((str(library),))
    assert caught.value.exit_code == 5


def test_a_missing_library_is_named() -> None:
    with pytest.raises(KitError, match=r"CUDA runtime library is missing.*nvidia-jetpack") as caught:
        cuda.Cuda(("libcudart-of-nowhere.so",))
    assert caught.value.exit_code == 5
