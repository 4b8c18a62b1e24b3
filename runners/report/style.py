"""Colours and markers: a palette that colour-blind readers can tell apart, and which series gets which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PALETTE = {
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "orange": "#e69f00",
    "sky": "#56b4e9",
    "yellow": "#f0e442",
    "grey": "#999999",
}
"""Okabe and Ito, "Color Universal Design" (2008), and a grey. On the page each is a CSS variable: the light ones are darkened on white."""

INK, FAINT = "#010203", "#040506"
"""Stand-ins that become ``currentColor`` and the colour of grid lines, which follow light and dark mode."""

DTYPE_COLOURS = {
    "fp32": "blue",
    "bf16": "vermilion",
    "fp64": "green",
    "fp16": "purple",
    "tf32": "orange",
    "fp8_e4m3": "sky",
    "fp8_e5m2": "yellow",
    "int8": "grey",
}
"""A dtype has the same colour in every chart, also where the hue says more than the dtype (``bf16, causal``)."""

MARKERS = {
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "s": "M-3.6 -3.6h7.2v7.2h-7.2z",
    "^": "M0 -4.4L4.4 3.6H-4.4z",
    "D": "M0 -4.8L4.8 0L0 4.8L-4.8 0z",
    "v": "M0 4.4L4.4 -3.6H-4.4z",
    "P": "M-1.5 -4.4h3v2.9h2.9v3h-2.9v2.9h-3v-2.9h-2.9v-3h2.9z",
    "X": "M-4.4 -2.4L-2.4 -4.4L0 -2L2.4 -4.4L4.4 -2.4L2 0L4.4 2.4L2.4 4.4L0 2L-2.4 4.4L-4.4 2.4L-2 0z",
    "<": "M-4.4 0L3.6 -4.4V4.4z",
}
"""matplotlib's name of a marker -> the same shape as an SVG path, for the legend."""


LINE, DASHES = "M-7 -1h14v2h-14z", "M-7 -1h6v2h-6zM1 -1h6v2h-6z"
"""The shapes of lines in a legend."""


@dataclass(frozen=True)
class Look:
    """How one series looks: a name in PALETTE and a name in MARKERS."""

    colour: str
    marker: str

    @property
    def path(self) -> str:
        """The marker as an SVG path around the origin."""
        return MARKERS[self.marker]


def looks(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Look]:
    """A look for each (hue, shape), in order. With one shape only, markers follow the hue, so that colour does not stand alone.

    >>> looks([("fp32", "a"), ("bf16", "a")])[("bf16", "a")]
    Look(colour='vermilion', marker='s')
    """
    ordered = list(dict.fromkeys(keys))
    hues = list(dict.fromkeys(hue for hue, _ in ordered))
    shapes = list(dict.fromkeys(shape for _, shape in ordered))
    colours = colours_of(hues)
    names = list(MARKERS)
    marked = {shape: names[i % len(names)] for i, shape in enumerate(shapes if len(shapes) > 1 else hues)}
    return {(hue, shape): Look(colours[hue], marked[shape if len(shapes) > 1 else hue]) for hue, shape in ordered}


def colours_of(hues: Iterable[str]) -> dict[str, str]:
    """A palette name for each hue: dtypes have their own, others take what is left, in order."""
    ordered = list(dict.fromkeys(hues))
    taken: dict[str, str] = {}
    for hue in sorted(ordered, key=lambda hue: hue not in DTYPE_COLOURS):
        own = DTYPE_COLOURS.get(hue.split(",")[0])
        if own is not None and (hue in DTYPE_COLOURS or own not in taken.values()):
            taken[hue] = own
    free = [name for name in PALETTE if name not in taken.values()] or list(PALETTE)
    others = [hue for hue in ordered if hue not in taken]
    return {**taken, **{hue: free[i % len(free)] for i, hue in enumerate(others)}}
