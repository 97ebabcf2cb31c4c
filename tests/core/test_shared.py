from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from dreamlayer_core.attention.inversion import inversion_mask
from dreamlayer_core.attention.shared import fuse_global, joint_attention, resize_map
from dreamlayer_core.errors import InputError

HEADS, WIDTH = 2, 6


def _query_key_value(stacks: int, rows: int, cells: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(stacks * rows, cells, HEADS * WIDTH, generator=generator) for _ in range(3))


def _naive(query, key, value, rows, mask=None):
    """Every layer by itself, with all keys of its stack copied next to it, a head at a time."""
    cells = query.shape[1]
    output = torch.zeros_like(query)
    for batch in range(len(query)):
        first = batch // rows * rows
        keys, values = torch.cat(list(key[first : first + rows])), torch.cat(list(value[first : first + rows]))
        for head in range(HEADS):
            d = slice(head * WIDTH, (head + 1) * WIDTH)
            scores = query[batch][:, d] @ keys[:, d].T / WIDTH**0.5
            if mask is not None:
                visible = mask[batch % rows].repeat_interleave(cells)
                scores = scores.masked_fill(~visible, float("-inf"))
            output[batch][:, d] = torch.softmax(scores, dim=-1) @ values[:, d]
    return output


@pytest.mark.parametrize("rows", [3, 4, 10])
@pytest.mark.parametrize("stacks", [1, 2])
def test_joint_attention_equals_a_loop_over_layers(stacks, rows):
    qkv = _query_key_value(stacks, rows, 5)
    assert torch.allclose(joint_attention(*qkv, rows, heads=HEADS), _naive(*qkv, rows), atol=1e-5)


@pytest.mark.parametrize("queries", ["all", "global"])
def test_masked_joint_attention_equals_a_loop_over_layers(queries):
    qkv, mask = _query_key_value(2, 4, 5), inversion_mask(4, queries=queries)
    joint = joint_attention(*qkv, 4, mask=mask, heads=HEADS)
    assert torch.allclose(joint, _naive(*qkv, 4, mask), atol=1e-5)
    assert not torch.allclose(joint, joint_attention(*qkv, 4, heads=HEADS), atol=1e-2)


@pytest.mark.parametrize(("mask", "calls"), [(None, 1), (inversion_mask(4), 1), (inversion_mask(4, queries="global"), 2)])
def test_rows_that_see_the_same_go_through_one_attention(monkeypatch, mask, calls):
    seen = list[tuple[int, int]]()
    stock = functional.scaled_dot_product_attention

    def counted(query, key, value, **options):
        seen.append((query.shape[-2], key.shape[-2]))
        return stock(query, key, value, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    joint_attention(*_query_key_value(2, 4, 5), 4, mask=mask, heads=HEADS)
    assert len(seen) == calls and sum(queries for queries, _ in seen) == 4 * 5


def test_permuting_layers_permutes_outputs():
    qkv, order = _query_key_value(1, 5, 4), [0, 3, 1, 2, 4]
    joint = joint_attention(*qkv, 5, heads=HEADS)
    permuted = joint_attention(*(x[order] for x in qkv), 5, heads=HEADS)
    assert torch.allclose(permuted, joint[order], atol=1e-6)


def test_stacks_of_a_batch_do_not_mix():
    qkv = _query_key_value(3, 3, 4)
    joint = joint_attention(*qkv, 3, heads=HEADS)
    other = [x.clone() for x in qkv]
    for x in other:
        x[:3] += 1
    changed = joint_attention(*other, 3, heads=HEADS)
    assert torch.equal(changed[3:], joint[3:])
    assert (changed[:3] != joint[:3]).any(dim=-1).all()


def test_one_row_is_plain_self_attention():
    query, key, value = _query_key_value(2, 1, 7)
    assert torch.allclose(joint_attention(query, key, value, 1, heads=HEADS), _naive(query, key, value, 1), atol=1e-5)


def test_a_batch_that_is_not_whole_stacks_is_refused():
    with pytest.raises(InputError, match="got 4 layer rows; with 3 rows"):
        joint_attention(*_query_key_value(1, 4, 2), 3, heads=HEADS)


GRIDS = [(4, 4), (5, 7), (3, 4), (1, 3), (1, 1)]  # even, odd, and too small to halve
ANY_MASK = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]]).bool()
MASKS = [None, *(inversion_mask(4, queries=queries) for queries in ("all", "global")), ANY_MASK]


