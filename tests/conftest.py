"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dreamlayer_core.pipeline import DreamLayer

from .core.tiny import tiny_model, tiny_pipeline

torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder with an adapter. Do not write into it: copy it."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_dreamlayer(tiny_folder: Path) -> DreamLayer:
    """The pipeline of `tiny_folder`. Do not change it: `dataclasses.replace` makes a variant."""
    return tiny_pipeline(tiny_folder)
