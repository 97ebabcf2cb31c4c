"""Scoring of layer plans on hand-made predictions, and the sentences themselves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dreamlayer_core.cli import app
from dreamlayer_core.errors import Cancelled, InputError
from dreamlayer_core.evaluation.plan_gold import KINDS, PlanSentence, WantedObject, read_sentences
from dreamlayer_core.evaluation.plan_report import plan_report, write_plan_report
from dreamlayer_core.evaluation.plan_scoring import assign_layers, score_plan
from dreamlayer_core.evaluation.plan_words import has_phrase, is_plural_of, same_text, split_words, without_phrases
from dreamlayer_core.evaluation.plans import PlanResults, evaluate_plans, write_plan_results
from dreamlayer_core.plans.plan import MOST_FOREGROUNDS, LayerPlan, PlannedLayer
from dreamlayer_core.plans.planner import USUAL_LIMIT

SENTENCE = "two red balls in front of a blue wooden cube on a sandy beach at sunset"
GOLD = PlanSentence(
    id="x", language="en", kind="counts", sentence=SENTENCE, background=("sandy beach",), background_heads=("beach",),
    objects=(WantedObject(head=("cube",), attributes=(("blue",), ("wooden",))),
             WantedObject(head=("ball",), attributes=(("red",),), count=2)),
    order=(("cube", "ball"),), style=("at sunset",))


def _plan(background: str, *prompts: str, whole: str = SENTENCE) -> LayerPlan:
    return LayerPlan(
        background=background, foregrounds=tuple(PlannedLayer(name=p, prompt=p) for p in prompts), whole=whole)


def _sorted_objects(gold: PlanSentence) -> list[WantedObject]:
    """Objects so that every pair of the order holds."""
    left, done = list(gold.objects), list[WantedObject]()
    while left:
        waiting = {title for lower, title in gold.order if lower in {o.title for o in left}}
        free = next(o for o in left if o.title not in waiting)
        left.remove(free)
        done.append(free)
    return done


def _gold_plan(gold: PlanSentence) -> LayerPlan:
    """The plan that the gold describes."""
    prompts = [" ".join((*(choice[0] for choice in o.attributes), o.head[0]))
               for o in _sorted_objects(gold) for _ in range(o.count)]
    return _plan(gold.background[0] if gold.background else "plain", *prompts, whole=gold.sentence)


def test_perfect_plan() -> None:
    score = score_plan(GOLD, _plan("a sandy beach", "a blue wooden cube", "a red ball", "A red ball."))
    assert score.perfect == 1 and score.whole == 1 and score.background_head == 1
    assert score.remarks == ()


@pytest.mark.parametrize("background", ["sandy beach, sunset", "Sandy beach at sunset", "the sandy beach"])
def test_style_may_stand_in_the_background(background: str) -> None:
    assert score_plan(GOLD, _plan(background, "blue wooden cube", "red ball", "red ball")).background == 1


@pytest.mark.parametrize(("background", "exact", "head"), [
    ("beach", 0, 1), ("sandy beach with balls", 0, 0), ("sandy desert", 0, 0), ("on a sandy beach", 0, 1), ("", 0, 0)])
def test_wrong_background(background: str, exact: int, head: int) -> None:
    score = score_plan(GOLD, _plan(background, "blue wooden cube", "red ball", "red ball"))
    assert (score.background, score.background_head, score.perfect) == (exact, head, 0)


def test_leaked_colour() -> None:
    score = score_plan(GOLD, _plan("sandy beach", "red blue wooden cube", "red ball", "red ball"))
    assert score.objects == (1, 1, 1) and score.order == (1,)
    assert (score.attributes, score.complete, score.pure) == ((0, 1, 1), (1, 1, 1), (0, 1, 1))
    assert any("'red'" in remark for remark in score.remarks)


def test_leaked_background() -> None:
    score = score_plan(GOLD, _plan("sandy beach", "blue wooden cube on a beach", "red ball", "red ball at sunset"))
    assert score.pure == (0, 1, 1)


def test_leaked_head_of_a_background_in_chinese() -> None:
    gold = PlanSentence(
        id="z", language="zh", kind="simple", sentence="宁静的沙滩上有一只狗", background=("宁静的沙滩",), background_heads=("沙滩",),
        objects=(WantedObject(head=("狗",)),))
    assert score_plan(gold, _plan("宁静的沙滩", "狗", whole=gold.sentence)).perfect == 1
    assert score_plan(gold, _plan("宁静的沙滩", "沙滩上的狗", whole=gold.sentence)).pure == (0,)


@pytest.mark.parametrize(("prompt", "flaw"), [
    ("blue wooden cube on a", "breaks off after 'a'"), ("blue wooden cube in front of", "breaks off after 'of'"),
    ("blue wooden cube and", "breaks off after 'and'"), ("blue wooden cube kitchen", "'kitchen' is not in the sentence"),
    ("blue wooden cube 42", "'42' is not in the sentence"), ("not blue wooden cube", "'not' is not in the sentence"),
    ("blue wooden cube, blue wooden cubes", "twice"), ("blue wooden cube without sunset", "'without sunset' is not what")])
def test_prompts_that_are_not_clean(prompt: str, flaw: str) -> None:
    score = score_plan(GOLD, _plan("sandy beach", prompt, "red ball", "red ball"))
    assert score.clean == (0, 1, 1) and score.perfect == 0
    assert any(flaw in remark for remark in score.remarks), score.remarks
    assert score.order == (1,) and score.objects == score.layers == (1, 1, 1), "objects and order are counted without it"


def test_negations_and_forms_of_the_sentence_are_clean() -> None:
    gold = GOLD.model_copy(update={
        "sentence": "two puppies without collars run past a cat that lies on no mat", "background": (), "background_heads": (),
        "objects": (WantedObject(head=("puppy",), count=2), WantedObject(head=("cat",))), "order": (), "style": ()})
    right = _plan("plain", "running puppy without collar", "puppy without a collar", "cat lying on no mat")
    assert score_plan(gold, right).clean == (1, 1, 1)
    for prompt in ("cat without mat", "no cat", "cat lying on"):
        assert score_plan(gold, _plan("plain", prompt)).clean == (0,), prompt


def test_a_head_that_its_own_words_hold_twice_is_clean() -> None:
    gold = GOLD.model_copy(update={
        "sentence": "a glass with a glass straw", "background": (), "background_heads": (), "order": (), "style": (),
        "objects": (WantedObject(head=("glass",), attributes=(("glass straw",),)),)})
    assert score_plan(gold, _plan("plain", "a glass with a glass straw")).clean == (1,)
    assert score_plan(gold, _plan("plain", "a glass with a glass straw glass")).clean == (0,)


def test_missing_attribute() -> None:
    score = score_plan(GOLD, _plan("sandy beach", "blue cube", "red ball", "red ball"))
    assert score.complete == (0, 1, 1) and score.pure == (1, 1, 1) and score.perfect == 0


def test_missed_object() -> None:
    score = score_plan(GOLD, _plan("sandy beach", "red ball", "red ball"))
    assert sorted(score.objects) == [0, 1, 1] and score.layers == (1, 1)
    assert score.order == (0,)


def test_doubled_object() -> None:
    score = score_plan(GOLD, _plan("sandy beach", "blue wooden cube", "red ball", "red ball", "red ball"))
    assert sum(score.layers) == 3 and len(score.layers) == 4 and score.objects == (1, 1, 1)


def test_background_as_a_layer_is_a_wrong_layer() -> None:
    score = score_plan(GOLD, _plan("sandy beach", "sandy beach", "blue wooden cube", "red ball", "red ball"))
    assert score.layers == (0, 1, 1, 1)


def test_wrong_order() -> None:
    score = score_plan(GOLD, _plan("sandy beach", "red ball", "blue wooden cube", "red ball"))
    assert score.order == (0,) and score.attributes == (1, 1, 1)


def test_plural_layer_is_one_of_several_with_the_wrong_number() -> None:
    score = score_plan(GOLD, _plan("sandy beach", "blue wooden cube", "two red balls"))
    assert sum(score.objects) == 2 and score.number == (1, 0)


def test_whole_sentence_in_every_layer_finds_nothing() -> None:
    score = score_plan(GOLD, _plan(SENTENCE, SENTENCE, SENTENCE, SENTENCE))
    assert score.objects == (0, 0, 0) and score.background == 0


def test_whole_prompt_mentions_everything() -> None:
    layers = ("blue wooden cube", "red ball", "red ball")
    assert score_plan(GOLD, _plan("sandy beach", *layers, whole="balls and a cube on a beach")).whole == 0
    assert score_plan(GOLD, _plan("sandy beach", *layers, whole="sunset: balls and a cube on a beach")).whole == 1


def test_refusal_finds_nothing() -> None:
    score = score_plan(GOLD, None)
    assert score.objects == (0, 0, 0) and score.layers == () and score.order == (0,) and score.background == 0


def test_objects_of_one_noun_are_told_apart_by_their_attributes() -> None:
    gold = GOLD.model_copy(update={
        "objects": (WantedObject(head=("cat",), name="black cat", attributes=(("black",),)),
                    WantedObject(head=("cat",), name="white cat", attributes=(("white",),))),
        "order": (("white cat", "black cat"),)})
    assert score_plan(gold, _plan("sandy beach", "white cat", "black cat")).perfect == 1
    assert score_plan(gold, _plan("sandy beach", "black cat", "white cat")).order == (0,)


def test_assignment_prefers_more_matches_to_better_ones() -> None:
    assert assign_layers([[5.0, 1.0], [4.0, None]], [1, 1]) == [1, 0]
    assert assign_layers([[0.0, 1.0], [1.0, 0.0]], [1, 1]) == [1, 0]
    assert assign_layers([[1.0], [2.0], [3.0]], [2]) == [None, 0, 0]
    assert assign_layers([], [1]) == []


def test_words_are_compared_up_to_case_articles_and_endings() -> None:
    def same(one: str, other: str, language: str) -> bool:
        return same_text(split_words(one, language), split_words(other, language), language)

    assert same("An artist’s Studio!", "artists studio", "en")
    assert same("einem ruhigen Fluss", "ruhiger Fluß", "de")
    assert same("l'herbe verte", "herbe vert", "fr")
    assert same("一片草地。", "草地", "zh")
    assert not same("red balls", "red ball", "en") and not same("Blau", "Blank", "de")


def test_phrases_stand_as_one_piece_of_whole_words() -> None:
    words = split_words("the golden carpet of a big hot air balloon", "en")
    assert has_phrase(words, ("hot", "air", "balloon"), "en")
    assert not has_phrase(words, ("car",), "en") and not has_phrase(words, ("hot", "balloon"), "en")
    assert not has_phrase(words, ("balloons",), "en") and has_phrase(words, ("balloons",), "en", any_number=True)
    assert without_phrases(split_words("forest in soft light", "en"), [("soft", "light")], "en") == ("forest",)


@pytest.mark.parametrize(("one", "many"), [
    ("ball", "balls"), ("box", "boxes"), ("puppy", "puppies"), ("wolf", "wolves"), ("knife", "knives"), ("goose", "geese"),
    ("fisherman", "fishermen"), ("grandchild", "grandchildren"), ("sheep", "sheep")])
def test_plurals(one: str, many: str) -> None:
    assert is_plural_of(many, one)
    assert not is_plural_of(one, one + "x")


# The sentences


@pytest.fixture(scope="module")
def sentences() -> tuple[PlanSentence, ...]:
    return (*read_sentences("dev"), *read_sentences("test"))


def test_promised_numbers(sentences: tuple[PlanSentence, ...]) -> None:
    kinds = Counter(s.kind for s in sentences if s.language == "en")
    languages = Counter(s.language for s in sentences)
    assert len(sentences) >= 340
    assert all(kinds[kind] >= 30 for kind in KINDS), kinds
    assert all(languages[language] >= 15 for language in ("de", "fr", "zh", "ja")), languages


def test_no_sentence_twice(sentences: tuple[PlanSentence, ...]) -> None:
    assert len({s.id for s in sentences}) == len(sentences)
    texts = Counter(split_words(s.sentence, s.language) for s in sentences)
    assert max(texts.values()) == 1, texts.most_common(1)


def test_gold_uses_the_words_of_its_sentence(sentences: tuple[PlanSentence, ...]) -> None:
    for gold in sentences:
        words = split_words(gold.sentence, gold.language)
        for choice in (*(o.head for o in gold.objects), *(a for o in gold.objects for a in o.attributes),
                       *((text,) for text in gold.style), *([gold.background_heads] if gold.background else [])):
            assert any(has_phrase(words, split_words(text, gold.language), gold.language, any_number=True)
                       for text in choice), (gold.id, choice)


def test_the_gold_plan_is_right(sentences: tuple[PlanSentence, ...]) -> None:
    wrong = [(gold.id, score.remarks) for gold in sentences if (score := score_plan(gold, _gold_plan(gold))).remarks]
    assert wrong == []


def test_everything_in_the_gold_plan_is_needed(sentences: tuple[PlanSentence, ...]) -> None:
    """Without its top layer, or with that layer twice, no plan is right."""
    for gold in sentences:
        plan = _gold_plan(gold)
        layers = plan.foregrounds
        shorter, longer = (plan.model_copy(update={"foregrounds": f}) for f in (layers[:-1], (*layers, layers[-1])))
        assert score_plan(gold, shorter).perfect == 0 and score_plan(gold, longer).perfect == 0, gold.id


# The evaluation


def _evaluate(*plans: LayerPlan) -> PlanResults:
    golds = [GOLD.model_copy(update={"id": str(n), "sentence": f"{n}: {SENTENCE}"}) for n in range(len(plans))]
    return evaluate_plans(lambda sentence: plans[int(sentence.split(":")[0])], golds, name="by hand", split="dev")


def test_figures_of_several_sentences() -> None:
    right = _plan("sandy beach", "blue wooden cube", "red ball", "red ball")
    missed = _plan("desert", "red ball", "red ball")
    results = _evaluate(right, missed)
    figures = results.english.figures
    assert figures["object_recall"].mean == pytest.approx(5 / 6) and figures["object_precision"].mean == 1
    assert figures["object_f1"].mean == pytest.approx(2 * 5 / (2 * 5 + 1))
    assert figures["order"].mean == 0.5 and figures["background"].mean == 0.5 and figures["perfect"].mean == 0.5
    assert [failure.id for failure in results.failures] == ["1"]
    assert [row.sentences for row in results.kinds if row.title == "counts"] == [2]


def test_planner_that_refuses(tmp_path: Path) -> None:
    def refuse(sentence: str) -> LayerPlan:
        raise InputError(f"got {sentence!r}; give another")

    results = evaluate_plans(refuse, [GOLD])
    assert results.english.figures["object_f1"].mean == 0 and results.failures[0].plan is None
    assert "object_precision" not in results.english.figures
    assert "refused" in plan_report(results)


def test_cancelling_stops_the_evaluation() -> None:
    def cancel(sentence: str) -> LayerPlan:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        evaluate_plans(cancel, [GOLD])


def test_files(tmp_path: Path) -> None:
    results = _evaluate(_plan("desert `x` | y", "red ball"))
    write_plan_results(results, tmp_path / "new" / "plans.json")
    stored = json.loads((tmp_path / "new" / "plans.json").read_text(encoding="utf-8"))
    assert stored["english"]["figures"]["background"]["mean"] == 0 and stored["failures"][0]["id"] == "0"
    page = write_plan_report(results, tmp_path / "report").read_text(encoding="utf-8")
    assert "| object F1 ≥ 0.95 |" in page and "**no**" in page and "desert 'x' | y" in page


def test_command(tmp_path: Path) -> None:
    figures, out = tmp_path / "figures.json", tmp_path / "out"
    run = CliRunner().invoke(app, ["evaluate", "plans", "--split", "dev", "--json", str(figures), "--out", str(out)])
    assert run.exit_code == 0, run.stderr
    stored = json.loads(figures.read_text(encoding="utf-8"))
    assert stored["planner"] == "offline" and stored["split"] == "dev"
    assert stored["english"]["sentences"] == sum(row["sentences"] for row in stored["kinds"]) >= 90
    assert "object F1" in run.stderr and stored["limit"] == 8 == USUAL_LIMIT
    page = (out / "plans-dev.md").read_text(encoding="utf-8")
    assert "Planner: offline, at most 8 foregrounds; " in page and "clean prompts" in page


@pytest.mark.parametrize("kind", ["plans", "scenes", "edits", "maps"])
def test_figures_that_cannot_be_written_are_refused_before_anything_is_measured(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "figures.json"):
        run = CliRunner().invoke(app, ["evaluate", kind, "--json", str(path), "--out", str(tmp_path / "out")])
        assert run.exit_code == 1 and f"cannot write {path}" in run.stderr + str(run.exception)
    assert not (tmp_path / "out").exists()


def test_the_limit_of_the_command(tmp_path: Path) -> None:
    """Merged layers count as missed: a low limit is measured as worse, and the highest merges none."""

    def recall(limit: int) -> float:
        line = ["evaluate", "plans", "--split", "dev", "--limit", str(limit), "--out", str(tmp_path / str(limit))]
        assert CliRunner().invoke(app, line).exit_code == 0
        stored = json.loads((tmp_path / str(limit) / "plans-dev.json").read_text(encoding="utf-8"))
        assert stored["limit"] == limit
        return stored["english"]["figures"]["object_recall"]["mean"]

    assert recall(1) < recall(MOST_FOREGROUNDS)
    assert CliRunner().invoke(app, ["evaluate", "plans", "--limit", "17"]).exit_code == 2


@pytest.mark.parametrize("change", [
    {"order": [["cube", "moon"]]}, {"background_heads": []}, {"kind": "hard"}, {"objects": []}, {"extra": 1},
    {"objects": [{"head": "ball"}, {"head": "ball"}], "order": []}])
def test_sentence_that_does_not_fit(tmp_path: Path, change: dict[str, object]) -> None:
    line = {**GOLD.model_dump(mode="json"), **change}
    (tmp_path / "dev.jsonl").write_text("\n" + json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        read_sentences("dev", folder=tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_sentences("test", folder=tmp_path)
