"""One training loop for every stage, on accelerate: checkpoints, resuming, EMA, logs and sample sheets."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from accelerate import Accelerator, PartialState  # pyright: ignore[reportMissingTypeStubs]
from accelerate.state import AcceleratorState  # pyright: ignore[reportMissingTypeStubs]
from accelerate.utils import parse_flag_from_env, send_to_device  # pyright: ignore[reportMissingTypeStubs]
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import InputError, WeightsError
from ..loading import damage
from .muon import Muon

__all__ = ["LoopConfig", "Stage", "load_ema", "processes", "train"]

_MOMENTS = ("exp_avg", "exp_avg_sq")
_AGAIN = "delete it to start anew, or give another --out"


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Settings of one run. The learning rate rises over ``warmup`` steps and falls as a cosine to ``final_lr``."""

    out: Path
    steps: int
    learning_rate: float
    batch: int
    final_lr: float = 0.05  # share of learning_rate at the last step
    warmup: int = 200
    ema: float = 0.999
    clip: float = 1.0
    seed: int = 0
    precision: str = "bf16"
    save_every: int = 500
    sample_every: int = 1000
    log_every: int = 50
    minutes: float | None = None  # stop (saving) after this long; resume goes on
    resume: bool = False
    muon: bool = False  # Muon for the matrices instead of AdamW


class Stage(Protocol):
    """What a stage gives to the loop. ``module(batch)`` returns named losses, ``"loss"`` among them."""

    @property
    def module(self) -> nn.Module: ...

    def batch(self, generator: torch.Generator, size: int) -> Any:
        """Tensors, containers of them, or an object with ``to(device)``; made on the CPU."""
        ...

    def sample(self, path: Path) -> None:
        """Write a sample sheet (PNG); called with the EMA weights in place."""
        ...

    def export(self, folder: Path) -> None:
        """Write the finished weights; called with the EMA weights in place."""
        ...


