"""A headless Chromium, spoken to over a pipe: nothing to install beside the browser itself."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
]


class Browser:
    """The DevTools protocol: messages of JSON, each ended by a zero byte."""

    def __init__(self, program: str, folder: Path) -> None:
        read, self._out = (_above_ten(end) for end in os.pipe())
        self._in, write = (_above_ten(end) for end in os.pipe())

        def connect() -> None:
            os.dup2(read, 3)
            os.dup2(write, 4)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            close_fds=False, preexec_fn=connect, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self._rest, self._number = b"", 0
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.ask(f"{domain}.enable")

    _session = ""

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events in between are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def wait(self, method: str) -> None:
        """Until such an event has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def _read(self, seconds: float = 60.0) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self._in, 1 << 16)
            assert more, "the browser has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        os.close(self._in)
        os.close(self._out)


def _above_ten(end: int) -> int:
    """Away from the numbers that the browser wants: 3 and 4."""
    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return moved


@dataclass
class Seen:
    """A page as it was shown: what it said on the console, asked of the network, and itself."""

    browser: Browser
    events: list[dict[str, Any]] = field(default_factory=list)

    def of(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of any kind, violations of the page's own policy among them."""
        said = [entry["entry"]["text"] for entry in self.of("Log.entryAdded")]
        said += [str(call["args"]) for call in self.of("Runtime.consoleAPICalled")]
        return said + [str(thrown) for thrown in self.of("Runtime.exceptionThrown")]

    @property
    def requests(self) -> list[str]:
        """All addresses asked for, except for the page itself and what it holds."""
        asked = [one["request"]["url"] for one in self.of("Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith(("file:", "data:"))]

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        answer = self.browser.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            code = {"Tab": 9, "Enter": 13}[key]
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.browser.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=code, **text,
            )  # fmt: skip

    def tree(self) -> list[dict[str, Any]]:
        """What a screen reader is given: role, name and level of everything not ignored."""
        nodes = self.browser.ask("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                "level": next(
                    (p["value"]["value"] for p in node["properties"] if p["name"] == "level"), None
                ),
            }
            for node in nodes
            if not node["ignored"]
        ]

    def picture(self, path: Path) -> None:
        """All of the page as a PNG."""
        shot = self.browser.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def find_browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def show(browser: Browser, file: Path, width: int = 1000, scheme: str = "light") -> Seen:
    """Open a file at a width of so many CSS pixels, in a colour scheme."""
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.ask("Emulation.setDeviceMetricsOverride", **size)
    browser.ask("Emulation.setEmulatedMedia", features=media)
    browser.events.clear()
    browser.ask("Page.navigate", url=file.absolute().as_uri())
    browser.wait("Page.loadEventFired")
    return Seen(browser, browser.events)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("there is no Chromium: apt install chromium")
    one = Browser(program, tmp_path_factory.mktemp("browser"))
    yield one
    one.close()


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Callable[..., Seen]:
    """Show HTML at a width and in a scheme."""

    def open_page(html: str, width: int = 1000, scheme: str = "light") -> Seen:
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        return show(browser, file, width, scheme)

    return open_page
