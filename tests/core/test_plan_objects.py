"""The Objects365 list, and what it proposes for a scene in which nothing stands."""

from __future__ import annotations

import pytest

from dreamlayer_core.errors import InputError
from dreamlayer_core.plans.choose import OfflinePlanner
from dreamlayer_core.plans.objects365 import _ANYWHERE, _SCENES, CATEGORIES, proposal_for, propose, proposed_prompt
from dreamlayer_core.plans.plan import LONGEST_PROMPT


def test_there_are_365_categories() -> None:
    assert len(CATEGORIES) == len(set(CATEGORIES)) == 365
    assert all(name == name.strip().lower() and name for name in CATEGORIES)
    assert CATEGORIES[:3] == ("person", "sneakers", "chair") and CATEGORIES[-1] == "table tennis ball"


def test_only_categories_are_proposed() -> None:
    kinds = {kind for _, row in _SCENES for kind in row.split(", ")} | set(_ANYWHERE.split(", "))
    assert kinds <= set(CATEGORIES)
    assert all("/" not in kind for kind in kinds), "they become prompts"
    assert all(len(row.split(", ")) > 1 for _, row in _SCENES), "the first may be named in the sentence already"


@pytest.mark.parametrize(
    ("scene", "kind"),
    [("a sandy beach at sunset", "umbrella"), ("a calm lake", "boat"), ("ein verschneiter Wald", "deer"), ("une plage", "umbrella"),
     ("海滩", "umbrella"), ("森の中", "deer"), ("a wooden table", "cup"), ("an empty road", "car"), ("colours", "dog"), ("", "dog")],
)  # fmt: skip
def test_proposals_fit_the_scene(scene: str, kind: str) -> None:
    assert proposal_for(scene) == proposal_for(scene.upper()) == kind
    plan = propose(scene)
    assert [layer.name for layer in plan.foregrounds] == [kind]
    assert plan.foregrounds[0].prompt == proposed_prompt(scene) and proposed_prompt("a beach") == "an umbrella"
    assert scene in plan.whole and kind in plan.whole
    assert kind in plan.notes[0] and "Objects365" in plan.notes[0]


def test_what_the_scene_names_is_not_proposed() -> None:
    assert proposal_for("a beach full of umbrellas") == "surfboard"


@pytest.mark.parametrize("length", [LONGEST_PROMPT - 5, LONGEST_PROMPT + 1000])
def test_a_scene_too_long_for_a_thing_is_refused(length: int) -> None:
    with pytest.raises(InputError, match=f"scene of {length} characters"):
        propose("a" * length)


@pytest.mark.parametrize("sentence", ["a beach at sunset", "a snowy mountain landscape"])
def test_offline_proposes_only_where_nothing_stands_and_only_when_asked(sentence: str) -> None:
    offline = OfflinePlanner()
    with pytest.raises(ValueError, match="names no thing"):
        offline.plan(sentence, limit=4)
    plan = offline.plan(sentence, limit=4, proposing=True)
    assert (
        len(plan.foregrounds) == 1 and plan.foregrounds[0].name in CATEGORIES and plan.foregrounds[0].name in plan.whole
    )
    assert "is proposed" in plan.notes[-1]
    named = "a red ball on a beach"
    assert offline.plan(named, limit=4, proposing=True) == offline.plan(named, limit=4)
