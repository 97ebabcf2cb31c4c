"""What the documentation says must be true: its commands parse, its example runs, and what it names exists."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dreamlayer_core.cli import app
from dreamlayer_core.plans.offline import split_sentence
from dreamlayer_core.plans.plan import LayerPlan, PlannedLayer
from dreamlayer_core.plans.settings import find_settings

ROOT = Path(__file__).parents[2]
CORE = ROOT / "dreamlayer_core"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str, page: Path = ROOT / "README.md") -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """The table of a section of the README."""
    text = (ROOT / "README.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    return "\n".join(line for line in text.splitlines()[3:] if line.startswith("|"))


def lines(start: str, page: Path = ROOT / "README.md") -> list[str]:
    return [line for block in blocks("sh", page) for line in block.splitlines() if line.startswith(start)]


def parse(line: str) -> None:
    """Check a command line as far as the program does before it runs it. Raises for an unknown command or option."""
    command: Any = get_command(app)
    _, *words = shlex.split(line)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("dreamlayer", words)


def table_rows(page: Path) -> list[list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.read_text().splitlines() if line[:1] == "|"]
    return [row for row in cells[2:] if len(row) == len(cells[0])]


@pytest.mark.parametrize("line", [line for page in PAGES for line in lines("dreamlayer ", page)])
def test_commands_parse(line: str) -> None:
    parse(line)


def test_there_are_commands_of_every_kind() -> None:
    assert {line.split()[1] for line in lines("dreamlayer ")} == {
        "generate", "flatten", "edit", "regenerate", "decompose", "plan", "scenes", "evaluate"}
    assert {line.split()[1] for line in lines("dreamlayer ", ROOT / "docs/model-card.md")} == {"scenes", "train", "export"}
    with pytest.raises(KeyError):
        parse("dreamlayer paint")


def test_scripts_exist_and_can_be_run() -> None:
    named = set(re.findall(r"\./(scripts/\w+)", (ROOT / "README.md").read_text()))
    assert named == {"scripts/demo", "scripts/setup", "scripts/test"}
    assert all((ROOT / name).stat().st_mode & 0o111 for name in [*named, ".ci/run"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_named_files_of_the_core_exist() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", section("How the method maps to files"))
    assert len(named) > 10
    assert [name for name in named if not (CORE / name).exists()] == []


def test_the_plan_and_the_configuration_of_the_documentation_are_read(tmp_path: Path) -> None:
    page = ROOT / "docs" / "plans.md"
    example, configuration = blocks("json", page)
    plan = LayerPlan.model_validate_json(example)
    assert split_sentence(plan.whole) == plan, "what the command makes of that sentence"
    (file := tmp_path / "config.json").write_text(configuration)
    assert find_settings({}, file) is not None
    fields = {row[0].strip("`").removeprefix("foregrounds[].") for row in table_rows(page) if len(row) == 3}
    assert {*LayerPlan.model_fields, *PlannedLayer.model_fields} <= fields


def test_every_equation_has_its_function_and_test() -> None:
    rows = table_rows(ROOT / "docs" / "equations.md")
    assert len(rows) > 12
    for _, what, functions, files, tests in rows:
        sources = [(CORE / name).read_text() for name in files.split(", ")]
        for name in re.findall(r"`(\w+)`", functions):
            assert any(re.search(rf"^(def|class) {name}\b", source, re.MULTILINE) for source in sources), (what, name)
        assert all((ROOT / "tests" / "core" / name).is_file() for name in tests.split(", ")), what
    numbers = {int(n) for row in rows for n in re.findall(r"\d+", row[0])}
    assert numbers == {*range(1, 15), 16}  # 15 lies within "14–16"


def test_the_python_example_runs(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    Path("example.py").write_text(example.replace('"embedded"', repr(str(tiny_folder))))
    runpy.run_path("example.py")
    assert {"stack.json", "harmonized.png", "stack.psd"} <= {path.name for path in Path("meadow").iterdir()}


def test_constraints_pin_every_dependency() -> None:
    pins = (ROOT / "constraints.txt").read_text().lower()
    declared = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("[project.scripts]")[0]
    names = [name for name in re.findall(r'"([a-z-]+)"', declared)]
    assert len(names) > 12 and "torch" in names
    assert [name for name in names if not re.search(rf"^{name}==", pins, re.MULTILINE)] == []
    assert "torch==2.13.0\n" in pins and "://" not in pins and "+cpu" not in pins
