"""A headless Chromium, controlled over its DevTools pipe without a driver or library."""

import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-pipe"),
)
# The browser reads commands from descriptor 3 and writes answers to 4. In this process both
# numbers may be in use, so a shell moves the pipes there by way of unused numbers.
_LAUNCH = 'exec 103<&$1 104>&$2; exec "${@:3}" 3<&103 4>&104'


class Browser:
    """One page of a new browser, with all console messages and requests."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        self.console: list[str] = []
        self.requests: list[str] = []
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        command = ["bash", "-c", _LAUNCH, "bash", str(read), str(write)]
        command += [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        silent = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
        self._process = subprocess.Popen(command, pass_fds=(read, write), **silent)
        os.close(read)
        os.close(write)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        answer = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._read)
        os.close(self._write)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its answer; keep the events that come in between."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], 60)
            data = os.read(self._read, 1 << 20) if ready else b""
            if not data:
                raise RuntimeError(
                    "the browser went away" if ready else "the browser is silent"
                )
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.console.append(f"{params['type']}: {params['args']}")
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.console.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True

    def open(
        self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Load a file and wait until the page and its pictures are loaded."""
        window = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        }
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setDeviceMetricsOverride", **window)
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self.send("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._receive()

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, *, held: bool = False) -> None:
        """Send ``mousePressed``, ``mouseMoved`` or ``mouseReleased`` at a point."""
        moves = kind == "mouseMoved"
        buttons = {"button": "none" if moves and not held else "left", "buttons": int(held)}
        event = {"type": kind, "x": x, "y": y, "clickCount": int(not moves), **buttons}
        self.send("Input.dispatchMouseEvent", **event)

    def key(self, name: str) -> None:
        codes = {
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "End": 35,
        }
        for kind in ("rawKeyDown", "keyUp"):
            event = {
                "type": kind,
                "key": name,
                "code": name,
                "windowsVirtualKeyCode": codes[name],
            }
            self.send("Input.dispatchKeyEvent", **event)
