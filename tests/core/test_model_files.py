import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dreamlayer_core.errors import WeightsError
from dreamlayer_core.model_files import EMBEDDED, base_family, read_schedule, require_model_folder
from dreamlayer_core.schedule import NoiseSchedule

SD15: dict[str, Any] = {
    "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "trained_betas": None,
}


def _write(folder: Path, config: object) -> Path:
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    return folder


def test_the_schedule_of_sd15_is_the_default(tmp_path: Path) -> None:
    assert read_schedule(_write(tmp_path, SD15)) == NoiseSchedule()


def test_the_prediction_type_is_read(tiny_folder: Path) -> None:
    assert read_schedule(tiny_folder) == NoiseSchedule(prediction_type="v_prediction")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_schedule": "linear"}, "beta_schedule 'linear' with prediction_type 'epsilon'; expected 'scaled_"),
        ({"prediction_type": "sample"}, "prediction_type 'sample'"),
        ({"beta_start": None}, "beta_start is None, expected a number"),
        ({"num_train_timesteps": "many"}, "num_train_timesteps is 'many'"),
        ({"num_train_timesteps": 0}, "in 0.0 steps"),
        ({"beta_end": 2.0}, "betas 0.00085 to 2.0"),
        ({"beta_end": float("nan")}, "betas 0.00085 to nan"),
        ({"rescale_betas_zero_snr": True}, "trained betas, or rescaled"),
        ({"trained_betas": [0.1]}, "trained betas, or rescaled"),
    ],
)
def test_schedules_of_another_kind_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        read_schedule(_write(tmp_path, {**SD15, **change}))
    assert str(tmp_path / "scheduler") in str(caught.value)


def test_damaged_schedules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="scheduler_config.json: cannot be read"):
        read_schedule(tmp_path)
    _write(tmp_path, [])
    with pytest.raises(WeightsError, match="not a JSON object"):
        read_schedule(tmp_path)
    (tmp_path / "scheduler/scheduler_config.json").write_bytes(b"\xff{")
    with pytest.raises(WeightsError, match="scheduler_config.json: cannot be read"):
        read_schedule(tmp_path)


def test_a_whole_folder_is_itself(tiny_folder: Path) -> None:
    assert require_model_folder(tiny_folder) == tiny_folder


def test_everything_missing_is_named_at_once(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    for part in ("vae", "tokenizer"):
        shutil.rmtree(folder / part)
    (folder / "layer_decoder.safetensors").unlink()
    with pytest.raises(WeightsError, match="no vae, tokenizer, layer_decoder.safetensors in it; a model folder holds"):
        require_model_folder(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none: no such model folder; give a folder in diffusers' layout"):
        require_model_folder(tmp_path / "none")


def test_embedded_is_the_name_of_a_folder_in_the_package() -> None:
    assert EMBEDDED.parent.name == "dreamlayer_core"
    if EMBEDDED.is_dir():
        assert require_model_folder(Path("embedded")) == EMBEDDED
    else:
        with pytest.raises(WeightsError, match="embedded: no such model folder"):
            require_model_folder(Path("embedded"))


@pytest.mark.parametrize(
    ("dim", "widths", "family"),
    [(768, [320, 640, 1280, 1280], "sd15"), (128, [64, 128, 160, 160], "dreamlayer-embedded"), (768, [32, 64], None)],
)
def test_a_base_is_known_by_its_shape(tmp_path: Path, dim: int, widths: list[int], family: str | None) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text(json.dumps({"cross_attention_dim": dim, "block_out_channels": widths}))
    assert base_family(tmp_path) == family
