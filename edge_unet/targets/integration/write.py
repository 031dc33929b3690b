"""Write the folder `integration` of a bundle: only what its target needs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from string import Template

from edge_unet.core.artifact import Artifact
from edge_unet.core.files import sha256_of
from edge_unet.core.spec import ClassSpec, PreprocessSpec
from edge_unet.targets.integration.constants import cpp, kotlin, swift
from edge_unet.targets.integration.readme import readme

FOLDER = "integration"
SOURCES = Path(__file__).parent / "sources"
TEMPLATE = ".template"
PARTS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("python", "cpp", "cpp_openvino"),
    "android": ("python", "cpp", "cpp_litert", "kotlin"),
    "embedded-linux": ("python", "cpp", "cpp_litert"),
    "onnx": ("python",),
    "ios": ("swift",),
    "jetson": (),
}
"""Target -> folders of `sources`. The jetson kit is its own program; a target that is not here gets no folder."""
LANGUAGES = {"cpp": cpp, "kotlin": kotlin, "swift": swift}


def write_integration(
    folder: Path, name: str, artifact: Artifact, preprocess: PreprocessSpec, classes: ClassSpec
) -> dict[str, str]:
    """Write `folder`/integration; returns path -> sha256 of every file, for the manifest. No clock time is in it.

    Each file is listed on its own: what a build or Python leaves beside them does not change the bundle.
    """
    if artifact.target not in PARTS:
        return {}
    into = folder / FOLDER
    into.mkdir()
    for part in PARTS[artifact.target]:
        language = part.split("_")[0]
        (into / language).mkdir(exist_ok=True)
        for source in sorted(path for path in (SOURCES / part).iterdir() if path.is_file()):
            if source.suffix != TEMPLATE:
                shutil.copyfile(source, into / language / source.name)
                continue
            values = LANGUAGES[language](name, artifact, preprocess, classes)
            text = Template(source.read_text(encoding="utf-8")).substitute(values)
            (into / language / source.name.removesuffix(TEMPLATE)).write_text(text, encoding="utf-8")
    (into / "README.md").write_text(readme(name, artifact, preprocess, classes), encoding="utf-8")
    files = sorted(path for path in into.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
