"""Attention between the rows of each cell: against a plain loop, and in an adapter's file and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreamlayer_core.adapter import LayerAdapter
from dreamlayer_core.attention.cells import CELL_HEADS, CellAttention
from dreamlayer_core.attention.inversion import inversion_mask
from dreamlayer_core.attention.steering import ContextSteering
from dreamlayer_core.config import LayerAttentionConfig, SamplingConfig
from dreamlayer_core.diffusers_unet import find_sites, layer_attention
from dreamlayer_core.errors import InputError, WeightsError
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.weights import Adapter, check_fit, load_adapter, save_adapter

STACKS, ROWS, CELLS, CHANNELS, HIDDEN = 2, 4, 6, 12, 8


@pytest.fixture
def layer() -> CellAttention:
    torch.manual_seed(0)
    made = CellAttention(CHANNELS, HIDDEN)
    torch.nn.init.normal_(made.output.weight)
    torch.nn.init.normal_(made.mapped)
    return made.requires_grad_(False)


@pytest.fixture
def tokens() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(STACKS * ROWS, CELLS, CHANNELS) for _ in range(3)]


def one_by_one(layer: CellAttention, tokens: list[Tensor], maps: Tensor, sees: Tensor) -> Tensor:
    """Every row of every cell on its own."""
    query, key, value = tokens
    found, width = torch.zeros_like(query), HIDDEN // CELL_HEADS
    roles = [0, 1, 1, 2]
    for stack in range(STACKS):
        for row in range(ROWS):
            for cell in range(CELLS):
                others = [stack * ROWS + other for other in range(ROWS) if sees[row, other]]
                asking = layer.query.weight @ query[stack * ROWS + row, cell] + layer.roles[0, roles[row]]
                where = [maps[stack, one % ROWS - 1, cell] if roles[one % ROWS] == 1 else 0 for one in others]
                asked = [layer.key.weight @ key[one, cell] + layer.roles[1, roles[one % ROWS]] + at * layer.mapped[0]
                         for one, at in zip(others, where, strict=True)]
                given = [layer.value.weight @ value[one, cell] + at * layer.mapped[1]
                         for one, at in zip(others, where, strict=True)]
                parts: list[Tensor] = []
                for head in range(CELL_HEADS):
                    part = slice(head * width, (head + 1) * width)
                    scores = torch.stack([asking[part] @ one[part] for one in asked]) / width**0.5
                    parts.append(sum((s * g[part] for s, g in zip(scores.softmax(0), given, strict=True)), torch.zeros(width)))
                found[stack * ROWS + row, cell] = layer.output.weight @ torch.cat(parts)
    return found


@pytest.mark.parametrize("masked", [False, True])
def test_it_is_attention_between_the_rows_of_a_cell(layer: CellAttention, tokens: list[Tensor], masked: bool) -> None:
    mask = inversion_mask(ROWS) if masked else None
    sees = torch.ones(ROWS, ROWS, dtype=torch.bool) if mask is None else mask
    maps = torch.rand(STACKS, ROWS - 2, CELLS)
    expected = one_by_one(layer, tokens, maps, sees)
    torch.testing.assert_close(layer(*tokens, ROWS, maps=maps, mask=mask), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        layer(*tokens, ROWS, mask=mask), layer(*tokens, ROWS, maps=0 * maps, mask=mask), atol=1e-6, rtol=1e-6)


def test_untrained_it_adds_nothing(tokens: list[Tensor]) -> None:
    assert not CellAttention(CHANNELS, HIDDEN)(*tokens, ROWS).any()


def test_a_width_that_the_heads_do_not_divide() -> None:
    with pytest.raises(InputError, match="got a cell attention of width 6; give a multiple of 4"):
        CellAttention(CHANNELS, 6)


@pytest.fixture
def trained(tiny_dreamlayer: DreamLayer) -> DreamLayer:
    """The tiny model with attention between rows that does something."""
    assert tiny_dreamlayer.adapter is not None
    weights = tiny_dreamlayer.adapter.weights()
    channels = {site: len(weights.shared_kv[f"{site}.to_v"]) for site in find_sites(tiny_dreamlayer.unet, None).shared}
    torch.manual_seed(2)
    made = LayerAdapter(
        replace(weights.settings, cell_hidden=HIDDEN), weights.shared_kv, weights.foreground_kv, channels)
    made.load_state_dict(tiny_dreamlayer.adapter.state_dict(), strict=False)
    for cell in made.cells.values():
        torch.nn.init.normal_(cell.output.weight)
        torch.nn.init.normal_(cell.mapped)
    return replace(tiny_dreamlayer, adapter=made.eval().requires_grad_(False))


def latents(model: DreamLayer, attention: LayerAttentionConfig) -> Tensor:
    return model.generate(
        LayerPrompts("a hill", ("a ball", "a box")), sampling=SamplingConfig(steps=2), attention=attention, views=1).latents


def test_it_is_part_of_the_shared_attention(tiny_dreamlayer: DreamLayer, trained: DreamLayer) -> None:
    on, off = LayerAttentionConfig(), LayerAttentionConfig(lssa=False)
    assert not torch.allclose(latents(trained, on), latents(tiny_dreamlayer, on), atol=1e-2)
    assert torch.equal(latents(trained, off), latents(tiny_dreamlayer, off))
    assert torch.equal(latents(trained, LayerAttentionConfig(cells=False)), latents(tiny_dreamlayer, on))


def test_maps_are_seen_in_the_conditional_half_alone(trained: DreamLayer) -> None:
    attention = LayerAttentionConfig(context_threshold=1000)  # without Eq. 9, which takes the map for both halves
    for guidance in (0.0, 1.0):
        empty, full = (trained.generate(
            LayerPrompts("a hill", ("a ball", "a box")), sampling=SamplingConfig(steps=2, guidance=guidance),
            attention=attention, steering={1: ContextSteering(mask=torch.full((8, 8), value))}, views=1).latents
            for value in (0.0, 1.0))
        assert torch.equal(empty, full) == (guidance == 0)


def weights_of(model: DreamLayer) -> Adapter:
    assert model.adapter is not None
    return model.adapter.weights()


def test_a_file_holds_it(trained: DreamLayer, tmp_path: Path) -> None:
    save_adapter(weights_of(trained), tmp_path / "adapter.safetensors")
    again = replace(trained, adapter=LayerAdapter.from_weights(load_adapter(tmp_path / "adapter.safetensors")))
    assert torch.equal(latents(again, LayerAttentionConfig()), latents(trained, LayerAttentionConfig()))


@pytest.mark.parametrize(("change", "words"), [
    (lambda cells: {}, "cell_hidden is 8 in the settings, and the file has 0 tensors"),
    (lambda cells: {name: tensor for name, tensor in cells.items() if not name.endswith("output.weight")}, "output.weight"),
    (lambda cells: cells | {next(iter(cells)).rsplit(".attn1.", 1)[0] + ".attn1.output.weight": torch.zeros(())}, "output.weight"),
    (lambda cells: cells | {"a/b.attn1.output.weight": torch.zeros(2, HIDDEN)}, "a/b"),
    (lambda cells: cells | {"keys": torch.zeros(2)}, "keys"),
])
def test_damaged_files(
    trained: DreamLayer, tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], words: str
) -> None:
    weights = weights_of(trained)
    with pytest.raises(WeightsError, match=words):
        save_adapter(replace(weights, cell_attention=change(dict(weights.cell_attention))), tmp_path / "damaged.safetensors")


def test_training_hides_the_map_where_a_stack_has_no_text(trained: DreamLayer) -> None:
    embeddings = trained.encode([LayerPrompts("a hill", ("a ball", "a box"))])
    torch.manual_seed(3)
    noisy, found = torch.randn(4, 4, 16, 16), list[Tensor]()
    for share in (0.0, 1.0, None):
        config = LayerAttentionConfig(caca=share is not None, context_threshold=1000)
        with layer_attention(trained.unet, embeddings, config, trained.adapter) as run:
            run.begin(500, (16, 16))
            run.shown = None if share is None else torch.tensor([share])
            found.append(trained.predict(noisy, 500, embeddings[0].rows))
    assert torch.equal(found[0], found[2]) and not torch.equal(found[1], found[2])


def test_files_that_do_not_fit(trained: DreamLayer, tmp_path: Path) -> None:
    weights = weights_of(trained)
    site, channels = next(iter(weights.cell_channels.items()))
    less = {name: tensor for name, tensor in weights.cell_attention.items() if name != f"{site}.roles"}
    with pytest.raises(WeightsError, match=rf"cell_attention\.{site}\.roles"):
        save_adapter(replace(weights, cell_attention=less), tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match="cell_attention"):
        save_adapter(replace(weights, settings=replace(weights.settings, cell_hidden=4)), tmp_path / "narrow.safetensors")
    projections = {name: tuple(tensor.shape) for name, tensor in weights.shared_kv.items()}
    other = {name.replace("up_blocks.", "up_blocks.9."): tensor for name, tensor in weights.cell_attention.items()}
    with pytest.raises(WeightsError, match=f"attention between rows at .* for no channels, this UNet's shared attention there has {channels};"):
        check_fit(replace(weights, cell_attention=other), projections)
