"""A headless Chromium that tests share, driven over its debugging pipe: opens pages, runs scripts, takes pictures."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


class Tab:
    """One page, and what went wrong on it."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session
        self.errors: list[str] = []  #: of scripts and the console
        self.requests: list[str] = []  #: addresses, but for the page itself and what is inside it

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        return self._browser.call(method, parameters, self._session)

    def evaluate(self, script: str) -> Any:
        """Run a script, wait for its promise, and return its value."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key on what has the focus."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            named = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type=kind, **named, **(text if kind == "keyDown" else {}))

    def picture(self, path: Path, *, whole: bool = False) -> Path:
        """Write a PNG of what the window shows, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def paper(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"])

    def note(self, event: Mapping[str, Any]) -> None:
        """Take down an error or a request."""
        found = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(found["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif event["method"] == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert"):
            self.errors.append(str(found["args"]))
        elif event["method"] == "Log.entryAdded":
            self.errors.append(found["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            address = found["request"]["url"]
            if not address.startswith(("data:", "blob:")) and found["type"] != "Document":
                self.requests.append(address)


class Chromium:
    """The browser as a child process."""

    def __init__(self, program: str, profile: Path) -> None:
        here, there = os.pipe(), os.pipe()

        def as_3_and_4() -> None:  # the numbers that Chromium reads from and writes to
            reading, writing = os.dup(here[0]), os.dup(there[1])
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self._process = subprocess.Popen(
            [program, *_FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=as_3_and_4,  # the tests start no threads here
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(here[0])
        os.close(there[1])
        self._out, self._in = os.fdopen(here[1], "wb", buffering=0), os.fdopen(there[0], "rb")
        self._number, self._rest, self._tabs = 0, b"", dict[str, Tab]()

    def call(self, method: str, parameters: Mapping[str, Any], session: str | None = None) -> dict[str, Any]:
        """Send a command and return its result; events that come first go to their tabs."""
        self._number += 1
        words = {"id": self._number, "method": method, "params": dict(parameters)}
        self._out.write(json.dumps(words | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            event = self._next()
            if event.get("id") == self._number:
                assert "error" not in event, f"{method}: {event['error']}"
                return dict(event["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            found = self._in.read1(1 << 20)
            assert found, "Chromium ended"
            self._rest += found
        text, _, self._rest = self._rest.partition(b"\0")
        event: dict[str, Any] = json.loads(text)
        if "method" in event and (tab := self._tabs.get(event.get("sessionId", ""))):
            tab.note(event)
        return event

    @contextmanager
    def page(self, path: Path, width: int = 1280, height: int = 900, *, dark: bool = False) -> Iterator[Tab]:
        """Open a file in a window of that size and wait until it is loaded."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = self._tabs[session] = Tab(self, session)
        for domain in ("Runtime", "Log", "Network", "Page"):
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.call("Page.navigate", url=path.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass
        yield tab
        self.call("Target.closeTarget", {"targetId": target})

    def close(self) -> None:
        """End the browser."""
        self.call("Browser.close", {})
        self._process.wait(30)
        self._out.close()
        self._in.close()


def program() -> str | None:
    """Where Chromium is, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)
