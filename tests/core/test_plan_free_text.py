"""Plans in free text: found however they are wrapped or bent, refused with a reason, and never at any cost."""

from __future__ import annotations

import json
import time

import pytest

from dreamlayer_core.errors import FormatError, InputError
from dreamlayer_core.plans.files import as_json
from dreamlayer_core.plans.free_text import LONGEST_TEXT, find_plan
from dreamlayer_core.plans.plan import LayerPlan, PlannedLayer
from dreamlayer_core.plans.planner import NothingToPlace

PLAN = LayerPlan(
    background="a beach",
    foregrounds=(PlannedLayer(name="cube", prompt="a blue cube"), PlannedLayer(name="ball", prompt="a red ball")),
    whole="a red ball in front of a blue cube on a beach",
)
JSON = as_json(PLAN)
SHORT = '{"background": "sand", "foregrounds": ["a ball"]}'


def prompts(text: str) -> list[str]:
    found = find_plan(text)
    return [found.background, *(layer.prompt for layer in found.foregrounds)]


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        json.dumps(json.loads(JSON)),
        f"```json\n{JSON}```",
        f"Sure, here it is (I thought of {{x}} first):\n\n```\n{JSON}\n```\nShall I change anything?",
        f"<think>{{maybe: the beach?}} [[ {SHORT} no</think>{JSON}",
        f'{{"plan": {JSON}, "confidence": 0.9}}',
        f"[{JSON}]",
        JSON.replace('"', "'"),
        JSON.replace("}\n  ]", "},\n  ]").replace('ball"\n    }', 'ball",\n    }').replace('beach"\n}', 'beach",\n}'),
        JSON.replace('"background"', "background").replace('"whole"', "whole"),
        "/* a plan */ " + JSON.replace(",\n", ", // next\n").replace("[", "[ # layers\n", 1),
        JSON.replace('": "', '": “').replace('",\n', "”,\n"),
        JSON.replace("\n", "\r\n"),
        JSON.replace('"a beach",', '"a beach"'),
    ],
)
def test_a_plan_is_found_however_it_is_written(text: str) -> None:
    assert find_plan(text) == PLAN


def test_strings_are_those_of_json() -> None:
    for text in ('quotes " and \\ slashes', "tab\tand line\nbreak", "é 犬 😀 \u2028", "{}[],: // # /* '", "it's 'so'"):
        values = json.dumps({"background": text, "foregrounds": [text]}), json.dumps(
            {"background": text, "foregrounds": [text]}, ensure_ascii=False)  # fmt: skip
        for value in values:
            assert find_plan(value).background == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{'background': 'it's a dog's beach', 'foregrounds': ['the dogs' ball']}",
            ["it's a dog's beach", "the dogs' ball"],
        ),
        ('{"background": "a sign saying "hello" there", "foregrounds": ["b"]}', ['a sign saying "hello" there', "b"]),
        ('{"background": "a\nb", "foregrounds": [{"prompt": "c"}, "d",],}', ["a b", "c", "d"]),
        ('{"background": "a", "foregrounds": ["b"\n"c"]}', ["a", "b", "c"]),
        ('{"background": "a", "foregrounds": [{"name": null, "prompt": "b", "box": None}], "whole": null}', ["a", "b"]),
        (SHORT + " and finally " + SHORT.replace("sand", "snow"), ["snow", "a ball"]),
        (SHORT + ' (I wrote it as {"background": ...}, with {"foregrounds": 1})', ["sand", "a ball"]),
    ],
)
def test_repairs(text: str, expected: list[str]) -> None:
    assert prompts(text) == expected


def test_names_are_made_where_they_are_missing() -> None:
    found = find_plan('{"background": "a", "foregrounds": [{"prompt": "a red ball"}, {"name": " ", "prompt": "b"}]}')
    assert [layer.name for layer in found.foregrounds] == ["a red ball", "b"]


def test_every_cut_of_a_plan_is_a_part_of_it_or_refused() -> None:
    """What is cut off is never made up, and never kept by halves."""
    kept = set[int]()
    for end in range(len(JSON) - 2):
        try:
            found = find_plan(JSON[:end])
        except FormatError:
            continue
        assert found.background == PLAN.background and found.whole in ("", PLAN.whole)
        assert found.foregrounds == PLAN.foregrounds[: len(found.foregrounds)]
        assert "broke off" in found.notes[0]
        kept.add(len(found.foregrounds))
    assert kept == {1, 2}


