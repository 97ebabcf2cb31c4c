from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dreamlayer_core.adapter import LayerAdapter
from dreamlayer_core.weights import Adapter, load_adapter, save_adapter

from .tiny import seeded, tiny_adapter, tiny_unet

SITE = "up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"


@pytest.fixture(scope="module")
def weights() -> Adapter:
    return tiny_adapter(tiny_unet())


def _linear(*, bias: bool = False) -> nn.Linear:
    with seeded(7):
        return nn.Linear(32, 32, bias=bias).requires_grad_(False)


def _tokens(rows: int) -> Tensor:
    return torch.randn(rows, 5, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rows", [3, 4, 10])
@pytest.mark.parametrize("bias", [False, True])
def test_every_row_is_projected_by_the_weights_of_its_role(weights: Adapter, rows: int, bias: bool) -> None:
    adapter, base, tokens = LayerAdapter.from_weights(weights), _linear(bias=bias), _tokens(2 * rows)
    projected = adapter.project(SITE, base, tokens, rows)
    for index, row in enumerate(tokens):
        foreground = 0 < index % rows < rows - 1
        expected = row @ (weights.foreground_kv if foreground else weights.shared_kv)[SITE].T
        expected = expected + base.bias if bias else expected
        torch.testing.assert_close(projected[index], expected, rtol=1e-5, atol=1e-5)


def test_a_single_row_has_the_shared_weights(weights: Adapter) -> None:
    tokens = _tokens(2)
    projected = LayerAdapter.from_weights(weights).project(SITE, _linear(), tokens, 1)
    torch.testing.assert_close(projected, tokens @ weights.shared_kv[SITE].T, rtol=1e-5, atol=1e-5)


def test_without_weights_of_its_own_a_row_has_the_shared_ones_or_the_bases(weights: Adapter) -> None:
    base, tokens = _linear(), _tokens(4)
    shared = LayerAdapter.from_weights(replace(weights, foreground_kv={})).project(SITE, base, tokens, 4)
    torch.testing.assert_close(shared, tokens @ weights.shared_kv[SITE].T, rtol=1e-5, atol=1e-5)
    neither = LayerAdapter.from_weights(replace(weights, foreground_kv={}, shared_kv={}))
    assert torch.equal(neither.project(SITE, base, tokens, 4), base(tokens))


def test_weights_come_back_as_they_went_in(weights: Adapter, tmp_path: Path) -> None:
    save_adapter(LayerAdapter.from_weights(weights).weights(), tmp_path / "a.safetensors")
    loaded = load_adapter(tmp_path / "a.safetensors")
    assert loaded.settings == weights.settings
    assert loaded.tensors().keys() == weights.tensors().keys()
    assert all(torch.equal(tensor, weights.tensors()[name]) for name, tensor in loaded.tensors().items())


def test_a_loaded_adapter_is_frozen_and_a_new_one_learns_everything(weights: Adapter) -> None:
    loaded = LayerAdapter.from_weights(weights)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    fresh = LayerAdapter(weights.settings, weights.shared_kv, weights.foreground_kv)
    assert all(p.requires_grad for p in fresh.parameters())
    assert len(list(fresh.parameters())) == len(weights.tensors())


def test_a_new_adapter_changes_nothing_yet(weights: Adapter) -> None:
    fresh = LayerAdapter(weights.settings, weights.shared_kv, weights.foreground_kv)
    maps = torch.rand(1, 2, 9, generator=torch.Generator().manual_seed(0))
    assert not fresh.layer_assign.any()
    torch.testing.assert_close(fresh.context_layers(maps, _tokens(1)[:, :1].expand(1, 9, 32)), maps, rtol=0, atol=1e-4)


def test_half_precision_files_load_in_full(weights: Adapter, tmp_path: Path) -> None:
    save_adapter(weights, tmp_path / "a.safetensors", dtype=torch.float16)
    module = LayerAdapter.from_weights(load_adapter(tmp_path / "a.safetensors"))
    assert {p.dtype for p in module.parameters()} == {torch.float32}
