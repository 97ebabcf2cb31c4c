"""English endings: plurals to singulars, articles, the forms of verbs."""

from __future__ import annotations

from typing import Literal, NamedTuple

from . import words
from .nouns import IRREGULAR, MASS, SAME_PLURAL, SINGULAR_S

__all__ = ["Verb", "VerbForm", "VerbUse", "article", "doing", "is_plural", "singular", "verb"]

VerbForm = Literal["base", "s", "ing", "ed"]
VerbUse = Literal["own", "plain", "stay"]
_VOWEL_SOUNDS = ("a", "e", "i", "o", "u")
_NOT_VOWELS = ("uni", "use", "user", "eur", "one", "ufo", "ukulele", "ute", "eu")
_NOT_MEN = frozenset("ramen omen specimen abdomen stamen regimen dolmen semen acumen".split())
_SILENT_H = ("hour", "honest", "heir", "honor", "honour")


class Verb(NamedTuple):
    use: VerbUse
    form: VerbForm
    doing: str  # the -ing form
    base: str = ""


def article(following: str) -> str:
    word = following.lower()
    if word.startswith(("8", "11th", "18th")):
        return "an"
    if word.startswith(_NOT_VOWELS):
        return "a"
    return "an" if word.startswith(_VOWEL_SOUNDS) or word.startswith(_SILENT_H) else "a"


def is_plural(word: str) -> bool:
    word = word.lower()
    if word in IRREGULAR or (word.endswith(("men", "children")) and word not in _NOT_MEN):
        return True
    return word.endswith("s") and not _ends_in_s_anyway(word)


def _ends_in_s_anyway(word: str) -> bool:
    return word in SINGULAR_S or word in SAME_PLURAL or word in MASS or word.endswith(("ss", "us", "is", "'s"))


def singular(word: str) -> str:
    """The singular of a noun; a word that is none comes back as it is."""
    lower = word.lower()
    if lower in IRREGULAR:
        return _cased(IRREGULAR[lower], word)
    for tail in ("men", "women", "children"):  # firemen, snowwomen
        if lower.endswith(tail) and len(lower) > len(tail) + 1 and lower not in _NOT_MEN:
            return word[: -len(tail)] + IRREGULAR[tail]
    if not is_plural(word):
        return word
    if lower.endswith("ies") and len(lower) > 4:
        return word[:-3] + "y"
    if lower[:-2] in SINGULAR_S or lower.endswith(("sses", "xes", "ches", "shes", "zzes", "oes")):
        return word[:-2]
    return word[:-1]


def _cased(found: str, word: str) -> str:
    return found.capitalize() if word[:1].isupper() else found


def doing(base: str) -> str:
    if base.endswith("ie"):
        return base[:-2] + "ying"
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return base[:-1] + "ing"
    return _doubled(base) + "ing"


def _doubled(base: str) -> str:
    """run -> runn, sit -> sitt; not for two vowels (sleep) or w, x, y."""
    short = len(base) >= 3 and base[-1] not in "aeiouwxy" and base[-2] in "aeiou" and base[-3] not in "aeiou"
    syllables = sum(letter in "aeiou" for letter in base)
    stressed = (len(base) <= 5 and syllables == 1) or base in ("admit", "begin", "equip")
    return base + base[-1] if short and stressed else base


def _forms(base: str) -> dict[str, VerbForm]:
    past = base + "d" if base.endswith("e") else _doubled(base) + "ed"
    present = base + "es" if base.endswith(("s", "x", "ch", "sh", "z", "o")) else base + "s"
    if base.endswith("y") and base[-2:-1] not in "aeiou":
        past, present = base[:-1] + "ied", base[:-1] + "ies"
    return {base: "base", present: "s", doing(base): "ing", past: "ed"}


def _all_verbs() -> dict[str, Verb]:
    uses: list[tuple[VerbUse, frozenset[str]]] = [
        ("plain", words.PLAIN_VERBS), ("own", words.OWN_VERBS), ("stay", words.STAY_VERBS),
    ]  # fmt: skip
    known: dict[str, Verb] = {}
    irregular = {base for form, base in words.IRREGULAR_VERBS.items() if not form.endswith("ing")}
    for use, bases in uses:
        for base in bases:
            for form, kind in _forms(base).items():
                if kind != "ed" or base not in irregular:  # no "seed" of "see"
                    known[form] = Verb(use, kind, doing(base), base)
    for form, base in words.IRREGULAR_VERBS.items():
        if base not in known:
            known[form] = Verb("plain", "ed", form, base)
        else:
            kind: VerbForm = "ing" if form.endswith("ing") else "ed"
            known[form] = known[base]._replace(form=kind, doing=form if kind == "ing" else known[base].doing, base=base)
            if kind == "ing":
                known |= {
                    word: other._replace(doing=form) for word, other in known.items() if other.doing == doing(base)
                }
    return known


_VERBS = _all_verbs()


def verb(word: str) -> Verb | None:
    """What is known of a verb's form; an unlisted -ing or -ed word counts as a plain verb's."""
    lower = word.lower()
    if lower in _VERBS:
        return _VERBS[lower]
    if lower.endswith("ing") and len(lower) > 5:
        return Verb("plain", "ing", lower)
    if lower.endswith("ed") and len(lower) > 4:
        return Verb("plain", "ed", lower)
    return None
