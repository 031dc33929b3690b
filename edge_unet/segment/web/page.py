"""The built page: the one that lies in the package, or one that is built from a source checkout."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from edge_unet.core.errors import EdgeUnetError, MissingBackendError

PAGE = Path(__file__).parent / "page"
"""Where `npm run build` writes; not kept in git, and in a wheel only where a release puts it there."""
SOURCE = Path(__file__).parents[3] / "apps" / "camera-web"
"""The page's source, in a checkout."""


def built_page(say: Callable[[str], None], page: Path = PAGE, source: Path = SOURCE) -> Path:
    """The folder of the built page; built now where it is absent or older than its source.

    Raises MissingBackendError where it is absent and cannot be built here, EdgeUnetError where the build fails.
    """
    index = page / "index.html"
    npm = shutil.which("npm")
    if not (source / "package.json").is_file():
        npm = None
    if index.is_file() and (npm is None or not _older(index, source)):
        return page
    if npm is None:
        raise MissingBackendError(
            f"{page}: the camera page is not built; install Node 20 and run, in a checkout of edge_unet: "
            "cd apps/camera-web && npm ci && npm run build"
        )
    say(f"building the camera page in {source} (npm ci, npm run build): some minutes, once")
    build(npm, source, page)
    return page


def build(npm: str, source: Path, page: Path) -> None:
    """Install what the lockfile names, unless that was done, and build into `page`.

    Raises EdgeUnetError with npm's own reason.
    """
    installed = source / "node_modules" / ".package-lock.json"
    fresh = installed.is_file() and installed.stat().st_mtime >= (source / "package-lock.json").stat().st_mtime
    steps = [] if fresh else [["ci"]]
    for arguments in (*steps, ["run", "build", "--", "--outDir", str(page.resolve())]):
        done = subprocess.run([npm, *arguments], cwd=source, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            reason = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")
            step = f"npm {' '.join(arguments[:2])}"
            raise EdgeUnetError(f"{source}: {step} failed ({reason.strip()}); run it there to see all of it")


def _older(index: Path, source: Path) -> bool:
    files = [p for name in ("src", "public") for p in (source / name).rglob("*") if p.is_file()]
    files += [source / name for name in ("index.html", "package-lock.json", "vite.config.ts")]
    return any(file.stat().st_mtime > index.stat().st_mtime for file in files if file.is_file())
