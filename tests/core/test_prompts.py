"""Layer prompts through a real tiny CLIP text model and a byte-level BPE tokenizer read from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dreamlayer_core.errors import InputError
from dreamlayer_core.prompts import (
    MAX_FOREGROUNDS,
    LayerPrompts,
    TokenSpan,
    encode_layers,
    encode_negative,
    encode_stacks,
)
from dreamlayer_core.text_encoders import ClipEncoder, ClipTokens, TextEncoders, token_windows

WINDOW, WIDTH = 16, 12
SPECIAL = ("<|startoftext|>", "<|endoftext|>", "<|pad|>")


def byte_alphabet() -> list[str]:
    """The 256 printable stand-ins of GPT-2's byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> ClipTokens:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    alphabet = byte_alphabet()
    merges = ["r e", "re d</w>", "c u", "cu b", "cub e</w>"]
    words = [
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *(merge.replace(" ", "") for merge in merges),
        *SPECIAL,
    ]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder, pad_token="<|pad|>", model_max_length=WINDOW)
    return ClipTokens(tokenizer)


class Encoder(TextEncoders):
    """One real CLIP text model that counts its calls."""

    def __init__(self, tokens: ClipTokens) -> None:
        config = CLIPTextConfig(
            vocab_size=600,
            hidden_size=WIDTH,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=WINDOW,
            bos_token_id=tokens.bos_token_id,
            eos_token_id=tokens.eos_token_id,
            pad_token_id=tokens.pad_token_id,
        )
        torch.set_num_threads(1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = CLIPTextModel(config).eval().requires_grad_(False)
            for parameter in model.parameters():  # CLIP's own start is too small to tell tokens apart
                torch.nn.init.normal_(parameter, std=0.3)
        super().__init__(tokens, [ClipEncoder(model, tokens.pad_token_id)])
        self.calls: list[tuple[int, ...]] = []
        self.encoders[0].register_forward_hook(lambda _, inputs, __: self.calls.append(tuple(inputs[0].shape)))

    def hidden(self, windows: list[list[int]]) -> Tensor:
        """What the text model makes of token windows."""
        return self.models[0](torch.tensor(windows)).last_hidden_state

    def text(self, text: str) -> Tensor:
        """What a stock pipeline would make of a short text."""
        (window,) = token_windows(self.ids(text), self.tokens)
        return self.hidden([window])[0]


@pytest.fixture
def encoder(tokens: ClipTokens) -> Encoder:
    return Encoder(tokens)


def assign(slots: int) -> Tensor:
    return torch.randn(slots, WIDTH, generator=torch.Generator().manual_seed(1), requires_grad=True)


def test_the_tokenizer_adds_no_special_tokens_and_cuts_nothing(tokens: ClipTokens) -> None:
    assert len(tokens.encode("red cube")) == 2
    assert len(tokens.encode("red " * 50)) == 50
    assert not set(tokens.encode("red cube, große Kiste 立方体")) & {tokens.bos_token_id, tokens.eos_token_id}
    assert len({tokens.bos_token_id, tokens.eos_token_id, tokens.pad_token_id}) == 3


@pytest.mark.parametrize("count", [0, 1, WINDOW - 2, WINDOW - 1, 3 * WINDOW])
def test_windows_hold_every_token_once_and_in_order(tokens: ClipTokens, count: int) -> None:
    windows = token_windows(list(range(count)), tokens)
    frame = {tokens.bos_token_id, tokens.eos_token_id, tokens.pad_token_id}
    assert {len(window) for window in windows} == {WINDOW}
    assert all(window[0] == tokens.bos_token_id and window.count(tokens.eos_token_id) == 1 for window in windows)
    assert [token for window in windows for token in window if token not in frame] == list(range(count))


def test_short_rows_are_what_the_encoder_gives_and_the_global_row_is_their_contents(
    tokens: ClipTokens, encoder: Encoder
) -> None:
    texts = ("a", "red cube", "cube")
    result = encode_layers(LayerPrompts(texts[0], texts[1:]), encoder)
    assert encoder.calls == [(4, WINDOW)]  # three layers and the empty whole prompt, in one call
    assert result.embeddings.shape == (4, WINDOW, WIDTH)
    for row, text in zip(result.embeddings, texts, strict=False):
        torch.testing.assert_close(row, encoder.text(text), rtol=0, atol=1e-6)
    assert result.own_spans == (TokenSpan(1, 1), TokenSpan(1, 2), TokenSpan(1, 1))
    assert result.global_spans == (TokenSpan(1, 1), TokenSpan(2, 2), TokenSpan(4, 1))
    assert result.whole_span == TokenSpan(5, 0)
    whole_row, empty = result.embeddings[-1], encoder.text("")
    for row, own, placed in zip(result.embeddings, result.own_spans, result.global_spans, strict=False):
        assert torch.equal(whole_row[placed.start : placed.stop], row[own.start : own.stop])
    torch.testing.assert_close(whole_row[:1], empty[:1])
    torch.testing.assert_close(whole_row[5:], empty[1 : WINDOW - 4])


def test_swapping_foregrounds_swaps_their_rows_and_spans(tokens: ClipTokens, encoder: Encoder) -> None:
    one = encode_layers(LayerPrompts("a", ("red cube", "b")), encoder)
    two = encode_layers(LayerPrompts("a", ("b", "red cube")), encoder)
    torch.testing.assert_close(one.embeddings[[0, 2, 1]], two.embeddings[:3])
    for ours, theirs in ((1, 2), (2, 1)):
        a, b = one.global_spans[ours], two.global_spans[theirs]
        torch.testing.assert_close(one.embeddings[-1, a.start : a.stop], two.embeddings[-1, b.start : b.stop])


def test_a_whole_prompt_is_one_more_span_and_frames_the_global_row(tokens: ClipTokens, encoder: Encoder) -> None:
    result = encode_layers(LayerPrompts("a", ("red",), whole="red cube"), encoder)
    assert result.whole_span == TokenSpan(3, 2)
    torch.testing.assert_close(result.embeddings[-1, 3:], encoder.text("red cube")[1 : WINDOW - 2])


@pytest.mark.parametrize("empty", ["", "   ", "\n\t "])
def test_empty_prompts_have_empty_spans(tokens: ClipTokens, encoder: Encoder, empty: str) -> None:
    result = encode_layers(LayerPrompts(empty, (empty, "red"), whole=empty, negative=empty), encoder)
    assert result.own_spans[:2] == (TokenSpan(1, 0), TokenSpan(1, 0))
    assert result.global_spans == (TokenSpan(1, 0), TokenSpan(1, 0), TokenSpan(1, 1))
    torch.testing.assert_close(result.embeddings[0], encoder.text(""))
    assert result.embeddings.isfinite().all()


@pytest.mark.parametrize("text", ["ein großer würfel", "立方体", "куб", "🎈"])
def test_other_scripts_have_tokens(tokens: ClipTokens, encoder: Encoder, text: str) -> None:
    result = encode_layers(LayerPrompts("a", (text,)), encoder)
    assert result.global_spans[1].length == len(tokens.encode(text)) >= 3
    assert result.length % WINDOW == 0


@pytest.mark.parametrize("count", [WINDOW - 3, WINDOW - 2, WINDOW - 1, 2 * WINDOW - 4, 5 * WINDOW, 8 * WINDOW - 20])
def test_long_prompts_lose_nothing(tokens: ClipTokens, encoder: Encoder, count: int) -> None:
    ids = tokens.encode("red cube " * count)[:count]
    text = "red cube " * (count // 2) + "red" * (count % 2)
    assert tokens.encode(text) == ids
    result = encode_layers(LayerPrompts("a", (text,)), encoder)
    own, placed = result.own_spans[1], result.global_spans[1]
    assert (own.length, placed) == (count, TokenSpan(2, count))
    assert result.length == -(-(count + 1 + 2) // WINDOW) * WINDOW
    windows = encoder.hidden(token_windows(ids, tokens))
    contents = windows[:, 1:-1].flatten(0, 1)[:count]
    torch.testing.assert_close(result.embeddings[1, own.start : own.stop], contents)
    torch.testing.assert_close(result.embeddings[-1, placed.start : placed.stop], contents)


def test_joined_windows_are_filled_up_with_the_pad(tokens: ClipTokens, encoder: Encoder) -> None:
    result = encode_layers(LayerPrompts("a", ("b " * WINDOW,)), encoder)
    windows = encoder.hidden(token_windows(tokens.encode("b " * WINDOW), tokens))
    row, left = result.embeddings[1], 2  # the inner [EOS] and [SOS] are dropped
    torch.testing.assert_close(
        row[1 + WINDOW : 2 * WINDOW - left], windows[1, 1 + left :]
    )  # [EOS] and the encoder's pads
    torch.testing.assert_close(row[2 * WINDOW - left :], windows[1, -1:].expand(left, -1))


def test_a_short_row_beside_a_long_one_attends_as_if_alone(tokens: ClipTokens, encoder: Encoder) -> None:
    result = encode_layers(LayerPrompts("red cube", ("b " * 3 * WINDOW,)), encoder)
    alone = encoder.text("red cube")
    query = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))
    attend = torch.nn.functional.scaled_dot_product_attention
    assert result.length == 4 * WINDOW
    row = result.embeddings[0]
    torch.testing.assert_close(attend(query, row, row), attend(query, alone, alone))


def test_layer_assign_reaches_every_token_of_its_layer_and_the_global_row(tokens: ClipTokens, encoder: Encoder) -> None:
    prompts, slots = LayerPrompts("a", ("red cube", "cube")), assign(2)
    plain, assigned = (encode_layers(prompts, encoder, slot) for slot in (None, slots))
    difference = assigned.embeddings - plain.embeddings
    expected = torch.zeros_like(difference)
    expected[0], expected[1] = slots[0], slots[1]  # two slots: the second foreground has none
    for slot, span in zip(slots, assigned.global_spans, strict=False):
        expected[-1, span.start : span.stop] = slot
    torch.testing.assert_close(difference, expected)


def test_a_zero_layer_assign_changes_nothing_and_still_learns(tokens: ClipTokens, encoder: Encoder) -> None:
    prompts, slots = LayerPrompts("a", ("red cube",)), torch.zeros(2, WIDTH, requires_grad=True)
    result = encode_layers(prompts, encoder, slots)
    torch.testing.assert_close(result.embeddings, encode_layers(prompts, encoder).embeddings, rtol=0, atol=0)
    result.embeddings[-1].sum().backward()
    assert slots.grad is not None
    torch.testing.assert_close(slots.grad, torch.tensor([[1.0], [2.0]]).expand(2, WIDTH))  # once per global token


def test_a_batch_of_stacks_shares_one_call_and_one_length(tokens: ClipTokens, encoder: Encoder) -> None:
    prompts = [LayerPrompts("a", ("red",)), LayerPrompts("cube " * 20, ("b", "red cube"), negative="red " * 40)]
    first, second = encode_stacks(prompts, encoder)
    assert len(encoder.calls) == 1
    assert first.length == second.length == 3 * WINDOW  # the negative prompt's
    assert [len(one.embeddings) for one in (first, second)] == [3, 4]
    alone = encode_layers(prompts[1], encoder)
    torch.testing.assert_close(second.embeddings, alone.embeddings)
    assert encode_layers(prompts[0], encoder, min_length=WINDOW + 1).length == 2 * WINDOW
    assert encode_stacks([], encoder) == []


def test_the_negative_prompt_is_the_same_for_every_row(tokens: ClipTokens, encoder: Encoder) -> None:
    negative = encode_negative("red cube", encoder, rows=4, length=2 * WINDOW)
    assert negative.embeddings.shape == (4, 2 * WINDOW, WIDTH) and negative.pooled is None
    torch.testing.assert_close(negative.embeddings[3], encoder.text("red cube").repeat(2, 1))
    with pytest.raises(InputError, match=r"15 tokens .* length 16"):
        encode_negative("red " * 15, encoder, rows=1, length=WINDOW)


@pytest.mark.parametrize("count", [0, MAX_FOREGROUNDS + 1, 40])
def test_too_few_or_too_many_foregrounds_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"got {count} foreground prompts; give 1 to {MAX_FOREGROUNDS}"):
        LayerPrompts("a", ("b",) * count)