def _scored(query, key, value, rows, counts):
    """Every row, query, key and head by itself; ``counts`` says of two rows how often each key counts, and which."""
    output = torch.zeros_like(query)
    for batch in range(len(query)):
        first = batch // rows * rows
        for head in range(HEADS):
            d = slice(head * WIDTH, (head + 1) * WIDTH)
            shares, values = list[torch.Tensor](), list[torch.Tensor]()
            for other in range(rows):
                times, keys, own_values = counts(batch, first + other)
                scores = torch.exp(query[batch][:, d] @ keys[:, d].T / WIDTH**0.5) * times
                shares.append(scores)
                values.append(own_values[:, d])
            weights = torch.cat(shares, 1)
            output[batch][:, d] = weights / weights.sum(1, keepdim=True) @ torch.cat(values)
    return output


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("grid", GRIDS)
def test_a_row_sees_its_own_keys_and_averages_of_the_others(grid, mask):
    rows, cells = 4, grid[0] * grid[1]
    query, key, value = _query_key_value(2, rows, cells)

    def averages(tokens):
        blocks = [(y, x) for y in range(0, grid[0], 2) for x in range(0, grid[1], 2)]
        plane = tokens.view(*grid, -1)
        parts = [plane[y : y + 2, x : x + 2].flatten(0, 1) for y, x in blocks]
        return torch.stack([part.mean(0) for part in parts]), torch.tensor([float(len(part)) for part in parts])

    def counts(batch, other):
        sees = 1.0 if mask is None else float(mask[batch % rows, other % rows])
        if other == batch:
            return torch.full((cells,), sees), key[other], value[other]
        small, number = averages(key[other])
        return sees * number, small, averages(value[other])[0]

    found = joint_attention(query, key, value, rows, heads=HEADS, mask=mask, pooled=grid)
    assert torch.allclose(found, _scored(query, key, value, rows, counts), atol=1e-5)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("stacks", [1, 3])
