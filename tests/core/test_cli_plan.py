"""`dreamlayer plan`: tables for people, JSON for programs, files that `generate` reads, and one clear line for what goes wrong."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from dreamlayer_core.cli.front_door import FrontDoor
from dreamlayer_core.cli.plan import plan
from dreamlayer_core.plans.files import plan_schema, read_plan
from dreamlayer_core.plans.plan import LayerPlan
from dreamlayer_core.plans.planner import USUAL_LIMIT

from .plan_server import PLAN, saying, serving

SENTENCE = "two red balls in front of a blue cube on a beach"
ADDRESS = (
    "DREAMLAYER_LLM_URL",
    "DREAMLAYER_LLM_MODEL",
    "DREAMLAYER_LLM_KEY",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_MODEL",
)

app = typer.Typer(cls=FrontDoor, pretty_exceptions_enable=False)
app.callback()(lambda: None)  # with one command alone, its name would not be part of the line
app.command()(plan)


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ADDRESS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setenv("COLUMNS", "100")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["plan", *(str(argument) for argument in arguments)])


def assert_fails(code: int, said: str, *arguments: str | Path) -> None:
    result = run(*arguments)
    assert result.exit_code == code and result.stdout == "", result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and said in result.stderr, (
        result.stderr
    )


def test_a_table_with_the_top_layer_first() -> None:
    result = run(SENTENCE)
    assert result.exit_code == 0 and result.stderr == ""
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    places = [[word in line for line in lines].index(True) for word in ("ball", "cube", "beach")]
    assert places == sorted(places) and len(set(places)) == 3
    assert sum("ball" in line for line in lines) == 2 and SENTENCE in result.stdout


def test_what_stands_in_a_sentence_is_neither_markup_nor_a_command() -> None:
    result = run("a [bold red]ball[/] \x1b[31m named [link=http://x]y[/link] on a beach")
    assert result.exit_code == 0 and "\x1b" not in result.stdout
    assert "[link=http://x]" in "".join(result.stdout.split("\n")).replace("  ", "")


def test_json_and_files(tmp_path: Path) -> None:
    result = run(SENTENCE, "--json", "--out", tmp_path / "plan.json")
    assert result.exit_code == 0 and "3 foregrounds" in result.stderr
    made = LayerPlan.model_validate(json.loads(result.stdout))
    assert read_plan(tmp_path / "plan.json") == made
    assert [layer.prompt for layer in made.foregrounds] == ["a blue cube", "a red ball", "a red ball"]
    assert_fails(1, "already exists", SENTENCE, "--out", tmp_path / "plan.json")
    assert run("a dog in a park", "--out", tmp_path / "plan.json", "--overwrite").exit_code == 0
    assert read_plan(tmp_path / "plan.json") != made


def test_a_file_in_the_way_is_told_before_anybody_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("mine")
    with serving(saying(json.dumps(PLAN))) as server:
        monkeypatch.setenv("DREAMLAYER_LLM_URL", server.url)
        monkeypatch.setenv("DREAMLAYER_LLM_MODEL", "tiny")
        assert_fails(1, "already exists", SENTENCE, "--out", tmp_path / "plan.json")
        assert_fails(1, "is a folder", SENTENCE, "--out", tmp_path, "--overwrite")
    assert server.asked == [] and (tmp_path / "plan.json").read_text() == "mine"


def test_the_schema_needs_no_sentence() -> None:
    result = run("--schema")
    assert result.exit_code == 0 and json.loads(result.stdout) == plan_schema()


def test_the_limit() -> None:
    made = json.loads(run(SENTENCE, "--limit", "2", "--json").stdout)
    assert len(made["foregrounds"]) == 2 and made["notes"]
    assert inspect.signature(plan).parameters["limit"].default == USUAL_LIMIT


def test_proposals_only_when_asked() -> None:
    assert_fails(2, "names no thing", "a beach at sunset")
    made = json.loads(run("a beach at sunset", "--propose", "--json").stdout)
    assert [layer["name"] for layer in made["foregrounds"]] == ["umbrella"] and "Objects365" in made["notes"][-1]


def test_an_endpoint_is_used_once_it_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(saying(json.dumps(PLAN | {"background": "from the server"}))) as server:
        monkeypatch.setenv("DREAMLAYER_LLM_URL", server.url)
        monkeypatch.setenv("DREAMLAYER_LLM_MODEL", "tiny")
        assert "from the server" in run(SENTENCE).stdout
        assert "from the server" not in run(SENTENCE, "--planner", "offline").stdout
    assert len(server.asked) == 1
    with serving(lambda number, body, handler: handler.send(404, '{"error": {"message": "no such model"}}')) as server:
        monkeypatch.setenv("DREAMLAYER_LLM_URL", server.url)
        assert_fails(1, "no such model", SENTENCE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "empty sentence"),
        ((" ",), "empty sentence"),
        (("a ball", "--limit", "0"), "limit of 0"),
        (("a ball", "--limit", "many"), "--limit"),
        (("a ball", "--planner", "endpoint"), "no endpoint is configured"),
        (("a ball", "--planner", "local"), "--llm FOLDER"),
        (("a ball", "--llm", "folder"), "--planner local"),
        (("a ball", "--planner", "magic"), "magic"),
    ],
)
def test_wrong_lines(arguments: tuple[str, ...], said: str) -> None:
    assert_fails(2, said, *arguments)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert_fails(1, "holds no model", "a ball", "--planner", "local", "--llm", tmp_path)
