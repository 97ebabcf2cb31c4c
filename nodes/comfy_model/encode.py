"""Layer prompts through ComfyUI's CLIP: its prompt weights, embeddings and CLIP skip work as everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.sd
from torch import Tensor

from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.prompts import LayeredEmbedding, arrange_layers, extend_embedding, padded_length
from ...dreamlayer_core.text_encoders import EncodedText, join_windows
from ..sockets import LAYERS_KEY, LayerPlan
from .text_rows import weights_of_row

__all__ = ["encode_plan", "of_layers"]

_TEXTS = "dreamlayer_texts"  # under this key a layered CONDITIONING holds its LayeredTexts

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
    layers = list[EncodedText]()
    for row, one in enumerate(tokens):
        with weights_of_row(clip, row, len(tokens) + 1):
            layers.append(_encode(clip, one))
    with weights_of_row(clip, len(tokens), len(tokens) + 1):
        whole = _encode(clip, _tokenize(clip, prompts.whole))
        if not prompts.whole.strip():
            whole = whole._replace(pooled=_encode(clip, _tokenize(clip, prompts.in_one)).pooled)
    negative = _encode(clip, _tokenize(clip, prompts.negative))
    window = len(next(iter(tokens[0].values()))[0])
    texts = LayeredTexts(
        layers=tuple(layers), whole=whole, layer_assign=layer_assign, window=window, least=negative.length)
    rows = texts.arranged(range(len(layers)))
    negative_row = extend_embedding(negative.embedding, rows.length)[None]
    pooled = None if negative.pooled is None else negative.pooled[None]
    return ([[rows.embeddings, {"pooled_output": rows.pooled, LAYERS_KEY: rows, _TEXTS: texts}]],
            [[negative_row, {"pooled_output": pooled}]])


@dataclass(frozen=True, kw_only=True, eq=False)
class LayeredTexts:
    """What a layered CONDITIONING is arranged from; ``least``: contents that its rows must have room for."""

    layers: tuple[EncodedText, ...]
    whole: EncodedText
    layer_assign: Tensor | None
    window: int
    least: int

    def arranged(self, layers: Sequence[int]) -> LayeredEmbedding:
        """The rows of some layers, the background first, and of the whole they make."""
        texts = [self.layers[layer] for layer in layers]
        contents = sum(text.length for text in (*texts, self.whole))
        return arrange_layers(
            texts, self.whole, self.layer_assign, length=padded_length(max(contents, self.least), self.window))


def of_layers(positive: list[list[Any]], layers: Sequence[int]) -> list[list[Any]]:
    """The layered CONDITIONING as it would be of these layers alone, in this order (0 = background).

    Entries that another node has changed since Encode Layers, and all if nothing is left out or moved, stay as they are.
    """
    return [_of_layers(entry, extra, layers) for entry, extra in positive]


def _of_layers(entry: Tensor, extra: dict[str, Any], layers: Sequence[int]) -> list[Any]:
    texts, embedding = extra.get(_TEXTS), extra.get(LAYERS_KEY)
    as_made = isinstance(texts, LayeredTexts) and isinstance(embedding, LayeredEmbedding) and embedding.embeddings is entry
    if not as_made or list(layers) == list(range(len(texts.layers))):
        return [entry, extra]
    rows = texts.arranged(layers)
    return [rows.embeddings, extra | {LAYERS_KEY: rows, "pooled_output": rows.pooled}]


def _tokenize(clip: comfy.sd.CLIP, text: str) -> _Tokens:
    tokens = clip.tokenize(text.strip(), return_word_ids=True)
    if not isinstance(tokens, dict) or any(len({len(w) for w in windows}) != 1 for windows in tokens.values()):
        raise InputError("got a text encoder that is not CLIP; use the CLIP of a Stable Diffusion model")
    return tokens


def _weighted(tokens: _Tokens, weight: float) -> _Tokens:
    """The layer's weight on every token of its contents, on top of the weights in its text."""
    return {name: [[(t, w * weight if word else w, word) for t, w, word in window] for window in windows]
            for name, windows in tokens.items()}


def _encode(clip: comfy.sd.CLIP, tokens: _Tokens) -> EncodedText:
    pairs = {name: [[(t, w) for t, w, _ in window] for window in windows] for name, windows in tokens.items()}
    hidden, pooled = clip.encode_from_tokens(pairs, return_pooled=True)
    windows = next(iter(tokens.values()))
    # Word 0 stands for what is no content: [SOS], [EOS] and pads.
    lengths = [sum(word != 0 for _, _, word in window) for window in windows]
    text = join_windows(hidden[0].unflatten(0, (len(windows), -1)), lengths)
    return text._replace(pooled=None if pooled is None else pooled[0])
