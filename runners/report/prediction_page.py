"""A prediction as one page (.html) that opens without a network: headline, pictures, every term, what it rests on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chipassay.results.safe_text import printable
from chipassay.results.units import short
from chipassay.scaling.text import amount, fitting, ranked, seconds

from ..profile_text import Table
from . import facts
from .page import TEMPLATES, page_environment
from .style import FAINT, INK
from .svg import inline
from .visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from chipassay.scaling.pipeline.timeline import Timeline

    from ..prediction.answer import Answer

INKS = {"#222222": INK, "#000000": INK, "#d9d9d9": FAINT, "#dddddd": FAINT}
"""Colours of the pictures that follow light and dark; numbers on bars keep theirs, which suits the bar."""

LEAST_ELASTICITY = 0.0005
"""Less than that would be told as 0.000."""


@dataclass(frozen=True)
class Card:
    """One headline number."""

    title: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class ToldTerm:
    """A term as the page shows it, under its formula."""

    what: str
    time: str
    numbers: str


@dataclass(frozen=True)
class ToldKind:
    """A kind of the breakdown: its terms by formula, and the sources of all of them."""

    name: str
    seconds: str
    share: str
    formulas: tuple[tuple[str, tuple[ToldTerm, ...]], ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class LedTable(Table):
    """A table with a line that says how to read it."""

    lead: str = ""


def page_text(answer: Answer, timeline: Timeline) -> str:
    """The page. Raises ChipassayError where a library is missing; the same answer gives the same text."""
    environment = page_environment()
    from markupsafe import Markup

    p = answer.prediction
    inputs = [*p.inputs, *(answer.goodput.inputs if answer.goodput else ()), *(answer.energy.inputs if answer.energy else ())]
    return environment.get_template("prediction.html.j2").render(
        title=f"{p.model} on {p.cluster}",
        sentence=_sentence(answer),
        warning="" if p.fits else f"This plan does not fit: {answer.why_not}.",
        cards=list(_cards(answer)),
        sections=list(_sections(answer, timeline)),
        tables=list(_tables(answer)),
        kinds=list(_kinds(answer)),
        inputs=ranked(inputs),
        version=facts.chipassay_version(),
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8").strip()),
        safe=Markup,
    )


def _sentence(answer: Answer) -> str:
    p = answer.prediction
    chosen = "as given" if answer.question.plan is not None else "the best found"
    return (
        f"A step of {p.plan.global_batch} sequences in {p.dtype} takes {seconds(p.step_time_s)}: with a chance of 80 %, "
        f"{seconds(p.low_s)} to {seconds(p.high_s)}. Plan ({chosen}): {p.plan.describe()}."
    )


def _cards(answer: Answer) -> Iterator[Card]:
    p = answer.prediction
    low, high = (p.tokens_per_s * p.step_time_s / end for end in (p.high_s, p.low_s))
    yield Card("step time", seconds(p.step_time_s), f"80 %: {seconds(p.low_s)} to {seconds(p.high_s)}")
    yield Card("tokens per second", amount(p.tokens_per_s), f"80 %: {amount(low)} to {amount(high)}")
    if p.mfu is not None and p.mfu_causal is not None and p.hfu is not None:
        yield Card("MFU", f"{p.mfu:.1%}", f"attention counted causal {p.mfu_causal:.1%}; HFU {p.hfu:.1%}")
    verdict = f"of {p.memory_limit_bytes / 1e9:.1f} GB: {fitting(p)}, most of it {p.largest_memory}"
    yield Card("memory per chip", f"{p.memory_total_bytes / 1e9:.1f} GB", verdict)
    if answer.cost is not None:
        cost = answer.cost
        yield Card("cost", f"{cost.usd_per_million_tokens:.3g} USD", f"per million tokens; {amount(cost.usd_per_hour)} USD per hour")
    if answer.energy is not None:
        energy = answer.energy
        yield Card("energy", f"{energy.joules_per_token:.3g} J", f"per token; {energy.chip_w:.0f} W per chip, and the node and building")
    if answer.goodput is not None:
        alive = answer.goodput
        spread = f"{alive.low:.1%} to {alive.high:.1%} by published failure rates" if alive.low < alive.high else "by the rate given"
        yield Card("goodput", f"{alive.share:.1%}", f"of wall time trains; {spread}")
    if answer.run is not None:
        run = answer.run
        usd = "" if run.usd is None else f"; {amount(run.usd)} USD"
        kwh = "" if answer.energy is None or answer.energy.run_kwh is None else f"; {amount(answer.energy.run_kwh)} kWh"
        yield Card(
            f"{short(run.tokens)} tokens", f"{amount(run.days)} days", f"{amount(run.days_low)} to {amount(run.days_high)}{usd}{kwh}"
        )


def _sections(answer: Answer, timeline: Timeline) -> Iterator[tuple[str, str, str, list[list[str]]]]:
    """(heading, name, line below it, rows of pictures)."""
    from chipassay.scaling.pipeline.gantt import gantt

    from .memory_picture import draw_memory
    from .scaling_pictures import draw_breakdown, draw_curve, draw_tornado

    p = answer.prediction
    bars = [
        [_svg(draw_breakdown([p], [f"{p.chips} chips"]), "breakdown", "Where the time goes", _words(p.breakdown_s, p.step_time_s))],
        [_svg(draw_memory(p), "memory", "Memory per chip", _words(p.memory_bytes, p.memory_total_bytes))],
    ]
    yield "Time and memory", "time", "One step by kind of work, and what the fullest chip holds.", bars
    if p.plan.pp > 1:
        told = f"{timeline.stages.count} stages, {timeline.makespan_s:.4g} s, {timeline.bubble_share:.1%} of it waiting"
        lead = f"One step, played through pass by pass: {told}. The option --trace writes it for ui.perfetto.dev."
        yield "Pipeline", "pipeline", lead, [[_svg(gantt(timeline), "gantt", "Pipeline of one step", told)]]
    row = []
    if answer.curve is not None and any(point.runs for point in answer.curve.points):
        told = "; ".join(f"{point.chips} chips: {_point(point)}" for point in answer.curve.points)
        row.append(_svg(draw_curve(answer.curve), "curve", "Scaling curve", told))
    if answer.sensitivity is not None:
        told = "; ".join(f"{one.name}: {one.step_elasticity:+.3f}" for one in answer.sensitivity.influences)
        row.append(_svg(draw_tornado(answer.sensitivity), "tornado", "What moves the step", told))
    if row:
        yield "More chips, other chips", "scaling", "The same model on more and fewer chips, and what each input does to the step.", [row]


def _point(point: Any) -> str:
    return f"{point.prediction.tokens_per_s:.4g} tokens/s" if point.runs else point.reason


def _words(parts: Any, total: float) -> str:
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value / total:.1%}" for name, value in ordered if value > 0)


def _svg(figure: Figure, name: str, title: str, description: str) -> str:
    """A figure fit to stand inside the page: black and grey follow light and dark, the ground is the page's."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    for axes in figure.axes:
        if axes.get_facecolor()[:3] == (1.0, 1.0, 1.0):  # a ground of another colour says something: the pipeline's grey is waiting
            axes.set_facecolor("none")
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "chipassay"}):
        metadata = {"Date": None, "Creator": None, "Type": None, "Format": None}
        figure.savefig(buffer, format="svg", facecolor="none", metadata=metadata)
    text = buffer.getvalue()
    for colour, stand_in in INKS.items():
        text = text.replace(colour, stand_in)
    return visible(inline(text, name, printable(title), printable(description, 2000)))


