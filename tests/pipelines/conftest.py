"""A real browser for the report's tests: headless Chromium, driven over a pipe by the DevTools protocol."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)
IMAGES = """JSON.stringify([...document.images].map(
    i => ({alt: i.alt, width: i.naturalWidth, shown: i.getBoundingClientRect().width})))"""
# Elements that stick out of the page on the right without standing in something that scrolls.
OVERFLOW = """JSON.stringify([...document.body.querySelectorAll("*")]
    .filter(e => !e.closest(".scroll, pre, .note") && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.tagName + "." + e.className + " " + e.textContent.trim().slice(0, 40)))"""


@dataclass
class Page:
    """What the browser saw."""

    text: str = ""
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    overflow: list[str] = field(default_factory=list)
    background: str = ""


class Browser:
    """One Chromium; messages are JSON, ended by a zero byte, on its file descriptors 3 (in) and 4 (out)."""

    def __init__(self, program: str, home: Path) -> None:
        to_child, self._out = os.pipe()
        self._in, from_child = os.pipe()

        def wire() -> None:
            spare = os.dup(from_child)  # 3 and 4 may be among our own four ends
            os.dup2(to_child, 3)
            os.dup2(spare, 4)

        command = [program, *FLAGS, f"--user-data-dir={home}", "about:blank"]
        devnull = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=devnull, stdout=devnull, stderr=devnull, preexec_fn=wire, close_fds=False
        )
        os.close(to_child)
        os.close(from_child)
        self._buffer, self._count, self.events = b"", 0, list[dict[str, Any]]()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result; events that come first are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        os.write(
            self._out, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        )
        while (found := self._receive()).get("id") != self._count:
            self.events.append(found)
        assert "error" not in found, f"{method}: {found['error']}"
        result: dict[str, Any] = found["result"]
        return result

    def wait_for(self, method: str) -> None:
        """Until an event of this name has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._in, 1 << 20)
            assert data, "Chromium ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self, path: Path, width: int, dark: bool) -> Page:
        """Load a file in a window of this width and look at it."""
        self.events.clear()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", session, features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            session,
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Page.navigate", session, url=path.as_uri())
        self.wait_for("Page.loadEventFired")

        def evaluate(code: str) -> Any:
            return self.call("Runtime.evaluate", session, expression=code)["result"].get("value")

        page = Page(
            text=evaluate("document.body.textContent"),
            images=json.loads(evaluate(IMAGES)),
            overflow=json.loads(evaluate(OVERFLOW)),
            background=evaluate("getComputedStyle(document.body).backgroundColor"),
        )
        for event in self.events:
            _note(page, event.get("method", ""), event.get("params", {}), path.as_uri())
        self.call("Target.closeTarget", targetId=target)
        return page


def _note(page: Page, method: str, event: dict[str, Any], own: str) -> None:
    if method == "Network.requestWillBeSent":
        url = event["request"]["url"]
        if url != own and not url.startswith("data:"):
            page.requests.append(url)
    elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
        page.errors.append(event["entry"]["text"])
    elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
        page.errors.append(json.dumps(event["args"]))
    elif method == "Runtime.exceptionThrown":
        page.errors.append(json.dumps(event["exceptionDetails"]))


OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPage]:
    """`open_page(path, width=1200, dark=False) -> Page`; skips where there is no Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    browser = Browser(program, tmp_path_factory.mktemp("chromium"))

    def look(path: Path, width: int = 1200, dark: bool = False) -> Page:
        return browser.open(path, width, dark)

    yield look
    browser.close()
