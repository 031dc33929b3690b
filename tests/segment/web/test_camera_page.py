"""The camera page in a real Chromium with a fake camera, against the host: masks, benchmark, snapshot, offline, and
every way in which it has to refuse."""

from __future__ import annotations

import json
import shutil
import threading
import time
import zlib
from base64 import b64decode
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser_pipe import CHROMIUM, Browser
from command_line import Call
from numpy.typing import NDArray

from edge_unet.core.bundle import MANIFEST
from edge_unet.core.errors import EdgeUnetError
from edge_unet.core.files import sha256_of
from edge_unet.core.report import read_report
from edge_unet.core.spec import Precision
from edge_unet.data.scenes import SceneDataset
from edge_unet.frames import read_mask, write_png
from edge_unet.pipeline.camera_web import open_server
from edge_unet.pipeline.export import export
from edge_unet.segment.segmenter import Segmenter
from edge_unet.segment.web.page import SOURCE, build, built_page, cannot_build
from edge_unet.targets.registry import TARGETS

NO_BUILD = cannot_build()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"),
    pytest.mark.skipif(NO_BUILD is not None, reason=f"the page cannot be built: {NO_BUILD}"),
]
WIDTH, HEIGHT = 640, 480
PHONE = (390, 844)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
SCHEDULE = {"warmup_runs": 1, "warmup_ns": 0, "runs": 6, "limit_ns": 10**9, "burst": 2, "discarded": 1}
LAST = """(async () => {
  const base64 = (bytes) => new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.readAsDataURL(new Blob([bytes]));
  });
  const { width, height, key, frame, mask } = edgeUnet.live.last;
  const canvas = document.getElementById("mask");
  const drawn = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return { width, height, key, frame: await base64(frame), mask: await base64(mask), drawn: await base64(drawn) };
})()"""
SMALL = """[...document.querySelectorAll("button, select")].filter((one) => one.getClientRects().length)
  .map((one) => [one.id, one.getBoundingClientRect()]).filter(([, box]) => Math.min(box.width, box.height) < 44)
  .map(([id]) => id)"""


def quiet(line: str) -> None:
    """A say that says nothing."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, built by the same step that `camera --web` takes."""
    folder = tmp_path_factory.mktemp("built") / "page"
    try:
        build(SOURCE, folder)
    except EdgeUnetError as error:
        if "npm ci" in str(error):
            pytest.skip(f"the page's packages cannot be installed here: {error}")
        raise
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model for the browser, INT8 with its FP32 twin beside it."""
    return both(None, tmp_path_factory.mktemp("bundles"))


def both(canonical: Path | None, out: Path) -> Path:
    """The INT8 bundle; the FP32 one lies beside it."""
    (int8,) = export(canonical, (TARGETS["onnx"],), out, Precision.INT8, quiet)
    export(canonical, (TARGETS["onnx"],), out, Precision.FP32, quiet)
    return int8.folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fake camera shows: procedural scenes, two a second, so that the masks leave the machine some rest."""
    path = tmp_path_factory.mktemp("film") / "scenes.y4m"
    scenes = SceneDataset("endoscopy", 3, 7, HEIGHT, WIDTH)
    with path.open("wb") as out:
        out.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F2:1 Ip A1:1 C420mpeg2\n".encode())
        for number in range(len(scenes)):
            frame = cv2.cvtColor(scenes.load(number)[0], cv2.COLOR_RGB2YUV_I420).tobytes()
            out.write(b"FRAME\n" + frame)
    return path


def test_what_a_wheel_takes_of_the_page_is_small(page: Path) -> None:
    """The runtime for WASM is nearly all of it; the licence of that runtime goes with it."""
    taken = [p for p in page.rglob("*") if p.is_file() and ".asyncify." not in p.name]
    assert sum(len(zlib.compress(p.read_bytes())) for p in taken) < 4_000_000
    assert sorted(p.suffix for p in taken if p.parent.parent.name == "runtime") == [".mjs", ".wasm"]
    assert "MIT License" in (page / "licenses.txt").read_text(encoding="utf-8")


