"""What layer-shared self-attention costs: time and memory against the number of layers and the size of the picture.

    python benchmarks/joint_attention.py [--part growth cost memory] [--shapes small sd15] [--device cpu] [--repeats 3]

growth: one step of the UNet for 1 to 20 foregrounds, and for more cells, exact and with pooled keys, with the exponents p of
rows^p and cells^p that fit best (least squares of logarithms).
cost: LSSA against a plain batch of the same k + 1 rows, in turns. Its extra time is compared with its extra attention
operations at the rate that the same attention has alone, in the same round: the median ratio, and its quartiles.
memory: peaks in fp16 of 20 foregrounds at 512x512 (SD1.5's shapes) and 4 at 1024x1024 (SDXL's), one half of the
guidance at a time. They are accounts of every tensor at the real shapes (see memory_account.py), on no device.

Weights are random: time and memory do not depend on them. "small" is SD1.5's structure at a fifth of its width, "sd15"
takes minutes a step on a CPU. Memory is torch's own peak on a GPU, else the account.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from memory_account import MemoryAccount
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel

from dreamlayer_core.config import LayerAttentionConfig
from dreamlayer_core.diffusers_unet import find_sites, layer_attention
from dreamlayer_core.layer_run import Half
from dreamlayer_core.prompts import LayeredEmbedding, TokenSpan
from dreamlayer_core.transparent import TransparentDecoder, TransparentDecoderConfig

CONFIGS: dict[str, dict[str, Any]] = {
    "small": {"block_out_channels": (64, 128, 256, 256), "attention_head_dim": 2, "cross_attention_dim": 768},
    "sd15": {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8, "cross_attention_dim": 768},
    "sdxl": {
        "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048,
        "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2), "use_linear_projection": True,
        "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"), "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816},
}
OFF, EXACT, POOLED = (LayerAttentionConfig(caca=False, lssa=False), LayerAttentionConfig(),
                      LayerAttentionConfig(cross_keys="pooled"))
SHARED = LayerAttentionConfig(caca=False)
FOREGROUNDS = {"sd15": (20, 64), "sdxl": (4, 128)}  # and cells a side


def run_parts(parts: Mapping[str, Callable[[argparse.Namespace], None]], about: str | None, **more: int) -> None:
    """Those parts of a benchmark that the command line asks for; ``more`` are whole numbers that it may set besides."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--shapes", choices=["small", "sd15"], default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of a CPU; all by default")
    for name, value in more.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for part in options.part:
        parts[part](options)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@contextmanager
def made_in(dtype: torch.dtype) -> Generator[None]:
    """Modules and tensors are made in this dtype: fake ones cannot be converted."""
    stock = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(stock)


def make_unet(shapes: str, dtype: torch.dtype) -> UNet2DConditionModel:
    with made_in(dtype):
        return UNet2DConditionModel(sample_size=64, **CONFIGS[shapes]).eval().requires_grad_(False)


class Rows:
    """One call of a UNet for the k + 1 rows of a picture."""

    def __init__(self, unet: UNet2DConditionModel, layers: int, cells: int) -> None:
        config, like = unet.config, {"device": unet.device, "dtype": unet.dtype}
        spans = tuple(TokenSpan(1 + 2 * layer, 2) for layer in range(layers))
        text = torch.randn(layers + 1, 77, config["cross_attention_dim"], **like)
        self.unet, self.embedding = unet, LayeredEmbedding(text, spans, spans, TokenSpan(1, 0))
        self.latents, self.cells = torch.randn(layers + 1, config["in_channels"], cells, cells, **like), cells
        self.added = None if config["addition_embed_type"] is None else {
            "text_embeds": torch.randn(layers + 1, 1280, **like), "time_ids": torch.zeros(layers + 1, 6, **like)}

    @torch.no_grad()
    def step(self, config: LayerAttentionConfig, halves: tuple[Half, ...] = ("conditional",)) -> Tensor:
        added = self.added and {name: torch.cat([value] * len(halves)) for name, value in self.added.items()}
        latents, text = (torch.cat([value] * len(halves)) for value in (self.latents, self.embedding.embeddings))
        with layer_attention(self.unet, [self.embedding], config) as run:
            # noisy enough for context maps to act: the most that they cost
            run.begin(999, (self.cells, self.cells), halves)
            return self.unet(latents, 999, text, added_cond_kwargs=added).sample


def seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def peak(shapes: str, layers: int, cells: int, config: LayerAttentionConfig, device: torch.device) -> float:
    """Peak MB of a step beyond the weights."""
    if device.type == "cuda":
        rows = Rows(make_unet(shapes, dtype_on(device)).to(device), layers, cells)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        rows.step(config)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    return sum(accounted_step(shapes, layers, cells, config, torch.float32)[1:]) / 1e6


def dtype_on(device: torch.device) -> torch.dtype:
    return torch.float16 if device.type == "cuda" else torch.float32


def accounted_step(
    shapes: str, layers: int, cells: int, config: LayerAttentionConfig, dtype: torch.dtype
) -> tuple[int, int]:
    """Bytes of the weights, and of what a step needs beside them."""
    with FakeTensorMode():
        rows = Rows(make_unet(shapes, dtype), layers, cells)
        with MemoryAccount() as account:
            weights = account.hold(rows.unet)
            rows.step(config)
    return weights, account.peak - weights


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    xs, ys = ([math.log(value) for value in one] for one in (sizes, values))
    return statistics.linear_regression(xs, ys).slope


def growth(options: argparse.Namespace) -> None:
    """Step time and peak memory against k and size."""
    device = torch.device(options.device)
    unet = make_unet(options.shapes, dtype_on(device)).to(device)
    header(options, unet)
    many = [(foregrounds + 1, 32) for foregrounds in (1, 2, 4, 8, 20)]
    large = [(5, cells) for cells in (16, 24, 32, 48)]
    for axis, points in (("rows", many), ("cells", large)):
        sizes = [layers + 1 if axis == "rows" else cells**2 for layers, cells in points]
        for name, config in (("exact", EXACT), ("pooled", POOLED)):
            times, memory = list[float](), list[float]()
            for layers, cells in points:
                rows = Rows(unet, layers, cells)
                rows.step(config)
                times.append(min(seconds(lambda: rows.step(config), device) for _ in range(options.repeats)))  # noqa: B023
                memory.append(peak(options.shapes, layers, cells, config, device))
                say(f"  {name:6} {layers - 1:2} foregrounds, {cells}x{cells} cells: {times[-1]:7.3f} s, {memory[-1]:7.0f} MB")
            say(f"{name}: time ~ {axis}^{exponent(sizes, times):.2f}, memory ~ {axis}^{exponent(sizes, memory):.2f}")


def cost(options: argparse.Namespace) -> None:
    """LSSA's extra time against its extra operations at the machine's own rate."""
    device = torch.device(options.device)
    unet = make_unet(options.shapes, dtype_on(device)).to(device)
    header(options, unet)
    for layers in (3, 5, 9):
        rows = Rows(unet, layers, 32)
        work = Operations(rows, unet)
        for one in (lambda: rows.step(OFF), lambda: rows.step(SHARED), *work.alone):  # noqa: B023
            one()
        plain, shared, alone = list[float](), list[float](), list[float]()
        for _ in range(2 * options.repeats + 1):
            plain.append(seconds(lambda: rows.step(OFF), device))  # noqa: B023
            shared.append(seconds(lambda: rows.step(SHARED), device))  # noqa: B023
            alone.append(sum(seconds(one, device) for one in work.alone))
        rounds = list(zip(plain, shared, alone, strict=True))
        ratios = sorted((b - a) * work.joint / (one * work.extra) for a, b, one in rounds)
        low, middle, high = statistics.quantiles(ratios, n=4)
        say(f"{layers - 1} foregrounds: {min(plain):.3f} s plain, {min(shared):.3f} s shared, {work.extra / 1e9:.1f} GFLOP more "
            f"at {work.joint / min(alone) / 1e9:.0f} GFLOP/s; extra time x{middle:.3f} of theirs ({low:.3f} to {high:.3f})")


