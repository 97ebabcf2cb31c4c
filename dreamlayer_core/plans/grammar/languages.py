"""Which language a sentence is in, and its grammar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import InputError
from .assembly import Many
from .chinese import grammar as chinese
from .english import grammar as english
from .french import grammar as french
from .german import grammar as german
from .japanese import grammar as japanese
from .scene import Scene
from .tables import listed

__all__ = ["Grammar", "grammar_of", "language_of"]


@dataclass(frozen=True)
class Grammar:
    scene: Callable[[str], Scene]
    many: Many


_GRAMMARS = {
    "en": Grammar(english.scene, english.many),
    "de": Grammar(german.scene, german.many),
    "fr": Grammar(french.scene, french.many),
    "zh": Grammar(chinese.scene, chinese.many),
    "ja": Grammar(japanese.scene, japanese.many),
}
# Words that the three share ("in", "an", "am", "des") tell nothing and are in none of the lists.
_SIGNS = {
    "de": listed("""
        der das dem den ein eine einen einem einer eines und auf im vor hinter neben unter über zwischen mit zwei drei vier fünf
        ist sind steht sitzt liegt rot rote roter rotes blaue blauer blaues blauen roten kleine kleiner große großer ich wie
    """),
    "fr": listed("""
        le la les un une des du de et sur dans devant derrière sous entre avec deux trois quatre cinq est sont au aux à côté
        rouge bleu bleue vert verte noir noire blanc blanche petit petite plage près
    """),
    "en": listed("""
        the a an and on of with behind front two three four five is are under next to between above near beside red blue green black
        white small large big at by wearing holding sitting standing
    """),
}


def language_of(text: str) -> str:
    """By script first (kana: Japanese; ideographs: Chinese), then by which language's function words are the most."""
    kana = sum("\u3041" <= c <= "\u30fa" for c in text)
    ideographs = sum("\u4e00" <= c <= "\u9fff" for c in text)
    letters = sum(c.isascii() and c.isalpha() for c in text)
    if kana + ideographs > letters / 4 and kana + ideographs:
        return "ja" if kana > ideographs / 20 else "zh"
    found = text.lower().replace("'", "' ").replace("’", "' ").split()
    scores = {language: sum(word.strip(".,;:!?()") in signs for word in found) for language, signs in _SIGNS.items()}
    best = max(scores, key=lambda language: (scores[language], language == "en"))
    return best


def grammar_of(text: str, language: str | None = None) -> Grammar:
    """Raises InputError for a language that is not among them."""
    chosen = language or language_of(text)
    if chosen not in _GRAMMARS:
        known = ", ".join(sorted(_GRAMMARS))
        raise InputError(f"got the language {chosen!r}; give one of {known}, or None to tell it from the text")
    return _GRAMMARS[chosen]
