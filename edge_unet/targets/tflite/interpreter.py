"""LiteRT interpreters, with one place for every option that changes results or timing."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from edge_unet.core.errors import ArtifactError, require

Kernels = Literal["xnnpack", "builtin", "reference"]
"""xnnpack: what a phone runs. builtin: LiteRT's optimized kernels, no delegate. reference: the plain C++ loops that
define the format (and that microcontroller runtimes reproduce bit by bit)."""


def start(model: bytes, kernels: Kernels, *, threads: int = 1, keep_all_tensors: bool = False) -> Any:
    """An allocated Interpreter. Raises ArtifactError where the runtime refuses the model, MissingBackendError without
    ai-edge-litert."""
    litert = require("ai_edge_litert.interpreter", "tflite")
    resolvers = litert.OpResolverType
    resolver = {
        "xnnpack": resolvers.BUILTIN,
        "builtin": resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": resolvers.BUILTIN_REF,
    }[kernels]
    try:
        interpreter = litert.Interpreter(
            model_content=model,
            num_threads=threads,
            experimental_op_resolver_type=resolver,
            experimental_preserve_all_tensors=keep_all_tensors,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"LiteRT cannot load the model ({error}); lower it again") from error
    return interpreter


def runtime_name(kernels: Kernels) -> str:
    """'litert <version>, XNNPACK' and the like."""
    words = {"xnnpack": "XNNPACK", "builtin": "built-in kernels", "reference": "reference kernels"}
    return f"litert {version('ai-edge-litert')}, {words[kernels]}"


def delegated(interpreter: Any) -> set[int]:
    """Output tensor indices of the ops that a delegate executes.

    The runtime lists every op of the file and then one DELEGATE node per partition with the tensors at its border;
    walking back from a partition's outputs to its inputs finds the ops inside.
    """
    details = interpreter._get_ops_details()  # no public call tells which ops a delegate took
    ops = [op for op in details if op["op_name"] != "DELEGATE"]
    makers = {int(index): op for op in ops for index in op["outputs"]}
    inside: set[int] = set()
    for partition in (op for op in details if op["op_name"] == "DELEGATE"):
        border = {int(index) for index in partition["inputs"]}
        waiting = [int(index) for index in partition["outputs"]]
        while waiting:
            index = waiting.pop()
            if index in border or index in inside or index not in makers:
                continue
            inside.update(int(made) for made in makers[index]["outputs"])
            waiting.extend(int(needed) for needed in makers[index]["inputs"])
    return inside


def partitions(interpreter: Any) -> int:
    """Number of DELEGATE nodes: 1 is a graph in one piece, 0 is no delegate."""
    return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
