"""How far the models of a profile are off, as lines of text for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chipassay.results.profile import Profile
from chipassay.results.units import seconds

from .fitting.cross_validate import Fitted, far_off, outside
from .normalise import Chosen

WORST = 5


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 9.995 else f"x {share + 1:.0f}"


def _line(one: Fitted) -> str:
    tested = one.held_out
    off = one.off
    seen = f"{_percent(float(np.median(off))):>8} {_percent(float(np.quantile(off, 0.9))):>8}"
    if tested is None:
        return f"  {one.name:<34} {len(off):>7} {seen}   too few to leave any out"
    least = f" of {tested.smallest_flops / 1e9:.3g} GFLOP and more" if tested.smallest_flops else ""
    return f"  {one.name:<34} {len(off):>7} {seen}   {_percent(tested.median):>8} {_percent(tested.p90):>8}   {tested.points}{least}"


def fit_lines(chosen: Chosen, profile: Profile, fitted: Sequence[Fitted]) -> list[str]:
    """Errors by operation and dtype, the rows that are furthest off, what is extrapolated, what was left out."""
    lines = ["", f"  {'error of the models':<34} {'rows':>7} {'median':>8} {'p90':>8}   {'held out':>8} {'p90':>8}   cases left out"]
    lines += [_line(one) for one in fitted if len(one.rows) > 1]
    single = [one.name for one in fitted if len(one.rows) == 1]
    lines += [f"  of one row each, so without an error: {', '.join(single)}"] if single else []
    worst = far_off([one for one in fitted if len(one.rows) > 1], WORST)
    if worst:
        lines += ["", "  furthest off"]
        lines += [
            f"  {one.name:<34} {one.shape}: {seconds(one.measured_s)} measured, {seconds(one.modelled_s)} by the model" for one in worst
        ]
    lines += _outside_lines(profile)
    lines += [f"  left out: {count} rows {why}" for why, count in chosen.left_out.items()]
    return lines


def _outside_lines(profile: Profile) -> list[str]:
    found = outside(profile)
    if not found:
        return []
    lines = ["", "  extrapolated: shapes of GPT-3 175B and Llama 3, forward and backward, outside of what was fitted (--json names them)"]
    for one in found:
        beyond = f": {'; '.join(one.beyond)}" if one.shapes else ""
        lines.append(f"  {one.name:<34} {len(one.shapes)} of {one.asked}{beyond}")
    return lines


def fit_json(chosen: Chosen, profile: Profile, fitted: Sequence[Fitted]) -> dict[str, Any]:
    """The same as data."""
    return {
        "errors": [
            {
                "name": one.name,
                "rows": len(one.rows),
                "median": float(np.median(one.off)),
                "p90": float(np.quantile(one.off, 0.9)),
                "held_out": None if one.held_out is None else vars(one.held_out),
            }
            for one in fitted
        ],
        "furthest_off": [vars(one) for one in far_off(fitted, WORST)],
        "extrapolated": [vars(one) for one in outside(profile)],
        "left_out": dict(chosen.left_out),
    }
