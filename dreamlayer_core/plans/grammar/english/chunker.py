"""English tokens to chunks: set phrases first, then noun phrases, verbs and function words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..chunks import Chunk, Kind
from ..scene import Phrase
from ..tokens import Token
from . import nouns, words
from .guess import acts, is_content
from .inflection import Verb, doing, verb
from .lexicon import is_adjective, is_colour, is_noun
from .noun_phrase import LONGEST_OF, Parsed, noun_phrase
from .quantity import word_at
from .set_phrases import beside_it, label_at, set_phrase
from .setting import placed, shade_at, wears

__all__ = ["chunks"]

_AFTER_NAMES = ("with", "featuring", "showing", "depicting", "of")  # "in the style of Monet with a boat"
_SHOWING = ("of", "showing", "depicting", "with", "featuring", "shows", "depicts", "from", "in", "that")


class _Chunker:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.found: list[Chunk] = []

    def run(self) -> list[Chunk]:
        i = 0
        while i < len(self.tokens):
            i = self._step(i)
        return self.found

    def _starts_clause(self) -> bool:
        return (
            not self.found
            or self.found[-1].kind in ("stop", "comma", "style")
            or self.found[-1].value in ("lead", "there")
        )

    def _put(self, kind: Kind, text: str = "", value: str = "", *, finite: bool = False) -> None:
        self.found.append(Chunk(kind, text, value, finite=finite))

    def _step(self, i: int) -> int:
        """Appends what begins at token i; the index after it."""
        token = self.tokens[i]
        if token.kind in ("comma", "stop", "quote"):
            self._put(token.kind, token.text)
            return i + 1
        if token.kind == "other":
            self.found += [Chunk("and")] if token.text == "&" else []
            return i + 1
        return self._fixed(i) or self._function_word(i) or self._verb(i) or self._noun(i) or self._rest(i)

    def _fixed(self, i: int) -> int:
        if self._starts_clause() and (spot := label_at(self.tokens, i)):
            self._put("spot", self.tokens[i].lower, spot)
            return i + 2
        if beside := beside_it(self.tokens, i):
            self.found += beside
            return i + 3
        match = set_phrase(self.tokens, i)
        if match is None:
            return 0
        chunk, after = match
        if chunk.value == "there":
            chunk = replace(chunk, kind="there")
        if (
            chunk.value == "lead"
            and not self._starts_clause()
            and chunk.text not in ("you see", "you can see", "we see")
        ):
            return 0
        if chunk.value == "swallow" and chunk.text.endswith(" by") and self._after_thing(after):
            return 0  # "a carriage drawn by two horses"
        if chunk.value == "style" and self._is_modifier(after):
            return 0
        if chunk.kind == "spot" and after < len(self.tokens) and is_noun(self.tokens[after].lower):
            return 0  # "in the front [yard]"
        if chunk.value == "swallow" and chunk.text.endswith(" in") and self.found and self.found[-1].kind == "np":
            chunk = Chunk("verb", chunk.text, "own")  # "a mime painted in silver"
        if chunk.value == "swallow":
            after = self._to_comma(after)
        if chunk.kind == "mood":
            chunk = replace(chunk, text=f" {chunk.text}")
        self.found.append(chunk)
        return after

    def _after_thing(self, after: int) -> bool:
        named = after < len(self.tokens) and self.tokens[after].text[:1].isupper()
        return bool(self.found) and self.found[-1].kind == "np" and not named

    def _is_modifier(self, after: int) -> bool:
        """ "a highly detailed painting", "a black and white photo of" are no style tags; their noun follows."""
        return (
            after < len(self.tokens)
            and is_noun(self.tokens[after].lower)
            and self.tokens[after].lower not in nouns.STYLES
        )

    def _to_comma(self, i: int) -> int:
        while (
            i < len(self.tokens)
            and self.tokens[i].kind not in ("comma", "stop")
            and self.tokens[i].lower not in _AFTER_NAMES
        ):
            i += 1
        return i

    def _function_word(self, i: int) -> int:
        word = self.tokens[i].lower
        following = self.tokens[i + 1].lower if i + 1 < len(self.tokens) else ""
        if word in ("and", "or") or (word == "plus" and self.found and self.found[-1].kind in ("np", "comma")):
            self._put("and")
        elif word in words.UNSEEN and self.found and self.found[-1].kind == "which":
            self._put("skip", word)
        elif word in words.WEAKENING and self._starts_predicate(following):
            self._put("skip", word)
        elif word == "that" and self.found and self.found[-1].kind == "prep" and not is_content(following):
            self._put("it", word, "it")
        elif word in words.BE:
            self._put("be")
        elif word in words.HAVE:
            self._put("have", "with")
        elif (
            word == "that"
            and self.found
            and self.found[-1].kind in ("np", "stop")
            or word in words.RELATIVES
            and word != "that"
        ):
            self._put("which", word)
        elif word in words.PRONOUNS and not (word == "her" and self._owns(following)):
            behind_both = word == "both" and bool(self.found) and self.found[-1].kind == "prep"
            if word in ("both", "each") and not (following in words.PREPOSITIONS or verb(following) or behind_both):
                return 0
            stands = words.PRONOUNS[word] != "skip" and (word != "both" or behind_both)
            self._put("it" if stands else "skip", word, words.PRONOUNS[word])
        elif word == "by" and self._names_artist(i + 1):
            self._put("style", word)
            return self._to_comma(i + 1)
        elif word in words.PREPOSITIONS:
            self._put("prep", word, self._relation(word))
        else:
            return 0
        return i + 1

    def _relation(self, word: str) -> str:
        """ "Waving at a boat", "peeking over a wall"."""
        doing = self.found[-1].text if self.found else ""
        if word == "at" and doing in words.GAZING:
            return "none"
        return "behind" if word == "over" and doing in words.PEEPING else words.PREPOSITIONS[word]

    def _starts_predicate(self, following: str) -> bool:
        """ "a cactus half [hides]"."""
        form = verb(following)
        return bool(self.found) and self.found[-1].kind == "np" and form is not None and form.form in ("s", "ed")

    def _owns(self, following: str) -> bool:
        """ "her dog", not "next to her a dog"."""
        return following[:1].isalnum() and not self._is_function(following) and following not in words.DETERMINERS

    def _names_artist(self, i: int) -> bool:
        """ ", by Ivan Aivazovsky": capitals after a comma, or two of them."""
        shown = [token.text[:1].isupper() and token.kind == "word" for token in self.tokens[i : i + 2]]
        listed = bool(self.found) and self.found[-1].kind in ("comma", "stop", "style")
        return bool(shown) and shown[0] and (listed or all(shown[:2]) and len(shown) == 2)

    def _is_function(self, word: str) -> bool:
        return word in words.PREPOSITIONS or word in words.BE or word in words.RELATIVES or word in ("and", "or")

    def _verb(self, i: int) -> int:
        """A verb after its subject. Before any noun phrase an -ing word is an adjective ("running dogs")."""
        word = self.tokens[i].lower
        if "-" in word or (self.found and self.found[-1].text == "whose"):
            return 0  # "snow-capped", "whose face"
        form = verb(word) or self._unlisted(word, self._has_object(i)) or self._unlisted_base(i)
        if form is None or not self.found or self.found[-1].kind in ("stop", "verb") and self.found[-1].value != "drop":
            return 0
        infinitive = form.form == "base" and self.found[-1].text == "to" and len(self.found) > 1
        if infinitive:
            self.found.pop()  # "teaching a girl to ride a bicycle"
            form = form._replace(form="ing")
        before = self.found[-1].kind
        plain = infinitive or before in ("np", "which", "be", "it", "skip", "mood", "spot", "adjective")
        listed = (
            before in ("and", "comma")
            and (self._has_object(i) or form.form != "base" and not (form.form == "s" and is_noun(word)))
            and (not self._leads_noun(i) or self._takes_object(form))
        )
        if not (plain or listed) or (form.form == "ed" and before == "be" and self._leads_noun(i)):
            return 0
        if form.form == "base" and before not in ("np", "it", "which", "comma"):
            return 0
        if word in words.SHOWS and before == "np" and form.use == "plain":
            return 0
        text = word if form.form == "ed" and word.endswith("ed") else form.doing
        use = "drop" if form.base in words.DROPPED_VERBS else form.use
        if use == "plain" and self._of_its_own(i + 1, form):
            use = "own"
        mounts = form.base in words.MOUNTING and i + 1 < len(self.tokens) and not self._is_function(self.tokens[i + 1].lower)
        use = "drop" if mounts else use
        self.found.append(Chunk("verb", text, use, finite=form.form in ("s", "base"), plural=form.form == "base"))
        self.found += [Chunk("prep", "", "on")] if mounts else []
        return i + 1

    def _unlisted(self, word: str, takes_object: bool) -> Verb | None:
        """ "A juggler entertains a girl": an -s word after a noun phrase that is no noun."""
        after_noun = bool(self.found) and self.found[-1].kind in ("np", "it", "which")
        named = is_noun(word) and not takes_object  # "a smith hammers a shoe"
        if not after_noun or not word.endswith("s") or len(word) < 4 or named or is_adjective(word):
            return None
        return Verb("plain", "s", doing(word[:-1]), word[:-1])

    def _unlisted_base(self, i: int) -> Verb | None:
        """ "two kayakers paddle through a gorge"."""
        word = self.tokens[i].lower
        relative = self.found[-1:] and self.found[-1].text in ("that", "which", "who")  # "pigeons that crowd around"
        phrase = self.found[-2].phrase if relative and len(self.found) > 1 else self.found[-1].phrase if self.found else None
        if relative and phrase is not None and phrase.many and self._has_object(i) and is_content(word):
            return Verb("plain", "base", doing(word), word)
        if self.found and self.found[-1].text == "to" and word_at(self.tokens, i + 1) in words.DETERMINERS and is_content(word):
            return Verb("plain", "base", doing(word), word)  # "trying to lasso a calf"
        if phrase is None or not acts(self.tokens, i, phrase.spoken.split(" ")[-1]):
            return None
        known = is_content(word) and not word.endswith("ly") and not is_adjective(word)
        return Verb("plain", "base", doing(word), word) if known else None

    def _of_its_own(self, i: int, form: Verb) -> bool:
        """ "stuffing its cheeks", "breathing blue fire", with any verb: of the doer, unlike "pulling a sled"."""
        word = self.tokens[i].lower if i < len(self.tokens) and self.tokens[i].kind == "word" else ""
        if word in words.POSSESSIVES:
            return form.base not in words.TRANSITIVE
        return not form.base and form.form == "ing" and is_content(word) and word not in words.VAGUE

    def _takes_object(self, form: Verb) -> bool:
        """ "feeding pigeons" is a verb and its object, "running dogs" are dogs."""
        return (
            self.found[-1].kind == "comma"
            and form.form == "ing"
            and (form.use == "own" or form.base in words.TRANSITIVE)
        )

    def _has_object(self, i: int) -> bool:
        following = self.tokens[i + 1].lower if i + 1 < len(self.tokens) else ""
        return following in words.PREPOSITIONS or following in words.DETERMINERS

    def _leads_noun(self, i: int) -> bool:
        """Whether an -ing or -ed word stands before a noun of its own: "and running dogs"."""
        if i + 1 >= len(self.tokens) or self.tokens[i + 1].kind != "word":
            return False
        word = self.tokens[i + 1].lower
        return not self._is_function(word) and word not in words.DETERMINERS and (is_noun(word) or is_adjective(word))

    def _noun(self, i: int) -> int:
        if after := self._picture_of(i):
            return after
        if (
            self.found
            and self.found[-1].kind == "be"
            and is_adjective(self.tokens[i].lower)
            and not is_noun(self.tokens[i].lower)
        ):
            return 0  # "are long [sits]"
        if self.found and self.found[-1].kind == "be" and shade_at(self.tokens, i):
            self._put("adjective", f"{self.tokens[i].lower} {self.tokens[i + 1].lower}")
            return i + 2
        parsed = noun_phrase(self.tokens, i)
        if parsed is None:
            return 0
        phrase = parsed.phrases[0]
        following = self.tokens[parsed.after].lower if parsed.after < len(self.tokens) else ""
        if self.found and self.found[-1].text.startswith("<") and phrase.bare:
            return 0  # the inside of markup
        if parsed.headless and phrase.modifiers == ("other",) and self.found and self.found[-1].kind == "prep":
            self._put("skip", "other")
            return parsed.after
        if self._is_no_thing(i, parsed, following):
            return 0
        listed = bool(self.found) and self.found[-1].kind in ("comma", "and")
        if phrase.role == "style" and (not phrase.bare or (listed and phrase.many and phrase.head in nouns.PICTURES)):
            parsed = replace(parsed, phrases=tuple(replace(phrase, role="") for phrase in parsed.phrases))
        for k, phrase in enumerate(parsed.phrases):
            phrase = placed(phrase, self.found, following)
            if k:
                self._put("and")
            self.found.append(Chunk("headless" if parsed.headless else "np", phrase.prompt, phrase=phrase))
        return parsed.after

    def _picture_of(self, i: int) -> int:
        """Past "an oil painting of", "a photo showing": the picture itself is none of its things."""
        if not self._starts_clause():
            return 0
        parsed = noun_phrase(self.tokens, i, depth=LONGEST_OF)
        if parsed is None or parsed.phrases[0].head not in nouns.STYLES or parsed.after >= len(self.tokens):
            return 0
        following = self.tokens[parsed.after].lower
        if following not in _SHOWING:
            return 0
        self._put("style", parsed.phrases[0].prompt)
        return parsed.after + (following not in ("in", "from", "that"))

    def _is_no_thing(self, i: int, parsed: Parsed, following: str) -> bool:
        """A bare unknown word is a thing only where it stands alone between commas or before a preposition."""
        phrase = parsed.phrases[0]
        if phrase.head[:1].isdecimal():
            return True  # "35mm", "8k"
        if parsed.headless or not phrase.bare or phrase.many or parsed.after - i > 1 or is_noun(phrase.head):
            return False
        if following in words.DETERMINERS | words.ALL_WORDS or following in words.VAGUE or following in words.PRONOUNS:
            return True
        return not (self._starts_clause() or (self.found and self.found[-1].kind in ("and", "prep", "verb", "have")))

    def _rest(self, i: int) -> int:
        """Predicative adjectives; anything else is passed over."""
        word = self.tokens[i].lower
        in_colour = is_colour(word) and wears(self.found)
        on_colour = self.found and self.found[-1].text in ("on", "against") and is_colour(word)
        if on_colour:  # "isolated on white"
            ground = Phrase(prompt=f"a {word} background", head="background", modifiers=(word,), place="place")
            self.found.append(Chunk("np", word, phrase=ground))
        elif in_colour or (is_colour(word) and self.found and self.found[-1].value == "own"):  # "dressed in white"
            self.found.append(Chunk("np", word, phrase=Phrase(prompt=word, head=word, spoken=word, bare=True, role="clothing")))
        elif is_adjective(word) and self.found and self.found[-1].kind in ("be", "adjective", "and", "comma", "skip"):
            if self.found[-1].kind == "adjective":  # "bright red"
                word = f"{self.found.pop().text} {word}"
            self._put("adjective", word)
        return i + 1


def chunks(tokens: Sequence[Token]) -> list[Chunk]:
    return _Chunker(tokens).run()
