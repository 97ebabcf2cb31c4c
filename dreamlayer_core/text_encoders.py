"""The text side of a base model: one CLIP encoder, or SDXL's two with their embeddings side by side. Torch only.

Texts of any length work: they are encoded in as many windows as they need (nothing is cut), and only the outer [SOS] and [EOS] are
kept, so that the contents are always one unbroken span. Encoders of one base read the same tokens and differ in what they pad with.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from .errors import InputError
from .row_weights import Additions, row_weights

__all__ = [
    "ClipEncoder",
    "ClipTokens",
    "EncodedText",
    "TextEncoders",
    "TextRows",
    "TokenSpan",
    "Tokenizer",
    "join_windows",
    "token_windows",
]

LONGEST_WINDOW = 8192  # tokenizers without a limit report 1e30


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


class EncodedText(NamedTuple):
    """One text after the text encoders: (n, D) with [SOS], contents, [EOS] and pads, how many tokens the contents are, and of SDXL
    the pooled vector (P,), which is of the first window."""

    embedding: Tensor
    length: int
    pooled: Tensor | None = None

    @property
    def span(self) -> TokenSpan:
        return TokenSpan(1, self.length)


@dataclass(frozen=True, eq=False)
class TextRows:
    """What the rows of a UNet's batch are told: embeddings (rows, S, D), and of SDXL the pooled vectors (rows, P)."""

    embeddings: Tensor
    pooled: Tensor | None = None

    @staticmethod
    def joined(parts: Sequence[TextRows]) -> TextRows:
        """One batch after the other."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return TextRows(torch.cat([part.embeddings for part in parts]), torch.cat(pooled) if pooled else None)

    def where(self, kept: Tensor, other: TextRows) -> TextRows:
        """These rows where ``kept`` (rows,), and the others' elsewhere."""
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = torch.where(kept[:, None], self.pooled, other.pooled)
        return TextRows(torch.where(kept[:, None, None], self.embeddings, other.embeddings), pooled)

    def __getitem__(self, rows: slice) -> TextRows:
        return TextRows(self.embeddings[rows], None if self.pooled is None else self.pooled[rows])


class ClipEncoder(nn.Module):
    """One CLIP text model (of transformers) and the token that its windows are filled up with.

    SD1 and SD2 read the last layer (a published SD2 folder leaves out the encoder's true last one); ``penultimate`` is SDXL's: the
    layer before the last, without the final norm. ``pooled``: also the projected vector of the first [EOS], which a
    ``CLIPTextModelWithProjection`` has.
    """

    def __init__(self, model: Any, pad_token_id: int, *, penultimate: bool = False, pooled: bool = False) -> None:
        super().__init__()
        self.model: Any = model
        self.pad_token_id, self.penultimate, self.pooled = pad_token_id, penultimate, pooled

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Token ids (w, S) -> hidden states (w, S, D) and, if asked for, pooled vectors (w, P), on the encoder's device."""
        output = self.model(ids.to(self.model.device), output_hidden_states=self.penultimate)
        hidden = output.hidden_states[-2] if self.penultimate else output.last_hidden_state
        return hidden, output.text_embeds if self.pooled else None


class TextEncoders(nn.Module):
    """All text encoders of a base: their embeddings stand side by side, and the last pooled vector is the text's.

    Raises InputError where an encoder has room for fewer tokens than the tokenizer's window.
    """

    def __init__(self, tokens: Tokenizer, encoders: Sequence[ClipEncoder]) -> None:
        super().__init__()
        self.tokens = tokens
        self.encoders = nn.ModuleList(encoders)
        for encoder in encoders:
            if (room := int(encoder.model.config.max_position_embeddings)) < self.window:
                raise InputError(f"got a text encoder for {room} tokens and a window of {self.window}; take both from one model")

    @property
    def window(self) -> int:
        """S, [SOS] and [EOS] included."""
        return self.tokens.model_max_length

    @property
    def width(self) -> int:
        """D, of all encoders together."""
        return sum(int(encoder.model.config.hidden_size) for encoder in self._all)

    @property
    def pooled(self) -> bool:
        """Whether texts have a pooled vector."""
        return any(encoder.pooled for encoder in self._all)

    @property
    def models(self) -> list[Any]:
        """The text models themselves."""
        return [encoder.model for encoder in self._all]

    @property
    def _all(self) -> list[ClipEncoder]:
        return cast("list[ClipEncoder]", list(self.encoders))

    def ids(self, text: str) -> list[int]:
        """Token ids of the contents; white space around them counts for nothing."""
        return self.tokens.encode(text.strip())

    def encode(self, texts: Sequence[str], additions: Sequence[Additions] = ()) -> list[EncodedText]:
        """Every text alone, in one call of each encoder. ``additions``: for each encoder's model, to all these texts."""
        ids = [self.ids(text) for text in texts]
        counts = [len(token_windows(one, self.tokens)) for one in ids]
        with ExitStack() as undo:
            for encoder, own in zip(self._all, additions, strict=False):
                undo.enter_context(row_weights(encoder.model, own, 1))
            found = [encoder(_batch(ids, self.tokens, encoder.pad_token_id)) for encoder in self._all]
        hidden = torch.cat([states for states, _ in found], dim=-1) if len(found) > 1 else found[0][0]
        pooled = [vectors for _, vectors in found if vectors is not None]
        room, firsts = self.window - 2, [sum(counts[:index]) for index in range(len(counts))]
        joined = [join_windows(part, [min(room, len(one) - start) for start in range(0, max(len(one), 1), room)])
                  for part, one in zip(torch.split(hidden, counts), ids, strict=True)]
        if not pooled:
            return joined
        return [text._replace(pooled=pooled[-1][first]) for text, first in zip(joined, firsts, strict=True)]


def _batch(ids: Sequence[Sequence[int]], tokens: Tokenizer, pad: int) -> Tensor:
    return torch.tensor([window for one in ids for window in token_windows(one, tokens, pad)], dtype=torch.long)


def token_windows(ids: Sequence[int], tokenizer: Tokenizer, pad: int | None = None) -> list[list[int]]:
    """Any number of ids in windows of S ids, each framed and padded (with the tokenizer's own pad by default); no ids at all give
    one empty window."""
    room, pad = tokenizer.model_max_length - 2, tokenizer.pad_token_id if pad is None else pad
    chunks = [ids[start : start + room] for start in range(0, max(len(ids), 1), room)]
    return [[tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id, *[pad] * (room - len(chunk))] for chunk in chunks]


def join_windows(windows: Tensor, lengths: Sequence[int]) -> EncodedText:
    """Encoded windows (w, S, D), with so many tokens of contents each -> one text, without the inner [SOS], [EOS] and pads.

    A single window stays as the encoder returned it.
    """
    last = len(windows) - 1
    contents = [window[1 : 1 + length] for window, length in zip(windows[:last], lengths[:last], strict=True)]
    return EncodedText(torch.cat([windows[0, :1], *contents, windows[last, 1:]]), sum(lengths))
