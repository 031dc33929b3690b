"""What the camera page's server sends, and what it never does; over plain HTTP and over TLS."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_unet.core.errors import EdgeUnetError, MissingBackendError, UsageError
from edge_unet.core.spec import Precision
from edge_unet.pipeline.camera_web import addresses, open_server
from edge_unet.pipeline.export import export
from edge_unet.segment.web.page import STAMP, built_page, cannot_build, source_hash
from edge_unet.segment.web.site import pair_of
from edge_unet.targets.registry import TARGETS

needs_npm = pytest.mark.skipif(cannot_build() is not None, reason=f"no build here: {cannot_build()}")


def quiet(line: str) -> None:
    """A say that says nothing."""


@pytest.fixture(scope="module")
def bundles(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INT8 and FP32 of a small graph, side by side, and one of another target."""
    out = tmp_path_factory.mktemp("web")
    for precision in (Precision.INT8, Precision.FP32):
        export(tiny_canonical, (TARGETS["onnx"],), out, precision, quiet)
    return out


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the built page: a file of each kind."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("index.html", "sw.js", "app.webmanifest", "assets/main-abc.js", "runtime/1.0/run.wasm",
                 "runtime/1.0/run.mjs"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"this is {name}", encoding="utf-8")
    (folder / ".source.sha256").write_text("not for the phone", encoding="utf-8")
    (folder.parent / "secret.txt").write_text("secret", encoding="utf-8")
    return folder


def int8(bundles: Path) -> Path:
    (found,) = bundles.glob("*-onnx-int8")
    return found


class Served:
    """A server in a thread of this process."""

    def __init__(self, bundle: Path, page: Path, *, plain: bool) -> None:
        self.lines: list[str] = []
        self.server = open_server(bundle, "127.0.0.1", 0, plain=plain, say=self.lines.append, page=page)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        line.putrequest(method, path, skip_host=False)  # putrequest sends a path as it is
        line.endheaders()
        answer = line.getresponse()
        body = answer.read()
        line.close()
        return answer, body

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def served(bundles: Path, page: Path) -> Iterator[Served]:
    one = Served(int8(bundles), page, plain=True)
    yield one
    one.close()


@pytest.mark.parametrize(
    ("path", "kind", "cache"),
    [
        ("/", "text/html; charset=utf-8", "no-cache"),
        ("/index.html?x=1", "text/html; charset=utf-8", "no-cache"),
        ("/sw.js", "text/javascript; charset=utf-8", "no-cache"),
        ("/app.webmanifest", "application/manifest+json", "no-cache"),
        ("/files.json", "application/json", "no-cache"),
        ("/assets/main-abc.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
        ("/runtime/1.0/run.mjs", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
        ("/runtime/1.0/run.wasm", "application/wasm", "public, max-age=31536000, immutable"),
    ],
)
def test_every_kind_of_file_has_its_headers(served: Served, path: str, kind: str, cache: str) -> None:
    answer, body = served.get(path)
    assert (answer.status, answer.getheader("Content-Type"), answer.getheader("Cache-Control")) == (200, kind, cache)
    assert answer.getheader("Cross-Origin-Opener-Policy") == "same-origin"
    assert answer.getheader("Cross-Origin-Embedder-Policy") == "require-corp"
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    assert len(body) == int(answer.getheader("Content-Length") or 0) > 0
    assert served.get(path, "HEAD")[1] == b""


def test_the_listing_names_both_bundles_and_their_files_are_the_bundles(served: Served, bundles: Path) -> None:
    listing = json.loads(served.get("/files.json")[1])
    assert [v["precision"] for v in listing["variants"]] == ["int8", "fp32"]
    base = listing["variants"][0]["base"]
    for name in ("manifest.json", "model.onnx", "golden/00.png", "golden/00.mask.png"):
        assert base + name in listing["files"]
        assert served.get(base + name)[1] == (int8(bundles) / name).read_bytes()
    assert not [name for name in listing["files"] if "canonical" in name]


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/assets/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "//etc/passwd",
        "/etc/passwd", "/assets/", "/assets", "/bundles/", "/canonical.onnx",
        "/index.html/../../secret.txt", "/.git/config", "/.source.sha256",
    ],
)  # fmt: skip
def test_what_is_not_in_the_table_does_not_exist(served: Served, path: str) -> None:
    answer, body = served.get(path)
    assert answer.status == 404
    assert b"secret" not in body
    assert b"root:" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_but_reading_is_offered(served: Served, method: str) -> None:
    assert served.get("/", method)[0].status == 501


