"""The embedded model's tokenizer: byte-level BPE in CLIP's own format, trained on the captions of the scenes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from .data import SceneCache

__all__ = ["make_tokenizer"]

_CLIP_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
_EXTRA = "left right on in of the and with front behind next to between above below big small large tiny blue gray grey isolated plain background picture photo"


def _texts(cache: SceneCache, count: int) -> Iterable[str]:
    rng = np.random.default_rng(0)
    for index in range(min(count, len(cache))):
        yield cache.captions(index, rng).whole
    yield from [_EXTRA] * 4


def make_tokenizer(cache: SceneCache, folder: Path, *, merges: int = 480) -> CLIPTokenizer:
    """Train on ``cache``'s captions, write CLIP's files to ``folder`` and return the tokenizer.

    The vocabulary holds every byte with and without the end-of-word mark, so any text in any language is encodable.
    """
    suffix, alphabet = "</w>", sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_CLIP_SPLIT), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) * 2 + merges, initial_alphabet=alphabet, end_of_word_suffix=suffix, show_progress=False)
    tokenizer.train_from_iterator(_texts(cache, 4000), trainer)
    learned = json.loads(tokenizer.to_str())["model"]["merges"][:merges]
    pairs = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in learned]
    words = [*alphabet, *(letter + suffix for letter in alphabet), *("".join(pair) for pair in pairs)]
    words = list(dict.fromkeys([*words, "<|startoftext|>", "<|endoftext|>"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs))
    made = CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token="<|endoftext|>")
    made.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs))
    return made
