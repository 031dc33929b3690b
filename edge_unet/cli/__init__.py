"""The command line: parse, call one function of the pipeline, print. Every import of work happens inside a verb."""

from __future__ import annotations

from edge_unet.cli import make, prove, live  # isort: skip  # each registers its verbs, in the order of --help
from edge_unet.cli.command import app

__all__ = ["app", "live", "main", "make", "prove"]


def main() -> None:
    """Entry point of the command edge-unet."""
    app()
