"""The endpoint planner's requests to a real HTTP server: retries, time, cancelling, redirects, and a key that stays secret."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from dreamlayer_core.errors import Cancelled
from dreamlayer_core.plans.planner import PlannerError

from .plan_server import KEY, PLAN, SENTENCE, Handler, failed, saying, serving

# Failures that pass, and those that do not


def test_busy_servers_are_asked_again_after_what_they_say() -> None:
    started = list[float]()

    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        started.append(time.monotonic())
        if number == 1:
            handler.send(429, json.dumps({"error": {"message": "slow down"}}), Retry_After="1")
        elif number == 2:
            handler.send(503, "busy", Retry_After=formatdate(time.time() - 60, usegmt=True))
        else:
            handler.say(json.dumps(PLAN))

    with serving(answer) as server:
        assert len(server.planner(first_wait=50).plan(SENTENCE, limit=8).foregrounds) == 3
    assert started[1] - started[0] >= 1
    assert started[2] - started[0] < 50, "what the server says counts, and not the first wait"


@pytest.mark.parametrize(
    "wait", ["soon", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2030 00:00:00 +99999999"]
)
def test_a_wait_that_is_none_is_no_matter(wait: str) -> None:
    with serving(lambda number, body, handler: handler.send(503, "busy", Retry_After=wait)) as server:
        failed(server, "tried 2 times", tries=2)


def test_waits_grow_and_tries_end() -> None:
    started = list[float]()

    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        started.append(time.monotonic())
        handler.send(500, json.dumps({"error": "out of memory"}))

    with serving(answer) as server:
        assert "HTTP 500: out of memory" in failed(server, "tried 4 times", tries=4, first_wait=0.1)
    waits = [after - before for before, after in zip(started, started[1:], strict=False)]
    assert len(started) == 4 and all(wait >= 0.1 * 2**tried for tried, wait in enumerate(waits))


def test_a_wait_beyond_the_time_is_not_begun() -> None:
    with serving(lambda number, body, handler: handler.send(429, "{}", Retry_After="3600")) as server:
        start = time.monotonic()
        failed(server, "tried once")
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("status", "said", "requests"),
    [
        (401, "check the key", 1),
        (403, "check the key", 1),
        (404, "model or address", 1),
        (400, "refuses the request", 4),
        (418, "418", 1),
    ],
)
def test_failures_that_do_not_pass(status: int, said: str, requests: int) -> None:
    with serving(lambda number, body, handler: handler.send(status, '{"error": {"message": "because"}}')) as server:
        assert "because" in failed(server, said)
    assert len(server.asked) == requests


def test_broken_connections_are_tried_again() -> None:
    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        handler.close_connection = True
        if number > 2:  # nothing at all before that
            handler.say(json.dumps(PLAN))

    with serving(answer) as server:
        assert len(server.planner().plan(SENTENCE, limit=8).foregrounds) == 3
    assert len(server.asked) == 3
    with serving(lambda number, body, handler: setattr(handler, "close_connection", True)) as server:
        failed(server, "broke off the connection.*3 times")


def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        handler.close_connection = True
        handler.send(200, '{"choices"', Content_Length="1000")

    with serving(answer) as server:
        failed(server, "broke off the connection")
    assert len(server.asked) == 1


def test_what_is_not_http(caplog: pytest.LogCaptureFixture) -> None:
    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(f"HELLO {KEY}\r\n\r\n".encode())

    with serving(answer) as server:
        failed(server, "does not speak HTTP")
    assert KEY not in caplog.text and len(server.asked) == 1


def test_nobody_listens() -> None:
    with serving(saying("")) as server:
        planner = server.planner(tries=4)
    with pytest.raises(PlannerError, match="cannot be reached.*tried 2 times.*plan offline"):
        planner.plan(SENTENCE, limit=8)


def test_slow_servers() -> None:
    """They have all the time there is, silent or trickling, and are asked once: who thinks twice is not faster."""

    def think(number: int, body: dict[str, Any], handler: Handler) -> None:
        handler.server.ended.wait(1)
        handler.say(json.dumps(PLAN))

    with serving(think) as server:
        assert len(server.planner(connect=0.5).plan(SENTENCE, limit=8).foregrounds) == 3
        assert len(server.asked) == 1
    with serving(lambda number, body, handler: server.ended.wait(60)) as server:
        start = time.monotonic()
        failed(server, r"did not answer in time \(1 seconds\)", total=1)
        assert time.monotonic() - start >= 1 and len(server.asked) == 1
        assert_nobody_waits()

    def trickle(number: int, body: dict[str, Any], handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not handler.server.ended.wait(0.05):
            handler.wfile.write(b" ")

    with serving(trickle) as server:
        start = time.monotonic()
        failed(server, "did not answer in time", total=1)
        assert time.monotonic() - start >= 1 and len(server.asked) == 1
        assert_nobody_waits()


def assert_nobody_waits() -> None:
    """No thread still holds a connection, or only until a busy machine has let it end."""
    for one in threading.enumerate():
        if one.name == "dreamlayer endpoint":
            one.join(30)
            assert not one.is_alive()


@pytest.mark.parametrize("status", [0, 429])
def test_cancelling_while_it_waits(status: int) -> None:
    """For an answer, or for another try."""

    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        if status:
            handler.send(status, "{}", Retry_After="50")
        else:
            handler.server.ended.wait(60)

    with serving(answer) as server:
        start = time.monotonic()
        with pytest.raises(Cancelled):
            server.planner().plan(SENTENCE, limit=8, cancel=lambda: time.monotonic() - start > 0.3)
        assert 0.3 <= time.monotonic() - start < 40
        assert_nobody_waits()
        with pytest.raises(Cancelled):
            server.planner().plan(SENTENCE, limit=8, cancel=lambda: True)
        assert len(server.asked) == 1, "nothing is sent for who has left already"


# The key stays where it belongs


def test_redirects_are_not_followed() -> None:
    with serving(saying(json.dumps(PLAN))) as other:
        for status in (301, 302, 307, 308):

            def answer(number: int, body: dict[str, Any], handler: Handler, status: int = status) -> None:
                handler.send(status, "", Location=f"{other.url}/?k={KEY}")

            with serving(answer) as server:
                assert other.url.split("/")[2] in failed(server, "redirects to http")
    assert other.asked == []


def test_servers_that_repeat_the_key() -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    echoes: list[Callable[..., object]] = [
        lambda number, body, handler: handler.send(401, json.dumps({"error": {"message": f"bad key {KEY}" + "x" * 500}})),
        lambda number, body, handler: handler.send(418, "y" * 190 + KEY),
        lambda number, body, handler: handler.send(500, json.dumps({"error": "z" * 195 + KEY})),
        lambda number, body, handler: handler.send(200, json.dumps({"key": KEY})),
        lambda number, body, handler: handler.say(f"I know {KEY}"),
        lambda number, body, handler: handler.say(json.dumps(PLAN | {"whole": f"{SENTENCE} {KEY}"})),
        lambda number, body, handler: handler.say(json.dumps(PLAN | {"whole": f"{SENTENCE} {KEY[:5]}\x00{KEY[5:]}"})),
        lambda number, body, handler: handler.say(json.dumps(PLAN).replace("a beach", escaped)),
        lambda number, body, handler: handler.say(f'{{"background": "{escaped}"'),
    ]  # fmt: skip
    for echo in echoes:
        with serving(echo) as server:
            message = failed(server, tries=1)
        assert KEY[:12] not in message


@pytest.mark.parametrize("length", [2**34, 10])
def test_no_frame_of_an_error_holds_the_key(length: int) -> None:
    """Some programs log the locals of every frame."""

    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        handler.close_connection = True
        handler.send(200, b" " if length == 10 else b" " * 2**21, Content_Length=str(length))

    with serving(answer) as server, pytest.raises(PlannerError, match="larger than|broke off") as caught:
        server.planner().plan(SENTENCE, limit=8)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in "".join(frames.format())


def test_a_long_key_is_not_stored_in_part() -> None:
    key = KEY * 8
    field = "".join(f"\\u{ord(letter):04x}" for letter in key)
    with serving(saying(json.dumps(PLAN)[:-1] + f', "{field}": 1}}')) as server:
        with pytest.raises(PlannerError, match="repeats the key") as caught:
            server.planner(key=key).plan(SENTENCE, limit=8)
    assert KEY not in str(caught.value)


def test_a_placeholder_for_a_key_may_stand_in_a_prompt() -> None:
    with serving(saying(json.dumps(PLAN))) as server:
        assert server.planner(key="red").plan(SENTENCE, limit=8).background == "a beach"
