"""Measuring planners: sentences with hand-checked plans, and figures a kind and a language with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from ..errors import Cancelled, DreamLayerError, OutputError
from ..plans.plan import LayerPlan
from .intervals import Estimate, estimate
from .plan_gold import KINDS, LANGUAGES, PlanSentence, SentenceSplit, read_sentences
from .plan_scoring import PlanScore, score_plan

__all__ = ["FIGURES", "PLAN_GOALS", "PlanFailure", "PlanResults", "PlanRow", "Planner", "evaluate_plans", "write_plan_results"]

Planner: TypeAlias = Callable[[str], LayerPlan]
Figure: TypeAlias = Literal["object_f1", "object_recall", "object_precision", "attributes", "complete", "pure", "number", "clean",
                            "order", "background", "background_given", "background_head", "whole", "perfect"]

FIGURES: Mapping[Figure, str] = {
    "object_f1": "object F1",
    "object_recall": "object recall",
    "object_precision": "object precision",
    "attributes": "attributes right",
    "complete": "nothing lacking",
    "pure": "nothing leaked",
    "number": "right number",
    "clean": "clean prompts",
    "order": "order",
    "background": "background right",
    "background_given": "… where given",
    "background_head": "background head",
    "whole": "whole prompt",
    "perfect": "whole plan right",
}
PLAN_GOALS: Mapping[Figure, float] = {"object_f1": 0.95, "order": 0.9}  # of the offline splitter, on English


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlanRow(_Part):
    """The figures of some sentences; those without values are missing. F1's count is of layers wanted and predicted."""

    title: str
    sentences: int
    figures: dict[Figure, Estimate]


class PlanFailure(_Part):
    """A sentence whose plan is not right: what was planned (None: refused) and what is wrong with it."""

    id: str
    sentence: str
    plan: LayerPlan | None
    remarks: tuple[str, ...]


class PlanResults(_Part):
    """All figures: English, its kinds, and the languages."""

    planner: str
    split: SentenceSplit
    limit: int | None = None  # foregrounds that the planner may make; None where nobody has set one
    english: PlanRow
    kinds: tuple[PlanRow, ...]
    languages: tuple[PlanRow, ...]
    failures: tuple[PlanFailure, ...]


def _f1_values(score: PlanScore) -> list[float]:
    """Values whose mean is F1 = 2 TP / (2 TP + FP + FN): every match counts twice, every wrong or missed layer once."""
    matches = sum(score.objects)
    wrong = len(score.layers) + len(score.objects) - 2 * matches
    return [1.0] * (2 * matches) + [0.0] * wrong


def _values(gold: PlanSentence, score: PlanScore) -> dict[Figure, Sequence[float]]:
    return {
        "object_f1": _f1_values(score),
        "object_recall": score.objects,
        "object_precision": score.layers,
        "attributes": score.attributes,
        "complete": score.complete,
        "pure": score.pure,
        "number": score.number if gold.language == "en" else (),
        "clean": score.clean,
        "order": score.order,
        "background": (score.background,),
        "background_given": (score.background,) if gold.background else (),
        "background_head": () if score.background_head is None else (score.background_head,),
        "whole": (score.whole,),
        "perfect": (score.perfect,),
    }


def _row(title: str, scored: Iterable[tuple[PlanSentence, PlanScore]]) -> PlanRow:
    values = [_values(gold, score) for gold, score in scored]
    estimates: dict[Figure, Estimate] = {}
    for figure in FIGURES:
        found = estimate([value[figure] for value in values]) if values else None
        if found is not None:
            estimates[figure] = found
    return PlanRow(title=title, sentences=len(values), figures=estimates)


def _plan(planner: Planner, sentence: str) -> tuple[LayerPlan | None, tuple[str, ...]]:
    try:
        return planner(sentence), ()
    except Cancelled:
        raise
    except DreamLayerError as error:  # a planner may refuse: it has found nothing then
        return None, (f"refused: {error}",)


def evaluate_plans(
    planner: Planner,
    sentences: Sequence[PlanSentence] | None = None,
    *,
    name: str = "planner",
    split: SentenceSplit = "test",
    limit: int | None = None,
    on_sentence: Callable[[int, int], None] | None = None,
) -> PlanResults:
    """Plan every sentence (those of ``split`` by default) and compare with the plans made by hand.

    ``limit`` is what the planner was set to, and is only reported. ``on_sentence(done, all)`` is called after every one. A DreamLayerError of the planner counts as an empty plan; Cancelled and
    other errors come through. Raises InputError for sentences that cannot be read.
    """
    sentences = read_sentences(split) if sentences is None else sentences
    scored: list[tuple[PlanSentence, PlanScore]] = []
    failures: list[PlanFailure] = []
    for number, gold in enumerate(sentences, 1):
        plan, refused = _plan(planner, gold.sentence)
        score = score_plan(gold, plan)
        scored.append((gold, score))
        if score.remarks:
            failures.append(PlanFailure(id=gold.id, sentence=gold.sentence, plan=plan, remarks=(*refused, *score.remarks)))
        if on_sentence is not None:
            on_sentence(number, len(sentences))
    english = [(gold, score) for gold, score in scored if gold.language == "en"]
    return PlanResults(
        planner=name,
        split=split,
        limit=limit,
        english=_row("English", english),
        kinds=tuple(_row(kind, [pair for pair in english if pair[0].kind == kind]) for kind in KINDS),
        languages=tuple(_row(language, [pair for pair in scored if pair[0].language == language])
                        for language in LANGUAGES if language != "en"),
        failures=tuple(failures),
    )


def write_plan_results(results: PlanResults, path: Path) -> None:
    """Write every figure with its interval, and every failure, as JSON. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}; choose a writable place") from error
