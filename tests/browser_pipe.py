"""A real headless Chromium, driven through its DevTools pipe: no other package is needed for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One Chromium with one page. `profile` keeps its storage; `flags` are added to the usual ones."""

    def __init__(self, profile: Path, flags: Sequence[str] = ()) -> None:
        assert CHROMIUM is not None
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        script = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        command = ["bash", "-c", script, CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._number, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []
        (page,) = [t for t in self.send("Target.getTargets", None)["targetInfos"] if t["type"] == "page"]
        attached = self.send("Target.attachToTarget", None, targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A DevTools call to the page."""
        return self.send(method, self._session, **params)

    def send(self, method: str, session: str | None, /, **params: Any) -> dict[str, Any]:
        """A DevTools call; raises RuntimeError with Chromium's words."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            block = os.read(self._from, 1 << 20)
            if not block:
                raise RuntimeError("Chromium closed the pipe")
            self._rest += block
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited. Raises RuntimeError with the exception's words."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            details = done["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return done["result"].get("value")

    def go(self, url: str) -> None:
        """Navigate; returns once the page is loaded."""
        failed = self.call("Page.navigate", url=url).get("errorText")
        if failed:
            raise RuntimeError(f"{url}: {failed}")
        self.wait("document.readyState === 'complete'")

    def wait(self, expression: str, seconds: float = 120) -> None:
        """Poll until the expression is truthy; raises TimeoutError with the page's text."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.evaluate(f"Boolean({expression})"):  # never the value itself: it may be a whole picture
                return
            time.sleep(0.1)
        raise TimeoutError(f"{expression}: not so after {seconds:.0f} s; {self.evaluate('document.body.innerText')!r}")

    def size(self, width: int, height: int, *, scale: float = 1, mobile: bool = True) -> None:
        """The size of the screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def shoot(self, path: Path) -> None:
        """A screenshot as PNG."""
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[str]:
        """Errors of the console and uncaught exceptions so far."""
        self.evaluate("0")
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
            if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            if event.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(str(params["args"]))
        return found

    def close(self) -> None:
        """End Chromium and all it started."""
        _quietly(lambda: self.send("Browser.close", None))
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _quietly(step: Callable[[], object]) -> None:
    with suppress(RuntimeError, OSError):
        step()
