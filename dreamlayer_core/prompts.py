"""Per-layer prompts, their embeddings C^i, and the global embedding C^(k+1) with every layer's token span.

Each layer's text is encoded alone. The global row is [SOS] + the contents of every layer, background first + [EOS] + pads. Texts of
any length work: they are encoded in as many windows as they need (nothing is cut), and only the outer [SOS] and [EOS] are kept, so
that the contents of a layer are always one unbroken span.

A text without tokens (empty, or only spaces) has a span of length 0; its context map is all zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .errors import InputError

__all__ = [
    "MAX_FOREGROUNDS",
    "ClipTokens",
    "EncodedText",
    "LayerPrompts",
    "LayeredEmbedding",
    "TextEncoder",
    "TokenSpan",
    "Tokenizer",
    "arrange_layers",
    "encode_layers",
    "encode_negative",
    "encode_stacks",
    "extend_embedding",
    "global_embedding",
    "join_windows",
    "padded_length",
    "token_windows",
]

MAX_FOREGROUNDS = 16  # joint attention is quadratic in the rows: more than this is a mistake rather than a wish
LONGEST_WINDOW = 8192  # tokenizers without a limit report 1e30

TextEncoder = Callable[[Tensor], Tensor]
"""Token ids (windows, S), int64, on the CPU -> hidden states (windows, S, D) on the encoder's device."""


class Tokenizer(Protocol):
    """What the core needs to know of a tokenizer. `model_max_length` is the window S, [SOS] and [EOS] included."""

    @property
    def model_max_length(self) -> int: ...
    @property
    def bos_token_id(self) -> int: ...
    @property
    def eos_token_id(self) -> int: ...
    @property
    def pad_token_id(self) -> int: ...
    def encode(self, text: str) -> list[int]:
        """Token ids of the text: no [SOS], [EOS] or pad, and nothing cut."""
        ...


class ClipTokens:
    """A `Tokenizer` made of a `transformers.CLIPTokenizer` (or anything that is called the same way)."""

    def __init__(self, tokenizer: Any, *, window: int | None = None) -> None:
        self._tokenizer = tokenizer
        self.model_max_length = int(tokenizer.model_max_length if window is None else window)
        if not 3 <= self.model_max_length <= LONGEST_WINDOW:
            raise InputError(
                f"got a tokenizer window of {self.model_max_length} tokens; expected 3 to {LONGEST_WINDOW}: "
                "pass window=text_encoder.config.max_position_embeddings"
            )
        if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
            raise InputError("got a tokenizer without a start or end token; use the CLIP tokenizer of the text encoder")
        self.bos_token_id = int(tokenizer.bos_token_id)
        self.eos_token_id = int(tokenizer.eos_token_id)
        pad = tokenizer.pad_token_id
        self.pad_token_id = self.eos_token_id if pad is None else int(pad)

    def encode(self, text: str) -> list[int]:
        # verbose=False: its warning that long texts will break the model is not true here, they get more windows
        return [int(token) for token in self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids]


class TokenSpan(NamedTuple):
    """Positions start .. start + length - 1 of an embedding's token axis."""

    start: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class LayerPrompts:
    """Texts of one picture, foregrounds bottom to top.

    `whole` may describe the whole picture: one more span at the end of the global row. Raises InputError unless there are 1 to
    MAX_FOREGROUNDS foregrounds.
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

    @property
    def layers(self) -> tuple[str, ...]:
        """The k layer prompts, background first."""
        return (self.background, *self.foregrounds)


@dataclass(frozen=True, eq=False)
class LayeredEmbedding:
    """Embeddings of one stack (k + 1, S_total, D): background, foregrounds, global row. S_total is a multiple of the window S.

    `own_spans[i]` is layer i's contents in its own row, `global_spans[i]` the same contents in the global row (i = 0 .. k-1).
    """

    embeddings: Tensor
    own_spans: tuple[TokenSpan, ...]
    global_spans: tuple[TokenSpan, ...]
    whole_span: TokenSpan

    @property
    def length(self) -> int:
        """S_total."""
        return self.embeddings.shape[1]


class EncodedText(NamedTuple):
    """One text after the text encoder: (n, D) with [SOS], contents, [EOS] and pads, and how many tokens the contents are."""

    embedding: Tensor
    length: int

    @property
    def span(self) -> TokenSpan:
        return TokenSpan(1, self.length)


def token_windows(ids: Sequence[int], tokenizer: Tokenizer) -> list[list[int]]:
    """Any number of ids in windows of S ids, each framed and padded; no ids at all give one empty window."""
    room = tokenizer.model_max_length - 2
    chunks = [ids[start : start + room] for start in range(0, max(len(ids), 1), room)]
    pad = [tokenizer.pad_token_id]
    return [[tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id, *pad * (room - len(chunk))] for chunk in chunks]


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
    prompts: LayerPrompts,
    tokenizer: Tokenizer,
    encode: TextEncoder,
    layer_assign: Tensor | None = None,
    *,
    min_length: int = 0,
) -> LayeredEmbedding:
    """Embeddings of one picture's rows; see `encode_stacks`."""
    return encode_stacks([prompts], tokenizer, encode, layer_assign, min_length=min_length)[0]


