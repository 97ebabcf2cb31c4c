"""A planner that runs an instruct model on this machine, through transformers: local files only, the model's own chat
template, greedy.

Only the standalone extra brings transformers; nodes never import this module.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import FormatError, WeightsError
from .conversation import Message, converse
from .plan import LayerPlan
from .planner import Cancel, PlannerError, check_request, stop_if

__all__ = ["LocalPlanner", "load_local_planner"]

# ruff: noqa: PLC0415 - transformers is imported where a model is loaded: it takes seconds, and may be missing

_LONGEST_ANSWER = 2048  # tokens: the longest plan that a sentence can make, and a line of thought
_LONGEST_RUN = 600.0  # seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalPlanner:
    """A causal language model and its tokenizer, as `load_local_planner` makes them."""

    model: Any
    tokenizer: Any
    name: str
    longest_answer: int = _LONGEST_ANSWER
    longest_run: float = _LONGEST_RUN

    def plan(self, sentence: str, *, limit: int, proposing: bool = False, cancel: Cancel | None = None) -> LayerPlan:
        """The plan that the model makes, the same one each time. Raises as `Planner.plan`."""
        text = check_request(sentence, limit)
        stop_if(cancel)
        deadline = time.monotonic() + self.longest_run

        def ask(talk: list[Message]) -> str:
            return self._generate(self._tokens(talk), deadline, cancel)

        try:
            return converse(ask, text, limit=limit, proposing=proposing)
        except FormatError as error:
            raise PlannerError(
                f"the answer of {self.name} is no plan: {error}; try a larger instruct model, or plan offline"
            ) from error

    def _tokens(self, talk: list[Message]) -> Tensor:
        """Token ids (1, n) in the model's own chat template; where it knows no system message, that one goes before the
        question.
        """
        try:
            encoded = self.tokenizer.apply_chat_template(
                talk, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        except Exception as error:  # templates are programs, and raise their own errors
            if talk[0]["role"] != "system":
                raise WeightsError(
                    f"the chat template of {self.name} cannot be used ({str(error)[:200]}); give another model"
                ) from error
            merged = {"role": "user", "content": f"{talk[0]['content']}\n\n{talk[1]['content']}"}
            return self._tokens([merged, *talk[2:]])
        return encoded["input_ids"].to(self.model.device)

    def _generate(self, tokens: Tensor, deadline: float, cancel: Cancel | None) -> str:
        room = int(getattr(self.model.config, "max_position_embeddings", 0) or 2**20) - tokens.shape[1]
        if room < 1:
            raise PlannerError(
                f"{self.name} has no room for the sentence and its task ({tokens.shape[1]} tokens); give another model"
            )
        with torch.inference_mode():
            ids = self.model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=min(self.longest_answer, room),
                do_sample=False,
                stopping_criteria=_stopping(deadline, cancel),
            )
        stop_if(cancel)
        if time.monotonic() > deadline:
            raise PlannerError(
                f"{self.name} was not done after {self.longest_run:g} seconds; give a smaller model, or plan offline"
            )
        return str(self.tokenizer.decode(ids[0, tokens.shape[1] :], skip_special_tokens=True))


def _stopping(deadline: float, cancel: Cancel | None) -> Any:
    """Looks at the user and the clock after every token."""
    from transformers import StoppingCriteriaList

    def stop(ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        ended = time.monotonic() > deadline or (cancel is not None and cancel())
        return torch.full((len(ids),), ended, dtype=torch.bool, device=ids.device)

    return cast(Any, StoppingCriteriaList)([stop])


def load_local_planner(folder: str | Path, *, device: str | torch.device = "cpu") -> LocalPlanner:
    """The instruct model of a folder in transformers' layout. Nothing is downloaded, no code of the folder runs, no
    pickle is read.

    Raises WeightsError for a folder that is missing, damaged, or whose model does not chat.
    """
    folder = Path(folder).expanduser()
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"{folder} holds no model (it has no config.json); give the folder of an instruct model in transformers' layout"
        )
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise WeightsError(
            "a local model needs transformers; install DreamLayer's extra: pip install '.[standalone]'"
        ) from error
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **local)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype="auto", **local)
    except Exception as error:  # transformers raises what its parts raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(
            f"{folder} cannot be loaded ({reason}); give the folder of an instruct model in transformers' layout"
        ) from error
    if not getattr(tokenizer, "chat_template", None):
        raise WeightsError(f"{folder} has no chat template; give an instruct model, not a base model")
    return LocalPlanner(model=model.to(device).eval(), tokenizer=tokenizer, name=folder.name)