def test_phones_get_tls_with_the_kept_certificate(
    bundles: Path, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed (extra camera)")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    one = Served(int8(bundles), page, plain=False)
    try:
        (certificate,) = tmp_path.rglob("certificate.pem")
        trusting = ssl.create_default_context(cafile=str(certificate))
        with socket.create_connection(("127.0.0.1", one.port), 10):  # a client that never says anything
            line = http.client.HTTPSConnection("127.0.0.1", one.port, context=trusting, timeout=10)
            line.request("GET", "/")
            assert line.getresponse().read() == b"this is index.html"
            line.close()
        with pytest.raises((OSError, http.client.HTTPException)):
            one.get("/")  # plain HTTP on the TLS port
    finally:
        one.close()
    assert f"open  https://127.0.0.1:{one.port}/" in one.lines
    assert any(line.strip().count(":") == 31 for line in one.lines)


def test_a_bundle_alone_is_served_with_a_line_that_says_so(bundles: Path, page: Path, tmp_path: Path) -> None:
    alone = tmp_path / int8(bundles).name
    shutil.copytree(int8(bundles), alone)
    one = Served(alone, page, plain=True)
    try:
        assert any("--precision fp32" in line for line in one.lines)
        listing = json.loads(one.get("/files.json")[1])
        assert [v["precision"] for v in listing["variants"]] == ["int8"]
    finally:
        one.close()


def test_a_neighbour_of_another_graph_is_no_twin(
    bundles: Path, tiny_canonical_multiclass: Path, tmp_path: Path
) -> None:
    shutil.copytree(int8(bundles), tmp_path / int8(bundles).name)
    export(tiny_canonical_multiclass, (TARGETS["onnx"],), tmp_path, Precision.FP32, quiet)
    assert len(pair_of(tmp_path / int8(bundles).name)) == 1
    assert [b.manifest.artifact.precision.value for b in pair_of(int8(bundles))] == ["int8", "fp32"]


def test_another_bundle_has_another_version(bundles: Path, page: Path, served: Served) -> None:
    (fp32,) = bundles.glob("*-onnx-fp32")
    one = Served(fp32, page, plain=True)
    try:
        first, second = (json.loads(s.get("/files.json")[1]) for s in (served, one))
    finally:
        one.close()
    assert [v["precision"] for v in second["variants"]] == ["fp32", "int8"]
    assert first["version"] != second["version"]


def test_only_the_browsers_own_target_is_taken(tiny_canonical: Path, tmp_path: Path) -> None:
    (made,) = export(tiny_canonical, (TARGETS["jetson"],), tmp_path, Precision.INT8, quiet)
    with pytest.raises(UsageError, match=r"is of target jetson.*--target onnx"):
        pair_of(made.folder)


def test_plain_http_is_for_this_machine_alone(bundles: Path, page: Path) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "example.org"):
        with pytest.raises(UsageError, match="this machine alone"):
            open_server(int8(bundles), host, 0, plain=True, say=quiet, page=page)


def test_a_taken_port_is_a_clear_error(bundles: Path, page: Path, served: Served) -> None:
    with pytest.raises(UsageError, match=f"127.0.0.1:{served.port}"):
        open_server(int8(bundles), "127.0.0.1", served.port, plain=True, say=quiet, page=page)


def test_addresses_are_what_a_phone_can_open() -> None:
    assert addresses("::1", 8443, plain=False) == ("https://[::1]:8443/",)
    assert addresses("0.0.0.0", 8443, plain=False)[-1] == "https://localhost:8443/"


def test_an_install_without_the_page_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingBackendError, match=r"installed without the camera page.*make page") as caught:
        built_page(quiet, tmp_path / "page", tmp_path / "source")
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The source of a page that builds at once: npm copies a file."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "make.sh").write_text('mkdir -p "$2" && cp index.html "$2"\n', encoding="utf-8")
    manifest = {"name": "x", "version": "1.0.0", "scripts": {"build": "sh make.sh"}}
    (folder / "package.json").write_text(json.dumps(manifest), encoding="utf-8")
    lock = {"name": "x", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": manifest}}
    (folder / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    (folder / "index.html").write_text("one", encoding="utf-8")
    return folder


@needs_npm
def test_a_page_is_built_once_and_again_when_its_source_is_another(source: Path, tmp_path: Path) -> None:
    page, lines = tmp_path / "page", list[str]()
    for text, said in (("one", 1), ("one", 1), ("two", 2)):
        (source / "index.html").write_text(text, encoding="utf-8")
        os.utime(source / "index.html", (0, 0))  # older than the page, as after an install
        built_page(lines.append, page, source)
        assert (page / "index.html").read_text(encoding="utf-8") == text
        assert len(lines) == said
    assert "building the camera page" in lines[0]


@needs_npm
def test_a_build_that_fails_says_which_step_and_leaves_the_page(source: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    built_page(quiet, page, source)
    (source / "index.html").unlink()
    with pytest.raises(EdgeUnetError, match="npm run build failed"):
        built_page(quiet, page, source)
    assert (page / "index.html").read_text(encoding="utf-8") == "one"
    (source / "package-lock.json").write_text("not JSON", encoding="utf-8")
    os.utime(source / "package-lock.json", (2e9, 2e9))
    with pytest.raises(EdgeUnetError, match="npm ci failed"):
        built_page(quiet, page, source)


def test_a_page_of_another_source_is_not_served_where_it_cannot_be_built(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("built", encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingBackendError, match=r"was built from another source and npm is not here.*make page"):
        built_page(quiet, page, source)
    (page / STAMP).write_text(source_hash(source), encoding="utf-8")
    assert built_page(quiet, page, source) == page


def test_a_built_page_without_its_source_is_taken(tmp_path: Path) -> None:
    page, source = tmp_path / "page", tmp_path / "source"
    page.mkdir()
    (page / "index.html").write_text("built", encoding="utf-8")
    assert built_page(quiet, page, source) == page
