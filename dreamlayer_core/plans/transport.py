"""One POST of JSON over HTTP: bounded in time and size, cancelled while it waits, tried again where that can help.

Standard library only. Redirects are not followed: a key goes to the address that it was given for. No error holds a
key: what a server says is cleaned of it, and errors of the libraries below, which could quote it, are not chained.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeAlias

from .planner import Cancel, PlannerError, plain, stop_if
from .settings import EndpointSettings

__all__ = ["Answer", "Patience", "post"]

_AGAIN = {429, 500, 502, 503, 504, 529}
_GONE_TRIES = 2  # where nobody listens or the name is unknown: one more, for a server that is just starting
_TICK = 0.05  # seconds between two looks at the user and the clock
_BLOCK = 2**14  # bytes read at once
_SHOWN = 200  # characters of what a server says
_Stage: TypeAlias = Literal["connecting", "waiting", "answering"]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds, tries and bytes."""

    connect: float = 10.0
    total: float = 180.0  # of all tries together, waits included: a slow model has all of it, and is not asked twice
    tries: int = 4
    first_wait: float = 1.0  # doubled with each try, unless the server says how long
    largest: int = 2**20  # bytes of an answer


@dataclass(frozen=True)
class Answer:
    """What a server said: status, headers in lower case, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def values(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class _Again(Exception):
    """It failed in a way that can pass. ``wait``: seconds that the server asks for; ``tries``: more are of no use."""

    def __init__(self, reason: str, wait: float | None = None, *, tries: int | None = None) -> None:
        super().__init__(reason)
        self.wait, self.tries = wait, tries


def post(
    settings: EndpointSettings,
    path: str,
    values: object,
    *,
    patience: Patience,
    deadline: float,
    cancel: Cancel | None = None,
) -> Answer:
    """The server's answer: 200, or an error that another request may avoid (other 4xx).

    ``deadline`` is the latest `time.monotonic()`. Raises PlannerError where there is no answer in time, and Cancelled.
    """
    body = json.dumps(values).encode()
    for tried in range(1, patience.tries + 1):
        try:
            return _once(settings, path, body, patience, deadline, cancel)
        except _Again as failure:
            reason, most = str(failure), min(patience.tries, failure.tries or patience.tries)
            wait = patience.first_wait * 2 ** (tried - 1) if failure.wait is None else failure.wait
        if tried >= most or time.monotonic() + wait > deadline:
            tries = "once" if tried == 1 else f"{tried} times"
            raise PlannerError(f"the endpoint failed ({reason}), tried {tries}; check the server, or plan offline")
        _sleep(wait, cancel)
    raise PlannerError("got no tries at all; give at least one")


def _sleep(seconds: float, cancel: Cancel | None) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stop_if(cancel)
        time.sleep(min(_TICK, left))
    stop_if(cancel)


def _once(
    settings: EndpointSettings, path: str, body: bytes, patience: Patience, deadline: float, cancel: Cancel | None
) -> Answer:
    """One try, in a thread of its own: sockets cannot be waited for and watched at the same time in the same way
    everywhere.
    """
    call = _Call(settings, path, body, patience, deadline)
    thread = threading.Thread(target=call.run, name="dreamlayer endpoint", daemon=True)
    thread.start()
    try:
        while not call.done.wait(_TICK):
            stop_if(cancel)
            if time.monotonic() > deadline:
                raise _late(patience)
    finally:
        call.abort()
        thread.join(timeout=1)
    stop_if(cancel)
    if call.failure is not None:
        raise call.failure from None
    if call.answer is None:
        raise PlannerError("the endpoint's answer was lost; try again, or plan offline")
    return _judged(settings, call.answer)


def _late(patience: Patience) -> PlannerError:
    return PlannerError(
        f"the endpoint did not answer in time ({patience.total:g} seconds); use a faster model or server, or plan offline"
    )


def _judged(settings: EndpointSettings, answer: Answer) -> Answer:
    """The answer, unless it is one that no other request can better."""
    said = _said(settings, answer)
    if answer.status in _AGAIN:
        raise _Again(said, _retry_after(answer.headers.get("retry-after", "")))
    if 300 <= answer.status < 400:
        target = settings.hidden(plain(answer.headers.get("location", "elsewhere")))[:_SHOWN]
        raise PlannerError(
            f"the endpoint redirects to {target}, which is not followed; configure the address that answers"
        )
    if answer.status in (401, 403):
        raise PlannerError(f"the endpoint refuses the key ({said}); check the key that is configured")
    if answer.status == 404:
        raise PlannerError(
            f"the endpoint knows no such model or address ({said}); check both, the address mostly ends with /v1"
        )
    return answer


def _said(settings: EndpointSettings, answer: Answer) -> str:
    """Status and the server's own words, if it has any; the key is hidden before anything is cut off."""
    values = answer.values()
    error = values.get("error", values) if isinstance(values, dict) else None
    words = error.get("message") if isinstance(error, dict) else error
    return f"HTTP {answer.status}" + (
        f": {settings.hidden(plain(words))[:_SHOWN]}" if isinstance(words, str) and words.strip() else ""
    )


