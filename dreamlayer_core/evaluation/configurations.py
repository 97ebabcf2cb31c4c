"""What is compared: the method's parts switched on one by one, and the sweeps of the paper's Table 4."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..config import FAST, GuidanceInterval, HarmonizationConfig, LayerAttentionConfig, MapRefinement

__all__ = ["BASE", "BOTH", "CONFIGURATIONS", "FAST_HARMONIZED", "HARMONIZED", "TRUE_PLAIN", "TRUE_SCENE", "Configuration",
           "context_sweep", "guidance_sweep", "harmonization_pairs", "harmonization_sweep", "name_of_pair", "training_free_sweep"]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One row of the results. ``harmonization`` None: the final picture is the plain composite."""

    name: str
    title: str
    attention: LayerAttentionConfig = LayerAttentionConfig()
    adapter: bool = True
    layered: bool = True
    harmonization: HarmonizationConfig | None = None
    guidance_interval: GuidanceInterval | None = None


TRUE_SCENE, TRUE_PLAIN, BASE, BOTH, HARMONIZED = "true_scene", "true_plain", "base", "both", "both_irh"
FAST_HARMONIZED = "fast_irh"
_FAST_ATTENTION = LayerAttentionConfig(cross_keys=FAST.cross_keys)

CONFIGURATIONS: tuple[Configuration, ...] = (
    Configuration(name=BASE, title="base model alone", adapter=False, layered=False),
    Configuration(name="neither", title="no CACA, no LSSA", attention=LayerAttentionConfig(caca=False, lssa=False)),
    Configuration(name="lssa", title="LSSA", attention=LayerAttentionConfig(caca=False)),
    Configuration(name="caca", title="CACA", attention=LayerAttentionConfig(lssa=False)),
    Configuration(name=BOTH, title="CACA + LSSA"),
    Configuration(name="lssa_paper", title="LSSA of Eq. 10-11 alone", attention=LayerAttentionConfig(caca=False, cells=False)),
    Configuration(name="both_paper", title="CACA + LSSA of Eq. 10-11 alone", attention=LayerAttentionConfig(cells=False)),
    Configuration(name=HARMONIZED, title="CACA + LSSA + IRH", harmonization=HarmonizationConfig()),
    Configuration(name=FAST_HARMONIZED, title="the same, fast", attention=_FAST_ATTENTION,
                  guidance_interval=FAST.guidance_interval, harmonization=HarmonizationConfig()),
    Configuration(name="training_free", title="training-free (N = 0, no adapter)", adapter=False),
)


def context_sweep(thresholds: tuple[int, ...]) -> tuple[Configuration, ...]:
    """CACA + LSSA at every T_G; 1000 never fuses (Eq. 9), 0 fuses at every step."""
    return tuple(
        Configuration(name=f"t_g_{t}", title=f"T_G = {t}", attention=LayerAttentionConfig(context_threshold=t))
        for t in thresholds)


def training_free_sweep(thresholds: tuple[int, ...]) -> tuple[Configuration, ...]:
    """N = 0 without an adapter at every T_G, and at its default with the maps as Eq. 4 gives them."""
    plain = LayerAttentionConfig(refinement=MapRefinement())
    return (
        *(replace(c, name=f"free_{c.name}", adapter=False) for c in context_sweep(thresholds)),
        Configuration(name="free_plain_maps", title="maps as Eq. 4 gives them", attention=plain, adapter=False))


def guidance_sweep(intervals: tuple[GuidanceInterval, ...]) -> tuple[Configuration, ...]:
    """CACA + LSSA as it is, then with pooled keys, guided between the timesteps of every interval; 0 to 1000 is everywhere."""
    pooled = (
        Configuration(
            name=f"guided_{low}_{high}", title=f"pooled keys, guided from {low} to {high}", attention=_FAST_ATTENTION,
            guidance_interval=(low, high))
        for low, high in intervals)
    return Configuration(name="guided_exact", title="exact keys, guided everywhere"), *pooled


def name_of_pair(high: int, low: int) -> str:
    """The name of the row of T_H = high, T'_H = low."""
    return f"t_h_{high}_{low}"


def harmonization_pairs(pairs: tuple[tuple[int, int], ...]) -> tuple[HarmonizationConfig | None, ...]:
    """(T_H, T'_H) of every pair; 0, 0 is no harmonisation, as in the paper's Table 4."""
    return tuple(HarmonizationConfig(high=high, low=low) if high else None for high, low in pairs)


def harmonization_sweep(pairs: tuple[tuple[int, int], ...]) -> tuple[Configuration, ...]:
    """CACA + LSSA, harmonised between every (T_H, T'_H); what the ablation has anyway goes by the name that it has there."""
    known = {None: BOTH, HarmonizationConfig(): HARMONIZED}
    return tuple(
        Configuration(name=known.get(config, name_of_pair(high, low)), title=f"T_H = {high}, T'_H = {low}", harmonization=config)
        for (high, low), config in zip(pairs, harmonization_pairs(pairs), strict=True))
