# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""Build an engine through TensorRT's Python API, majors 10 and 11.

TensorRT 11 has strongly typed networks only: precision is what the graph says, Q/DQ and FP16 tensors. TensorRT 10
builds the Q/DQ graph weakly typed, with the INT8 and FP16 flags, so that layers Q/DQ does not reach may run in FP16,
unless the graph has float islands that FP16 does not hold; the FP16 graph is typed by itself and built strongly typed
on both. Functions ending in _trt10 hold what 11 removed.
"""

from __future__ import annotations

from pathlib import Path

import tensorrt as trt

from .spec import GraphFile, KitError

OLDEST_MAJOR, NEWEST_MAJOR = 10, 11


def tensorrt_version() -> str:
    """'10.3.0'. Raises KitError for a major this kit does not know."""
    version = str(trt.__version__)
    major = version.split(".")[0]
    if not major.isdigit() or not OLDEST_MAJOR <= int(major) <= NEWEST_MAJOR:
        raise KitError(
            f"TensorRT {version}: expected {OLDEST_MAJOR}.x (JetPack 6 and newer) or {NEWEST_MAJOR}.x; update JetPack",
            5,
        )
    return version


def build_engine(graph: GraphFile, workspace_bytes: int, timing_cache: Path, optimization_level: int) -> bytes:
    """The serialized engine of one graph. Reads and rewrites the timing cache, so that a second build is quick.

    Raises KitError with the parser's words where TensorRT refuses the graph, or where the build fails.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    weakly_typed = tensorrt_version().startswith("10.") and not graph.strongly_typed
    flags = 0 if weakly_typed else 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph.path)):
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise KitError(f"{graph.path}: TensorRT {tensorrt_version()} cannot read it: {'; '.join(errors)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = optimization_level
    if weakly_typed:
        allow_integers_trt10(config)
    cache = config.create_timing_cache(timing_cache.read_bytes() if timing_cache.is_file() else b"")
    if not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)  # written by another version or GPU
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise KitError(
            f"{graph.path}: TensorRT {tensorrt_version()} could not build it (its messages stand above); "
            "with little memory try a smaller --workspace, or --optimization-level 2"
        )
    save_timing_cache(config, timing_cache)
    return bytes(serialized)


def allow_integers_trt10(config: trt.IBuilderConfig) -> None:
    """TensorRT 10 computes in INT8 and FP16 only where the flags allow it."""
    config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.FP16)


def save_timing_cache(config: trt.IBuilderConfig, path: Path) -> None:
    """Write the measured kernel times back."""
    cache = config.get_timing_cache()
    if cache is not None:
        path.write_bytes(bytes(cache.serialize()))
