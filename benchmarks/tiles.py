"""Memory of large images: what a process occupies at its peak while it segments one, tile by tile.

    python benchmarks/tiles.py BUNDLE --out benchmarks/results/DATE-tiles.json [--sizes 2048 8192] [--overlap 0.25]

The images are .npy files of coloured noise, written band by band. Each is segmented by `edge-unet camera --tiled` in a
process of its own, which tells its high-water mark (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge_unet.core.files import canonical_json, write_text
from edge_unet.measure.environment import read_environment

RUN = """
import json, sys
from pathlib import Path
sys.argv[0] = "edge-unet"
from edge_unet.cli import main
try:
    main()
finally:
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    print(json.dumps({"peak_rss_bytes": 1024 * peak}))
"""


def write_noise(path: Path, size: int) -> None:
    """A size x size x 3 array, a band at a time."""
    rng = np.random.default_rng(size)
    with path.open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (size, size, 3)}
        np.lib.format.write_array_header_1_0(stream, header)
        for _ in range(size // 64):
            stream.write(rng.integers(0, 256, (64, size, 3), np.uint8).tobytes())


def measure(bundle: Path, size: int, overlap: float, room: Path) -> dict[str, Any]:
    """Segment one image; its peak and how long it took."""
    image = room / f"{size}.npy"
    write_noise(image, size)
    arguments = ("camera", str(bundle), "--source", str(image), "--tiled", str(overlap), "--masks", str(room / "masks"))
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    wall = time.perf_counter() - began
    row, peak = (json.loads(line) for line in done.stdout.splitlines()[-2:])
    mask = np.load(room / "masks" / image.name, mmap_mode="r")
    image.unlink()
    return {
        "size": size,
        "image_bytes": size * size * 3,
        "mask_shape": list(mask.shape),
        "seconds": round(row["images"][0]["seconds"], 2),
        "wall_s": round(wall, 2),
        "load_average": os.getloadavg()[0],
        **peak,
    }


def main() -> None:
    """Measure every size and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--overlap", type=float, default=0.25)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        rows = [measure(given.bundle, size, given.overlap, Path(room)) for size in given.sizes]
    environment = read_environment(threads=1).model_dump(mode="json")
    result = {
        "schema_version": 1, "bundle": given.bundle.name, "overlap": given.overlap, "environment": environment,
        "rows": rows,
    }  # fmt: skip
    write_text(given.out, canonical_json(result))
    for row in rows:
        print(f"{row['size']:>6} px: peak {row['peak_rss_bytes'] / 2**20:7.1f} MiB, {row['seconds']:7.1f} s")


if __name__ == "__main__":
    main()
