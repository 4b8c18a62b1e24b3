"""Fitted lines of several chips in one picture: a chart is made with each chip's profile, and the lines are laid over the same points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chipassay.results.errors import ChipassayError
from chipassay.results.profile import Profile
from chipassay.results.schema import Row

from ..normalise import choose, profile_of
from .charting import chips
from .plot import Plot

FITTED_AT_MOST = 6
"""Chips whose lines are drawn; the others show their points."""


def profiles_of(rows: Sequence[Row], profile: Profile | None) -> list[Profile]:
    """The profile that was given. Where none was and the rows are of several chips, one for each that can be fitted."""
    known = chips(rows)
    if profile is not None or len(known) < 2:
        return [] if profile is None else [profile]
    found = []
    for chip in known[:FITTED_AT_MOST]:
        try:
            found.append(profile_of(choose(rows, chip), by_shape=False))
        except ChipassayError:
            continue  # nothing was measured on this one
    return found


def overlaid(plots: Sequence[Plot], profiles: Sequence[Profile]) -> Plot:
    """One plot of several that have the same points: ``plots[i]`` was made with ``profiles[i]``."""
    if len(plots) == 1 or plots[0].missing is not None:
        return plots[0]
    series = {(s.label, s.hue, s.shape): s for s in plots[0].series}
    for plot in plots[1:]:
        for own in plot.series:
            key = (own.label, own.hue, own.shape)
            if own.model or key not in series:
                series[key] = own
    everywhere = [note for note in plots[0].notes if all(note in plot.notes for plot in plots)]
    apart = [
        f"{profile.chip_id}: {note}" for plot, profile in zip(plots, profiles, strict=True) for note in plot.notes if note not in everywhere
    ]
    return replace(plots[0], series=tuple(series.values()), notes=(*everywhere, *apart))
