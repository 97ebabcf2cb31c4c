"""A real HTTP server that gives files as the Hugging Face hub does: HEAD with ETag, commit and length, redirects, and ranges."""

from __future__ import annotations

import hashlib
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from .local_server import LocalServer, running

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hosted:
    """A file at the stand-in, and what goes wrong with it."""

    content: bytes
    sent: bytes | None = None  # other content than the one promised
    etag: str | None = None  # None: as the hub makes it
    cuts: list[int] = field(default_factory=list[int])  # of these answers one after the other, the bytes until they break off
    status: int = 200  # of every answer
    token: str | None = None  # that is needed
    ranges: bool = True  # whether a Range is heeded
    stalls: bool = False  # sends its half and then waits
    elsewhere: bool = False  # a large file: the hub redirects to another host

    @property
    def name(self) -> str:
        """The ETag: the sum of a large file, git's name of a small one."""
        blob = b"blob %d\0" % len(self.content) + self.content
        made = hashlib.sha256(self.content) if self.elsewhere else hashlib.sha1(blob)
        return self.etag if self.etag is not None else made.hexdigest()


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    host: str
    range: str | None
    token: str | None


class Hub(LocalServer):
    """Files by their path `<repository>/<name>`; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.files, self.asked = dict[str, Hosted](), list[Asked]()
        self.stalled = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def gets(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "GET"]


class Handler(BaseHTTPRequestHandler):
    server: Any  # the Hub above
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        file = self._file("/resolve/main/")
        if file is None:
            return
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{file.name}"', "Content-Length": str(len(file.content))}
        if not file.elsewhere:
            self._head(200, headers)
            return
        place = f"http://localhost:{self.server.server_port}{self.path.replace('/resolve/main/', '/store/')}"
        self._head(302, {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{file.name}"', "X-Linked-Size": str(len(file.content)),
                         "Location": place, "Content-Length": "0"})

    def do_GET(self) -> None:
        file = self._file("/store/" if "/store/" in self.path else "/resolve/main/")
        if file is None:
            return
        content = file.content if file.sent is None else file.sent
        asked = self.headers["Range"] if file.ranges else None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        headers = {"Content-Length": str(len(content) - start)}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if asked else 200, headers)
        end = start + file.cuts.pop(0) if file.cuts else len(content) // 2 if file.stalls else len(content)
        self.wfile.write(content[start:end])
        self.wfile.flush()
        if file.stalls:
            self.server.stalled.set()
            self.server.ended.wait()
        if end < len(content):
            self.close_connection = True

    def _file(self, between: str) -> Hosted | None:
        """The file that is asked for, or None once the request is refused."""
        self.server.asked.append(Asked(
            self.command, self.path, self.headers["Host"].split(":")[0], self.headers["Range"], self.headers["Authorization"]))
        file = self.server.files.get(self.path.lstrip("/").replace(between, "/"))
        if file is None:
            self._head(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
        elif file.status != 200:
            self._head(file.status, {"Content-Length": "0"})
        elif file.token and between != "/store/" and self.headers["Authorization"] != f"Bearer {file.token}":
            self._head(401, {"X-Error-Code": "GatedRepo", "Content-Length": "0"})
        else:
            return file
        return None

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def hub() -> AbstractContextManager[Hub]:
    return running(Hub())
