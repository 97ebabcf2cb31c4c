"""An HTTP server of a test's own, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar


class LocalServer(ThreadingHTTPServer):
    """On a free port. ``ended`` is set when the test is over, so that an answer that waits comes to its end."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.ended = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are what some tests are about."""


_Server = TypeVar("_Server", bound=LocalServer)


@contextmanager
def running(server: _Server) -> Generator[_Server]:
    """Serve until leaving."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
