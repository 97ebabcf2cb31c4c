"""What Patch Model costs: a patched SD1.5-shaped model against the same model unpatched, at the same batch, in one run.

    COMFYUI_PATH=... PYTHON_OF_COMFYUI benchmarks/comfy_patch.py [--layers 2 4 8] [--cells 32] [--steps 2] [--repeats 5]

The weights are random: time and memory do not depend on them. Every variant runs in a process of its own, which tells
its peak memory, and takes turns there with the unpatched model; the ratio of times is the median over these pairs. The
stock row against itself shows how much of a ratio is chance. On a GPU add --gpu.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

PACK = Path(__file__).resolve().parents[1]
VARIANTS = {"stock": None, "caca": {"lssa": False}, "lssa": {"caca": False}, "both": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 8], help="k: background and foregrounds")
    parser.add_argument("--cells", type=int, default=32, help="side of the latent; 64 is 512 px")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs, patched and unpatched")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "K"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]), options)))  # noqa: T201
        return
    for layers in options.layers:
        runs: dict[str, dict[str, float]] = {}
        for name in VARIANTS:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name, str(layers)]
            found = subprocess.run(command, check=True, capture_output=True, text=True)
            own = runs[name] = json.loads(found.stdout.splitlines()[-1])
            memory = own["megabytes"] / runs["stock"]["megabytes"]
            print(f"k={layers} {name:6} {own['seconds']:8.2f} s a step (x{own['ratio']:.3f})  "  # noqa: T201
                  f"{own['megabytes']:8.0f} MB at most (x{memory:.3f})", flush=True)


def measure(variant: str, layers: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds a step, how many times the stock model's they are, and peak memory of one variant."""
    sys.argv, sys.path[:0] = sys.argv[:1], [os.environ["COMFYUI_PATH"]]
    args = importlib.import_module("comfy.cli_args").args
    args.cpu = not options.gpu
    torch, nodes, sample = (importlib.import_module(name) for name in ("torch", "nodes", "comfy.sample"))
    samplers = importlib.import_module("comfy.samplers")
    before = set(sys.modules)
    asyncio.run(nodes.load_custom_node(str(PACK)))
    root = next(name for name in set(sys.modules) - before
                if getattr(sys.modules[name], "__file__", None) == str(PACK / "__init__.py"))
    pack = {name: importlib.import_module(f"{root}.{name}") for name in (
        "nodes.comfy_model.layer_patch", "dreamlayer_core.config", "dreamlayer_core.prompts")}
    torch.manual_seed(0)
    stock, rows = sd15(torch), layers + 1
    spans = tuple(pack["dreamlayer_core.prompts"].TokenSpan(1 + 2 * i, 2) for i in range(layers))
    text = torch.randn(rows, 77, 768)
    embedding = pack["dreamlayer_core.prompts"].LayeredEmbedding(
        text, spans, spans, pack["dreamlayer_core.prompts"].TokenSpan(1, 0))
    model, extra = stock, {}
    if VARIANTS[variant] is not None:
        # T_G at 0: the context map acts at every step, which is the most that it can cost.
        config = pack["dreamlayer_core.config"].LayerAttentionConfig(context_threshold=0, **VARIANTS[variant])
        model, extra = pack["nodes.comfy_model.layer_patch"].patch_model(stock, None, config), {"dreamlayer": embedding}
    sigmas = samplers.calculate_sigmas(stock.get_model_object("model_sampling"), "normal", options.steps)
    noise = torch.randn(rows, 4, options.cells, options.cells)

    def seconds(model: object, extra: dict[str, object]) -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            sample.sample_custom(
                model, noise, 5.0, samplers.sampler_object("euler"), sigmas, [[text, extra]], [[text[:1], {}]],
                torch.zeros_like(noise), disable_pbar=True, seed=0)
        return (time.perf_counter() - started) / options.steps

    seconds(model, extra)  # loads the weights
    peak = torch.cuda.max_memory_allocated() / 1e6 if options.gpu else resource.getrusage(
        resource.RUSAGE_SELF).ru_maxrss / 1e3
    seconds(stock, {})
    pairs = [(seconds(stock, {}), seconds(model, extra)) for _ in range(options.repeats)]
    return {"seconds": statistics.median(own for _, own in pairs), "megabytes": peak,
            "ratio": statistics.median(own / other for other, own in pairs)}


def sd15(torch: object) -> object:
    """A MODEL of SD1.5's shapes."""
    supported, patcher = (importlib.import_module(name) for name in ("comfy.supported_models", "comfy.model_patcher"))
    management = importlib.import_module("comfy.model_management")
    config = supported.SD15({
        "image_size": 32, "out_channels": 4, "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None,
        "in_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1, "context_dim": 768,
        "use_linear_in_transformer": False, "num_heads": 8, "use_temporal_attention": False,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "use_temporal_resblock": False})
    device = management.get_torch_device()
    dtype = torch.float32 if management.is_device_cpu(device) else torch.float16
    config.set_inference_dtype(dtype, None)
    model = config.get_model({})
    for parameter in model.parameters():
        size = parameter.numel() // len(parameter) if parameter.ndim > 1 else 0
        parameter.data.normal_(0, size**-0.5) if size else parameter.data.fill_(0.1)
    return patcher.ModelPatcher(model, load_device=device, offload_device=management.unet_offload_device())


if __name__ == "__main__":
    main()
