"""Time what a user would pick instead beside our bundles, on this machine, in one run.

    python benchmarks/peers/run.py --size 256 --out benchmarks/results/DATE-peers-256.json
    python benchmarks/peers/run.py ddrnet_23_slim unext_s --ours out/mine-cpu-int8 --out RESULT.json --rapid

Without names all peers. The shipped reference model is in every run of its size. Exports and quantized models are kept
in out/peers, so that an interrupted run goes on where it was. INT8 ranges come from $EDGE_UNET_DATA/kvasir_seg where it
is there, else from procedural scenes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the peers are one package below benchmarks/

from peers.suite import NAMES, run_suite
from peers.table import peers_table, speed_table

from edge_unet.core.errors import EdgeUnetError
from edge_unet.core.files import require_writable
from edge_unet.core.report import FULL, RAPID, write_report


def main() -> int:
    """Parse, run, write the report and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--size", type=int, default=256, help="height and width of the frame")
    parser.add_argument("--ours", nargs="+", type=Path, default=[], metavar="BUNDLE", help="bundles of that size")
    parser.add_argument(
        "--presets", nargs="+", default=[], metavar="NAME", help="of edge-unet models, with barely trained weights"
    )
    parser.add_argument("--no-reference", action="store_true", help="leave the shipped model out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("out/peers"), help="where exports are kept")
    parser.add_argument("--images", type=int, default=100, help="calibration images of NNCF")
    parser.add_argument("--rapid", action="store_true")
    given = parser.parse_args()
    try:
        require_writable(given.out)
        schedule = RAPID if given.rapid else FULL
        report = run_suite(
            given.names or NAMES, given.ours, given.size, given.cache, schedule,
            images=given.images, reference=not given.no_reference, presets=given.presets,
        )  # fmt: skip
        write_report(given.out, report)
    except EdgeUnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(peers_table(report), speed_table(report), sep="\n\n")
    for row in report.not_measured:
        print(f"not measured: {row.target} {row.precision.value}: {row.reason}")
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
