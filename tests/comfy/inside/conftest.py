"""Runs in ComfyUI's own Python, with ComfyUI's folder first on the path; loads the pack as ComfyUI does."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path

import pytest

COMFYUI = Path(os.environ["COMFYUI_PATH"])
PACK = Path(__file__).resolve().parents[3]

sys.path.insert(0, str(COMFYUI))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)

from comfy.cli_args import args  # noqa: E402

args.cpu = True

import torch  # noqa: E402
from graph import ROWS, Graph, denoise, draw  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import nodes as comfy_nodes  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pack():
    """{node id: class} of our nodes, loaded through ComfyUI's own loader."""
    before = set(comfy_nodes.NODE_CLASS_MAPPINGS)
    assert asyncio.run(comfy_nodes.load_custom_node(str(PACK))), "ComfyUI could not load the pack; see the log above"
    return {name: cls for name, cls in comfy_nodes.NODE_CLASS_MAPPINGS.items() if name not in before}


@pytest.fixture(scope="session")
def module(pack):
    """The pack's own modules: `module("nodes.sockets")`, `module("dreamlayer_core.layers")`."""
    root = next(name for name, loaded in sys.modules.items()
                if getattr(loaded, "__file__", None) == str(PACK / "__init__.py"))
    return lambda name: importlib.import_module(f"{root}.{name}")


@pytest.fixture(scope="session")
def core(module):
    """The pack's own copy of the core: `core("layers")` is its module dreamlayer_core.layers."""
    return lambda name: module(f"dreamlayer_core.{name}")


@pytest.fixture
def told(core):
    """As pytest.raises, for the pack's own errors: `told("some", "words")`."""
    return lambda *words, error="DreamLayerError": pytest.raises(
        getattr(core("errors"), error), match="(?s)" + ".*".join(words))


@pytest.fixture(scope="session")
def reference():
    """What the core made of the tests' inputs, see reference.py."""
    return load_file(os.environ["DREAMLAYER_REFERENCE"])


@pytest.fixture(autouse=True)
def no_gradients():
    """As ComfyUI runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def graph(pack):
    """The embedded model, and short ways to our nodes."""
    return Graph(pack)


@pytest.fixture(scope="module")
def texts(graph):
    """Positive and negative of the usual plan."""
    return graph.encode()


@pytest.fixture(scope="module")
def patched(graph):
    """The embedded model with its adapter."""
    return graph.patch()


@pytest.fixture(scope="module")
def noise():
    """For latents of the usual plan, 32x32 pixels."""
    return draw(ROWS, 4, 8, 8)


@pytest.fixture(scope="module")
def plain(graph, texts, noise):
    """What the patched model makes with nothing else on it."""
    with torch.inference_mode():
        return denoise(graph.patch(), texts, noise)


@pytest.fixture(scope="module")
def alone(graph):
    """The embedded model with rows that do not see each other."""
    return graph.patch(caca=False, lssa=False)


@pytest.fixture(scope="module")
def without(alone, texts, noise):
    """What it makes with nothing else on it."""
    with torch.inference_mode():
        return denoise(alone, texts, noise)


@pytest.fixture
def little_memory(graph, monkeypatch):
    """As ComfyUI splits batches where memory is short."""
    return lambda: monkeypatch.setattr(type(graph.model.model), "memory_required", lambda *args, **kwargs: 1e30)