def test_a_page_knows_what_it_was_built_from(page: Path) -> None:
    lines: list[str] = []
    assert built_page(lines.append, page, SOURCE) == page
    assert lines == [], "nothing is built again"


class Visit:
    """A served bundle and a phone-sized Chromium that has its page open."""

    def __init__(self, bundle: Path, page: Path, room: Path, flags: tuple[str, ...], *, plain: bool = True) -> None:
        self.server: ThreadingHTTPServer = open_server(bundle, "localhost", 0, plain=plain, say=quiet, page=page)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http{'' if plain else 's'}://localhost:{self.server.server_address[1]}/"
        self.files = room / "downloads"
        self.browser = Browser(room / "profile", flags)
        self.browser.send("Browser.setDownloadBehavior", None, behavior="allow", downloadPath=str(self.files))
        self.browser.size(*PHONE)

    def state(self) -> str:
        """'live' or 'failed', once it is no longer starting."""
        self.browser.wait("document.getElementById('app')?.dataset.state !== 'starting'", 120)
        return str(self.browser.evaluate("document.getElementById('app').dataset.state"))

    def tap(self, name: str) -> None:
        """Press a button."""
        self.browser.evaluate(f"document.getElementById('{name}').click()")

    def downloaded(self, pattern: str) -> Path:
        """The file that the page saved, once it is whole."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if found := sorted(self.files.glob(pattern)):
                return found[-1]
            time.sleep(0.1)
        raise TimeoutError(f"no {pattern} in {self.files}")

    def masked(self, key: str) -> dict[str, Any]:
        """The last frame and its mask, by the model `key`, frozen on the screen meanwhile."""
        self.browser.wait(f"edgeUnet.live.last?.key === '{key}'")
        self.tap("freeze")
        found: dict[str, Any] = self.browser.evaluate(LAST)
        self.tap("freeze")
        return found

    def stop_serving(self) -> None:
        """The computer is switched off."""
        self.server.shutdown()
        self.server.server_close()

    def close(self) -> None:
        """End both."""
        self.browser.close()
        self.stop_serving()


@pytest.fixture(scope="module")
def visit(bundle: Path, page: Path, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """The shipped model on the film."""
    room = tmp_path_factory.mktemp("visit")
    one = Visit(bundle, page, room, (*CAMERA, f"--use-file-for-fake-video-capture={film}"))
    one.browser.go(one.url)
    yield one
    one.close()


def pixels(found: dict[str, Any], name: str, channels: int) -> NDArray[np.uint8]:
    raw = np.frombuffer(b64decode(found[name]), np.uint8)
    return raw.reshape(found["height"], found["width"], channels)


def test_the_page_starts_with_threads_and_models_that_pass_their_golden_frames(visit: Visit) -> None:
    assert visit.state() == "live"
    assert visit.browser.evaluate("crossOriginIsolated") is True
    started = visit.browser.evaluate("edgeUnet.started")
    wasm = {t["key"]: t for t in started["trials"] if t["provider"] == "wasm"}
    assert set(wasm) == {"int8 wasm", "fp32 wasm"}
    assert all(t["golden"] >= 0.999 and t["refused"] is None and t["p50_ms"] > 0 for t in wasm.values())
    fastest = min((t for t in started["trials"] if t["refused"] is None), key=lambda t: t["p50_ms"])
    assert visit.browser.evaluate("edgeUnet.model().key") == fastest["key"]


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_mask_on_the_screen_is_the_hosts(visit: Visit, bundle: Path, precision: str) -> None:
    choice = (
        f"[...document.querySelectorAll('.model')].find((m) => m.textContent.startsWith('{precision.upper()} WASM'))"
    )
    assert visit.state() == "live"
    visit.browser.evaluate(f"{choice}.click()")
    found = visit.masked(f"{precision} wasm")
    assert (found["width"], found["height"]) == (WIDTH, HEIGHT)
    frame = pixels(found, "frame", 4)[..., :3]
    mask = pixels(found, "mask", 1)[..., 0]
    with Segmenter.load(bundle.parent / bundle.name.replace("int8", precision)) as segment:
        expected = segment(np.ascontiguousarray(frame)).mask
    assert 0.001 < expected.mean() < 0.9
    assert (mask == expected).mean() >= 0.999
    drawn = pixels(found, "drawn", 4)
    assert np.array_equal(drawn[..., 3] > 0, mask > 0)
    assert np.abs(drawn[mask > 0][:, :3].astype(int) - (0, 200, 83)).max() <= 1


def test_a_thumb_reaches_everything_and_nothing_leaves_the_screen(visit: Visit) -> None:
    assert visit.state() == "live"
    assert visit.browser.evaluate("document.scrollingElement.scrollWidth") <= PHONE[0]
    assert visit.browser.evaluate(SMALL) == []
    middle = "document.getElementById('snapshot').getBoundingClientRect().y"
    assert visit.browser.evaluate(middle) > PHONE[1] * 0.75
    visit.tap("more")
    assert visit.browser.evaluate("document.getElementById('sheet').open") is True
    wide = (
        "[...document.querySelectorAll('#sheet *')].filter((e) => e.getBoundingClientRect().right > innerWidth).length"
    )
    assert visit.browser.evaluate(wide) == 0
    visit.tap("close")
    assert visit.browser.evaluate("document.getElementById('sheet').open") is False
    inside = "document.querySelector('#sheet .scroll')"
    visit.tap("more")
    visit.browser.evaluate(f"{inside}.scrollTop = 9999")
    assert visit.browser.evaluate(f"{inside}.scrollTop") > 0
    visit.tap("close")
    visit.tap("more")
    assert visit.browser.evaluate(f"{inside}.scrollTop") == 0, "it opens at its top"
    visit.tap("close")


def test_a_frozen_picture_stays_and_goes_on(visit: Visit) -> None:
    visit.browser.wait("edgeUnet.live.last")
    visit.tap("freeze")
    before = visit.browser.evaluate("edgeUnet.live.frames")
    time.sleep(1)
    assert visit.browser.evaluate("edgeUnet.live.frames") == before
    assert visit.browser.evaluate("document.getElementById('frozen').hidden") is False
    same = """(() => { const canvas = document.getElementById("frozen");
      const shown = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return edgeUnet.live.last.frame.every((value, i) => value === shown[i]); })()"""
    assert visit.browser.evaluate(same) is True
    visit.tap("freeze")
    visit.browser.wait(f"edgeUnet.live.frames > {before}")


def test_the_snapshot_is_the_frame_with_its_mask(visit: Visit) -> None:
    visit.browser.wait("edgeUnet.live.last")
    visit.tap("freeze")
    found = visit.browser.evaluate(LAST)
    visit.tap("snapshot")
    saved = cv2.imread(str(visit.downloaded("*.png")))[..., ::-1].astype(int)
    visit.tap("freeze")
    frame, mask = pixels(found, "frame", 4)[..., :3].astype(int), pixels(found, "mask", 1)[..., 0]
    assert np.abs(saved - frame)[mask == 0].max() == 0
    mixed = frame * 0.55 + np.array((0, 200, 83)) * 0.45
    assert np.abs(saved - mixed)[mask > 0].max() <= 2


def test_the_saved_benchmark_enters_the_projects_report(visit: Visit, call: Call, tmp_path: Path) -> None:
    visit.browser.evaluate(f"edgeUnet.measure({json.dumps(SCHEDULE)})")
    visit.tap("bench-save")
    file = visit.downloaded("edge-unet-bench-*.json")
    report = read_report(file)
    rows = {(m.label, m.scope): m for m in report.measurements}
    assert set(rows) == {(f"onnx {p}", s) for p in ("int8", "fp32") for s in ("model", "end_to_end")}
    assert all(m.p50_ns > 0 and m.runtime.startswith("onnxruntime-web 1.") for m in report.measurements)
    assert set(rows["onnx int8", "end_to_end"].stage_ns or {}) == {"preprocess", "infer", "postprocess", "draw"}
    assert (report.environment.device, report.environment.cpu_model) == ("browser", None)
    assert report.environment.cores_used == visit.browser.evaluate("navigator.hardwareConcurrency")
    assert any(visit.browser.evaluate("navigator.userAgent") in note for note in report.notes)
    assert len(set(report.burst_order)) == 2
    done = call("report", file, "--out", tmp_path / "report")
    assert done.code == 0, done.err
    assert "onnxruntime-web" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_the_console_has_no_complaint(visit: Visit) -> None:
    assert visit.browser.complaints() == []


def test_offline_it_starts_again_with_the_server_gone(visit: Visit) -> None:
    visit.browser.wait("edgeUnet.offline?.startsWith('yes')")
    visit.stop_serving()
    visit.browser.go(visit.url)
    assert visit.state() == "live"
    assert visit.browser.evaluate("crossOriginIsolated") is True
    visit.browser.wait("edgeUnet.live.frames >= 2")


@pytest.fixture(scope="module")
def small(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small graph's bundles: for what does not depend on the model."""
    return both(tiny_canonical, tmp_path_factory.mktemp("small"))


