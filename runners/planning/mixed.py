"""The best plan on several kinds of chips, beside the even split and what fewer kinds do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from chipassay.scaling.text import amount, seconds

from .words import WIDTH

if TYPE_CHECKING:
    from chipassay.scaling.mixed.search import MixedAnswer, MixedOption


def told(answer: MixedAnswer, model: str, cluster: str) -> Iterator[str]:
    """Lines: the best plan, then the others it has to be held against, then what limits all of them."""
    best = answer.best
    p = best.prediction
    yield f"{model} on {cluster}: the best plan by time"
    yield from _wrapped(best.text)
    yield (
        f"step {seconds(p.step_time_s)} (80 %: {seconds(p.low_s)} to {seconds(p.high_s)}), {amount(p.tokens_per_s)} tokens/s "
        f"with {' and '.join(best.kinds)}"
    )
    alone = max(answer.without, key=lambda option: option.tokens_per_s, default=None)
    if answer.all_kinds is not None and len(best.kinds) < len(answer.all_kinds.kinds):
        yield f"The other chips slow the job down: with all kinds at work {_beside(answer.all_kinds, best)}"
    elif alone is not None:
        yield f"All kinds pay: with {' and '.join(alone.kinds)} only, the best of the smaller choices, {_beside(alone, best)}"
    if answer.all_kinds is not None and answer.all_kinds is not best:
        yield from _option("all kinds at work", answer.all_kinds, best)
    if answer.even_split is None:
        yield "even split: does not fit, or divides nothing"
    else:
        yield from _option("even split (all chips alike)", answer.even_split, best)
    for option in answer.without:
        yield from _option(f"{' and '.join(option.kinds)} only", option, best)
    yield f"whole separate jobs, one model each: {amount(answer.separate_tokens_per_s)} tokens/s together"
    yield f"{answer.tried:,} plans priced, the splits of {answer.solved:,} solved"
    for note in answer.notes:
        yield from _wrapped(f"note: {note}")


def _beside(option: MixedOption, best: MixedOption) -> str:
    return f"{100 * (option.tokens_per_s / best.tokens_per_s):.1f} % of its speed"


def _option(name: str, option: MixedOption, best: MixedOption) -> Iterator[str]:
    yield f"{name}: {seconds(option.step_time_s)}, {amount(option.tokens_per_s)} tokens/s, {_beside(option, best)}"
    yield from _wrapped(option.text)


def _wrapped(text: str) -> Iterator[str]:
    yield textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
