"""Handing samples to pytest-benchmark: one round of its ``pedantic`` each, under a clock that shows what was measured.

Of pytest-benchmark (4.0 to 5.3) this needs one thing that is not public, the fixture's ``_timer``; that it worked is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from chipassay.results.errors import ChipassayError


class ReplayFailed(ChipassayError):
    """This pytest-benchmark did not take the samples as they are."""


def replay(benchmark: Any, times_s: Sequence[float], clock_source: str, call: Callable[[], Any]) -> None:
    """Fill the statistics of the ``benchmark`` fixture with ``times_s``.

    ``clock_source`` names the timer in its JSON. ``call`` runs only where pytest-benchmark wants a profile after the rounds.
    Raises ReplayFailed.
    """
    shown_s = 0.0
    left = iter(times_s)

    def timer() -> float:
        return shown_s

    def back_to_zero() -> None:
        # So that end less start is the sample to the last bit.
        nonlocal shown_s
        shown_s = 0.0

    def one_round() -> None:
        nonlocal shown_s
        time_s = next(left, None)
        if time_s is None:
            call()
        else:
            shown_s = time_s

    timer.__module__, timer.__qualname__ = "chipassay", f"{clock_source}_clock"
    timer.__name__ = timer.__qualname__
    benchmark._timer = timer
    benchmark.pedantic(one_round, setup=back_to_zero, rounds=len(times_s))
    if list(benchmark.stats.stats.data) != list(times_s):
        raise ReplayFailed(
            f"pytest-benchmark {version('pytest-benchmark')} keeps other times than were measured; "
            "install one of 4.0 to 5.3, with which chipassay's fixture was tried"
        )
