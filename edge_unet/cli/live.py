"""Verbs that show and run: camera, demo, models, devices, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_unet.cli.command import Data, Device, Json, Threads, app, emit, say_to


@app.command()
def camera(
    bundles: Annotated[list[Path], typer.Argument(help="A bundle, or the prune levels of one network.")],
    source: Annotated[str, typer.Option(help="0, v4l2:///dev/video0, file://PATH, rtsp://…, csi://0.")] = "0",
    sink: Annotated[str, typer.Option(help="window (h: its keys), file://PATH, rtsp://… or none.")] = "window",
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Stop after this many frames.")] = None,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Opacity of the mask.")] = 0.45,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a file again when it ends.")] = False,
    realtime: Annotated[bool, typer.Option("--realtime", help="Play a file at its own rate.")] = False,
    record: Annotated[Path | None, typer.Option("--record", help="Overlay as .mp4, beside any sink.")] = None,
    record_clean: Annotated[Path | None, typer.Option("--record-clean", help="Frames as they came, .mp4.")] = None,
    results: Annotated[Path | None, typer.Option("--results", help="One JSON line a frame.")] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", help="20ms: the deepest level whose p90 of the whole frame fits.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Frame time and level over time, .svg.")] = None,
    tiled: Annotated[
        float | None, typer.Option(min=0, max=0.95, help="0.25: large images at their own scale, tiles overlapping.")
    ] = None,
    masks: Annotated[Path | None, typer.Option("--masks", help="Folder for the masks of --tiled.")] = None,
    threads: Threads = 1,
    web: Annotated[bool, typer.Option("--web", help="Serve a camera page for a phone's browser instead.")] = False,
    host: Annotated[str, typer.Option(help="--web: address to serve on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535, help="--web: port to serve on.")] = 8443,
    plain: Annotated[bool, typer.Option("--http", help="--web: no certificate; needs --host localhost.")] = False,
    as_json: Json = False,
) -> None:
    """Segment a camera or a video live, with overlay, latency and FPS; --web: on a phone, in its browser."""
    from edge_unet.core.duration import parse_ms
    from edge_unet.pipeline.camera import one_bundle, run_camera
    from edge_unet.segment.camera.options import CameraOptions

    say = say_to(as_json)
    if web:
        from edge_unet.pipeline.camera_web import serve_camera

        return serve_camera(one_bundle(bundles, "--web"), host, port, plain=plain, say=say)
    if tiled is not None:
        from edge_unet.pipeline.large_images import segment_images

        bundle = one_bundle(bundles, "--tiled")
        return emit(segment_images(bundle, source, masks, overlap=tiled, threads=threads, say=say), as_json)
    options = CameraOptions(
        sink=sink, frames=frames, alpha=alpha, threads=threads, loop=loop, realtime=realtime, record=record,
        record_clean=record_clean, results=results,
        deadline_ms=None if deadline is None else parse_ms(deadline, "--deadline"),
    )  # fmt: skip
    emit(run_camera(bundles, source, options, plot=plot, say=say), as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for bundles, results and the report.")] = Path("out/demo"),
    data: Data = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Shipped model -> every target -> verify -> bench -> report; with --data a short QAT fine-tune first."""
    from edge_unet.pipeline.demo import demo as run

    emit(run(out, data, threads=threads, say=say_to(as_json)), as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """The networks a recipe can name: parameters, MACs and activation memory at 256x256, heads, INT8 per target."""
    from edge_unet.pipeline.models import describe, list_models

    rows = []
    for row in list_models():
        rows.append(row)
        if not as_json:
            print(describe(row), flush=True)
    emit(rows, as_json)


@app.command()
def devices(
    reach: Annotated[bool, typer.Option("--reach", help="Connect to every ssh host too.")] = False,
    as_json: Json = False,
) -> None:
    """This machine, the hosts of ~/.ssh/config, the phones that adb sees."""
    from edge_unet.pipeline.devices import list_devices

    rows = list_devices(reach=reach)
    for row in rows if not as_json else ():
        print(f"{row['name']:<24} {row['state']:<12} {row['detail']}")
    emit(rows, as_json)


@app.command()
def doctor(device: Device = "local", as_json: Json = False) -> None:
    """What is installed, what each target can do here, and what this CPU has; or what a device is."""
    from edge_unet.pipeline.doctor import examine

    rows = examine(device)
    for row in rows if not as_json else ():
        print(f"{row['name']:<16} {row['state']:<10} {row['detail']}")
    emit(rows, as_json)
