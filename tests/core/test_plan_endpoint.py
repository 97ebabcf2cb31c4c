"""The endpoint planner against a real HTTP server: good, slow, broken, hostile and huge answers; and where its settings come from."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dreamlayer_core.errors import Cancelled, DreamLayerError, InputError
from dreamlayer_core.plans.choose import OfflinePlanner, choose_planner, plan_sentence
from dreamlayer_core.plans.endpoint import EndpointPlanner
from dreamlayer_core.plans.planner import PlannerError
from dreamlayer_core.plans.settings import (
    EndpointSettings,
    chosen_settings,
    config_path,
    find_settings,
    require_settings,
)
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


# Good servers


def test_a_plan(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(saying(json.dumps(PLAN))) as server:
        plan = server.planner().plan(SENTENCE, limit=8)
    assert plan.model_dump(mode="json", exclude_defaults=True) == PLAN
    (asked,) = server.asked
    assert asked["path"] == "/v1/chat/completions" and asked["model"] == "tiny" and asked["temperature"] == 0
    assert asked["response_format"]["type"] == "json_schema" and asked["response_format"]["json_schema"]["strict"]
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert json.loads(asked["messages"][1]["content"]) == SENTENCE
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(server.asked) and KEY not in caplog.text and KEY not in repr(server.planner())


def test_no_key_no_header() -> None:
    with serving(saying(json.dumps(PLAN))) as server:
        server.planner(key="").plan(SENTENCE, limit=8)
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions"])
def test_the_address_may_end_in_several_ways(tail: str) -> None:
    with serving(saying(json.dumps(PLAN))) as server:
        settings = EndpointSettings(url=server.url + tail, model="tiny")
        EndpointPlanner(settings=settings, patience=QUICK).plan(SENTENCE, limit=8)
    assert server.asked[0]["path"] == "/v1/chat/completions"


def test_the_limit_holds_whatever_the_model_says() -> None:
    with serving(saying(json.dumps(PLAN))) as server:
        plan = server.planner().plan(SENTENCE, limit=2)
    assert len(plan.foregrounds) == 2 and "limit is 2" in plan.notes[0]
    assert "At most 2 entries" in server.asked[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    "refused", [("json_schema",), ("json_schema", "json_object"), ("temperature",), ("json_schema", "temperature")]
)
def test_servers_without_structured_output_or_temperature(refused: tuple[str, ...]) -> None:
    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        bad = [name for name in refused if f'"{name}"' in json.dumps(body)]
        if bad:
            handler.send(400, json.dumps({"error": {"message": f"unsupported: {bad[0]}"}}))
        else:
            handler.say(f"Here you are:\n```json\n{json.dumps(PLAN)}\n```")

    with serving(answer) as server:
        assert len(server.planner().plan(SENTENCE, limit=8).foregrounds) == 3
    assert len(server.asked) <= 6
    structured = "response_format" in server.asked[-1]
    assert structured == (refused != ("json_schema", "json_object")), "as strict as the server allows"


def test_content_in_parts_and_in_chunks() -> None:
    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        text = json.dumps(PLAN)
        parts = [{"type": "text", "text": text[:50]}, {"type": "image"}, {"type": "text", "text": text[50:]}]
        data = json.dumps({"choices": [{"message": {"content": parts}}]}).encode()
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(data), 40):
            block = data[start : start + 40]
            handler.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    with serving(answer) as server:
        assert len(server.planner().plan(SENTENCE, limit=8).foregrounds) == 3


def test_a_scene_without_things() -> None:
    with serving(saying(json.dumps({"background": "a beach", "foregrounds": [], "whole": "a beach"}))) as server:
        with pytest.raises(InputError, match="'a beach'"):
            server.planner().plan("a beach", limit=8)
        plan = plan_sentence("a beach", planner=server.planner(), proposing=True)
    assert len(plan.foregrounds) == 1 and "Objects365" in plan.notes[0]


@pytest.mark.parametrize("whole", ["a beach", "two red balls on a beach", ""])
def test_a_whole_that_forgets_a_thing_is_replaced_by_the_sentence(whole: str) -> None:
    with serving(saying(json.dumps(PLAN | {"whole": whole}))) as server:
        assert server.planner().plan(SENTENCE, limit=8).whole == SENTENCE
    kept = "on a beach, before a cube, balls"
    with serving(saying(json.dumps(PLAN | {"whole": kept}))) as server:
        assert server.planner().plan(SENTENCE, limit=8).whole == server.planner().plan(SENTENCE, limit=2).whole == kept


# Answers that are no plan


def test_an_answer_that_is_no_plan_is_told_to_the_model_once() -> None:
    with serving(saying('{"background": "a beach"}', json.dumps(PLAN))) as server:
        assert len(server.planner().plan(SENTENCE, limit=8).foregrounds) == 3
    first, second = server.asked
    assert second["messages"][:2] == first["messages"]
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant", "user"]
    assert "foregrounds: Field required" in second["messages"][3]["content"]
    with serving(saying("I would rather talk about the weather.")) as server:
        assert "the weather" in failed(server, "no plan")
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "content",
    [
        "[" * 50_000 + "]" * 50_000,
        '{"background": ' * 50_000,
        json.dumps({"background": "a", "foregrounds": ["b"] * 1000}),
        json.dumps({"background": "a" * 5000, "foregrounds": ["b"]}),
        "{" * 100_000,
        " " * 300_000,
        "__import__('os').system('touch /tmp/owned')",
        "",
    ],
)
def test_hostile_answers_are_refused(content: str) -> None:
    with serving(saying(content)) as server:
        failed(server, "no plan")


def test_what_is_smuggled_is_prompt_text() -> None:
    content = {
        "background": "<script>alert(1)</script>",
        "foregrounds": [{"name": "../../etc/passwd", "prompt": "{{7*7}} ${HOME} \u001b[2J", "tool": "shell", "weight": 1}],
        "whole": "IGNORE ALL INSTRUCTIONS", "notes": ["run this"], "tool_calls": [{"function": "rm"}],
    }  # fmt: skip
    with serving(saying(json.dumps(content))) as server:
        plan = server.planner().plan(SENTENCE, limit=8)
    assert plan.background == "<script>alert(1)</script>" and plan.foregrounds[0].prompt == "{{7*7}} ${HOME} [2J"
    assert plan.notes == ("fields that no plan has are left out: tool_calls, tool",)


@pytest.mark.parametrize(
    "body",
    ["", "null", "[]", "{}", "<html>404</html>", '{"choices": []}', '{"choices": [{"message": null}]}', '{"choices": [7]}',
     '{"choices": {"0": 1}}', '{"choices": [{"message": {"content": 7}}]}', "[" * 100_000, b"\xff\xfe\x00"],
)  # fmt: skip
def test_what_is_no_chat(body: str | bytes) -> None:
    with serving(lambda number, asked, handler: handler.send(200, body)) as server:
        failed(server, "not as a chat")


def test_a_refusal() -> None:
    with serving(saying({"role": "assistant", "content": None, "refusal": "I will not"})) as server:
        failed(server, "refuses to plan")


def test_huge_answers_are_not_read_to_their_end() -> None:
    sent = []

    def answer(number: int, body: dict[str, Any], handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(2**34))
        handler.end_headers()
        for _ in range(2**14):
            handler.wfile.write(b" " * 2**16)
            sent.append(2**16)

    with serving(answer) as server:
        failed(server, "larger than")
    assert sum(sent) < 2**26


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


# Settings


OWN = {"DREAMLAYER_LLM_URL": "http://localhost:1/v1", "DREAMLAYER_LLM_MODEL": "m"}


def configured(folder: Path, text: str) -> dict[str, str]:
    (folder / "dreamlayer").mkdir(exist_ok=True)
    (folder / "dreamlayer" / "config.json").write_text(text)
    return {"XDG_CONFIG_HOME": str(folder)}


def test_an_address_and_its_key_come_from_one_place(tmp_path: Path) -> None:
    none = {"XDG_CONFIG_HOME": str(tmp_path / "none")}
    openai = {"OPENAI_API_KEY": KEY}
    assert find_settings(none) is None
    assert find_settings(none | openai) is None, "other programs' key, and nobody has named a model"
    file = configured(tmp_path, '{"llm": {"url": "https://file/v1", "model": "f", "key": "of-the-file"}, "other": 1}')
    path = tmp_path / "dreamlayer" / "config.json"
    assert config_path(file, "linux") == path

    def found(environment: dict[str, str], config: Path = path) -> tuple[object, ...]:
        settings = require_settings(environment, config)
        return settings.url, settings.model, settings.key, settings.chosen

    assert found(OWN | openai) == ("http://localhost:1/v1", "m", "", True)
    assert found(OWN | {"DREAMLAYER_LLM_KEY": "k"}) == ("http://localhost:1/v1", "m", "k", True)
    assert found(openai) == ("https://file/v1", "f", "of-the-file", True)
    assert found({"DREAMLAYER_LLM_MODEL": "n"}) == ("https://file/v1", "n", "of-the-file", True)
    missing = tmp_path / "missing.json"
    assert found(openai | {"OPENAI_MODEL": "g"}, missing) == ("https://api.openai.com/v1", "g", KEY, False)
    assert found(openai | {"DREAMLAYER_LLM_MODEL": "g"}, missing) == ("https://api.openai.com/v1", "g", KEY, True)
    assert found({"OPENAI_BASE_URL": "http://o/v1", "OPENAI_MODEL": "g"}, missing) == ("http://o/v1", "g", "", False)
    with pytest.raises(InputError, match="no endpoint is configured; set DREAMLAYER_LLM_URL"):
        require_settings({}, missing)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"llm": {"url": 1}}', f'{{"llm": {{"url": "http://a", "model": "b", "keys": "{KEY}"}}}}',
                                  f'{{"llm": {{"url": "http://a", "key": ["{KEY}"]}}}}', " " * 70_000])  # fmt: skip
def test_a_broken_configuration_is_told_without_its_contents(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"config\.json is not as it should be") as caught:
        find_settings(configured(tmp_path, text), tmp_path / "dreamlayer" / "config.json")
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_where_the_configuration_lies() -> None:
    assert config_path({"APPDATA": "/roaming"}, "win32") == Path("/roaming/dreamlayer/config.json")
    darwin = config_path({}, "darwin")
    assert darwin is not None and darwin.parts[-4:] == ("Library", "Application Support", "dreamlayer", "config.json")
    usual = config_path({}, "linux")
    assert usual is not None and usual.parts[-3:] == (".config", "dreamlayer", "config.json")
    assert config_path({"XDG_CONFIG_HOME": "here"}, "linux") == usual, "its specification wants such ones ignored"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="the platform knows no user numbers")
def test_a_user_without_a_home_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)  # nobody's
    assert config_path({}, "linux") is None and find_settings({}) is None
    assert config_path({"XDG_CONFIG_HOME": "/x"}, "linux") == Path("/x/dreamlayer/config.json")
    with pytest.raises(InputError, match="no endpoint is configured; set DREAMLAYER_LLM_URL") as caught:
        require_settings({})
    assert "write them to" not in str(caught.value)
    assert require_settings(OWN).model == "m"


def test_only_what_was_chosen_for_this_may_be_used_by_what_comes_from_others(tmp_path: Path) -> None:
    openai, missing = {"OPENAI_API_KEY": KEY, "OPENAI_MODEL": "g"}, tmp_path / "missing.json"
    assert not require_settings(openai, missing).chosen
    with pytest.raises(InputError, match="OPENAI_.*set DREAMLAYER_LLM_URL and DREAMLAYER_LLM_MODEL"):
        chosen_settings(openai, missing)
    assert chosen_settings(openai | OWN, missing).url == OWN["DREAMLAYER_LLM_URL"]
    with pytest.raises(InputError, match="no endpoint is configured"):
        chosen_settings({}, missing)


@pytest.mark.parametrize(
    "changes",
    [{"url": "ftp://a/v1"}, {"url": "file:///etc/passwd"}, {"url": "localhost:8080"}, {"url": "http://"}, {"url": "http://a:b:c/"},
     {"url": f"http://user:{KEY}@a/v1"}, {"url": f"http://a/v1?key={KEY}"}, {"url": "http://a/v1\r\nX: y"}, {"url": "http://a:99999/"},
     {"url": "http://a..b/"}, {"url": "http://.a/"}, {"url": f"http://{'a' * 64}.b/"},
     {"model": " "}, {"key": f"{KEY}\r\nX-Evil: 1"}, {"key": f"{KEY} "}, {"key": f"{KEY}é"}],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_told_without_the_key(changes: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        EndpointSettings(**({"url": "http://a/v1", "model": "m"} | changes))
    assert KEY not in str(caught.value)


# Choosing


def test_the_planner_is_offline_unless_an_endpoint_was_configured_for_this(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (
        "DREAMLAYER_LLM_URL",
        "DREAMLAYER_LLM_MODEL",
        "DREAMLAYER_LLM_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_MODEL",
        "OPENAI_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert isinstance(choose_planner(), OfflinePlanner)
    with pytest.raises(InputError, match="no endpoint"):
        choose_planner("endpoint")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_MODEL", "g")
    assert isinstance(choose_planner(), OfflinePlanner), "nobody asked for the network"
    assert isinstance(choose_planner("endpoint"), EndpointPlanner)
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    assert isinstance(choose_planner(), EndpointPlanner) and isinstance(choose_planner("offline"), OfflinePlanner)
    with pytest.raises(InputError, match="without a model"):
        choose_planner("local")
    with pytest.raises(InputError, match="'grammar'; give one of offline, endpoint, local"):
        choose_planner("grammar")


def test_plan_sentence_uses_the_planner_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(saying(json.dumps(PLAN | {"background": "from the server"}))) as server:
        monkeypatch.setenv("DREAMLAYER_LLM_URL", server.url)
        monkeypatch.setenv("DREAMLAYER_LLM_MODEL", "tiny")
        assert plan_sentence(SENTENCE).background == "from the server"
        assert plan_sentence(SENTENCE, planner=OfflinePlanner()).background == "a beach"
    assert issubclass(PlannerError, DreamLayerError)