def _retry_after(value: str) -> float | None:
    """Seconds of a Retry-After header: a number or a date. None for anything else."""
    if value.strip().isdecimal():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):  # a year of twenty digits overflows
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, (aware - datetime.now(timezone.utc)).total_seconds())


class _Call:
    """One request, made in a thread. ``abort`` ends it from another."""

    def __init__(self, settings: EndpointSettings, path: str, body: bytes, patience: Patience, deadline: float) -> None:
        self.done, self.answer, self.failure = threading.Event(), None, None
        self.answer: Answer | None
        self.failure: Exception | None
        self._settings, self._path, self._body = settings, path, body
        self._patience, self._deadline = patience, deadline
        self._stage: _Stage = "connecting"
        self._aborted = threading.Event()
        self._socket: socket.socket | None = (
            None  # the connection forgets its own when an answer lasts until the server closes it
        )
        parts = settings.parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        secure: dict[str, Any] = {"context": ssl.create_default_context()} if parts.scheme == "https" else {}
        self._connection = kind(parts.hostname or "", parts.port, timeout=patience.connect, **secure)

    def run(self) -> None:
        try:
            self.answer = self._ask()
        except PlannerError as error:
            self.failure = error
        except ssl.SSLCertVerificationError as error:
            self.failure = PlannerError(
                f"the endpoint's certificate is not to be trusted ({error.verify_message}); check its address"
            )
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
        ) as error:  # ValueError: a chunk's length that is no number
            self.failure = _failure(error, self._stage, self._patience)  # a new one: frames below hold the key
        finally:
            self._connection.close()
            self.done.set()

    def abort(self) -> None:
        """Ends the waiting of the other thread; nothing if it is done."""
        self._aborted.set()
        connected = self._socket or self._connection.sock
        if connected is not None and not self.done.is_set():
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _ask(self) -> Answer:
        self._connection.connect()
        self._socket = connected = self._connection.sock
        if self._aborted.is_set():
            raise OSError("aborted")
        connected.settimeout(max(self._deadline - time.monotonic(), _TICK))
        self._stage = "waiting"
        self._send()
        with self._connection.getresponse() as response:
            self._stage = "answering"
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, self._read(response))

    def _send(self) -> None:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "dreamlayer"}
        headers |= {"Authorization": f"Bearer {self._settings.key}"} if self._settings.key else {}
        target = self._settings.parts.path.rstrip("/").removesuffix(self._path) + self._path
        self._connection.request("POST", target, self._body, headers)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        body = bytearray()
        while block := response.read(_BLOCK):
            body += block
            if len(body) > self._patience.largest:
                raise PlannerError(f"the endpoint's answer is larger than {self._patience.largest} bytes; no plan is")
        if response.length:  # of what was announced, so much is missing
            raise http.client.IncompleteRead(bytes(body), response.length)
        return bytes(body)


def _failure(error: Exception, stage: _Stage, patience: Patience) -> Exception:
    """What a try came to that failed below: `_Again` for no connection and for one that broke before an answer."""
    if stage == "connecting":
        gone = isinstance(error, (ConnectionRefusedError, socket.gaierror))
        return _Again(_reason(error), tries=_GONE_TRIES if gone else None)
    if isinstance(error, TimeoutError):
        return _late(patience)
    if stage == "waiting" and isinstance(error, OSError):
        return _Again(_reason(error))
    return PlannerError(f"the endpoint failed ({_reason(error)}); check the server, or plan offline")


def _reason(error: Exception) -> str:
    """What went wrong below, in words of our own where the library would quote the server."""
    if isinstance(error, TimeoutError):
        return "it cannot be reached: nothing answers there"
    if isinstance(error, (http.client.IncompleteRead, ConnectionResetError, BrokenPipeError)):
        return "it broke off the connection"
    if isinstance(error, (http.client.HTTPException, ValueError)):
        return f"it does not speak HTTP as it should: {type(error).__name__}"
    return f"it cannot be reached: {getattr(error, 'strerror', None) or type(error).__name__}"