def _rate(step: int, config: LoopConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * done))


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class _State:
    """Parameters, their moving average and AdamW's moments, as plain tensors: saved without pickle."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.AdamW) -> None:
        self.parameters = _trained(module)
        self.optimizer = optimizer
        self.ema = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.step = 0

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        # The warm-up keeps early averages from remembering the random initial weights.
        decay = min(decay, (1 + self.step) / (10 + self.step))
        names = list(self.ema)
        averages, values = [self.ema[n] for n in names], [self.parameters[n].detach() for n in names]
        torch._foreach_lerp_(averages, values, 1 - decay)  # pyright: ignore[reportPrivateUsage]

    @torch.no_grad()
    def swap_ema(self) -> None:
        for name, parameter in self.parameters.items():
            held = parameter.detach().clone()
            parameter.copy_(self.ema[name])
            self.ema[name] = held

    def save(self, path: Path) -> None:
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            tensors[f"model/{name}"], tensors[f"ema/{name}"] = parameter.detach(), self.ema[name]
            moments = self.optimizer.state.get(parameter, {})
            for key in _MOMENTS:
                if key in moments:
                    tensors[f"{key}/{name}"] = moments[key]
        partial = path.with_suffix(".partial")
        save_file({k: t.contiguous() for k, t in tensors.items()}, partial, {"step": str(self.step)})
        partial.replace(path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        with damage(path, _AGAIN), safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            self.step = int(file.metadata()["step"])
            for name, parameter in self.parameters.items():
                if f"model/{name}" not in file.keys():
                    raise WeightsError(f"{path} has no parameter {name}; it belongs to another stage or size")
                parameter.copy_(file.get_tensor(f"model/{name}"))
                self.ema[name].copy_(file.get_tensor(f"ema/{name}"))
                moments = {key: file.get_tensor(f"{key}/{name}").to(parameter.device)
                           for key in _MOMENTS if f"{key}/{name}" in file.keys()}
                if moments:
                    step = torch.tensor(float(self.step), device=parameter.device)
                    self.optimizer.state[parameter] = {"step": step, **moments}


def load_ema(module: nn.Module, path: Path) -> int:
    """Load the averaged weights of a checkpoint into the trained parameters of ``module``; returns its step.

    Raises WeightsError for a checkpoint that is damaged, or of another module.
    """
    with damage(path, _AGAIN), safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
        with torch.no_grad():
            for name, parameter in _trained(module).items():
                parameter.copy_(file.get_tensor(f"ema/{name}"))
        return int(file.metadata()["step"])


def _log(path: Path, record: Mapping[str, float]) -> None:
    with path.open("a") as file:
        file.write(json.dumps({k: round(v, 6) for k, v in record.items()}) + "\n")


def _time_is_up(accelerator: Accelerator, deadline: float) -> bool:
    """The same answer in every process: one that stopped alone would leave the others waiting for its gradients."""
    late = torch.tensor(float(time.monotonic() > deadline), device=accelerator.device)
    return bool(cast(Tensor, accelerator.reduce(late, "sum")) > 0)


def processes() -> PartialState:
    """The processes of this run. On the CPU accelerate must be told so at its first call, or each believes to be alone."""
    return PartialState(cpu=not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU"))


def train(stage: Stage, config: LoopConfig) -> None:
    """Train ``stage`` until ``config.steps`` (or ``minutes``), then export its averaged weights.

    Batch n of process r and the noise inside the stage (dropout, posteriors) depend on (seed, n, r) alone, so a resumed run sees
    what an unbroken one would have seen.
    """
    AcceleratorState._reset_state()  # pyright: ignore  # it is global, and would keep the precision of an earlier run
    processes()
    accelerator = Accelerator(mixed_precision=config.precision)
    console = Console(stderr=True)
    config.out.mkdir(parents=True, exist_ok=True)
    checkpoint = config.out / "checkpoint.safetensors"
    if checkpoint.exists() and not config.resume:
        raise InputError(f"{checkpoint} exists; add --resume to go on from it, or give another --out")
    # before the averages are made, so that they lie where the parameters do
    parameters = list(_trained(stage.module.to(accelerator.device)).values())
    make = Muon if config.muon else torch.optim.AdamW
    optimizer = make(parameters, lr=config.learning_rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    state = _State(stage.module, optimizer)
    if config.resume and checkpoint.exists():
        state.load(checkpoint)
        console.print(f"resumed from step {state.step}")
    module, prepared = accelerator.prepare(stage.module, optimizer)
    started, seen, totals, logged = time.monotonic(), 0, dict[str, float](), state.step

    def save(sheet: bool) -> None:
        if not accelerator.is_main_process:
            return
        state.save(checkpoint)
        if sheet:
            with torch.no_grad():
                state.swap_ema()
                stage.module.eval()
                stage.sample(config.out / f"sample-{state.step:07d}.png")
                stage.module.train()
                state.swap_ema()

    module.train()
    while state.step < config.steps:
        if config.minutes is not None and _time_is_up(accelerator, started + config.minutes * 60):
            break
        generator = torch.Generator().manual_seed(
            ((config.seed * 1_000_003 + state.step) * 1009 + accelerator.process_index) % 2**63)
        noise = np.random.SeedSequence([config.seed, state.step, accelerator.process_index])
        torch.manual_seed(int(noise.generate_state(1)[0]))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(state.step, config)
        losses = module(send_to_device(stage.batch(generator, config.batch), accelerator.device))
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(parameters, config.clip)
        prepared.step()
        prepared.zero_grad(set_to_none=True)
        state.step += 1
        state.update_ema(config.ema)
        seen += config.batch * accelerator.num_processes
        for key, value in losses.items():
            totals[key] = totals.get(key, 0.0) + float(value.detach())
        if state.step % config.log_every == 0 and accelerator.is_main_process:
            means = {k: v / (state.step - logged) for k, v in totals.items()}
            speed = seen / (time.monotonic() - started)
            _log(config.out / "log.jsonl", {"step": state.step, "per_second": speed, **means})
            shown = " ".join(f"{k} {v:.4f}" for k, v in means.items())
            console.print(f"step {state.step}/{config.steps}  {shown}  {speed:.1f}/s")
            totals.clear()
            logged = state.step
        if state.step % config.save_every == 0:
            save(state.step % config.sample_every == 0)
    save(True)
    if accelerator.is_main_process:
        state.swap_ema()
        stage.module.eval()
        stage.export(config.out / "export")
        state.swap_ema()
