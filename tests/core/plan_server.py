"""A real HTTP server that answers an endpoint planner as a test wants it to."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from dreamlayer_core.plans.endpoint import EndpointPlanner
from dreamlayer_core.plans.planner import PlannerError
from dreamlayer_core.plans.settings import EndpointSettings
from dreamlayer_core.plans.transport import Patience

from .local_server import LocalServer, running

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


class Server(LocalServer):
    """Answers by a function of (request number from 1, its JSON, the handler); keeps what it was asked."""

    def __init__(self, answer: Callable[..., object]) -> None:
        super().__init__(Handler)
        self.answer, self.asked, self.headers = answer, list[dict[str, Any]](), list[dict[str, str]]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def planner(self, key: str = KEY, **patience: Any) -> EndpointPlanner:
        settings = EndpointSettings(url=self.url, model="tiny", key=key)
        return EndpointPlanner(settings=settings, patience=Patience(**(QUICK.__dict__ | patience)))


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


def serving(answer: Callable[..., object]) -> AbstractContextManager[Server]:
    return running(Server(answer))


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
