"""Headless Chromium, driven by chromedriver's own protocol (W3C WebDriver): no package is needed for that."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element
_DOWN, _UP = {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}
_ANSWER_S = 600  # for one command; a busy machine draws slowly
_FLAGS = (
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--window-size=1800,1100", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")


@dataclass(frozen=True)
class Browser:
    """One window of a browser."""

    session: str  # its address at the driver

    def open(self, url: str) -> None:
        _ask(f"{self.session}/url", {"url": url})

    def js(self, script: str, *values: Any) -> Any:
        """What the script, a function's body, returns; it may await."""
        body = (f"const done = arguments[arguments.length - 1], args = arguments; (async () => {{ {script} }})()"
                ".then(value => done([value]), error => done([null, String(error)]))")
        answer, *errors = _ask(f"{self.session}/execute/async", {"script": body, "args": list(values)})
        assert not errors, f"{errors[0]}, in the browser by {script}"
        return answer

    def wait(self, script: str, *values: Any, seconds: float = 300) -> Any:
        """Until the script returns something true."""
        deadline = time.monotonic() + seconds
        while not (found := self.js(script, *values)):
            assert time.monotonic() < deadline, f"after {seconds} s still not so: {script}"
            time.sleep(1)
        return found

    def click(self, selector: str) -> None:
        """Presses and releases the left button on the middle of an element, as a hand does."""
        element = _ask(f"{self.session}/element", {"using": "css selector", "value": selector})
        self._hand({"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": {_ELEMENT: element[_ELEMENT]}}, _DOWN, _UP)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 6) -> None:
        """Presses the left button at one point of the window (x, y), moves the hand to another, and lets go."""
        shares = [step / steps for step in range(steps + 1)]
        first, *moves = (
            {"type": "pointerMove", "duration": 100, "origin": "viewport",
             **{axis: round(a + (b - a) * share) for axis, a, b in zip("xy", start, end, strict=True)}} for share in shares)
        self._hand(first, _DOWN, *moves, _UP)

    def _hand(self, *actions: dict[str, Any]) -> None:
        hand = {"type": "pointer", "id": "hand", "parameters": {"pointerType": "mouse"}, "actions": list(actions)}
        _ask(f"{self.session}/actions", {"actions": [hand]})

    def screenshot(self, path: Path, tries: int = 10) -> None:
        # The driver gives a busy browser ten seconds for it, whatever one asks for.
        for left in reversed(range(tries)):
            try:
                path.write_bytes(base64.b64decode(_ask(f"{self.session}/screenshot")))
                return
            except RuntimeError as error:
                if not left or '"timeout"' not in str(error):
                    raise

    def console(self) -> list[dict[str, Any]]:
        """Entries of the console since the last call: `level`, `source`, `message`."""
        return _ask(f"{self.session}/se/log", {"type": "browser"})


def _ask(url: str, content: dict[str, Any] | None = None, method: str = "") -> Any:
    body = None if content is None else json.dumps(content).encode()
    request = Request(url, body, {"Content-Type": "application/json"}, method=method or None)
    try:
        with urlopen(request, timeout=_ANSWER_S) as answer:
            return json.load(answer)["value"]
    except HTTPError as error:
        with error:
            raise RuntimeError(error.read().decode(errors="replace")[:2000]) from None


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A new browser with a profile of its own in `folder`. Skips where there is none."""
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no Chromium with chromedriver; install both, for instance `apt-get install chromium chromium-driver`")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    options = {"binary": binary, "args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}"]}
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}, "timeouts": {"script": _ANSWER_S * 1000}}
    with (folder / "driver.log").open("wb") as log, subprocess.Popen(
            [driver, f"--port={port}"], stdout=log, stderr=subprocess.STDOUT) as process:
        home = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{home}/status")
            made = _ask(f"{home}/session", {"capabilities": {"alwaysMatch": wanted}})
            session = f"{home}/session/{made['sessionId']}"
            try:
                yield Browser(session)
            finally:
                # Else the browser would outlive its driver, also after a failed test.
                with suppress(OSError, RuntimeError):
                    _ask(session, method="DELETE")
        finally:
            process.terminate()


def _wait_for(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            _ask(url)
            return
        except OSError:
            assert time.monotonic() < deadline, "chromedriver did not start"
            time.sleep(0.2)
