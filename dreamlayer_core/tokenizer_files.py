"""Where CLIP's tokenizer is: no checkpoint has it, so it comes from a folder or from files that were fetched before."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from huggingface_hub import constants, try_to_load_from_cache
from transformers import CLIPTokenizer

from .errors import WeightsError
from .loading import damage
from .model_registry import require_model
from .text_encoders import ClipTokens

__all__ = ["PADDED_WITH_ZERO", "cached_tokenizer", "clip_tokens", "load_tokenizer"]

PADDED_WITH_ZERO = "!"  # OpenCLIP fills windows with token 0, which CLIP's vocabulary calls "!"

_FETCHED = "clip-tokenizer"  # of `dreamlayer models`
# Repositories of the hub with CLIP's vocabulary, and the folder in them: one of them is there where a base has been used.
_REPOSITORIES = (
    ("openai/clip-vit-large-patch14", ""),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "tokenizer/"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "tokenizer/"),
    ("stabilityai/stable-diffusion-2-1", "tokenizer/"),
)
_WORDS, _MERGES = "vocab.json", "merges.txt"


def cached_tokenizer() -> Path:
    """The folder of CLIP's tokenizer among the files that were fetched. WeightsError with the command that fetches it."""
    try:
        return require_model(_FETCHED)
    except WeightsError as error:
        missing = error
    for repository, folder in _REPOSITORIES:
        words, merges = (
            try_to_load_from_cache(repository, f"{folder}{name}", cache_dir=constants.HF_HUB_CACHE) for name in (_WORDS, _MERGES))
        if isinstance(words, str) and isinstance(merges, str):
            return Path(words).parent
    raise WeightsError(f"{missing}; or give a folder that has it with --tokenizer. The hub's files in {constants.HF_HUB_CACHE} have none")


def load_tokenizer(folder: Path, vocabulary: int) -> CLIPTokenizer:
    """The tokenizer in a folder, for an encoder of so many tokens. WeightsError for what is missing, damaged or too large.

    The library makes a tokenizer of three tokens where the vocabulary is missing; here that is an error.
    """
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    if "tokenizer.json" not in present and not {_WORDS, _MERGES} <= present:
        raise WeightsError(f"{folder}: no tokenizer.json, nor {_WORDS} with {_MERGES}; fetch or export it again")
    with damage(folder):
        try:
            tokenizer = cast(Any, CLIPTokenizer).from_pretrained(folder, local_files_only=True)
        except Exception as error:
            if type(error) is Exception:  # all that the tokenizers library raises for a damaged file
                raise ValueError(error) from error
            raise
    if len(tokenizer) > vocabulary:
        raise WeightsError(
            f"{folder}: {len(tokenizer)} tokens, but the text encoder knows {vocabulary}; take both from one model")
    return tokenizer


def clip_tokens(tokenizer: CLIPTokenizer, window: int, pad: str | None = None) -> ClipTokens:
    """The tokenizer as the core reads it; ``pad`` is the token that windows are filled with, its own by default."""
    tokens = ClipTokens(tokenizer, window=window)
    if pad is not None:
        tokens.pad_token_id = int(cast(Any, tokenizer).convert_tokens_to_ids(pad))
    return tokens
