"""The runner: packed, on its own, with the protocol, masks and hashes of the package, and its energy sources."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.core.files import sha256_of
from edge_unet.core.spec import TensorSpec, logits_from_output, mask_from_logits
from edge_unet.devices import pack
from edge_unet.devices.runner import engines, job, masks, sessions
from edge_unet.devices.runner.energy import INA, RAPL, measure_energy
from edge_unet.devices.runner.errors import RunnerError
from edge_unet.targets.tensorrt import kit

SOURCES = sorted(pack.SOURCES.glob("*.py"))
NEWER_THAN_3_8 = ("removeprefix", "removesuffix", "is_relative_to", "with_stem", "randbytes", "pairwise", "readlink")
TENSOR = job.Tensor("logits", (1, 2, 2, 3), "int8", "NHWC", 0.5, 3)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_file_is_python_3_8_and_needs_nothing_of_the_package(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = [a.name for n in imported if isinstance(n, ast.Import) for a in n.names]
    names += [n.module or "" for n in imported if isinstance(n, ast.ImportFrom) and not n.level]
    allowed = {"numpy", "__future__", *sys.stdlib_module_names}
    assert {name.split(".")[0] for name in names} <= allowed
    assert any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in imported) or len(tree.body) == 1
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not used & set(NEWER_THAN_3_8)
    strict = [k for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords if k.arg == "strict"]
    assert not strict  # zip(strict=) came with 3.10


def test_the_same_sources_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.pyz", "b.pyz"):
        pack.pack_runner(tmp_path / name)
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes()
    packed = {name.split("/")[-1] for name in zipfile.ZipFile(tmp_path / "a.pyz").namelist()}
    assert packed == {"__main__.py", *(source.name for source in SOURCES)}


def run_packed(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With a Python that sees neither this package nor anything installed."""
    pack.pack_runner(tmp_path / pack.NAME)
    line = [sys.executable, "-I", "-S", str(tmp_path / pack.NAME), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)


def test_the_probe_needs_nothing_but_python(tmp_path: Path) -> None:
    done = run_packed(tmp_path, "probe")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["packages"] == {}
    assert [path.name for path in tmp_path.iterdir()] == [pack.NAME]  # no __pycache__


def test_without_numpy_it_says_what_to_install(tmp_path: Path) -> None:
    done = run_packed(tmp_path, "bench", "job.json", "result.json")
    assert done.returncode == 5
    assert "numpy is missing on the device" in done.stderr
    assert "~/.edge-unet/bin/pip install numpy" in done.stderr


def test_a_damaged_job_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"schema": 2}')
    with pytest.raises(RunnerError, match=r"job.json is damaged .*schema expected 1, received 2"):
        job.read_job(tmp_path / "job.json")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "layout", "scale", "zero_point"),
    [
        ("int8", "NHWC", 0.5, 3),
        ("uint8", "NCHW", 0.25, 128),
        ("float32", "NCHW", 0.0625, 0),
        ("float32", "NHWC", None, None),
    ],
)
def test_masks_are_those_of_the_package(
    dtype: str, layout: str, scale: float | None, zero_point: int | None, channels: int
) -> None:
    shape = (1, channels, 8, 9) if layout == "NCHW" else (1, 8, 9, channels)
    values = np.random.default_rng(1).normal(0, 3, shape) * (1 if dtype == "float32" else 20)
    output = values.astype(dtype) if dtype != "uint8" else (values + 128).clip(0, 255).astype(dtype)
    fields: dict[str, Any] = {"name": "y", "shape": shape, "dtype": dtype, "layout": layout}
    spec = TensorSpec.model_validate({**fields, "scale": scale, "zero_point": zero_point})
    expected = mask_from_logits(logits_from_output(output, spec))[0]
    received = masks.mask_of(output, job.Tensor(**spec.model_dump()))
    assert received.dtype == np.uint8
    assert np.array_equal(received, expected)
    assert len(np.unique(expected)) > 1


