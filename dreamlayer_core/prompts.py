"""Per-layer prompts, their embeddings C^i, and the global embedding C^(k+1) with every layer's token span.

Each layer's text is encoded alone. The global row is [SOS] + the contents of every layer, background first + [EOS] + pads.

A text without tokens (empty, or only spaces) has a span of length 0; its context map is all zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError
from .row_weights import Additions, shown_additions
from .text_encoders import EncodedText, TextEncoders, TextRows, TokenSpan

__all__ = [
    "MAX_FOREGROUNDS",
    "LayerPrompts",
    "LayeredEmbedding",
    "TokenSpan",
    "arrange_layers",
    "encode_layers",
    "encode_negative",
    "encode_stacks",
    "extend_embedding",
    "global_embedding",
    "padded_length",
]

MAX_FOREGROUNDS = 16  # joint attention is quadratic in the rows: more than this is a mistake rather than a wish


@dataclass(frozen=True)
class LayerPrompts:
    """Texts of one picture, foregrounds bottom to top.

    `whole` may describe the whole picture: one more span at the end of the global row. Raises InputError unless there are 1 to
    MAX_FOREGROUNDS foregrounds, and for texts with lone surrogates.
    """

    background: str
    foregrounds: tuple[str, ...]
    whole: str = ""
    negative: str = ""

    def __post_init__(self) -> None:
        # the type says tuple, but a lone string would silently become one layer per letter
        if not isinstance(self.foregrounds, (tuple, list)):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(self.foregrounds).__name__
            raise InputError(f"got foregrounds of type {kind}; give a tuple with one prompt per foreground")
        object.__setattr__(self, "foregrounds", tuple(self.foregrounds))
        if not 1 <= len(self.foregrounds) <= MAX_FOREGROUNDS:
            raise InputError(f"got {len(self.foregrounds)} foreground prompts; give 1 to {MAX_FOREGROUNDS}")
        for text in (*self.layers, self.whole, self.negative):
            if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InputError(f"got a prompt of type {type(text).__name__}; give text, or '' for none")
            if any("\ud800" <= letter <= "\udfff" for letter in text):  # bytes of a command line that are not UTF-8
                raise InputError(f"got the prompt {text!r}, which has lone surrogates; give it as text in UTF-8")

    @property
    def layers(self) -> tuple[str, ...]:
        """The k layer prompts, background first."""
        return (self.background, *self.foregrounds)

    @property
    def in_one(self) -> str:
        """The text of the whole picture; without one, those of its layers: what the global row's pooled vector is of."""
        return self.whole if self.whole.strip() else ", ".join(text.strip() for text in self.layers if text.strip())


@dataclass(frozen=True, eq=False)
class LayeredEmbedding:
    """Embeddings of one stack (k + 1, S_total, D): background, foregrounds, global row. S_total is a multiple of the window S.

    `own_spans[i]` is layer i's contents in its own row, `global_spans[i]` the same contents in the global row (i = 0 .. k-1).
    `pooled` (k + 1, P) are SDXL's vectors of the rows' texts.
    """

    embeddings: Tensor
    own_spans: tuple[TokenSpan, ...]
    global_spans: tuple[TokenSpan, ...]
    whole_span: TokenSpan
    pooled: Tensor | None = None

    @property
    def rows(self) -> TextRows:
        """What the UNet reads of them."""
        return TextRows(self.embeddings, self.pooled)

    @property
    def length(self) -> int:
        """S_total."""
        return self.embeddings.shape[1]


def global_embedding(
    layers: Sequence[Tensor], spans: Sequence[TokenSpan], whole: Tensor
) -> tuple[Tensor, tuple[TokenSpan, ...]]:
    """Contents of every layer between one [SOS] and one [EOS], and where they came to lie (section *Prompts* of the method).

    `layers` are the layers' own rows (n_i, D), `spans` their contents; `whole` (n, D) is the encoded text of the whole picture, or
    of the empty text: its [SOS], contents, [EOS] and pads frame the row, so the frame favours no layer.
    """
    contents = [row[span.start : span.stop] for row, span in zip(layers, spans, strict=True)]
    starts = [1]
    for span in spans:
        starts.append(starts[-1] + span.length)
    placed = tuple(TokenSpan(start, span.length) for start, span in zip(starts, spans, strict=False))
    return torch.cat([whole[:1], *contents, whole[1:]]), placed


def encode_layers(
    prompts: LayerPrompts, encoders: TextEncoders, layer_assign: Tensor | None = None, *, min_length: int = 0
) -> LayeredEmbedding:
    """Embeddings of one picture's rows; see `encode_stacks`."""
    return encode_stacks([prompts], encoders, layer_assign, min_length=min_length)[0]


