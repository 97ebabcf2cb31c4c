"""Every error that DreamLayer raises on purpose.

    DreamLayerError
    |-- InputError     a value that the caller gave (also a ValueError)
    |   `-- NothingToPlace   a sentence without a thing (in plans.planner)
    |-- WeightsError   a weights file that is missing, damaged or of the wrong kind
    |-- FormatError    a layer document, or rendered scenes, that cannot be read
    |-- OutputError    a result that cannot be written (also an OSError)
    |-- PlannerError   a language model that cannot be asked, or answers no plan (in plans.planner)
    `-- Cancelled      the run was stopped by its user

A message names the value received, what was expected, and the next step.
"""

__all__ = ["Cancelled", "DreamLayerError", "FormatError", "InputError", "OutputError", "WeightsError"]


class DreamLayerError(Exception):
    """Base of all errors raised on purpose."""


class InputError(DreamLayerError, ValueError):
    """A value given by the caller is unusable."""


class WeightsError(DreamLayerError):
    """A weights file is missing, damaged, or not of the kind expected."""


class FormatError(DreamLayerError):
    """A layer document (PNG folder, ORA, PSD, stack.json), or rendered scenes, cannot be read."""


class OutputError(DreamLayerError, OSError):
    """A result cannot be written; nothing was left half-written."""


class Cancelled(DreamLayerError):
    """The run was stopped by its user."""
