"""Makes the templates' thumbnails from their own runs on a running ComfyUI: python -m tests.comfy.thumbnails URL [NAME ...]

The template with a PSD needs one of 128 pixels, a tree and a mug, as layers.psd in ComfyUI's input folder.
"""

from __future__ import annotations

import json
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from PIL import Image

_WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
_WIDTH, _SQUARES = 512, 8  # pixels of a thumbnail, and squares of the board behind a layer
_RGBA = {"DreamLayerFitLayers": 1, "DreamLayerDecode": 1, "DreamLayerLayersToImages": 0}  # which of their outputs has the layers as pictures
_RESULTS = ("Save harmonized", "After", "Composite", "Save composite")  # beginnings of titles, the finest picture first


def make_thumbnail(url: str, name: str) -> None:
    """Runs a template and writes its `.jpg`: the result, and its layers on a checkerboard beside it."""
    prompt = json.loads((_WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))
    outputs = _run(url, prompt)
    rgba = [[number, _RGBA[node["class_type"]]] for number, node in prompt.items() if node["class_type"] in _RGBA]
    layers = next(number for number, node in prompt.items() if node["inputs"].get("images") in rgba)
    titles = {node["_meta"]["title"]: number for number, node in prompt.items()}
    result = next(titles[title] for start in _RESULTS for title in titles if title.startswith(start))
    shown = [_picture(url, place) for place in outputs[layers]["images"]]
    step = _WIDTH // (len(shown) + 1)
    high = len(shown) * step
    sheet = Image.new("RGB", (_WIDTH, high))
    sheet.paste(_enlarged(_picture(url, outputs[result]["images"][0]).convert("RGB"), high), (0, 0))
    for index, layer in enumerate(reversed(shown)):
        board = _checkerboard(_WIDTH - high)
        board.alpha_composite(_enlarged(layer, _WIDTH - high))
        sheet.paste(board.convert("RGB"), (high, index * step))
    sheet.save(_WORKFLOWS / f"{name}.jpg", quality=90)


def _run(url: str, prompt: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"prompt": prompt}).encode()
    with urlopen(Request(f"{url}/prompt", body, {"Content-Type": "application/json"}), timeout=60) as answer:
        number = json.load(answer)["prompt_id"]
    while True:
        with urlopen(f"{url}/history/{number}", timeout=60) as answer:
            record = json.load(answer).get(number)
        if record:
            return record["outputs"]
        time.sleep(1)


def _picture(url: str, place: dict[str, str]) -> Image.Image:
    with urlopen(f"{url}/view?{urlencode(place)}", timeout=60) as answer:
        return Image.open(BytesIO(answer.read()))


def _enlarged(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def _checkerboard(side: int) -> Image.Image:
    squares = Image.new("L", (_SQUARES, _SQUARES))
    squares.putdata([255 if (x + y) % 2 else 190 for y in range(_SQUARES) for x in range(_SQUARES)])
    return squares.resize((side, side), Image.Resampling.NEAREST).convert("RGBA")


if __name__ == "__main__":
    for name in sys.argv[2:] or sorted(path.stem for path in (_WORKFLOWS / "api").glob("*.json")):
        make_thumbnail(sys.argv[1], name)
