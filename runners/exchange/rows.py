"""Answers as rows of one table: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from chipassay.results.safe_text import printable
from chipassay.scaling.exchange import Exchange, Run
from chipassay.scaling.text import amount

from .answer import DAY_S, Answer, Question

CSV_COLUMNS = (
    *("model", "parameters", "global_batch", "same", "as_of", "reference_chip", "reference_count", "other_chip", "count", "count_low"),
    *(
        "count_high",
        "count_exact",
        "nearest_count",
        "nearest_ratio",
        "ratio",
        "ratio_low",
        "ratio_high",
        "speed",
        "speed_low",
        "speed_high",
        "reference_tokens_per_s",
    ),
    *("other_tokens_per_s", "reference_days", "other_days", "reference_usd_per_hour", "other_usd_per_hour", "reference_usd", "other_usd"),
    *("reference_watts", "other_watts", "reference_kwh", "other_kwh", "most_chips", "most_share", "beyond_reference_count", "reason"),
)
"""``count_high`` is ``inf`` where no number reaches the upper end of the interval."""


FIGURES = (
    "chips: how many stand for the reference's, or in brackets which number comes nearest; 80 %: its interval; each: chips "
    "for one of the reference's; speed: over the reference's; USD: at the median of the quotes; kW: from the wall, hosts and building in it"
)


@dataclass(frozen=True)
class Row:
    """One line of the table, as text."""

    model: str
    chip: str
    cells: tuple[str, ...]


def heads(question: Question) -> tuple[str, ...]:
    """The heads of the columns behind the model and the chip."""
    run = ("days", "USD") if question.tokens is not None else ("tokens/s", "USD/h")
    return ("chips", "80 %", "each", "speed", *run, "kW")


def rows(question: Question, answers: Sequence[Answer]) -> list[Row]:
    """A line for the reference of each model, then one for each other side."""
    made: list[Row] = []
    tokens = question.tokens
    told = ""
    for answer in answers:
        e = answer.exchange
        if e is None:
            made.append(Row(answer.model.name, answer.other, ("unfinished" if answer.unfinished else "-", "", "", "", "", "", "")))
            continue
        if answer.model.name != told:
            told = answer.model.name
            made.append(Row(told, e.reference_chip, (f"{e.reference_count:,}", "", "", "1", *_of_run(e.reference_run, tokens))))
        made.append(Row(told, e.other_chip, (_count(e), _interval(e), _each(e), _times(e.speed), *_of_run(e.other_run, tokens))))
    return made


def _count(e: Exchange) -> str:
    """The number, or in brackets the one that comes nearest."""
    if e.count is not None:
        return f"{e.count:,}"
    return "none" if e.nearest_count is None else f"none ({e.nearest_count:,})"


def _interval(e: Exchange) -> str:
    if e.count is None or e.count_low is None or e.count_high is None:
        return ""
    if e.count_low == e.count_high and e.reference_chip == e.other_chip:
        return ""  # the same chips: nothing is predicted
    low, high = (f"{end:,.0f}" if 0 < end < math.inf else "none" for end in (e.count_low, e.count_high))
    return f"{low} to {high}"


def _each(e: Exchange) -> str:
    return "" if e.count is None else _times(e.count / e.reference_count)


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if 0.1 <= value < 100 else amount(value)


def _of_run(run: Run | None, tokens: float | None) -> tuple[str, str, str]:
    if run is None:
        return ("", "", "")
    power = "" if run.watts is None else amount(run.watts / 1e3)
    if tokens is None:
        return (amount(run.tokens_per_s), "" if run.usd_per_hour is None else amount(run.usd_per_hour), power)
    usd = run.usd_per_token
    return (amount(tokens / run.tokens_per_s / DAY_S), "" if usd is None else amount(usd * tokens), power)


def terms(question: Question, answers: Sequence[Answer]) -> list[str]:
    """On what terms both sides work, in sentences: batch and tokens, and which of them nobody gave."""
    batches = {
        answer.model.name: f"{answer.exchange.global_batch:,} sequences of {answer.model.seq_len:,} tokens"
        for answer in answers
        if answer.exchange is not None
    }
    told = list(dict.fromkeys(batches.values()))
    if len(told) > 1:
        told = [f"{name} {batch}" for name, batch in batches.items()]
    usual = "" if question.batch is not None else "about four million tokens, as no --batch was given; "
    said = [f"batch: {', '.join(told)} ({usual}a side may move it by up to 5 % so that its chips divide it)"] if told else []
    return said if question.tokens is not None else [*said, "no --tokens were given: speed and rent, not days and money"]


def title(question: Question) -> str:
    """What the table shows, in one line."""
    when = f", as of {question.as_of}" if question.as_of else ""
    tokens = "" if question.tokens is None else f", {question.tokens:.4g} tokens"
    what = {
        "time": "as fast as", "cost": "for no more money a run than", "rent": "for no more rent than",
        "power": "on no more power than", "energy": "on no more energy a run than",
    }[question.same]  # fmt: skip
    return f"{what} {question.count:,} x {question.reference.name}{tokens}{when}"


def table(question: Question, answers: Sequence[Answer]) -> str:
    """Columns for a terminal."""
    lines = [("model", "chip", *heads(question))]
    before = ""
    for row in rows(question, answers):
        lines.append((printable(row.model, 40) if row.model != before else "", printable(row.chip, 48), *row.cells))
        before = row.model
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in shown)


def markdown(question: Question, answers: Sequence[Answer]) -> str:
    """The table as Markdown, what stops each side and what is to be known below it."""
    from ..comparison.markdown import escaped  # loads what the table does not need

    titles = ("model", "chip", *heads(question))
    lines = [f"**{escaped(title(question).capitalize())}**", "", f"| {' | '.join(titles)} |"]
    lines.append("| --- | --- |" + " ---: |" * (len(titles) - 2))
    lines += [f"| {' | '.join((escaped(row.model), escaped(row.chip), *row.cells))} |" for row in rows(question, answers)]
    common = common_notes(answers)
    notes = [f"- {escaped(f'{one.model.name}, {one.other}: {said}', None)}" for one in answers for said in _sentences(one, common)]
    notes += [f"- {escaped(said, None)}" for said in (*common, *terms(question, answers), FIGURES)]
    return "\n".join([*lines, "", *dict.fromkeys(notes)]) + "\n"


def common_notes(answers: Sequence[Answer]) -> tuple[str, ...]:
    """Notes of all answers, where there are several: they are told once."""
    noted = [answer.exchange.notes for answer in answers if answer.exchange is not None]
    return tuple(note for note in noted[0] if all(note in notes for notes in noted[1:])) if len(noted) > 1 else ()


def _sentences(answer: Answer, common: Sequence[str]) -> list[str]:
    """The reason of a number, where it ends, and what else is to be known."""
    e = answer.exchange
    if e is None:
        return [answer.refusal]
    return [e.reason, *([limit] if (limit := limit_sentence(e)) else []), *(note for note in e.notes if note not in common)]


def limit_sentence(e: Exchange) -> str:
    """Where it stops being possible."""
    top = e.ceiling
    if top is None or e.count is None:
        return ""
    most = f"the most there is: {amount(top.share)} times this speed; {top.reason}"
    if top.beyond is None:
        return most
    return f"from {top.beyond:,} {e.reference_chip} on no number of {e.other_chip} is as fast; {most}"


def as_csv(question: Question, answers: Sequence[Answer]) -> str:
    """One line for each model and side, in SI units."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for answer in answers:
        writer.writerow({name: "" if value is None else value for name, value in _csv_row(question, answer).items()})
    return file.getvalue()


