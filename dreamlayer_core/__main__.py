"""The `dreamlayer` command; `python -m dreamlayer_core` is the same.

It needs packages that the node pack does without: those of the extra `standalone` in pyproject.toml.
"""

import sys
from importlib.util import find_spec

_NEEDED = ("accelerate", "diffusers", "huggingface_hub", "rich", "tokenizers", "transformers", "typer")


def main() -> None:
    """Run the command line, or leave with one line that says what it misses, or that it was stopped."""
    try:
        _run()
    except KeyboardInterrupt:  # while it was imported; from then on it says so itself, see `FrontDoor`
        sys.stderr.write("stopped: nothing is left half written\n")
        sys.exit(130)


def _run() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(
            f"error: the command line needs {', '.join(missing)}; in DreamLayer's folder, run ./scripts/setup, or install "
            "with: pip install '.[standalone]'"
        )
    from .cli import main as run  # noqa: PLC0415 - it imports what may be missing

    run()


if __name__ == "__main__":
    main()
