"""Time and peak memory of whole pictures, and the method's cost against the same rows without it.

    python benchmarks/generate.py --model embedded --foregrounds 3 --steps 50

Prints one JSON object. ``ratio`` compares sampling with CACA and LSSA to sampling the same number of independent rows,
in one process, alternating.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import time

import torch

from dreamlayer_core.config import HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts

OBJECTS = ("a red ball", "a blue cube", "a green tree", "a yellow duck", "a white house", "a purple mug", "an orange car",
           "a pink gift")


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--foregrounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    model = DreamLayer.from_files(arguments.model)
    prompts = LayerPrompts("a wooden floor with a blue wall", OBJECTS[: arguments.foregrounds])
    sampling = SamplingConfig(steps=arguments.steps)
    whole, layered, independent = list[float](), list[float](), list[float]()
    for _ in range(arguments.repeats):
        started = time.perf_counter()
        result = model.generate(prompts, sampling=sampling, harmonization=HarmonizationConfig())
        whole.append(time.perf_counter() - started)
        layered.append(result.timings["sample"])
        off = LayerAttentionConfig(caca=False, lssa=False)
        independent.append(model.generate(prompts, sampling=sampling, attention=off).timings["sample"])
    report = {
        "device": platform.processor() or platform.machine(), "threads": torch.get_num_threads(), "dtype": str(model.unet.dtype),
        "rows": arguments.foregrounds + 2, "latent": list(result.latents.shape[-2:]), "steps": arguments.steps,
        "seconds": [min(whole), statistics.median(whole), max(whole)], "stages": dict(result.timings),
        "ratio": statistics.median(layered) / statistics.median(independent), "peak_megabytes": _peak_megabytes(),
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