def encode_stacks(
    prompts: Sequence[LayerPrompts],
    tokenizer: Tokenizer,
    encode: TextEncoder,
    layer_assign: Tensor | None = None,
    *,
    min_length: int = 0,
) -> list[LayeredEmbedding]:
    """Embeddings of several pictures, all with the same S_total, in one call of the text encoder.

    `layer_assign` (slots, D): row 0 is added to every token of the background's embedding, rows 1.. to the foregrounds', before the
    contents are copied to the global row, which therefore carries them too. Layers beyond the slots get zeros. Gradients reach it.
    S_total is the smallest multiple of S that holds every row, the negative prompts and `min_length`.
    """
    if not prompts:
        return []
    rows = _encode_texts([text for one in prompts for text in (*one.layers, one.whole)], tokenizer, encode)
    stacks: list[list[EncodedText]] = []
    for one in prompts:
        stacks.append(rows[: len(one.layers) + 1])
        rows = rows[len(one.layers) + 1 :]
    contents = [sum(row.length for row in stack) for stack in stacks]
    contents += [len(_ids(one.negative, tokenizer)) for one in prompts if one.negative]
    total = padded_length(max(*contents, 0, min_length - 2), tokenizer.model_max_length)
    return [arrange_layers(stack[:-1], stack[-1], layer_assign, length=total) for stack in stacks]


def encode_negative(text: str, tokenizer: Tokenizer, encode: TextEncoder, *, rows: int, length: int) -> Tensor:
    """The same unconditional embedding for every row (rows, length, D): the text encoded alone, without layer-assign embeddings."""
    (row,) = _encode_texts([text], tokenizer, encode)
    if row.length + 2 > length:
        raise InputError(
            f"got a negative prompt of {row.length} tokens for embeddings of length {length}; "
            "put it into LayerPrompts.negative, which makes room for it, or shorten it"
        )
    return extend_embedding(row.embedding, length).expand(rows, -1, -1)


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(text.strip())


def padded_length(contents: int, window: int) -> int:
    """The smallest multiple of the window S that holds so many tokens with [SOS] and [EOS]."""
    return math.ceil((contents + 2) / window) * window


def _encode_texts(texts: Sequence[str], tokenizer: Tokenizer, encode: TextEncoder) -> list[EncodedText]:
    ids = [_ids(text, tokenizer) for text in texts]
    windows = [token_windows(one, tokenizer) for one in ids]
    batch = torch.tensor([window for one in windows for window in one], dtype=torch.long)
    hidden = encode(batch)
    if hidden.ndim != 3 or hidden.shape[:2] != batch.shape:
        raise InputError(
            f"got text embeddings of shape {tuple(hidden.shape)} for {tuple(batch.shape)} tokens; "
            "the encoder must return its hidden states (windows, tokens, channels)"
        )
    parts = torch.split(hidden, [len(one) for one in windows])
    room = tokenizer.model_max_length - 2
    return [join_windows(part, [min(room, len(one) - start) for start in range(0, max(len(one), 1), room)])
            for part, one in zip(parts, ids, strict=True)]


def join_windows(windows: Tensor, lengths: Sequence[int]) -> EncodedText:
    """Encoded windows (w, S, D), with so many tokens of contents each -> one text, without the inner [SOS], [EOS] and pads.

    A single window stays as the encoder returned it.
    """
    last = len(windows) - 1
    contents = [window[1 : 1 + length] for window, length in zip(windows[:last], lengths[:last], strict=True)]
    return EncodedText(torch.cat([windows[0, :1], *contents, windows[last, 1:]]), sum(lengths))


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
    assigned = [EncodedText(row.embedding + slot, row.length) for row, slot in zip(rows, slots, strict=False)]
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
    return LayeredEmbedding(rows, own_spans, spans, TokenSpan(whole_start, whole.length))


def extend_embedding(row: Tensor, total: int) -> Tensor:
    """(n, D) -> (total, D). Whole repeats come first: they leave a softmax over the tokens as it was. The pad fills the rest."""
    repeats, rest = divmod(total, len(row))
    if repeats == 0:
        return row[:total]  # only pads are cut: total always holds the contents
    return torch.cat([row.repeat(repeats, 1), row[-1:].expand(rest, -1)])
