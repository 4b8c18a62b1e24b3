"""Colours that can be read: contrast by WCAG 2.2, computed from the style sheet, in light and in dark."""

from __future__ import annotations

import re

import pytest

from chipassay.runners.report.page import TEMPLATES
from chipassay.runners.report.style import PALETTE

STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")
TEXT, GRAPHIC = 4.5, 3.0
"""Success criteria 1.4.3 (text) and 1.4.11 (what is needed to understand a drawing)."""


def colours(scheme: str) -> dict[str, str]:
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", body)) for body in re.findall(r":root \{([^}]*--page[^}]*)\}", STYLE))
    return light if scheme == "light" else {**light, **dark}


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, definitions)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_everything_it_stands_on(scheme: str) -> None:
    found = colours(scheme)
    pairs = [(text, page) for text in ("text", "soft", "accent") for page in ("page", "panel")]
    pairs += [(name, f"{name}-page") for name in ("good", "warn", "bad")]
    pairs += [("text", "plain-page"), ("text", "bad-page"), ("soft", "bad-page")]
    assert {pair: contrast(found[pair[0]], found[pair[1]]) for pair in pairs if contrast(found[pair[0]], found[pair[1]]) < TEXT} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_the_drawings_stands_out_from_its_panel(scheme: str) -> None:
    found = colours(scheme)
    assert {name: contrast(found[name], found["panel"]) for name in PALETTE if contrast(found[name], found["panel"]) < GRAPHIC} == {}


def test_motion_is_left_to_those_who_want_it() -> None:
    before, after = STYLE.split("@media (prefers-reduced-motion: no-preference)")
    assert not re.search(r"\b(animation|transition|scroll-behavior)\b", before)
    assert "scroll-behavior" in after