def test_over_tls_with_its_own_certificate_and_two_threads(
    small: Path, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed (extra camera)")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    one = Visit(small, page, tmp_path, (*CAMERA, "--ignore-certificate-errors"), plain=False)
    try:
        one.browser.go(f"{one.url}?threads=2")
        assert one.state() == "live"
        assert one.browser.evaluate("isSecureContext && crossOriginIsolated") is True
        threads = one.browser.evaluate("Math.min(2, navigator.hardwareConcurrency)")
        assert f"wasm, {threads} thread" in one.browser.evaluate("edgeUnet.model().runtime")
        one.browser.wait("edgeUnet.live.frames > 0")
    finally:
        one.close()


def with_wrong_golden(small: Path, out: Path, precisions: tuple[str, ...]) -> Path:
    """A copy whose golden masks are the others' opposite, with hashes that fit."""
    for precision in ("int8", "fp32"):
        folder = out / small.name.replace("int8", precision)
        shutil.copytree(small.parent / folder.name, folder)
        if precision not in precisions:
            continue
        path = folder / "golden" / "00.mask.png"
        write_png(path, 1 - np.minimum(read_mask(path), 1))
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest["files"]["golden"] = sha256_of(folder / "golden")
        (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return out / small.name


def test_a_model_whose_golden_frame_fails_is_refused_and_named(small: Path, page: Path, tmp_path: Path) -> None:
    one = Visit(with_wrong_golden(small, tmp_path, ("int8",)), page, tmp_path, CAMERA)
    try:
        one.browser.go(one.url)
        assert one.state() == "live"
        assert one.browser.evaluate("edgeUnet.model().precision") == "fp32"
        assert "INT8 is not used: a golden frame agrees in" in one.browser.evaluate("document.body.innerText")
        assert one.browser.evaluate("document.querySelector('.model.refused').disabled") is True
    finally:
        one.close()


def test_without_any_model_that_passes_there_is_no_mask(small: Path, page: Path, tmp_path: Path) -> None:
    one = Visit(with_wrong_golden(small, tmp_path, ("int8", "fp32")), page, tmp_path, CAMERA)
    try:
        one.browser.go(one.url)
        assert one.state() == "failed"
        text = one.browser.evaluate("document.body.innerText")
        assert "No model passed its check" in text
        assert "FP32 WASM: a golden frame agrees in" in text
        assert one.browser.evaluate("edgeUnet.live.frames") == 0
    finally:
        one.close()


def test_a_damaged_model_and_a_blocked_camera_are_told_in_words(small: Path, page: Path, tmp_path: Path) -> None:
    folder = tmp_path / small.name
    shutil.copytree(small, folder)
    one = Visit(folder, page, tmp_path, CAMERA[:1])
    try:
        one.browser.send(
            "Browser.setPermission", None, permission={"name": "camera"}, setting="denied", origin=one.url[:-1]
        )
        one.browser.go(one.url)
        assert one.state() == "failed"
        assert "The camera is blocked" in one.browser.evaluate("document.body.innerText")
        model = folder / "model.onnx"
        model.write_bytes(model.read_bytes()[:-1] + b"?")
        one.browser.call("Network.setBypassServiceWorker", bypass=True)
        one.browser.call("Network.clearBrowserCache")
        one.browser.go(one.url)
        assert one.state() == "failed"
        assert "sha256 expected" in one.browser.evaluate("document.body.innerText")
    finally:
        one.close()
