"""The best plan on several kinds of chips, beside the even split and what fewer kinds do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from chipassay.scaling.text import amount, seconds

from ..validation.table import Section, layout
from .words import WIDTH

if TYPE_CHECKING:
    from chipassay.results.prices import Price
    from chipassay.scaling.mixed.answer import MixedAnswer, MixedOption

HOW_TO_READ = "pipelines x (chip tpDEGREE [layers of each stage] -> next chip ...) microbatches of each x sequences in one"

COST = "USD per million tokens"


def told(answer: MixedAnswer, model: str, cluster: str, prices: Mapping[str, Price], tokens: float | None = None) -> Iterator[str]:
    """Lines: the best plan and what each kind does in it, the others it has to be held against, then what limits all of them.

    ``prices``: by chip id, per chip and hour; a column of costs is shown where those of all chips are known. ``tokens``: of the run, whose
    days and, with prices, money are told.
    """
    p = answer.best.prediction
    so_far = ", so far (interrupted)" if answer.interrupted else ""
    yield f"{model} on {cluster}: the best plan by time{so_far}"
    if answer.advice:
        yield from _wrapped(f"{answer.advice[0].upper()}{answer.advice[1:]}.", "")
    yield f"step {seconds(p.step_time_s)} (80 %: {seconds(p.low_s)} to {seconds(p.high_s)}), {amount(p.tokens_per_s)} tokens/s"
    yield from _wrapped(answer.best.text)
    if "->" in answer.best.text or "[" in answer.best.text:
        yield f"  ({HOW_TO_READ})"
    yield ""
    yield from layout((_kinds(answer),), "", WIDTH + 20).rstrip("\n").splitlines()
    yield ""
    options, others = _options(answer, prices, tokens)
    yield from layout((options,), "", WIDTH + 20).rstrip("\n").splitlines()
    yield f"whole separate jobs, one model each: {amount(answer.separate_tokens_per_s)} tokens/s together"
    if tokens is not None:
        yield f"days and USD are of a run of {amount(tokens)} tokens without restarts"
    if COST in options.headings:
        yield from _wrapped(_cheapest(options), "")
        yield from _wrapped(f"prices: {'; '.join(f'{chip} {price.describe()}' for chip, price in prices.items())}", "")
    elif len(answer.kinds) > 1:
        yield "costs are not shown, for not all prices are known: give --price CHIP=USD per chip and hour"
    yield ""
    for name, option in others:
        yield from _wrapped(f"{name}: {option.text}", "")
    least = f"; none can take less than {seconds(answer.bound_s)}" if answer.bound_s else ""
    yield f"{answer.tried:,} plans priced, the splits of {answer.solved:,} solved{least}"
    for note in answer.notes:
        if note != answer.advice:
            yield from _wrapped(f"note: {note}", "")


def _kinds(answer: MixedAnswer) -> Section:
    """What each kind of the cluster does in the best plan."""
    from chipassay.scaling.mixed.records import MixedPrediction

    p, lines = answer.best.prediction, []
    for index, kind in enumerate(answer.kinds):
        used = dict(zip(answer.best.kinds, answer.best.chips, strict=True)).get(kind.name, 0)
        cells = ("0 %", "", "")
        if used and isinstance(p, MixedPrediction):
            stages = [stage for stage in p.stages if stage.kind == index]
            layers = sum(pipe.sequences * stage.layers for pipe in p.plan.pipelines for stage in pipe.stages if stage.kind == index)
            whole = sum(pipe.sequences * stage.layers for pipe in p.plan.pipelines for stage in pipe.stages)
            chips = [
                p.plan.pipelines[stage.pipeline].replicas * p.plan.pipelines[stage.pipeline].stages[stage.index].tp for stage in stages
            ]
            idle = sum(many * stage.idle_share for many, stage in zip(chips, stages, strict=True)) / sum(chips)
            fullest = max(stages, key=lambda stage: stage.memory_bytes)
            memory = f"{fullest.memory_bytes / 1e9:.1f} of {fullest.limit_bytes / 1e9:.1f}"
            cells = (f"{100 * layers / whole:.1f} %", f"{100 * idle:.0f} %", memory)
        elif used and not isinstance(p, MixedPrediction):
            cells = ("100.0 %", "", f"{p.memory_total_bytes / 1e9:.1f} of {p.memory_limit_bytes / 1e9:.1f}")
        lines.append((kind.name, f"{used} of {kind.count}", kind.dtype, *cells))
    headings = ("kind", "chips at work", "trains in", "share of the work", "idle", "GB on the fullest chip")
    return Section("What each kind does in it", headings, tuple(lines), (1, 3, 4, 5))


def _options(answer: MixedAnswer, prices: Mapping[str, Price], tokens: float | None) -> tuple[Section, list[tuple[str, MixedOption]]]:
    """The best plan and what it has to be held against, and of them those whose plan has not been shown."""
    best = answer.best
    named = [(" and ".join(best.kinds), best)]
    if answer.all_kinds is not None and answer.all_kinds is not best:
        named.append(("all kinds at work", answer.all_kinds))
    if answer.even_split is not None:
        named.append(("even split (all chips alike)", answer.even_split))
    named += [(f"{' and '.join(option.kinds)} only", option) for option in answer.without if option is not best]
    hourly = {kind.name: prices[kind.chip_id].usd for kind in answer.kinds if kind.chip_id in prices}
    priced = all(kind.name in hourly for kind in answer.kinds)
    lines: list[tuple[str, ...]] = []
    for name, option in named:
        speed = f"{100 * option.tokens_per_s / best.tokens_per_s:.1f} %"
        cells: tuple[str, ...] = (name, str(sum(option.chips)), seconds(option.step_time_s), amount(option.tokens_per_s), speed)
        if priced:
            usd = sum(count * hourly[kind] for kind, count in zip(option.kinds, option.chips, strict=True)) / 3600
            cells = (*cells, f"{usd / option.tokens_per_s * 1e6:.4g}")
        if tokens is not None:
            run_s = tokens / option.tokens_per_s
            cells = (*cells, f"{run_s / 86400:,.4g}", *([amount(usd * run_s)] if priced else []))
        lines.append(cells)
    if answer.even_split is None:
        lines.append(("even split (all chips alike)", "", "does not fit, or divides nothing", "", ""))
    headings = ["which chips", "chips", "step", "tokens/s", "speed", *([COST] if priced else [])]
    if tokens is not None:
        headings += ["days", *(["USD"] if priced else [])]
    lines = [(*line, *[""] * (len(headings) - len(line))) for line in lines]
    return Section("Beside it", tuple(headings), tuple(lines), tuple(range(1, len(headings)))), named[1:]


def _cheapest(options: Section) -> str:
    """What trains a token for the least money, if that is not the fastest."""
    column = options.headings.index(COST)
    costs = [(float(line[column]), line[0]) for line in options.lines if line[column]]
    least, name = min(costs)
    first = costs[0][0]
    if least == first:
        return "the fastest is the cheapest, too"
    return f"the cheapest per token: {name}, {100 * (1 - least / first):.0f} % below the fastest (rent of the chips at work alone)"


def _wrapped(text: str, indent: str = "  ") -> Iterator[str]:
    yield textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
