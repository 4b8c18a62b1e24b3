"""The question of `chipassay equate` and its answers, one for each model and side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chipassay.results.prices import Price
from chipassay.scaling.errors import IllegalPlan, MissingCell, NoPlanFits
from chipassay.scaling.exchange import Exchange, Point, Run, Same, Side, Trade, set_up
from chipassay.scaling.models import Transformer
from chipassay.scaling.what_if import Change

DAY_S = 86400.0


@dataclass(frozen=True)
class Question:
    """What is asked."""

    models: tuple[Transformer, ...]
    reference: Side
    count: int
    others: tuple[Side, ...]
    same: Same = "time"
    batch: int | None = None
    tokens: float | None = None
    as_of: str | None = None
    changes: tuple[Change, ...] = ()
    prices: Mapping[str, Price] | None = None
    curve: bool = False

    @property
    def pairs(self) -> int:
        return len(self.models) * len(self.others)


@dataclass(frozen=True)
class Answer:
    """One model and one other side."""

    model: Transformer
    other: str
    exchange: Exchange | None
    refusal: str = ""
    """Why there is no exchange, where there is none."""
    curve: tuple[tuple[Point, ...], tuple[Point, ...]] | None = None
    """Speeds over numbers of chips, the reference's first."""
    unfinished: bool = False
    """The work was stopped before it was answered; ``refusal`` says how far it was."""

    def to_dict(self, tokens: float | None) -> dict[str, Any]:
        """As plain data, for JSON."""
        told: dict[str, Any] = {
            "model": self.model.name, "parameters": self.model.parameters, "seq_len": self.model.seq_len, "other_chip": self.other,
        }  # fmt: skip
        if self.exchange is None:
            return {**told, "refusal": self.refusal, "unfinished": self.unfinished}
        e = self.exchange
        runs = {"reference": of_tokens(e.reference_run, tokens), "other": of_tokens(e.other_run, tokens)}
        told |= {**e.to_dict(), "run": None if tokens is None else {"tokens": tokens, **runs}}
        if self.curve is not None:
            sides = zip(("reference", "other"), self.curve, strict=True)
            told["curve"] = {side: [(point.chips, point.tokens_per_s) for point in points] for side, points in sides}
        return told


def of_tokens(run: Run | None, tokens: float | None) -> dict[str, float | None] | None:
    """Days, money and energy of so many tokens; no restarts, no storage."""
    if run is None or tokens is None:
        return None
    usd, joules = run.usd_per_token, run.joules_per_token
    return {
        "days": tokens / run.tokens_per_s / DAY_S,
        "usd": None if usd is None else usd * tokens,
        "kwh": None if joules is None else joules * tokens / 3.6e6,
    }


def answers(question: Question, watch: Callable[[str], None]) -> Iterator[Answer]:
    """One after the other, as they are worked out. Of several, one that has no answer is told and the others go on; a single one raises.
    An interrupt is told in the answer that it came in, and ends them."""
    q = question
    for model in q.models:
        trade: Trade | None = None  # of the first side; its reference is the others' too
        for other in q.others:
            begun = None
            try:
                begun = trade = trade.against(other) if trade is not None else _trade(q, model, other, watch)
                yield _answer(q, model, trade)
            except (NoPlanFits, IllegalPlan, MissingCell) as error:
                if q.pairs == 1:
                    raise
                yield Answer(model, other.name, None, str(error))
            except KeyboardInterrupt:
                said = f"not finished: the plan of {q.reference.name} was being looked for" if begun is None else begun.so_far(q.same)
                yield Answer(model, other.name, None, said, unfinished=True)
                return


def all_answers(question: Question, watch: Callable[[int, str], None]) -> tuple[list[Answer], bool]:
    """All of them, and whether all are answered: after an interrupt the rest are marked as not begun. ``watch`` is told how many are done,
    and what goes on."""
    found: list[Answer] = []
    try:
        for answer in answers(question, lambda words: watch(len(found), words)):
            found.append(answer)
            watch(len(found), f"{answer.model.name}: {answer.other}")
    except KeyboardInterrupt:  # between two answers
        pass
    pairs = [(model, other.name) for model in question.models for other in question.others]
    finished = len(found) == len(pairs) and not any(answer.unfinished for answer in found)
    return [*found, *(Answer(model, name, None, "not begun", unfinished=True) for model, name in pairs[len(found) :])], finished


def _trade(q: Question, model: Transformer, other: Side, watch: Callable[[str], None]) -> Trade:
    return set_up(
        model, q.reference, q.count, other,
        global_batch=q.batch, as_of=q.as_of, changes=q.changes, prices=q.prices, watch=lambda words: watch(f"{model.name}: {words}"),
    )  # fmt: skip


def _answer(q: Question, model: Transformer, trade: Trade) -> Answer:
    exchange = trade.exchange(q.same, limits=q.same == "time")
    curve = None
    if q.curve:
        # As far as the answer, and twice further: beyond it lines run out of the picture.
        most = 2 * max(q.count, exchange.count or 0, 0 if exchange.count or exchange.ceiling is None else exchange.ceiling.chips)
        curve = trade.curve(most)
    return Answer(model, trade.other.side.name, exchange, curve=curve)
