import pytest
import torch

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
                row = batch % rows
                visible = mask.expand(rows * cells, rows * cells)[row * cells : (row + 1) * cells]
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
    qkv, mask = _query_key_value(2, 4, 5), inversion_mask(4, 5, queries=queries)
    joint = joint_attention(*qkv, 4, mask=mask, heads=HEADS)
    assert torch.allclose(joint, _naive(*qkv, 4, mask), atol=1e-5)
    assert not torch.allclose(joint, joint_attention(*qkv, 4, heads=HEADS), atol=1e-2)


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
