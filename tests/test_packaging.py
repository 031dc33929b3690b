"""What gets installed: the wheel holds edge_unet with its data files, its types and nothing else."""

from __future__ import annotations

import email
import email.message
import importlib.util
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from edge_unet import __version__

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "edge_unet"
EXTRAS = {
    "train",
    "onnx",
    "openvino",
    "tflite",
    "coreml",
    "tensorrt",
    "mcu",
    "camera",
    "report",
    "search",
    "all",
    "dev",
}


PAGE = "edge_unet/segment/web/page/"
CARRIED = ("index.html", "sw.js", ".source.sha256", "assets/main.js", "runtime/1.0/ort-wasm-simd-threaded.wasm")
LEFT_OUT = ("runtime/1.0/ort-wasm-simd-threaded.asyncify.wasm", "runtime/1.0/ort-wasm-simd-threaded.asyncify.mjs")


def built(tree: Path, *kinds: str) -> Path:
    """What `python -m build` makes of a tree; the wheel where it makes several."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed (pip install hatchling): without network no wheel can be built")
    out = tree.parent / "dist"
    command = [sys.executable, "-m", "build", *kinds, "--no-isolation", "--outdir", str(out), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree as git has it: whether `make page` was run here makes no difference."""
    copy = tmp_path_factory.mktemp("tree") / "edge-unet"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(PACKAGE, copy / "edge_unet", ignore=shutil.ignore_patterns("__pycache__", "page"))
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    """Of a tree without a built page."""
    return built(tree, "--wheel")


@pytest.fixture(scope="module")
def wheel_with_page(tree: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tree in which something stands for the built page; by way of the sdist, as a release is built."""
    copy = tmp_path_factory.mktemp("page") / "edge-unet"
    shutil.copytree(tree, copy)
    for name in (*CARRIED, *LEFT_OUT):
        path = copy / PAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}", encoding="utf-8")
    return built(copy)


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_built_page_is_in_the_wheel_without_the_runtime_that_wasm_does_not_load(
    wheel_with_page: Path, names: set[str]
) -> None:
    assert not [name for name in names if name.startswith(PAGE)]
    with zipfile.ZipFile(wheel_with_page) as archive:
        assert set(archive.namelist()) - names == {PAGE + name for name in CARRIED}
        assert names <= set(archive.namelist())
        assert archive.read(f"{PAGE}index.html") == b"this is index.html"


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"edge_unet-{__version__}.dist-info/METADATA"))


def test_only_the_package_is_in_it(wheel: Path, names: set[str]) -> None:
    assert wheel.name == f"edge_unet-{__version__}-py3-none-any.whl"
    info = f"edge_unet-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"edge_unet", info}
    inside = {name.removeprefix(f"{info}/") for name in names if name.startswith(info)}
    assert inside == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_every_source_file_is_in_it_and_no_leftover(names: set[str]) -> None:
    sources = {p.relative_to(ROOT).as_posix() for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts}
    packed = {name for name in names if name.startswith("edge_unet/")}
    assert sources <= packed
    folders = ("edge_unet/reference/", "edge_unet/targets/integration/sources/")
    data = {name for name in packed - sources if not name.startswith(folders)}
    assert data == {"edge_unet/py.typed", "edge_unet/measure/report/report.html.j2"}


def test_data_files_that_code_reads_are_in_it(names: set[str]) -> None:
    assert "edge_unet/targets/tensorrt/kit/build.py" in names
    shipped = {p.relative_to(ROOT).as_posix() for p in (PACKAGE / "reference").glob("*") if p.is_file()}
    assert shipped <= names
    embedded = [p for p in (PACKAGE / "targets/integration/sources").rglob("*.*") if "__pycache__" not in p.parts]
    assert {p.relative_to(ROOT).as_posix() for p in embedded if p.is_file()} | {
        "edge_unet/targets/integration/sources/cpp/Makefile"
    } == {name for name in names if name.startswith("edge_unet/targets/integration/sources/")}
    assert {Path(name).suffix for name in shipped} <= {".json", ".md", ".safetensors"}


def test_a_wheel_is_small(wheel: Path) -> None:
    """Nearly all of it are the weights of the shipped models: the first four in float32, the others as int8 codes. A
    page brings at most 4 MB more: tests/segment/web/test_camera_page.py."""
    assert wheel.stat().st_size < 24_000_000


def test_metadata(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "edge-unet"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert set(metadata.get_all("Provides-Extra") or ()) == EXTRAS


def test_the_core_install_is_light(metadata: email.message.Message) -> None:
    plain = [line for line in metadata.get_all("Requires-Dist") or () if "extra ==" not in line]
    wanted = {line.split(";")[0].split(">")[0].split("<")[0].strip() for line in plain}
    assert wanted == {
        "numpy", "pydantic", "typer", "rich", "onnx", "opencv-python-headless", "safetensors", "tomli",
    }  # fmt: skip


def test_every_error_names_an_extra_that_exists() -> None:
    from edge_unet.pipeline.doctor import PACKAGES
    from edge_unet.targets.registry import TARGETS

    assert {target.extra for target in TARGETS.values()} | set(PACKAGES.values()) <= EXTRAS


@pytest.mark.slow
def test_the_installed_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own that borrows only the dependencies: nothing is read from the working tree."""
    room = tmp_path / "venv"
    venv.create(room, with_pip=False, symlinks=True)
    site = next((room / "lib").glob("python*")) / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    borrowed = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    code = "import edge_unet, sys; print(edge_unet.__file__); from edge_unet.cli import main; main()"
    done = subprocess.run(
        [str(room / "bin/python"), "-c", code, "doctor"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(site)
    assert "target jetson" in done.stdout