def encode_stacks(
    prompts: Sequence[LayerPrompts], encoders: TextEncoders, layer_assign: Tensor | None = None, *, min_length: int = 0,
    additions: Sequence[Additions] = (),
) -> list[LayeredEmbedding]:
    """Embeddings of several pictures, all with the same S_total, in one call of each text encoder.

    `layer_assign` (slots, D): row 0 is added to every token of the background's embedding, rows 1.. to the foregrounds', before the
    contents are copied to the global row, which therefore carries them too. Layers beyond the slots get zeros. Gradients reach it.
    S_total is the smallest multiple of S that holds every row, the negative prompts and `min_length`. `additions` are weights of single
    rows, for each encoder's model: a layer's are of its own text, wherever that is copied to, the global row's of the text of the whole.
    """
    if not prompts:
        return []
    stacks = _encode_texts(prompts, encoders)
    for one, stack in zip(prompts, stacks, strict=True):
        _encode_own(one, stack, encoders, additions)
    contents = [sum(row.length for row in stack) for stack in stacks]
    contents += [len(encoders.ids(one.negative)) for one in prompts if one.negative]
    total = padded_length(max(*contents, 0, min_length - 2), encoders.window)
    return [arrange_layers(stack[:-1], stack[-1], layer_assign, length=total) for stack in stacks]


def _encode_texts(prompts: Sequence[LayerPrompts], encoders: TextEncoders) -> list[list[EncodedText]]:
    """Of every picture its layers and the whole, whose pooled vector is of all that it shows."""
    texts = [[*one.layers, *_whole_texts(one, encoders)] for one in prompts]
    rows = iter(encoders.encode([text for one in texts for text in one]))
    counts = [len(one.layers) for one in prompts]
    stacks = [[next(rows) for _ in one] for one in texts]
    return [[*stack[:count], _whole(stack[count:])] for stack, count in zip(stacks, counts, strict=True)]


def _whole_texts(prompts: LayerPrompts, encoders: TextEncoders) -> list[str]:
    return [prompts.whole, prompts.in_one] if encoders.pooled else [prompts.whole]


def _whole(encoded: Sequence[EncodedText]) -> EncodedText:
    return encoded[0]._replace(pooled=encoded[-1].pooled)


def _encode_own(
    prompts: LayerPrompts, stack: list[EncodedText], encoders: TextEncoders, additions: Sequence[Additions]
) -> None:
    """Put in place the texts that have weights of their own."""
    for row in range(len(stack)):
        own = [shown_additions(one, [row], len(stack)) for one in additions]
        if any(own):
            texts = [prompts.layers[row]] if row < len(prompts.layers) else _whole_texts(prompts, encoders)
            stack[row] = _whole(encoders.encode(texts, own))


def encode_negative(text: str, encoders: TextEncoders, *, rows: int, length: int) -> TextRows:
    """The same unconditional embedding for every row, of length S_total: the text encoded alone, without layer-assign embeddings."""
    (row,) = encoders.encode([text])
    if row.length + 2 > length:
        raise InputError(
            f"got a negative prompt of {row.length} tokens for embeddings of length {length}; "
            "put it into LayerPrompts.negative, which makes room for it, or shorten it"
        )
    pooled = None if row.pooled is None else row.pooled.expand(rows, -1)
    return TextRows(extend_embedding(row.embedding, length).expand(rows, -1, -1), pooled)


def padded_length(contents: int, window: int) -> int:
    """The smallest multiple of the window S that holds so many tokens with [SOS] and [EOS]."""
    return math.ceil((contents + 2) / window) * window


def _assign(rows: Sequence[EncodedText], layer_assign: Tensor | None) -> list[EncodedText]:
    if layer_assign is None:
        return list(rows)
    width = rows[0].embedding.shape[-1]
    if layer_assign.ndim != 2 or layer_assign.shape[1] != width:
        raise InputError(
            f"got layer-assign embeddings of shape {tuple(layer_assign.shape)}; expected (slots, {width}): "
            "the adapter was made for another text encoder"
        )
    slots = layer_assign.to(rows[0].embedding)
    assigned = [row._replace(embedding=row.embedding + slot) for row, slot in zip(rows, slots, strict=False)]
    return assigned + list(rows[len(assigned) :])


def arrange_layers(
    layers: Sequence[EncodedText], whole: EncodedText, layer_assign: Tensor | None, *, length: int
) -> LayeredEmbedding:
    """The rows of one picture from its encoded texts: background, foregrounds, and the text of the whole (or the empty one).

    `length` is S_total, `padded_length` of the longest row's contents, which is the global one's. See `encode_stacks`.
    """
    layers = _assign(layers, layer_assign)
    own_spans = tuple(row.span for row in layers)
    embeddings = [row.embedding for row in layers]
    joined, spans = global_embedding(embeddings, own_spans, whole.embedding)
    whole_start = spans[-1].stop
    rows = torch.stack([extend_embedding(row, length) for row in (*embeddings, joined)])
    vectors = [row.pooled for row in (*layers, whole) if row.pooled is not None]
    pooled = torch.stack(vectors) if vectors else None
    return LayeredEmbedding(rows, own_spans, spans, TokenSpan(whole_start, whole.length), pooled)


def extend_embedding(row: Tensor, total: int) -> Tensor:
    """(n, D) -> (total, D). Whole repeats come first: they leave a softmax over the tokens as it was. The pad fills the rest."""
    repeats, rest = divmod(total, len(row))
    if repeats == 0:
        return row[:total]  # only pads are cut: total always holds the contents
    return torch.cat([row.repeat(repeats, 1), row[-1:].expand(rest, -1)])
