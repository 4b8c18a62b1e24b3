"""What a chip holds against what it has, as one bar by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chipassay.results.safe_text import printable

from .scaling_pictures import LEAST_LABELLED, LEAST_ON_PATTERN, WIDTH_IN, _figure, _label, _styled
from .style import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from chipassay.scaling.predict import Prediction

LOOKS: dict[str, tuple[str, str]] = {
    "weights": ("blue", ""),
    "gradients": ("sky", ""),
    "optimizer": ("green", ""),
    "activations": ("orange", ""),
    "recompute": ("orange", "////"),
    "logits": ("vermilion", ""),
    "workspace": ("purple", ""),
    "fresh gradients": ("sky", "////"),
    "gathered": ("blue", "////"),
    "buffers": ("purple", "////"),
    "reserved": ("grey", "////"),
}
"""Kind of memory -> a colour of the palette and a pattern: what stays, then what comes and goes."""
LEAST_NAMED = 0.003
"""Kinds below this share of the bar are drawn but not named."""


@_styled
def draw_memory(prediction: Prediction) -> Figure:
    """Gigabytes on the fullest chip by kind, and a line where its memory ends."""
    p = prediction
    figure = _figure(WIDTH_IN, 2.4)
    axes = figure.subplots()
    limit, left = p.memory_limit_bytes / 1e9, 0.0
    longest = max(limit, p.memory_total_bytes / 1e9)
    kinds = [*LOOKS, *sorted(set(p.memory_bytes) - set(LOOKS))]
    for kind in kinds:
        size = p.memory_bytes.get(kind, 0.0) / 1e9
        if size <= 0:
            continue
        colour, hatch = LOOKS.get(kind, ("grey", "xx"))
        look: dict[str, Any] = {"color": PALETTE[colour], "edgecolor": "white", "linewidth": 0.5, "hatch": hatch, "height": 0.62}
        axes.barh(0, size, left=left, label=printable(kind) if size >= LEAST_NAMED * longest else None, zorder=2, **look)
        if size >= (LEAST_ON_PATTERN if hatch else LEAST_LABELLED) * longest:
            _label(axes, left + size / 2, 0, f"{size:.3g}", colour, bool(hatch))
        left += size
    axes.axvline(limit, color="#222222", linewidth=1.4, zorder=3)
    axes.annotate(f"{limit:.1f} GB", (limit, 0.5), xytext=(-4 if limit > 0.8 * longest else 4, 2), textcoords="offset points",
                  ha="right" if limit > 0.8 * longest else "left", fontsize=8)  # fmt: skip
    axes.set_ylim(-0.45, 0.75)
    axes.set_xlim(0, longest * 1.04)
    axes.set_yticks([])
    axes.set_xlabel("GB on the fullest chip")
    axes.grid(axis="y", visible=False)
    verdict = "fits" if p.fits else "does not fit"
    figure.suptitle(printable(f"Memory per chip: {left:.1f} of {limit:.1f} GB, {verdict}", 80), x=0.01, ha="left", fontweight="bold")
    figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=8, handlelength=1.4)
    return figure
