"""Layer prompts through ComfyUI's CLIP: its prompt weights, embeddings and CLIP skip work as everywhere."""

from __future__ import annotations

from typing import Any

import comfy.sd
from torch import Tensor

from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.prompts import (
    EncodedText,
    LayeredEmbedding,
    arrange_layers,
    extend_embedding,
    join_windows,
    padded_length,
)
from ..sockets import LAYERS_KEY, LayerPlan

__all__ = ["encode_plan"]

_Tokens = dict[str, list[list[tuple[Any, float, int]]]]


def encode_plan(
    clip: comfy.sd.CLIP, plan: LayerPlan, layer_assign: Tensor | None
) -> tuple[list[list[Any]], list[list[Any]]]:
    """The layered CONDITIONING (k + 1 rows, spans under LAYERS_KEY), and the negative one (a single row for all).

    ``layer_assign`` (slots, D) is the adapter's. Raises InputError for text encoders that are not CLIP's kind.
    """
    prompts = plan.prompts
    tokens = [_weighted(_tokenize(clip, text), weight)
              for text, weight in zip(prompts.layers, (1.0, *plan.weights), strict=True)]
    *layers, whole, negative = [_encode(clip, one) for one in (
        *tokens, _tokenize(clip, prompts.whole), _tokenize(clip, prompts.negative))]
    texts, pooled = [text for text, _ in layers], whole[1]
    contents = sum(text.length for text in (*texts, whole[0]))
    window = len(next(iter(tokens[0].values()))[0])
    length = padded_length(max(contents, negative[0].length), window)
    rows: LayeredEmbedding = arrange_layers(texts, whole[0], layer_assign, length=length)
    negative_row = extend_embedding(negative[0].embedding, length)[None]
    return ([[rows.embeddings, {"pooled_output": pooled, LAYERS_KEY: rows}]],
            [[negative_row, {"pooled_output": negative[1]}]])


def _tokenize(clip: comfy.sd.CLIP, text: str) -> _Tokens:
    tokens = clip.tokenize(text.strip(), return_word_ids=True)
    if not isinstance(tokens, dict) or any(len({len(w) for w in windows}) != 1 for windows in tokens.values()):
        raise InputError("got a text encoder that is not CLIP; use the CLIP of a Stable Diffusion model")
    return tokens


def _weighted(tokens: _Tokens, weight: float) -> _Tokens:
    """The layer's weight on every token of its contents, on top of the weights in its text."""
    return {name: [[(t, w * weight if word else w, word) for t, w, word in window] for window in windows]
            for name, windows in tokens.items()}


def _encode(clip: comfy.sd.CLIP, tokens: _Tokens) -> tuple[EncodedText, Tensor | None]:
    pairs = {name: [[(t, w) for t, w, _ in window] for window in windows] for name, windows in tokens.items()}
    hidden, pooled = clip.encode_from_tokens(pairs, return_pooled=True)
    windows = next(iter(tokens.values()))
    # Word 0 stands for what is no content: [SOS], [EOS] and pads.
    lengths = [sum(word != 0 for _, _, word in window) for window in windows]
    return join_windows(hidden[0].unflatten(0, (len(windows), -1)), lengths), pooled