def test_agreement_counts_pixels(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "feed.npy", np.zeros(1, np.float32))
    golden = job.Golden(tmp_path / "feed.npy", tmp_path / "mask.npy")

    def infer(feed: NDArray[Any]) -> NDArray[Any]:
        codes = np.full((1, 2, 3, 3), -100, np.int8)  # (N, H, W, C)
        for y, x in np.ndindex(2, 3):
            codes[0, y, x, mask[y, x]] = 100
        codes[0, 0, 0] = (0, 50, 0)  # says 1 where 0 is expected
        return codes

    spec = job.Tensor("logits", (1, 2, 3, 3), "int8", "NHWC", 0.5, 3)
    assert masks.agreement(infer, golden, spec) == pytest.approx(5 / 6)
    assert masks.agreement(lambda feed: infer(feed)[:, :1], golden, spec) == 0.0


def test_hashes_are_those_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x").write_bytes(b"1" * 3_000_000)
    (tmp_path / "a/ü").write_bytes(b"2")
    assert job.sha256_of(tmp_path / "a") == sha256_of(tmp_path / "a")
    assert job.sha256_of(tmp_path / "a/b/x") == sha256_of(tmp_path / "a/b/x")


def test_a_runtime_that_is_absent_is_named_with_what_to_type() -> None:
    with pytest.raises(
        RunnerError, match=r"nothing-here is missing on the device .*-m pip install nothing-here"
    ) as caught:
        sessions.require(("nothing_here",), "nothing-here")
    assert caught.value.exit_code == 5


def rapl(root: Path) -> Path:
    for socket, start in enumerate((1_000_000, 2_000_000)):
        folder = root / f"sys/class/powercap/intel-rapl:{socket}"
        folder.mkdir(parents=True)
        (folder / "energy_uj").write_text(f"{start}\n")
        (folder / "max_energy_range_uj").write_text("2100000\n")
    return root


def test_energy_from_rapl_counters_that_wrap(tmp_path: Path) -> None:
    """Two sockets; the second wraps at 2.1 J."""
    root, now = rapl(tmp_path), [0.0]
    counter = root / "sys/class/powercap/intel-rapl:{}/energy_uj"

    def run() -> None:
        now[0] += 0.5
        if now[0] > 0.5:
            for socket in (0, 1):
                path = Path(str(counter).format(socket))
                path.write_text(str((int(path.read_text()) + 60_000) % 2_100_000))

    energy, source = measure_energy(run, 1.0, root, lambda: now[0])
    assert energy == pytest.approx(120.0)  # 2 runs, 60 mJ each on each socket
    assert source == RAPL


def test_energy_from_the_meter_of_a_jetson(tmp_path: Path) -> None:
    """VDD_IN is the whole board: 5 V and 1.2 A are 6 W; the rail beside it is a part of it."""
    folder = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    folder.mkdir(parents=True)
    for channel, (rail, millivolt, milliampere) in enumerate((("VDD_CPU", 5000, 400), ("VDD_IN", 5000, 1200)), 1):
        (folder / f"in{channel}_label").write_text(f"{rail}\n")
        (folder / f"in{channel}_input").write_text(f"{millivolt}\n")
        (folder / f"curr{channel}_input").write_text(f"{milliampere}\n")
    now = [0.0]

    def run() -> None:
        now[0] += 0.25

    energy, source = measure_energy(run, 1.0, tmp_path, lambda: now[0])
    assert energy == pytest.approx(1500.0)  # 6 W for a quarter of a second
    assert source == INA.format(rail="VDD_IN")
    (folder / "in2_label").write_text("VDD_GPU\n")
    assert measure_energy(run, 1.0, tmp_path, lambda: now[0]) == (None, None)


STAND_INS = {
    "cuda.py": "class Cuda:\n    pass\n",
    "device.py": "from .machine import Machine\n"
    "def this_machine(cuda):\n    return Machine('10.3.0', '8.7', '36.4.0')\n",
    "run_engine.py": "from .latency import Sample\n"
    "class Runner:\n"
    "    def __init__(self, engine, spec, cuda):\n        self.open, self.fed = True, None\n"
    "    def infer(self, image):\n        self.fed = image\n"
    "    def run(self):\n        assert self.open and self.fed is not None\n        return Sample(1, 20, 3, 30)\n"
    "    def __enter__(self):\n        return self\n"
    "    def __exit__(self, *_):\n        self.open = False\n",
}
"""What needs NVIDIA's libraries. The rest of the kit is the real one."""