class Operations:
    """Of all shared layers: floating point operations of the joint attention, how many are extra, and it alone."""

    def __init__(self, rows: Rows, unet: UNet2DConditionModel) -> None:
        self.joint = self.extra = 0
        self.alone = list[Callable[[], object]]()
        count, levels = len(rows.latents), len(unet.config["block_out_channels"])
        for site in find_sites(unet, None).shared:
            attention = unet.get_submodule(site)
            tokens = rows.cells**2 // 4 ** (levels - 1 - int(site.split(".")[1]))
            width = attention.to_q.out_features
            self.joint += 4 * (count * tokens) ** 2 * width
            self.extra += 4 * (count**2 - count) * tokens**2 * width
            joined = torch.randn(1, attention.heads, count * tokens, width // attention.heads).to(rows.latents)
            self.alone.append(lambda x=joined: functional.scaled_dot_product_attention(x, x, x))


def memory(options: argparse.Namespace) -> None:
    """The promise of 8 GB."""
    say("memory, fp16, accounts of tensors (no device); MB")
    for shapes, (foregrounds, cells) in FOREGROUNDS.items():
        say(f"{shapes}, {foregrounds} foregrounds, {cells * 8}x{cells * 8}:")
        work = {
            "UNet, exact": accounted_step(shapes, foregrounds + 1, cells, EXACT, torch.float16),
            "UNet, pooled": accounted_step(shapes, foregrounds + 1, cells, POOLED, torch.float16)}
        with sdpa_kernel(SDPBackend.MATH):
            for name, config in (("not fused", EXACT), ("in chunks", LayerAttentionConfig(attention_memory=512))):
                work[f"UNet, {name}"] = accounted_step(shapes, foregrounds + 1, cells, config, torch.float16)
        work |= accounted_decoders(cells)
        for name, (weights, peak) in work.items():
            say(f"  {name:15}: weights {weights / 1e6:6.0f} + {peak / 1e6:9.0f} = {(weights + peak) / 1e6:9.0f}")
        texts = text_weights(shapes)
        held = texts + sum(work[name][0] for name in ("UNet, exact", "VAE decodes", "transparent"))
        most = max(work[name][1] for name in ("UNet, exact", "VAE decodes", "transparent"))
        say(f"  all loaded at once, text encoders of {texts / 1e6:.0f} too: {(held + most) / 1e6:.0f}")


@torch.no_grad()
def accounted_decoders(cells: int) -> dict[str, tuple[int, int]]:
    """Weights of, and what one picture takes in, the VAE's decoder and encoder and the transparent decoder, in fp16."""
    found = dict[str, tuple[int, int]]()
    with FakeTensorMode(), made_in(torch.float16):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4).eval()
        decoder = TransparentDecoder(TransparentDecoderConfig()).eval()
        latent, picture = (torch.zeros(1, c, s, s) for c, s in ((4, cells), (3, 8 * cells)))
        for name, module, work in (
                ("VAE decodes", vae, lambda: vae.decode(latent)), ("VAE encodes", vae, lambda: vae.encode(picture)),
                ("transparent", decoder, lambda: decoder(picture, latent))):
            with MemoryAccount() as account:
                weights = account.hold(module)
                work()
            found[name] = weights, account.peak - weights
    return found


def text_weights(shapes: str) -> int:
    """Bytes of the text encoders in fp16: CLIP's ViT-L, and for SDXL OpenCLIP's bigG besides."""
    large = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    huge = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    chosen = (large, huge) if shapes == "sdxl" else (large,)
    with FakeTensorMode(), made_in(torch.float16):
        return sum(MemoryAccount().hold(CLIPTextModel(CLIPTextConfig(**one))) for one in chosen)


def header(options: argparse.Namespace, unet: UNet2DConditionModel) -> None:
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"CPU, {torch.get_num_threads()} threads"
    say(f"{device}, {unet.dtype}, shapes {options.shapes} {unet.config['block_out_channels']}, torch {torch.__version__}")


if __name__ == "__main__":
    run_parts({"growth": growth, "cost": cost, "memory": memory}, __doc__, repeats=3)