def test_a_row_sees_its_own_keys_and_the_others_in_their_regions(stacks, mask):
    rows, cells = 4, 7
    query, key, value = _query_key_value(stacks, rows, cells)
    regions = torch.rand(stacks, rows, cells, generator=torch.Generator().manual_seed(1)) > 0.5
    regions[:, [0, -1]] = True
    regions[0, 1] = False  # a foreground that is nowhere

    def counts(batch, other):
        sees = 1.0 if mask is None else float(mask[batch % rows, other % rows])
        region = torch.ones(cells) if other == batch else regions[other // rows, other % rows].float()
        return sees * region, key[other], value[other]

    found = joint_attention(query, key, value, rows, heads=HEADS, mask=mask, regions=regions)
    assert torch.allclose(found, _scored(query, key, value, rows, counts), atol=1e-5)


def test_keys_that_are_alike_are_pooled_without_loss():
    query, key, value = _query_key_value(2, 3, 4)
    key, value = (x.view(2 * 3, 2, 1, 2, 1, -1).expand(-1, -1, 2, -1, 2, -1).reshape(2 * 3, 16, -1) for x in (key, value))
    query = _query_key_value(2, 3, 16)[0]
    exact = joint_attention(query, key, value, 3, heads=HEADS)
    assert torch.allclose(joint_attention(query, key, value, 3, heads=HEADS, pooled=(4, 4)), exact, atol=1e-6)


def test_regions_that_are_everywhere_are_exact():
    qkv = _query_key_value(2, 3, 6)
    everywhere = torch.ones(2, 3, 6, dtype=torch.bool)
    exact = joint_attention(*qkv, 3, heads=HEADS)
    assert torch.allclose(joint_attention(*qkv, 3, heads=HEADS, regions=everywhere), exact, atol=1e-6)


@pytest.mark.parametrize("memory", [1, 12 * 2 * HEADS * 36 * 5, 2**30])
@pytest.mark.parametrize("form", ["exact", "masked", "pooled", "regions"])
@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_chunks_of_queries_are_the_whole(backend, form, memory):
    rows, grid = 4, (3, 3)
    qkv = _query_key_value(2, rows, 9)
    options: dict[str, Any] = {
        "exact": {}, "masked": {"mask": ANY_MASK}, "pooled": {"pooled": grid},
        "regions": {"regions": torch.rand(2, rows, 9, generator=torch.Generator().manual_seed(0)) > 0.3}}[form]
    with sdpa_kernel(backend):
        whole = joint_attention(*qkv, rows, heads=HEADS, **options)
        chunked = joint_attention(*qkv, rows, heads=HEADS, memory=memory, **options)
    assert torch.allclose(chunked, whole, atol=1e-6)


def test_scores_of_a_chunk_keep_to_the_memory():
    sizes = list[int]()

    def attend(query, key, value, bias):
        sizes.append(query.shape[1])
        return query

    query, key, value = _query_key_value(2, 3, 100)
    found = joint_attention(query, key, value, 3, heads=HEADS, memory=12 * 2 * HEADS * 300 * 70, attend=attend)
    assert sizes == [70, 70, 70, 70, 20] and torch.equal(found, query)


@pytest.mark.parametrize(("options", "message"), [
    ({"pooled": (2, 3), "regions": torch.ones(1, 3, 6, dtype=torch.bool)}, "give one of them"),
    ({"regions": torch.ones(1, 3, 5, dtype=torch.bool)}, r"regions \(1, 3, 5\) for keys"),
    ({"mask": torch.ones(6, 6, dtype=torch.bool)}, r"give one of \(3, 3\)"),
    ({"mask": torch.tensor([[1, 1, 1], [0, 0, 0], [1, 1, 1]]).bool()}, "leaves 2 rows something to see"),
    ({"mask": torch.tensor([[0, 1, 0], [1, 1, 1], [1, 1, 1]]).bool(), "regions": torch.zeros(1, 3, 6, dtype=torch.bool)},
     "leave row 0 nothing to see"),
])
def test_what_leaves_nothing_to_see_or_does_not_fit_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        joint_attention(*_query_key_value(1, 3, 6), 3, heads=HEADS, **options)


def test_fuse_global_is_equation_9_and_leaves_background_and_global_alone():
    generator = torch.Generator().manual_seed(0)
    tokens, maps = torch.randn(2, 5, 6, 8, generator=generator), torch.rand(2, 3, 6, generator=generator)
    fused = fuse_global(tokens, maps)
    for stack in range(2):
        for f in range(3):
            m = maps[stack, f, :, None]
            expected = tokens[stack, -1] * m + tokens[stack, 1 + f] * (1 - m)
            assert torch.allclose(fused[stack, 1 + f], expected, atol=1e-6)
    assert torch.equal(fused[:, [0, -1]], tokens[:, [0, -1]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fuse_global_is_exact_at_zero_and_one(dtype):
    tokens = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    maps = torch.tensor([0.0, 1.0])[None, :, None].expand(1, 2, 6)
    fused = fuse_global(tokens, maps)
    assert fused.dtype == dtype
    assert torch.equal(fused[:, 1], tokens[:, 1]) and torch.equal(fused[:, 2], tokens[:, 3])


def test_fuse_global_refuses_maps_that_do_not_fit():
    with pytest.raises(InputError, match=r"one map per foreground, \(1, 2, 6\)"):
        fuse_global(torch.zeros(1, 4, 6, 8), torch.zeros(1, 3, 6))


def test_resize_map_at_its_own_size_returns_it():
    maps = torch.rand(2, 3, 5, 7)
    assert resize_map(maps, (5, 7)) is maps


@pytest.mark.parametrize("size", [(3, 5), (11, 4), (16, 24), (1, 1)])
def test_resize_map_keeps_range_constants_and_leading_axes(size):
    maps = (torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    resized = resize_map(maps, size)
    assert resized.shape == (2, 3, *size) and resized.min() >= 0 and resized.max() <= 1
    assert torch.allclose(resize_map(torch.full((1, 8, 12), 0.3), size), torch.tensor(0.3))
    assert torch.allclose(resize_map(maps[1, 2], size), resized[1, 2], atol=1e-6)


def test_shrinking_sees_what_lies_between_samples():
    thin = torch.zeros(1, 16, 16)
    thin[..., 0] = 1  # a plain bilinear sample at a quarter of the size looks at columns 1 and 2 only
    assert resize_map(thin, (4, 4))[0, :, 0].min() > 0.1
