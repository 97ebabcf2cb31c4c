import pytest
import torch

from dreamlayer_core.attention.inversion import inversion_mask
from dreamlayer_core.attention.shared import joint_attention

ROWS, CELLS = 4, 3


def _attend(tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return joint_attention(tokens, tokens, tokens, ROWS, mask=mask, heads=2)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(2 * ROWS, CELLS, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("queries", ["all", "global"])
def test_the_global_row_does_not_depend_on_other_rows(tokens, queries):
    mask = inversion_mask(ROWS, CELLS, queries=queries)
    disturbed = tokens.clone()
    others = [row for row in range(2 * ROWS) if row % ROWS != ROWS - 1]
    disturbed[others] = 5 * torch.randn(len(others), CELLS, 8, generator=torch.Generator().manual_seed(1))
    whole = [ROWS - 1, 2 * ROWS - 1]
    assert torch.equal(_attend(disturbed, mask)[whole], _attend(tokens, mask)[whole])
    assert not torch.allclose(_attend(disturbed, None)[whole], _attend(tokens, None)[whole], atol=1e-2)


@pytest.mark.parametrize("queries", ["all", "global"])
def test_the_global_row_is_inverted_as_if_it_were_alone(tokens, queries):
    masked = _attend(tokens, inversion_mask(ROWS, CELLS, queries=queries))
    whole = tokens[ROWS - 1 :: ROWS]
    assert torch.allclose(masked[ROWS - 1 :: ROWS], joint_attention(whole, whole, whole, 1, heads=2), atol=1e-6)


def test_all_hides_other_rows_from_every_query():
    mask = inversion_mask(ROWS, CELLS)
    assert mask.tolist() == [[False] * 9 + [True] * 3]


def test_global_hides_other_rows_from_the_global_row_only():
    mask = inversion_mask(ROWS, CELLS, queries="global")
    assert mask.shape == (12, 12)
    assert mask[:9].all() and torch.equal(mask[9:], inversion_mask(ROWS, CELLS).expand(3, -1))