def planted_kit(folder: Path) -> job.Subject:
    """A kit whose engines were 'built' on the stand-ins' machine."""
    programs = folder / "00" / engines.PROGRAMS
    programs.mkdir(parents=True)
    for source in Path(str(kit.__file__)).parent.glob("*.py"):
        shutil.copyfile(source, programs / source.name)
    for name, text in STAND_INS.items():
        (programs / name).write_text(f"from __future__ import annotations\n{text}")
    (folder / "00/model.onnx").write_bytes(b"graph")
    sha = sha256_of(folder / "00/model.onnx")
    values = {
        "name": "n", "input": "image", "input_shape": [1, 3, 2, 2], "output": "logits", "output_shape": [1, 1, 2, 2],
        "color_order": "RGB", "mean": 128.0, "scale": 1 / 64, "logit_step": 0.0625, "activation_bytes": 1,
        "graphs": {"int8": {"file": "model.onnx", "sha256": sha}},
    }  # fmt: skip
    (folder / "00/kit.json").write_text(json.dumps(values))
    built = folder / "00-engines"
    built.mkdir()
    layer = {"name": "c", "op": "CaskConvolution", "precision": "int8", "unit": "sm80_xmma"}
    for precision, ratio in (("int8", 0.9995), ("fp16", 0.991)):
        engine = built / f"model.{precision}.engine"
        engine.write_bytes(precision.encode())
        facts = {
            "machine": {"tensorrt": "10.3.0", "compute_capability": "8.7", "l4t": "36.4.0"},
            "engine_sha256": sha256_of(engine), "graph_sha256": sha, "golden": {"ratio": ratio}, "layers": [layer],
        }  # fmt: skip
        (built / f"{engine.name}.json").write_text(json.dumps(facts))
    np.save(folder / "feed.npy", np.zeros((1, 3, 2, 2), np.float32))
    golden = job.Golden(folder / "feed.npy", folder / "feed.npy")
    return job.Subject(
        "n jetson", "tensorrt", folder / "00", "", "int8", TENSOR, TENSOR, {"int8": 0.999, "fp16": 0.98}, (golden,),
        folder / "golden",
    )  # fmt: skip


def test_every_engine_of_a_kit_is_a_subject(tmp_path: Path) -> None:
    subject = planted_kit(tmp_path)
    with ExitStack() as stack:
        opened = engines.open_engines(stack, subject)
        assert [one.label for one in opened] == ["n jetson int8", "n jetson fp16"]
        assert [one.golden for one in opened] == [[0.9995], [0.991]]
        assert opened[0].runtime == "tensorrt 10.3.0, int8 engine"
        assert (opened[0].stages, opened[0].run()) == (("h2d", "compute", "d2h"), (1, 20, 3))
        assert opened[1].layers == [{"name": "c", "op": "CaskConvolution", "precision": "int8", "unit": "sm80_xmma"}]
    with pytest.raises(AssertionError):
        opened[0].run()  # closed with the stack


def test_an_engine_from_elsewhere_is_refused_in_the_kits_words(tmp_path: Path) -> None:
    subject = planted_kit(tmp_path)
    sidecar = tmp_path / "00-engines/model.int8.engine.json"
    sidecar.write_text(sidecar.read_text().replace("36.4.0", "35.1.0"))
    with (
        pytest.raises(RunnerError, match=r"n jetson: .*built elsewhere: l4t expected 36.4.0, received 35.1.0"),
        ExitStack() as stack,
    ):
        engines.open_engines(stack, subject)


@pytest.mark.parametrize(("code", "expected"), [(1, 1), (3, 3), (5, 5), (2, 1), (137, 1)])
def test_a_build_that_fails_keeps_its_reason(tmp_path: Path, code: int, expected: int) -> None:
    subject, heard = planted_kit(tmp_path), list[str]()
    program = f"import sys\nprint('building', sys.argv[1:])\nprint('error: why', file=sys.stderr)\nsys.exit({code})\n"
    (tmp_path / "00/build.py").write_text(program)
    with pytest.raises(RunnerError, match=rf"n jetson: build.py ended with {code}: error: why") as caught:
        engines.build(subject, heard.append)
    assert caught.value.exit_code == expected
    gates = ["--min-agreement-int8", "0.999", "--min-agreement-fp16", "0.98"]
    assert heard[0] == f"n jetson: building {['--rapid', '--golden', str(tmp_path / 'golden'), *gates]}"
