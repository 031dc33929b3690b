"""The built page: the one that a wheel carries, or one that is built from a source checkout.

python -m edge_unet.segment.web.page        # builds it anew, as `make page` does
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from edge_unet.core.errors import EdgeUnetError, MissingBackendError
from edge_unet.core.files import sha256_of, written_whole

PAGE = Path(__file__).parent / "page"
"""Where it is built to; not kept in git, and in a wheel that was built after `make page`."""
SOURCE = Path(__file__).parents[3] / "apps" / "camera-web"
"""The page's source, in a checkout."""
BUILT_FROM = ("src", "public", "index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts")
STAMP = ".source.sha256"
"""Beside index.html: the hash of what the page was built from. Times say nothing after a checkout or an install."""
NODE = (20, 19)
"""What Vite asks for; package.json says the same."""


def built_page(say: Callable[[str], None], page: Path = PAGE, source: Path = SOURCE) -> Path:
    """The folder of the built page; built now where it is absent or was built from another source.

    Raises MissingBackendError where there is none that fits and none can be built, EdgeUnetError where npm fails.
    """
    there = (page / "index.html").is_file()
    if not (source / "package.json").is_file():
        if there:
            return page
        raise MissingBackendError(
            f"{page}: this edge_unet was installed without the camera page; in a checkout of edge_unet run make page, "
            "then pip install it from there"
        )
    if there and stamp_of(page) == source_hash(source):
        return page
    if problem := cannot_build():
        state = "was built from another source" if there else "is not built"
        raise MissingBackendError(f"{page}: the camera page {state} and {problem}; then run make page")
    say(f"building the camera page in {source} (npm ci, npm run build): a minute or two, once")
    build(source, page)
    return page


def cannot_build() -> str | None:
    """What is missing for a build here, and what to do; None where nothing is."""
    wanted = ".".join(map(str, NODE))
    if shutil.which("npm") is None or (node := shutil.which("node")) is None:
        return f"npm is not here: install Node {wanted} or newer"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    found = re.match(r"v(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < NODE:
        return f"Node here is {said or 'not running'}: install {wanted} or newer"
    return None


def build(source: Path, page: Path) -> None:
    """Install what the lockfile names, unless that was done, and build into `page`, whole or not at all.

    Raises EdgeUnetError with npm's own reason.
    """
    installed = source / "node_modules" / ".package-lock.json"
    fresh = installed.is_file() and installed.stat().st_mtime >= (source / "package-lock.json").stat().st_mtime
    if not fresh:
        _npm(source, "ci")
    with written_whole(page) as temporary:
        _npm(source, "run", "build", "--", "--outDir", str(temporary.resolve()))
        (temporary / STAMP).write_text(source_hash(source) + "\n", encoding="utf-8")


def _npm(source: Path, *arguments: str) -> None:
    npm = shutil.which("npm") or "npm"
    done = subprocess.run([npm, *arguments], cwd=source, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")
        step = f"npm {' '.join(arguments[:2])}"
        raise EdgeUnetError(f"{source}: {step} failed ({reason.strip()}); run it there to see all of it")


def source_hash(source: Path) -> str:
    """sha256 of everything that the page is built from."""
    found = [(name, sha256_of(source / name)) for name in BUILT_FROM if (source / name).exists()]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def stamp_of(page: Path) -> str | None:
    """What a built page was built from; None where it does not say."""
    stamp = page / STAMP
    return stamp.read_text(encoding="utf-8").strip() if stamp.is_file() else None


if __name__ == "__main__":
    try:
        if problem := cannot_build():
            raise MissingBackendError(f"{PAGE}: {problem}")
        build(SOURCE, PAGE)
    except EdgeUnetError as error:
        sys.exit(f"error: {error}")
    print(PAGE)