def _csv_row(question: Question, answer: Answer) -> dict[str, object]:
    row: dict[str, object] = {
        "model": answer.model.name, "parameters": answer.model.parameters, "same": question.same, "as_of": question.as_of,
        "reference_chip": question.reference.name, "reference_count": question.count, "other_chip": answer.other,
    }  # fmt: skip
    e = answer.exchange
    if e is None:
        return {**row, "reason": answer.refusal}
    row |= {name: getattr(e, name) for name in ("global_batch", "count", "count_low", "count_high", "count_exact", "nearest_count")}
    row |= {name: getattr(e, name) for name in ("nearest_ratio", "speed", "speed_low", "speed_high")}
    if e.worth is not None:
        row |= {"ratio": e.worth.ratio, "ratio_low": e.worth.low, "ratio_high": e.worth.high}
    for side, run in (("reference", e.reference_run), ("other", e.other_run)):
        if run is None:
            continue
        row |= {f"{side}_tokens_per_s": run.tokens_per_s, f"{side}_usd_per_hour": run.usd_per_hour, f"{side}_watts": run.watts}
        if question.tokens is not None:
            usd, joules = run.usd_per_token, run.joules_per_token
            row[f"{side}_days"] = question.tokens / run.tokens_per_s / DAY_S
            row[f"{side}_usd"] = None if usd is None else usd * question.tokens
            row[f"{side}_kwh"] = None if joules is None else joules * question.tokens / 3.6e6
    if e.ceiling is not None:
        row |= {"most_chips": e.ceiling.chips, "most_share": e.ceiling.share, "beyond_reference_count": e.ceiling.beyond}
    return {**row, "reason": e.reason}
