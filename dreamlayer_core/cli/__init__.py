"""The command line, `dreamlayer`: `python -m dreamlayer_core` is the same.

Modules that load torch are imported inside the commands that need them: help and usage errors come at once.
"""

from .app import app, main

__all__ = ["app", "main"]
