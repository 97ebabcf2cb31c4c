"""What a base model does not bring along or does not say itself. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from .errors import InputError

if TYPE_CHECKING:
    from .schedule import PredictionType

__all__ = ["BaseOptions", "Precision"]

Precision = Literal["fp32", "fp16", "bf16"]
_PREDICTIONS = ("epsilon", "v_prediction")
_FILES = ("layer_decoder", "tokenizer", "vae", "layerdiffuse", "layer_encoder")


@dataclass(frozen=True, kw_only=True)
class BaseOptions:
    """How a checkpoint or model folder is to be read; None is what it brings or says itself.

    ``layer_decoder`` is a transparent decoder's file (LayerDiffuse's published one will do), ``tokenizer`` a folder with
    CLIP's vocabulary, ``vae`` a VAE's file or folder, ``prediction`` what the UNet puts out. ``layerdiffuse`` is LayerDiffuse's
    file of attention weights for single layers, ``layer_encoder`` its transparent encoder's. ``allow_pickle`` opens pickled
    files, of tensors alone. Raises InputError for another prediction.
    """

    layer_decoder: Path | None = None
    tokenizer: Path | None = None
    vae: Path | None = None
    layerdiffuse: Path | None = None
    layer_encoder: Path | None = None
    prediction: PredictionType | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        if self.prediction not in (None, *_PREDICTIONS):
            raise InputError(f"got a prediction of {self.prediction!r}; give {' or '.join(_PREDICTIONS)}")

    def noted(self) -> dict[str, str]:
        """What a saved stack notes, to be made again: all but the leave to unpickle, which is asked for every time."""
        values = {name: getattr(self, name) for name in (*_FILES, "prediction")}
        return {name: str(value) for name, value in values.items() if value is not None}

    @staticmethod
    def from_noted(values: Mapping[str, object]) -> BaseOptions:
        """What ``noted`` has written, among other settings. Raises InputError."""
        found: dict[str, Any] = {name: Path(value) for name in _FILES if isinstance(value := values.get(name), str)}
        return BaseOptions(prediction=cast("PredictionType | None", values.get("prediction")), **found)
