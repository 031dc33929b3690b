"""integration/: what is written for which target, and that its constants are the manifest's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_unet.core.artifact import Artifact
from edge_unet.core.files import sha256_of
from edge_unet.core.spec import ClassSpec, PreprocessSpec, TensorSpec
from edge_unet.targets.integration import write_integration
from edge_unet.targets.integration.constants import number
from edge_unet.targets.integration.write import PARTS, SOURCES

NAME = 'one "odd" $name\\'
CLASSES = ClassSpec(names=("ground", 'say "$x" \\(y)', "né\nw"), palette=((0, 0, 0), (1, 200, 83), (255, 16, 0)))
PREPROCESS = PreprocessSpec(
    height=96, width=160, color_order="BGR", resize="letterbox", mean=127.5, scale=1 / 127.5, pad_value=3
)
INT8 = {"dtype": "int8", "layout": "NHWC"}


def artifact(target: str, **values: Any) -> Artifact:
    source = TensorSpec.model_validate(
        {"name": "image", "shape": (1, 96, 160, 3), **INT8, "scale": 1 / 127.5, "zero_point": 0}
    )
    sink = TensorSpec.model_validate(
        {"name": "logits", "shape": (1, 48, 80, 3), **INT8, "scale": 0.0625, "zero_point": -2}
    )
    return Artifact.model_validate(
        {
            "path": "model.tflite", "sha256": "ab" * 32, "bytes": 1, "target": target, "precision": "int8",
            "inputs": (source,), "outputs": (sink,), "toolchain": {}, "parent_sha256": "cd" * 32, **values,
        }
    )  # fmt: skip


def written(folder: Path, target: str) -> dict[str, str]:
    return write_integration(folder, NAME, artifact(target), PREPROCESS, CLASSES)


def unescaped(literal: str) -> str:
    """What a C++, Kotlin or Swift string literal holds; each of their escapes here is a backslash and the letter."""
    assert literal[0] == literal[-1] == '"'
    return re.sub(r"\\(.)", r"\1", literal[1:-1])


LITERALS = r'"(?:[^"\\]|\\.)*"'


def constant(text: str, name: str) -> str:
    (found,) = re.findall(rf"(?:val|let) {name}(?:: [^=]+)? = (.*?)(?: //.*)?$", text, re.MULTILINE)
    return str(found)


@pytest.mark.parametrize(
    ("target", "languages"),
    {
        "cpu": {"python", "cpp"}, "android": {"python", "cpp", "kotlin"}, "embedded-linux": {"python", "cpp"},
        "onnx": {"python"}, "ios": {"swift"}, "jetson": set(),
    }.items(),
)  # fmt: skip
def test_only_what_a_target_needs(tmp_path: Path, target: str, languages: set[str]) -> None:
    files = written(tmp_path, target)
    assert {name.split("/")[1] for name in files} == {*languages, "README.md"}
    assert files == {name: sha256_of(tmp_path / name) for name in files}
    on_disk = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert on_disk == set(files)
    page = (tmp_path / "integration/README.md").read_text()
    assert ("Not compiled by the project" in page) == (target in ("cpu", "android", "embedded-linux", "ios"))
    assert "ab" * 32 in page


def test_a_target_without_sources_gets_no_folder(tmp_path: Path) -> None:
    assert "mcu" not in PARTS
    assert written(tmp_path, "mcu") == {}
    assert list(tmp_path.iterdir()) == []


def test_the_runtime_fits_the_artifact(tmp_path: Path) -> None:
    for target in ("cpu", "android"):
        (tmp_path / target).mkdir()
        written(tmp_path / target, target)
    cpp = {target: tmp_path / target / "integration/cpp" for target in ("cpu", "android")}
    assert "ov::Core" in (cpp["cpu"] / "runtime.hpp").read_text()
    assert "LiteRtRunCompiledModel" in (cpp["android"] / "runtime.hpp").read_text()
    assert not (cpp["cpu"] / "litert.h").exists()


def test_kotlin_holds_the_manifests_values(tmp_path: Path) -> None:
    written(tmp_path, "android")
    text = (tmp_path / "integration/kotlin/EdgeUnetModel.kt").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "integration/kotlin").iterdir()} == {
        "EdgeUnetModel.kt", "EdgeUnetFrame.kt", "EdgeUnetSegmenter.kt",
    }  # fmt: skip
    words = {
        "NAME": NAME, "ASSET": "model.tflite", "ASSET_SHA256": "ab" * 32, "COLOR_ORDER": "BGR", "RESIZE": "letterbox",
        "INPUT_NAME": "image", "INPUT_DTYPE": "int8", "INPUT_LAYOUT": "NHWC", "OUTPUT_NAME": "logits",
        "OUTPUT_DTYPE": "int8", "OUTPUT_LAYOUT": "NHWC", "PRECISION": "int8",
    }  # fmt: skip
    assert {name: unescaped(constant(text, name)) for name in words} == words
    assert not re.search(r"(?<!\\)\$", text)  # Kotlin would fill in what follows a bare dollar
    whole = {
        "HEIGHT": 96, "WIDTH": 160, "CHANNELS": 3, "PAD_VALUE": 3, "OUTPUT_HEIGHT": 48, "OUTPUT_WIDTH": 80,
        "OUTPUT_CHANNELS": 3, "OUTPUT_ZERO_POINT": -2,
    }  # fmt: skip
    assert {name: int(constant(text, name)) for name in whole} == whole
    for name, value in {"MEAN": 127.5, "SCALE": 1 / 127.5, "OUTPUT_SCALE": 0.0625}.items():
        literal = constant(text, name)
        assert literal.endswith("f")
        assert np.float32(literal[:-1]) == np.float32(value)
    assert constant(text, "OUTPUT_HAS_GRID") == "true"
    names = [unescaped(word) for word in re.findall(LITERALS, constant(text, "CLASS_NAMES"))]
    assert names == ["ground", 'say "$x" \\(y)', "né w"]
    assert constant(text, "PALETTE") == "intArrayOf(0x000000, 0x01C853, 0xFF1000)"


def test_swift_holds_the_manifests_values(tmp_path: Path) -> None:
    written(tmp_path, "ios")
    text = (tmp_path / "integration/swift/EdgeUnetModel.swift").read_text(encoding="utf-8")
    words = {
        "name": NAME, "package": "model.tflite", "packageSha256": "ab" * 32, "colorOrder": "BGR",
        "resize": "letterbox", "inputName": "image", "outputName": "logits",
    }  # fmt: skip
    assert {name: unescaped(constant(text, name)) for name in words} == words
    whole = {"height": 96, "width": 160, "channels": 3, "padValue": 3, "outputHeight": 48, "outputChannels": 3}
    assert {name: int(constant(text, name)) for name in whole} == whole
    assert np.float32(constant(text, "scale")) == np.float32(1 / 127.5)
    assert [unescaped(word) for word in re.findall(LITERALS, constant(text, "classNames"))][1] == CLASSES.names[1]
    assert constant(text, "palette") == "[(0, 0, 0), (1, 200, 83), (255, 16, 0)]"


def test_what_was_not_compiled_says_so() -> None:
    for folder, words in (
        ("kotlin", "with a stub of LiteRT, never on Android."),
        ("swift", "// Not compiled by the project."),
    ):
        for source in (SOURCES / folder).iterdir():
            assert any(words in line for line in source.read_text(encoding="utf-8").splitlines()[:3]), source


@pytest.mark.parametrize("value", [0.0, 128.0, 1 / 64, 1 / 127.5, 3.4e-9, 123456.78, 1e20])
def test_a_number_keeps_its_bits(value: float) -> None:
    assert np.float32(number(value)) == np.float32(value)
    assert re.fullmatch(r"\d+\.\d+(e[+-]\d+)?|\d+(\.\d+)?e[+-]\d+", number(value))


def brackets(text: str) -> str:
    """What is left of a source without strings, comments and matching brackets."""
    text = re.sub(rf"{LITERALS}|//[^\n]*|/\*.*?\*/|'\\?.'", "", text, flags=re.DOTALL)
    left = re.sub(r"[^()\[\]{}]", "", text)
    while (shorter := re.sub(r"\(\)|\[\]|\{\}", "", left)) != left:
        left = shorter
    return left


@pytest.mark.parametrize(("target", "ending", "compiler"), [("android", "kt", "kotlinc"), ("ios", "swift", "swiftc")])
def test_brackets_match_where_no_compiler_is(tmp_path: Path, target: str, ending: str, compiler: str) -> None:
    written(tmp_path, target)
    sources = sorted((tmp_path / "integration").rglob(f"*.{ending}"))
    assert len(sources) == 3
    assert {source.name: brackets(source.read_text(encoding="utf-8")) for source in sources} == {
        source.name: "" for source in sources
    }
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} not installed: brackets only, the sources are not compiled")