def test_values_that_are_not_prompts_are_refused(tokens: ClipTokens, encoder: Encoder) -> None:
    with pytest.raises(InputError, match="type str; give a tuple"):
        LayerPrompts("a", "red cube")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="type NoneType; give text"):
        LayerPrompts("a", (None,))  # type: ignore[arg-type]
    for broken in (("\udcff\udcfe", ("b",)), ("a", ("b",), "\ud800"), ("a", ("b",), "", "\udfff")):
        with pytest.raises(InputError, match=r"got the prompt '\\ud.* in UTF-8"):
            LayerPrompts(*broken)
    with pytest.raises(InputError, match=r"shape \(2, 5\); expected \(slots, 12\)"):
        encode_layers(LayerPrompts("a", ("b",)), encoder, torch.zeros(2, 5))
    with pytest.raises(InputError, match="a text encoder for 16 tokens and a window of 17"):
        TextEncoders(ClipTokens(tokens._tokenizer, window=WINDOW + 1), list(encoder.encoders))  # type: ignore[arg-type]


def test_a_tokenizer_without_a_limit_needs_a_window(tokens: ClipTokens) -> None:
    class Endless:
        model_max_length, bos_token_id, eos_token_id, pad_token_id = int(1e30), 1, 2, None

    with pytest.raises(InputError, match="max_position_embeddings"):
        ClipTokens(Endless())
    assert ClipTokens(Endless(), window=77).pad_token_id == 2  # no pad of its own: CLIP pads with [EOS]
