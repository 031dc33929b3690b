"""The command edge-unet, the options that several verbs share, and how a verb speaks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edge_unet import __version__
from edge_unet.core.errors import EdgeUnetError
from edge_unet.core.pipes import BROKEN_PIPE, leave_broken_streams


class _Verbs(TyperGroup):
    """Runs a verb: a user's mistake is one clear line and an exit code of the design, a bug keeps its traceback.

    Mistakes in the arguments themselves are shown by typer, with exit code 2.
    """

    def invoke(self, ctx: Any) -> Any:  # click's Context or typer's own copy of it, by typer's version
        """The verb's result; see the class."""
        try:
            return super().invoke(ctx)
        except EdgeUnetError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError as error:  # of stdout: `| head`. typer would take any broken pipe for that one
            if not leave_broken_streams():
                raise RuntimeError("a pipe broke that is neither stdout nor stderr") from error
            sys.exit(BROKEN_PIPE)


app = typer.Typer(
    name="edge-unet",
    cls=_Verbs,
    help="U-Net segmentation trained once with quantization in the loop: one set of integers on every runtime.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder with images/ and masks/ (or train/ and val/).")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads of the runtime and of OpenCV.")]
Device = Annotated[str, typer.Option("--device", help="local, ssh://[user@]host[:port] or adb://SERIAL.")]


def say_to(as_json: bool) -> Any:
    """Where progress lines go: stdout, or stderr when stdout carries JSON."""
    return lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True)


def emit(value: Any, as_json: bool) -> None:
    """The machine-readable last line."""
    if as_json:
        print(json.dumps(value, sort_keys=True), flush=True)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
