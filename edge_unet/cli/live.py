"""Verbs that show and run: camera, demo, models, devices, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_unet.cli.command import BundleArgument, Data, Device, Json, Threads, app, emit, say_to


@app.command()
def camera(
    bundle: BundleArgument,
    source: Annotated[str, typer.Option(help="0, v4l2:///dev/video0, file://PATH, rtsp://…, csi://0.")] = "0",
    sink: Annotated[str, typer.Option(help="window, file://PATH or none.")] = "window",
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Stop after this many frames.")] = None,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Opacity of the mask.")] = 0.45,
    threads: Threads = 1,
    web: Annotated[bool, typer.Option("--web", help="Serve a camera page for a phone's browser instead.")] = False,
    host: Annotated[str, typer.Option(help="--web: address to serve on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535, help="--web: port to serve on.")] = 8443,
    plain: Annotated[bool, typer.Option("--http", help="--web: no certificate; needs --host localhost.")] = False,
    as_json: Json = False,
) -> None:
    """Segment a camera or a video live, with overlay, latency and FPS; --web: on a phone, in its browser."""
    if web:
        from edge_unet.pipeline.camera_web import serve_camera

        return serve_camera(bundle, host, port, plain=plain, say=say_to(as_json))
    from edge_unet.pipeline.camera import run_camera

    emit(run_camera(bundle, source, sink, frames=frames, alpha=alpha, threads=threads, say=say_to(as_json)), as_json)


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
