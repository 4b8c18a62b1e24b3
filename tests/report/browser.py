"""A headless Chromium driven through its DevTools pipe: enough to click, type, read and save, with nothing but the standard library."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE_S = 60.0
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40, "End": 35, "Home": 36}


def found() -> str | None:
    """The browser's path, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser with one tab. ``complaints`` collects what the console and the page's errors say."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="chipassay-browser-", ignore_cleanup_errors=True)
        self.downloads = Path(self.folder.name) / "downloads"
        self.complaints: list[str] = []
        # The browser reads from descriptor 3 and writes to 4; ours are moved out of the way of both.
        (its_in, self._to), (self._from, its_out) = _pipe(), _pipe()

        def connect() -> None:
            os.dup2(its_in, 3)
            os.dup2(its_out, 4)

        command = [
            found() or "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
            "--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={self.folder.name}/profile", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, preexec_fn=connect, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(its_in)
        os.close(its_out)
        self._buffer = b""
        self._number = 0
        self._loaded = False
        self._session: str | None = None
        targets = self._call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def open(self, path: Path) -> float:
        """Load a page from a file and wait until its scripts ran. Returns the seconds that took."""
        self._loaded = False
        began = time.perf_counter()
        self._call("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._read(PATIENCE_S)
        self.run("1")
        return time.perf_counter() - began

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page. Raises AssertionError where it throws."""
        told = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def press(self, key: str) -> None:
        """A key pressed and let go, as a user would."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            self._call(
                "Input.dispatchKeyEvent", type=kind, key=key, code="Space" if key == " " else key, windowsVirtualKeyCode=KEYS[key], **extra
            )

    def type(self, text: str) -> None:
        """Text typed where the focus is."""
        self._call("Input.insertText", text=text)

    def size(self, width: int, height: int, scheme: str = "light", media: str = "") -> None:
        """The window's size, the colours it prefers, and the medium."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self._call("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        import base64

        height = self.run("document.documentElement.scrollHeight")
        width = self.run("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 16000), "scale": 1}
        data = self._call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        """The page as it is printed."""
        import base64

        return base64.b64decode(self._call("Page.printToPDF", printBackground=False)["data"])

    def saved(self, name: str) -> str:
        """The text of a download, waited for and taken away."""
        until = time.monotonic() + PATIENCE_S
        path = self.downloads / name
        while not path.exists():
            assert time.monotonic() < until, f"{name} was not saved; there is {[one.name for one in self.downloads.glob('*')]}"
            time.sleep(0.02)
        text = path.read_bytes().decode("utf-8")
        path.unlink()
        return text

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self.folder.cleanup()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _call(self, method: str, **parameters: object) -> Any:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None and not method.startswith("Browser."):
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._read(PATIENCE_S)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _read(self, patience_s: float) -> dict[str, Any]:
        """The next message; events are noted on the way."""
        until = time.monotonic() + patience_s
        while b"\0" not in self._buffer:
            left = until - time.monotonic()
            assert left > 0, f"the browser did not answer within {patience_s:.0f} s"
            if select.select([self._from], [], [], left)[0]:
                read = os.read(self._from, 2**20)
                assert read, "the browser ended"
                self._buffer += read
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, told = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{told['type']}: {told['args']}")
        elif method == "Log.entryAdded":
            self.complaints.append(f"{told['entry']['level']}: {told['entry']['text']}")


def _pipe() -> tuple[int, int]:
    """The two ends of a pipe, both above the descriptors that a browser wants."""
    ends = os.pipe()
    reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends)
    for end in ends:
        os.close(end)
    return reading, writing
