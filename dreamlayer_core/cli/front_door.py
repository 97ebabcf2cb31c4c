"""What every command shares: one line for every error, and an exit code that says which kind it was.

    0    done
    1    the run failed: files, weights, memory
    2    a wrong value or option on the command line
    130  stopped by Ctrl-C
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from ..errors import Cancelled, DreamLayerError, InputError

__all__ = ["FrontDoor", "say"]

RUN_ERROR, USAGE_ERROR, INTERRUPTED = 1, 2, 130


def say(line: str) -> None:
    """A line for people, on stderr: stdout belongs to `--json`."""
    typer.echo(_one_line(line), err=True)


class FrontDoor(TyperGroup):
    """The command group at the top; it turns errors into lines and codes, whatever command they come from."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and leave with its exit code; with `standalone_mode=False` return the code instead."""
        try:
            returned = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
            code = returned if isinstance(returned, int) else 0
        except (KeyboardInterrupt, typer.Abort, Cancelled):
            code = INTERRUPTED
        except typer.TyperException as error:
            code = _failed(error.format_message(), error.exit_code)
        except (DreamLayerError, OSError) as error:
            code = _failed(str(error), USAGE_ERROR if isinstance(error, InputError) else RUN_ERROR)
        if code == INTERRUPTED:
            say("stopped: nothing is left half written")
        if standalone_mode:
            sys.exit(code)
        return code


def _failed(message: str, code: int) -> int:
    say(f"error: {message}")
    return code


def _one_line(text: str) -> str:
    """Text of one line, without the control characters that file names and prompts can carry."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