@pytest.mark.parametrize("end", [1, 2, len(JSON) // 2, JSON.index('"whole"')])
def test_a_cut_plan_is_refused_where_nobody_reads_notes(end: int) -> None:
    with pytest.raises(FormatError, match="breaks off before its end|found no plan"):
        find_plan(JSON[:end], strict=True)
    with pytest.raises(FormatError, match="breaks off before its end"):
        find_plan(JSON.rstrip()[:-1], strict=True)


def test_a_cut_answer_is_not_replaced_by_an_example_before_it() -> None:
    with pytest.raises(FormatError, match="foregrounds"):
        find_plan(f'For example {SHORT}. Yours: {{"background": "snow", "foreg')


def test_unknown_fields_are_left_out_or_refused() -> None:
    text = json.dumps(json.loads(JSON) | {"system": "obey", "notes": ["<script>"], "version": 7})
    found = find_plan(text)
    assert found.notes == ("fields that no plan has are left out: system",)
    assert found.model_copy(update={"notes": ()}) == PLAN
    with pytest.raises(FormatError, match="system: Extra inputs"):
        find_plan(text, strict=True)


def test_text_of_others_is_plain_text() -> None:
    text = '{"background": "<img src=x onerror=alert(1)>", "foregrounds": ["\\u001b[31mred\\u0000", "__import__(\'os\').system(\'x\')"]}'
    assert prompts(text) == ["<img src=x onerror=alert(1)>", "[31mred", "__import__('os').system('x')"]


def test_lone_surrogates_and_pairs() -> None:
    found = find_plan('{"background": "\\ud83d\\ude00 \\ud800 b", "foregrounds": ["c"]}')
    assert found.background.startswith("😀") and found.background.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty text"),
        ("a beach with a ball", "found no plan in 'a beach with a ball'"),
        ("{" * 50, "found no plan"),
        ('{"a": 1}', "found no plan"),
        ("x" * (LONGEST_TEXT + 1), "262145 characters"),
        ('{"background": "a", "foregrounds": "b"}', "foregrounds: .*list|foregrounds: .*array|foregrounds: .*tuple"),
        ('{"background": 7, "foregrounds": ["b"]}', "background: .*string"),
        ('{"background": "a", "foregrounds": [7]}', "foregrounds.0"),
        ('{"background": "a", "foregrounds": ["b", {"name": "c", "prompt": "\\u0000 "}]}', "foregrounds.1.prompt.*is empty"),
        ('{"background": "a", "foregrounds": [' + '"b",' * 17 + "]}", "at most 16"),
        ('{"background": "a", "foregrounds": [' + '"b",' * 30_000 + "]}", "more than 20000 values"),
        ('{"background": "' + "a" * 4001 + '", "foregrounds": ["b"]}', "at most 4000"),
        ('{"background": "a", "foregrounds": ' + "[" * 5000 + "]" * 5000 + "}", "brackets within brackets"),
        ('{"a":' * 5000, "brackets within brackets"),
        ('{"background": "a", "foregrounds": [{"prompt": "b", "weight": Infinity}]}', "found no plan"),
        ('{"background": "a", "foregrounds": [{"prompt": "b", "weight": 1e99}]}', "weight"),
    ],
)
def test_refusals_say_why(text: str, said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        find_plan(text)
    assert len(str(caught.value)) < 700


def test_an_empty_list_of_foregrounds_is_a_scene_in_which_nothing_stands() -> None:
    with pytest.raises(NothingToPlace, match="'sand'.*proposed") as caught:
        find_plan('{"background": "sand", "foregrounds": [], "whole": "sand"}')
    assert caught.value.background == "sand" and isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    "part", ['{"', '{"a":"', "{/*", "{'x':[", "{a:1,", '"""', '{"a": "b" ', "\\", '{"\\', "{ \n", '{"background":"']
)
def test_no_text_takes_long(part: str) -> None:
    text = (part * (LONGEST_TEXT // len(part)))[:LONGEST_TEXT]
    start = time.process_time()
    with pytest.raises(FormatError):
        find_plan(text)
    assert time.process_time() - start < 5
