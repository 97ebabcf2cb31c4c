"""What a person does in ComfyUI's frontend, in more than one test."""

from __future__ import annotations

import time
from typing import Any

from .browser import Browser
from .server import ComfyServer

_RUN_S = 900  # on a busy machine; seconds otherwise
_EDITOR_BUTTON = "document.querySelector('[data-testid=\"compositor-open-button\"]')"
# The layer editor puts its buttons into a header that is loaded by itself. Where the header comes last, the frontend
# (1.49) breaks: the button is not there, and Close does nothing until the page is loaded anew.
_LOAD_HEADER = """
    const scripts = performance.getEntriesByType('resource').map(entry => entry.name).filter(name => name.endsWith('.js'))
    for (const script of scripts) {
        const found = (await (await fetch(script)).text()).match(/TopBarHeader-[\\w-]+\\.js/)
        if (found) return Boolean(await import(new URL(found[0], script)))
    }
    return false"""

Run = dict[str, Any]


def run_by_button(browser: Browser, server: ComfyServer) -> Run:
    """What ComfyUI's history has of a run by the Run button, when it is over."""
    before = set(server.get_json("/history"))
    browser.js("document.querySelector('[data-testid=\"queue-button\"]').click()")
    deadline = time.monotonic() + _RUN_S
    while not (new := set(history := server.get_json("/history")) - before):
        assert time.monotonic() < deadline, server.log.read_text(encoding="utf-8")[-4000:]
        time.sleep(1)
    record = history[new.pop()]
    assert record["status"]["status_str"] == "success", record["status"]
    return record


def open_layer_editor(browser: Browser) -> None:
    """Press the button of Create Layered Image that opens its editor, once a run has filled it."""
    assert browser.js(_LOAD_HEADER), "the frontend has no header for its layer editor"
    browser.wait(f"return {_EDITOR_BUTTON}?.disabled === false")
    browser.js(f"{_EDITOR_BUTTON}.click()")
