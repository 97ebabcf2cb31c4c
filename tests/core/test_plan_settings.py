"""Where an endpoint's settings come from, which ones cannot be used, and the planner that follows from them."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path

import pytest

from dreamlayer_core.errors import DreamLayerError, InputError
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

from .plan_server import KEY, PLAN, SENTENCE, saying, serving

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
