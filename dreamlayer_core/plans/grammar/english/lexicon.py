"""What an English word can be, from the lists and from its ending."""

from __future__ import annotations

from ..tables import listed
from . import beings, nouns, places, things, words
from .inflection import singular, verb

__all__ = ["is_adjective", "is_colour", "is_noun", "is_place_compound", "noun_facts", "size_of"]

_NOUNS = (
    nouns.PLACES | nouns.BUILDINGS | nouns.GLOBES | nouns.SCENERY | nouns.MOODS | nouns.BODY | nouns.ANIMATE | nouns.PARTS | nouns.CLOTHES | nouns.CONTAINERS
    | nouns.CONTENTS | nouns.MASS | nouns.UNIQUE | nouns.PAIRED | nouns.GROUPS | nouns.ING_NOUNS | nouns.ED_NOUNS
    | things.THINGS
    | frozenset().union(*nouns.SIZES.values()) | frozenset(nouns.IRREGULAR) | nouns.SINGULAR_S | nouns.SAME_PLURAL
)  # fmt: skip
_ADJECTIVE_NOUNS = frozenset(
    "light square oval stone brick crystal marble metal wood iron paper clay circle neon felt wicker rattan pewter zinc burlap suede terracotta mahogany teak ebony".split()
)
_ABSTRACT_ENDINGS = ("ness", "ism", "ity", "tion", "sion", "ance", "ence", "ship")
_CONCRETE = frozenset(
    "city station witch fountain electricity reflection cushion mansion pavilion lion medallion dandelion ambulance "
    "fence entrance ship spaceship celebrity plantation decoration starship airship warship steamship cruise-ship "
    "constellation collection audience appliance train-station explosion".split()
)
_SIZE_WORDS = {"tiny": -2, "miniature": -2, "mini": -1, "small": -1, "little": -1, "big": 1, "large": 1, "huge": 2, "giant": 2,
               "gigantic": 2, "enormous": 2, "massive": 2}  # fmt: skip


_NO_PLACES = listed("""
    laptop tabletop blacktop desktop carrot carport inside outside beside upside alongside driftwood plywood
    plasterboard headboard halfway someway anyway subway passport sport support transport 
    flatbed sunbed waterbed daybed embed seabird wormwood dogwood redwood rosewood hardwood firewood softwood
    brushwood boxwood shirtfront garland piggybank sandbank hilltop treetop tanktop countertop
    worktop stovetop snowbank mushroom mushrooms broom bridegroom groom away sway always
    sideways edgeways giveaway runaway takeaway breakaway castaway faraway railway
""")
_NO_BEINGS = (
    things.THINGS | nouns.CLOTHES | nouns.PARTS | nouns.CONTAINERS | nouns.STYLES | nouns.MOODS
    | listed("""
        toaster mixer cutter lighter opener heater cooker sprinkler container holder cleaner poster counter hanger planter
        roller shaker washer dryer burner tanker freighter cruiser chopper cooler cover trailer locker folder binder marker
        sticker blender pointer streamer letter water flower river tower shower corner paper
    """)
)
_CONTENTS = frozenset(map(singular, nouns.CONTENTS))


def is_noun(word: str) -> bool:
    lower = word.lower()
    one = singular(lower)
    listed = lower in _NOUNS or one in _NOUNS or one in _ADJECTIVE_NOUNS or one in words.NOUN_COLOURS
    return listed or _is_doer(one) or is_place_compound(one)


def is_place_compound(word: str) -> bool:
    """ "brickyard", "ropewalk": a place by its ending, after a word of at least three letters."""
    ending = next((end for end in places.PLACE_ENDINGS if word.endswith(end)), "")
    return bool(ending) and len(word) >= len(ending) + 3 and word not in _NO_PLACES


def is_colour(word: str) -> bool:
    lower = word.lower()
    return lower in words.COLOURS or ("-" in lower and lower.split("-")[-1] in words.COLOURS)


def is_adjective(word: str) -> bool:
    """Listed, a colour, hyphenated, or by its ending. -ing and -ed words are the caller's to judge."""
    lower = word.lower()
    if lower in words.ADJECTIVES or lower in words.SHADES or is_colour(lower) or lower.endswith("'s"):
        return True
    if "-" in lower and lower.endswith(("ed", "ing", "colored", "coloured", "shaped", "sized", "old", "high", "long", "deep", "down", "up", "out", "off", "free", "clad", "lit", "made", "worn", "grown")):
        return True
    return lower.endswith(words.ADJECTIVE_ENDINGS) and not is_noun(lower)


def _is_doer(word: str) -> bool:
    """ "wrestler", "rower": who does what a listed verb says."""
    stems = (word[:-2], word[:-1], word[:-3])
    return len(word) > 4 and word.endswith("er") and any((form := verb(stem)) and form.base == stem for stem in stems)


def size_of(head: str, modifiers: tuple[str, ...]) -> int:
    base = next((size for size, listed in nouns.SIZES.items() if head in listed), 2)
    base = max(base, 4 if head in things.HUGE else 3 if head in things.LARGE else 0)
    return max(0, min(5, base + sum(_SIZE_WORDS.get(word, 0) for word in modifiers)))


def noun_facts(head: str, shown: str) -> dict[str, object]:
    """place, animate and role of a noun: ``head`` in the singular, ``shown`` as it stands in the sentence."""
    forms = {head, shown.lower()}
    kinds = {"place": nouns.PLACES, "building": nouns.BUILDINGS, "globe": nouns.GLOBES, "scenery": nouns.SCENERY}
    place = next((kind for kind, listed in kinds.items() if forms & listed), "")
    animate = bool(forms & nouns.ANIMATE) or (not place and head not in _NO_BEINGS and (beings.is_agent(head) or _is_doer(head)))
    if not place and not animate and is_place_compound(head):
        place = "place"
    role = "" if forms & nouns.ANIMATE and forms & nouns.ABSTRACT else _role(forms, head)  # a painter's model
    return {"place": place, "animate": animate, "role": "" if place and role == "abstract" else role}


def _role(forms: set[str], head: str) -> str:
    if forms & nouns.MOODS:
        return "mood"
    if forms & nouns.BODY:
        return "body"
    if forms & nouns.PARTS:
        return "part"
    if forms & nouns.CLOTHES:
        return "clothing"
    if forms & nouns.STYLES:
        return "style"
    if forms & nouns.ABSTRACT or (head.endswith(_ABSTRACT_ENDINGS) and head not in _CONCRETE | things.THINGS):
        return "abstract"
    if forms & nouns.CONTAINERS:
        return "container"
    if forms & nouns.CONTENTS or head in _CONTENTS:
        return "contents"
    return ""
