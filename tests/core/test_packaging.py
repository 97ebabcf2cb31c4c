"""What an installation gets: the node pack needs nothing that ComfyUI does not bring, psd-tools apart."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from dreamlayer_core import __main__ as command

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
# Of ComfyUI 0.33.0's requirements.txt, those that the pack imports; and ComfyUI's own modules.
COMFYUI = {"einops", "numpy", "PIL", "pydantic", "safetensors", "torch"}
COMFYUI_MODULES = {"comfy_extras", "comfy", "comfy_api", "folder_paths", "latent_preview", "node_helpers"}
DISTRIBUTIONS = {"PIL": "pillow", "psd_tools": "psd-tools"}
PSD = "dreamlayer_core/formats/psd.py"


def imported(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, absolute or as paths from the repository's folder."""
    package = path.relative_to(ROOT).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unrun = [node.body for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {inner for body in unrun for statement in body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            yield from (f"/{base}", *(f"/{base}.{name.name}" for name in node.names))


def files(module: str) -> Iterator[Path]:
    """The files that importing a module of ours runs: its own and those of its packages."""
    parts = module.removeprefix("/").split(".")
    for length in range(1, len(parts) + 1):
        place = ROOT.joinpath(*parts[:length])
        yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


def reached() -> dict[Path, set[str]]:
    """{file that the node pack can run: modules of others that it imports}."""
    found, waiting = dict[Path, set[str]](), [ROOT / "__init__.py", *sorted((ROOT / "nodes").rglob("*.py"))]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        modules = set(imported(path))
        found[path] = {name.split(".")[0] for name in modules if not name.startswith("/")} - set(sys.stdlib_module_names)
        waiting += [file for name in modules if name.startswith("/") for file in files(name)]
    return found


def requirements(key: str) -> list[str]:
    """An array of pyproject.toml; Python 3.10 has no reader for the whole."""
    (array,) = re.findall(rf"^{key} = (\[.*?\])$", PROJECT, re.MULTILINE | re.DOTALL)
    return ast.literal_eval(array)


def test_nodes_import_only_what_comfyui_brings() -> None:
    found = reached()
    assert len(found) > 30 and ROOT / PSD in found
    for path, modules in found.items():
        own = {"psd_tools"} if path == ROOT / PSD else set[str]()
        assert modules - COMFYUI - COMFYUI_MODULES - own == set(), path


def test_dependencies_are_what_the_nodes_import() -> None:
    modules = {module for modules in reached().values() for module in modules} - COMFYUI_MODULES
    assert set(requirements("dependencies")) == {DISTRIBUTIONS.get(module, module) for module in modules}
    assert (ROOT / "requirements.txt").read_text().split() == ["psd-tools"]


def test_the_command_line_is_an_extra_that_developers_get() -> None:
    assert requirements("standalone") == list(command._NEEDED)
    assert "dreamlayer[standalone]" in requirements("dev")
    assert ".[dev]" in (ROOT / "scripts" / "setup").read_text()


def test_the_command_says_what_it_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(SystemExit) as left:
        command.main()
    message = str(left.value)
    assert message.startswith("error: ") and "\n" not in message
    assert "diffusers, typer" in message and "rich" not in message and "'.[standalone]'" in message


def test_registry_metadata_is_complete() -> None:
    table = dict(re.findall(r'^([\w-]+) = "(.*)"$', PROJECT.partition("[tool.comfy]\n")[2].partition("\n[")[0], re.MULTILINE))
    assert {"PublisherId", "DisplayName", "Icon", "requires-comfyui"} <= set(table)
    assert table["requires-comfyui"] == ">=0.33.0"
    assert "web" not in table, "WEB_DIRECTORY names the folder already"
    kind, _, content = table["Icon"].partition(",")
    assert kind == "data:image/svg+xml"
    assert unquote(content) == (ROOT / "web" / "icon.svg").read_text().strip()
    assert 'name = "dreamlayer"\n' in PROJECT, "the registry wants no ComfyUI in it"


def test_the_archive_holds_what_runs_and_leaves_out_what_does_not() -> None:
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    left_out = [line.strip("/") for line in (ROOT / ".comfyignore").read_text().splitlines() if line.startswith("/")]
    assert all((ROOT / name).exists() for name in left_out)
    kept = [name for name in listed.stdout.splitlines() if not any(f"{name}/".startswith(f"{out}/") for out in left_out)]
    tops = {name.split("/")[0] for name in kept}
    assert {"__init__.py", "nodes", "dreamlayer_core", "web", "locales", "workflows", "requirements.txt", "LICENSE"} <= tops
    assert not {"tests", "benchmarks", ".ci"} & tops
    for folder in ("nodes", "dreamlayer_core", "web", "locales", "workflows"):
        assert {name for name in listed.stdout.splitlines() if name.startswith(f"{folder}/")} <= set(kept)
