"""A command line run in this process, for the tests of the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from dreamlayer_core.cli import app


class Run:
    """One command line, its result, and what it left behind."""

    def __init__(self, home: Path, *arguments: str | Path) -> None:
        before = set(home.rglob("*"))
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        self.code, self.out, self.err, self.error = result.exit_code, result.stdout, result.stderr, result.exception
        self.new = sorted(set(home.rglob("*")) - before)

    def json(self) -> dict[str, Any]:
        assert self.code == 0, (self.err, self.error)
        return json.loads(self.out)

    def assert_fails(self, code: int, *words: str) -> None:
        """With this code and one line that has these words, and without a trace on the disk."""
        assert self.code == code, (self.err, self.error)
        assert self.out == "", self.out
        assert self.err.count("\n") == 1 and self.err.startswith("error: "), (self.err, self.error)
        assert not [word for word in words if word not in self.err], self.err
        assert self.new == [], self.new
