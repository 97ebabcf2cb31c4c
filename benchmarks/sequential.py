"""A four-layer picture at once, against LayerDiffuse's way: one layer after the other, each with the picture so far.

    python benchmarks/sequential.py [--part measured predicted] [--shapes small sd15] [--size PIXELS] [--repeats 5]
    python benchmarks/sequential.py --part measured --shapes sd15 --size 512 --device cuda

Both over one UNet, guided, at equal steps. LayerDiffuse (Zhang and Agrawala 2024): the background alone, then each foreground
together with its blended picture, whose self-attention is joined over the two in every block: 7 rows a step. This system: 5
rows, joined in the up blocks, and one row of harmonisation from T_H down. "fast" is the preset of `generate --fast`. Not
counted: LayerDiffuse's own weights a frame and its attention over frames, text encoders, decoders.

measured: one step of every kind in turns, each counted as often as a run has it; the ratio of the sums in every round, its
median and quartiles. predicted: the same ratios by the floating point operations of SD1.5's shapes at 512x512, on no device.

Weights are random: time does not depend on them. "small" is SD1.5's structure at a fifth of its width; at 256x256 attention
has about the share in it that it has in SD1.5 at 512x512.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from joint_attention import EXACT, Rows, dtype_on, header, make_unet, run_parts, say, seconds
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dreamlayer_core.attention.shared import joint_attention
from dreamlayer_core.config import FAST, HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from dreamlayer_core.layer_run import Half
from dreamlayer_core.schedule import NoiseSchedule

LAYERS = 4  # the background and three foregrounds
BOTH: tuple[Half, ...] = ("unconditional", "conditional")
ONE: tuple[Half, ...] = ("conditional",)
COARSE = LayerAttentionConfig(cross_keys=FAST.cross_keys)


class JoinedFrames:
    """An attention processor: self-attention over the two rows of a pass, as LayerDiffuse's attention sharing has it."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        query, key, value = (project(hidden_states) for project in (attn.to_q, attn.to_k, attn.to_v))
        return attn.to_out[0](joint_attention(query, key, value, 2, heads=attn.heads))


@contextmanager
def joined_frames(unet: UNet2DConditionModel) -> Generator[None]:
    stock = dict(unet.attn_processors)
    unet.set_attn_processor({name: JoinedFrames() if ".attn1." in name else one for name, one in stock.items()})
    try:
        yield
    finally:
        unet.set_attn_processor(stock)


class Kinds:
    """One step of every kind that the ways are made of, and how often a run of so many steps has each."""

    def __init__(self, unet: UNet2DConditionModel, cells: int) -> None:
        self.unet, self.rows = unet, Rows(unet, LAYERS, cells)
        self.steps: dict[str, Callable[[], object]] = {
            "background": lambda: self._plain(1, BOTH), "foreground": self._pair,
            "layers": lambda: self.rows.step(EXACT, BOTH), "harmonize": lambda: self._plain(1, BOTH),
            "layers, fast": lambda: self.rows.step(COARSE, BOTH), "layers, fast, unguided": lambda: self.rows.step(COARSE, ONE),
            "harmonize, unguided": lambda: self._plain(1, ONE)}

    @torch.no_grad()
    def _plain(self, rows: int, halves: tuple[Half, ...]) -> Tensor:
        count = rows * len(halves)
        return self.unet(self.rows.latents[:count], 999, self.rows.embedding.embeddings[:count]).sample

    def _pair(self) -> Tensor:
        with joined_frames(self.unet):
            return self._plain(2, BOTH)


@dataclass(frozen=True)
class Ways:
    """What the same picture costs in each way; of seconds or of operations."""

    sequential: float
    exact: float
    fast: float

    @classmethod
    def of(cls, kinds: Mapping[str, float], steps: int) -> Ways:
        timesteps, guides = NoiseSchedule().timesteps(steps), SamplingConfig(guidance_interval=FAST.guidance_interval).guides
        late = [t for t in timesteps if t <= HarmonizationConfig().high]
        guided, guided_late = (sum(map(guides, some)) for some in (timesteps, late))
        return cls(
            sequential=steps * (kinds["background"] + (LAYERS - 1) * kinds["foreground"]),
            exact=steps * kinds["layers"] + len(late) * kinds["harmonize"],
            fast=guided * kinds["layers, fast"] + (steps - guided) * kinds["layers, fast, unguided"]
            + guided_late * kinds["harmonize"] + (len(late) - guided_late) * kinds["harmonize, unguided"])


def measured(options: argparse.Namespace) -> None:
    """Times, in turns."""
    device = torch.device(options.device)
    unet = make_unet(options.shapes, dtype_on(device)).to(device)
    header(options, unet)
    kinds = Kinds(unet, options.size // 8)
    for step in kinds.steps.values():
        step()
    times = [{name: seconds(step, device) for name, step in kinds.steps.items()} for _ in range(options.repeats)]
    for name in kinds.steps:
        say(f"  {name}: {statistics.median(one[name] / one['background'] for one in times):.2f} of the background's step")
    rounds = [Ways.of(one, options.steps) for one in times]
    for name, ratios in (("exact", [one.sequential / one.exact for one in rounds]),
                         ("fast", [one.sequential / one.fast for one in rounds])):
        low, middle, high = statistics.quantiles(ratios, n=4)
        say(f"{options.size}x{options.size}, {options.steps} steps, {name}: x{middle:.3f} of the sequential way's speed "
            f"({low:.3f} to {high:.3f} in {options.repeats} rounds)")


def predicted(options: argparse.Namespace) -> None:
    """Floating point operations at SD1.5's shapes and 512x512."""
    operations = dict[str, float]()
    # Fused attentions are not all counted; written out they are products of matrices.
    with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH):
        kinds = Kinds(make_unet("sd15", torch.float32), 64)
        for name, step in kinds.steps.items():
            with FlopCounterMode(display=False) as counter:
                step()
            operations[name] = counter.get_total_flops()
            say(f"sd15, 512x512, {name}: {operations[name] / 1e12:.3f} TFLOP a step")
    ways = Ways.of(operations, options.steps)
    say(f"by operations, {options.steps} steps: exact x{ways.sequential / ways.exact:.3f}, fast x{ways.sequential / ways.fast:.3f} "
        "of the sequential way's speed")


if __name__ == "__main__":
    run_parts({"measured": measured, "predicted": predicted}, __doc__, size=256, steps=50, repeats=5)