def _tables(answer: Answer) -> Iterator[LedTable]:
    """The numbers behind the curve and the tornado."""
    if answer.curve is not None:
        lines = []
        for point in answer.curve.points:
            p = point.prediction
            if p is None or not p.fits:
                lines.append((f"{point.chips:,}", "", "", "", "", point.reason))
                continue
            mfu = "" if p.mfu is None else f"{p.mfu:.1%}"
            lines.append(
                (f"{point.chips:,}", seconds(p.step_time_s), amount(p.tokens_per_s), mfu, f"{point.efficiency or 0:.1%}", p.plan.describe())
            )
        how = "the batch grows with the chips" if answer.curve.weak else "the batch stays"
        plans = "one plan with more replicas" if answer.curve.planned else "each number's best plan"
        headings = ("chips", "step", "tokens/s", "MFU", "efficiency", "plan")
        yield LedTable("Numbers of chips", headings, tuple(lines), (0, 1, 2, 3, 4), lead=f"{how[0].upper()}{how[1:]}; {plans}.")
    if answer.sensitivity is not None:
        found = answer.sensitivity
        rows = [
            (one.name, f"{one.step_elasticity:+.3f}", "" if one.cost_elasticity is None else f"{one.cost_elasticity:+.3f}")
            for one in found.influences
            if max(abs(one.step_elasticity), abs(one.cost_elasticity or 0.0)) >= LEAST_ELASTICITY
        ]
        lead = "Percent by which the step, and the cost of a token, change for each percent more of the input."
        yield LedTable("Influence of each input", ("input", "step", "cost"), tuple(rows), (1, 2), lead=lead)


def _kinds(answer: Answer) -> Iterator[ToldKind]:
    """Kinds with their terms, the largest first."""
    terms = answer.terms or ()
    step_s = answer.prediction.step_time_s
    sums = {kind: sum(term.seconds for term in terms if term.kind == kind) for kind in dict.fromkeys(term.kind for term in terms)}
    for kind, sum_s in sorted(sums.items(), key=lambda item: -item[1]):
        own = [term for term in terms if term.kind == kind]
        if not any(term.seconds for term in own):
            continue
        formulas = tuple(
            (formula, tuple(ToldTerm(term.what, _time(term.seconds), term.numbers) for term in own if term.formula == formula))
            for formula in dict.fromkeys(term.formula for term in own)
        )
        sources = tuple(dict.fromkeys(part for term in own for part in term.sources))
        yield ToldKind(kind.replace("_", " "), seconds(sum_s), f"{sum_s / step_s:.1%}", formulas, sources)


def _time(value_s: float) -> str:
    return "" if not value_s else f"-{seconds(-value_s)}" if value_s < 0 else seconds(value_s)
