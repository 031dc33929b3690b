"""What an arm64 Python needs to run here: an emulator, a root folder from Debian's packages, wheels for arm64.

Everything lands in one folder and stays there; a step that is done leaves a stamp and is not done again. Nothing is
installed on this machine. Packages come from the mirror that this machine's apt uses, wheels from pip's index.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from edge_unet.core.errors import EdgeUnetError, MissingBackendError

SUITE = "bookworm"
"""The Debian release whose Python is 3.11, for which the wheels are."""
DEBS = ("python3.11", "libpython3.11-stdlib", "libstdc++6", "libgcc-s1", "zlib1g", "libgomp1")
EMULATOR_SUITE = f"{SUITE}-backports"
"""bookworm's own qemu 7.2 ends with a segmentation fault in these runtimes."""
EMULATOR_DEB, EMULATOR_LEAST = "qemu-user", 10
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CPU = "cortex-a76"
"""A Raspberry Pi 5: dot-product instructions, so the same int8 kernels as on a phone."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
WHEELS = (
    "numpy", "ai-edge-litert", "onnxruntime", "flatbuffers", "protobuf", "packaging", "backports.strenum", "ml_dtypes",
    "tqdm", "typing_extensions",
)  # fmt: skip


@dataclass(frozen=True)
class Emulated:
    """An arm64 Python that runs on this machine."""

    emulator: Path
    root: Path

    def command(self, program: Path, *arguments: str) -> list[str]:
        """How to run a Python program in it."""
        libraries = [self.root / "lib/aarch64-linux-gnu", self.root / "usr/lib/aarch64-linux-gnu"]
        settings = {
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PYTHONHOME": str(self.root / "usr"),
            "PYTHONPATH": str(self.root / "site"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        told = [word for name, value in settings.items() for word in ("-E", f"{name}={value}")]
        python = self.root / "usr/bin/python3.11"
        return [str(self.emulator), "-cpu", CPU, "-L", str(self.root), *told, str(python), str(program), *arguments]

    def name(self) -> str:
        """'qemu-aarch64 version 10.0.2 (…), -cpu cortex-a76'."""
        said = subprocess.run([str(self.emulator), "--version"], capture_output=True, text=True, check=True)
        return f"{said.stdout.splitlines()[0]}, -cpu {CPU}"


def cached(folder: Path) -> Emulated | None:
    """What an earlier run has left, None where it is not complete."""
    stamps = [folder / f"{step}.done" for step in ("emulator", "root", _wheels_step())]
    emulator = _emulator_in(folder)
    return Emulated(emulator, folder / "root") if emulator and all(stamp.is_file() for stamp in stamps) else None


def fetch(folder: Path) -> Emulated:
    """Complete `folder`. Raises MissingBackendError where a tool or a download is missing, with what it said; run it
    again to go on where it stopped."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise MissingBackendError(f"arm64: {tool} is not here; run this on Debian or Ubuntu, which have it")
    _step(folder, "emulator", _fetch_emulator)
    _step(folder, "root", _fetch_root)
    _step(folder, _wheels_step(), _fetch_wheels)
    emulated = cached(folder)
    if emulated is None:
        raise EdgeUnetError(f"{folder}: incomplete; remove it and run this again")
    return emulated


def _step(folder: Path, name: str, work: object) -> None:
    stamp = folder / f"{name}.done"
    if stamp.is_file():
        return
    print(f"arm64: fetching {name} into {folder}", flush=True)
    assert callable(work)
    work(folder)
    stamp.touch()


def _fetch_emulator(folder: Path) -> None:
    """The emulator of the backports, unpacked; the host's own architecture."""
    host = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    apt = _apt(folder / "apt-host", host, EMULATOR_SUITE)
    debs = _download(apt, folder / "apt-host", [f"{EMULATOR_DEB}/{EMULATOR_SUITE}"], alone=True)
    _unpack(debs, folder / "host")
    found = _emulator_in(folder)
    if found is None:
        raise MissingBackendError(f"arm64: {EMULATOR_DEB} of {EMULATOR_SUITE} holds no qemu-aarch64")
    said = subprocess.run([str(found), "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"version (\d+)", said)
    if match is None or int(match[1]) < EMULATOR_LEAST:
        raise MissingBackendError(
            f"arm64: expected qemu {EMULATOR_LEAST} or newer, received {said.strip() or 'nothing'}"
        )


def _fetch_root(folder: Path) -> None:
    """Python and the C libraries, unpacked; no package script runs."""
    apt = _apt(folder / "apt-arm64", "arm64", SUITE)
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    _unpack(_download(apt, folder / "apt-arm64", DEBS), root)
    loader = root / "lib/ld-linux-aarch64.so.1"
    if not loader.exists():
        raise MissingBackendError(f"arm64: {loader} is missing from the unpacked packages")


def _fetch_wheels(folder: Path) -> None:
    """The versions installed here, for arm64, unpacked beside each other."""
    wheels, site = folder / "wheels", folder / "root/site"
    shutil.rmtree(wheels, ignore_errors=True)
    shutil.rmtree(site, ignore_errors=True)
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    pinned = [f"{name}=={version(name)}" for name in WHEELS]
    _run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(wheels),
         "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none",
         *platforms, *pinned],
        "wheels for arm64",
    )  # fmt: skip
    for wheel in sorted(wheels.glob("*.whl")):
        shutil.unpack_archive(wheel, site, "zip")


def _wheels_step() -> str:
    """The stamp names the versions: other ones are fetched anew."""
    return "wheels-" + "-".join(version(name) for name in ("numpy", "ai-edge-litert", "onnxruntime"))


def _apt(state: Path, architecture: str, suite: str) -> list[str]:
    """apt-get with lists, status and cache of its own, for one suite of one architecture."""
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n", encoding="utf-8")
    options = {
        "APT::Architecture": architecture, "APT::Architectures": architecture, "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else os.environ.get("USER", "root"),
        "Acquire::Languages": "none", "Debug::NoLocking": "1", "Dir::Cache": state / "cache",
        "Dir::Etc::SourceList": state / "sources.list", "Dir::Etc::SourceParts": "/dev/null", "Dir::State": state,
        "Dir::State::status": state / "status",
    }  # fmt: skip
    apt = ["apt-get", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    _run([*apt, "update"], f"lists of {suite}")
    return apt


def _mirror() -> str:
    """Where this machine's apt gets Debian from."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    found = [line.split(" ")[0] for line in said.splitlines() if line.endswith(" Debian") and "security" not in line]
    if not found:
        raise MissingBackendError("arm64: apt knows no Debian mirror here; run apt-get update, on a Debian system")
    return found[0]


def _download(apt: Sequence[str], state: Path, packages: Sequence[str], *, alone: bool = False) -> list[Path]:
    """The packages and, unless `alone`, all they depend on."""
    archives = state / "cache/archives"
    if alone:
        _run([*apt, "download", *packages], ", ".join(packages), archives)
    else:
        _run([*apt, "install", "--yes", "--download-only", *packages], ", ".join(packages))
    return sorted(archives.glob("*.deb"))


def _unpack(debs: Sequence[Path], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        _run(["dpkg", "-x", str(deb), str(into)], deb.name)


def _emulator_in(folder: Path) -> Path | None:
    found = folder / "host/usr/bin/qemu-aarch64"
    return found if found.is_file() else None


def _run(arguments: Sequence[str], what: str, folder: Path | None = None) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith(("E:", "ERROR", "error"))]
        said = lines[0] if lines else (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise MissingBackendError(f"arm64: could not get {what}: {said}; run it again to go on where it stopped")
