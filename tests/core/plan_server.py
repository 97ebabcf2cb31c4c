"""A real HTTP server that answers an endpoint planner as a test wants it to."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dreamlayer_core.plans.endpoint import EndpointPlanner
from dreamlayer_core.plans.planner import PlannerError
from dreamlayer_core.plans.settings import EndpointSettings
from dreamlayer_core.plans.transport import Patience

KEY = "sk-test-4f9c2d7be81a"
SENTENCE = "two red balls in front of a blue cube on a beach"
PLAN = {
    "background": "a beach",
    "foregrounds": [
        {"name": "blue cube", "prompt": "a blue cube"},
        {"name": "red ball", "prompt": "a red ball"},
        {"name": "red ball", "prompt": "a red ball"},
    ],
    "whole": SENTENCE,
}
QUICK = Patience(connect=10, total=60, tries=3, first_wait=0.02, largest=2**20)


class Server(ThreadingHTTPServer):
    """Answers by a function of (request number from 1, its JSON, the handler); keeps what it was asked."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, answer: Callable[..., object]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.asked = answer, list[dict[str, Any]]()
        self.headers, self.ended = list[dict[str, str]](), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def planner(self, key: str = KEY, **patience: Any) -> EndpointPlanner:
        settings = EndpointSettings(url=self.url, model="tiny", key=key)
        return EndpointPlanner(settings=settings, patience=Patience(**(QUICK.__dict__ | patience)))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Any  # the Server above
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body | {"path": self.path})
        self.server.headers.append(dict(self.headers))
        self.server.answer(len(self.server.asked), body, self)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def send(self, status: int, body: bytes | str, **headers: str) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def say(self, content: object, **headers: str) -> None:
        """A chat completion with this content."""
        message = content if isinstance(content, dict) else {"role": "assistant", "content": content}
        self.send(200, json.dumps({"choices": [{"index": 0, "message": message}]}), **headers)


@contextmanager
def serving(answer: Callable[..., object]) -> Generator[Server, None, None]:
    server = Server(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def saying(*contents: object) -> Callable[..., object]:
    """The contents one after the other, the last one for ever."""
    return lambda number, body, handler: handler.say(contents[min(number, len(contents)) - 1])


def failed(server: Server, said: str = ".", **patience: Any) -> str:
    """The error of a plan, which holds no key wherever one looks: in it, its causes, and what a log would show."""
    with pytest.raises(PlannerError, match=said) as caught:
        server.planner(**patience).plan(SENTENCE, limit=8)
    logged = "".join(traceback.format_exception(caught.value))
    assert KEY not in logged and len(str(caught.value)) < 900 and "\n" not in str(caught.value)
    return str(caught.value)
