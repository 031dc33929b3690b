"""Pack the runner into one file that any Python 3.8 with numpy runs: a zipapp."""

from __future__ import annotations

import zipfile
from pathlib import Path

SOURCES = Path(__file__).parent / "runner"
PROGRAMS = "edge_unet_runner"
NAME = "runner.pyz"
OLDEST = (3, 8)

_MAIN = f'''"""Benchmark runner of edge_unet."""

import os
import sys

if sys.version_info < {OLDEST}:
    sys.stderr.write("error: the device's Python is too old: expected {OLDEST[0]}.{OLDEST[1]}, received " + sys.version)
    sys.exit(5)
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

from pathlib import Path  # noqa: E402

from {PROGRAMS}.main import main  # noqa: E402

sys.exit(main(sys.argv[1:], Path(sys.argv[0]).resolve()))
'''
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)


def pack_runner(into: Path) -> None:
    """Write the zipapp. The same sources give the same bytes."""
    files = {"__main__.py": _MAIN.encode()}
    for source in sorted(SOURCES.glob("*.py")):
        files[f"{PROGRAMS}/{source.name}"] = source.read_bytes()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _FIXED_TIME), content, zipfile.ZIP_DEFLATED)
