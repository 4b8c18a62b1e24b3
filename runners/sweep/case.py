"""One case of a sweep: a model on a cluster by a plan, predicted once and priced for every price and number of tokens asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chipassay.results
import chipassay.scaling
from chipassay.results.errors import ChipassayError
from chipassay.results.evidence import LEVELS
from chipassay.results.safe_text import printable
from chipassay.scaling.errors import NoPlanFits, NotModelled

from .table import Result

if TYPE_CHECKING:
    from chipassay.results.prices import Price
    from chipassay.scaling.cluster import Cluster, Group
    from chipassay.scaling.mixed.records import MixedPrediction
    from chipassay.scaling.models import Transformer
    from chipassay.scaling.predict import Prediction

DAY_S = 86400.0
BEST = "best"
"""The plan of a case that is searched for."""


@dataclass(frozen=True)
class Offer:
    """A price and a number of tokens: what changes the money, not the step."""

    key: str
    prices: Mapping[str, Price | None]
    """Of each chip in the cluster, per hour; None: unknown."""
    asked: str
    """As the sweep writes it; empty: by the cluster's file, or by quotes."""
    tokens: float | None


@dataclass(frozen=True)
class Case:
    """What is predicted, self-contained: a worker needs no file but those of the package."""

    model_name: str
    """As the sweep writes it, like all names and texts here."""
    model: Transformer
    cluster_name: str
    cluster: Cluster
    """With what ``link`` changes changed."""
    link: str
    batch: int | None
    dtype: str | None
    plan: str
    offers: tuple[Offer, ...]
    version: str
    """Of the chipassay that made the case."""

    def results(self, status: str, reason: str = "") -> list[Result]:
        """A row for every offer, with the inputs alone."""
        return [
            Result(
                key=offer.key,
                model=self.model_name,
                seq_len=self.model.seq_len,
                cluster=self.cluster_name,
                link=self.link,
                batch=self.batch,
                dtype=self.dtype,
                plan=self.plan,
                price=offer.asked,
                tokens=offer.tokens,
                status=status,
                reason=printable(reason),
            )
            for offer in self.offers
        ]


@lru_cache(maxsize=1)
def model_version() -> str:
    """The version of this chipassay, and a digest of what its predictions are made by: a change of the model makes new rows."""
    try:
        named = version("chipassay")
    except PackageNotFoundError:
        named = "source tree"
    digest = hashlib.sha256()
    for room in (chipassay.results, chipassay.scaling):
        folder = Path(room.__path__[0])
        for path in sorted(path for path in folder.rglob("*.py") if path.is_file()):
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return f"{named} ({digest.hexdigest()[:8]})"


def key_of(*inputs: object) -> str:
    """What tells one set of inputs from another, in 16 hexadecimal digits: the same in every process and on every machine."""
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]


def solve(case: Case) -> list[Result]:
    """The rows of a case, one for each of its offers. Raises nothing: what is refused, or goes wrong, is told in the rows."""
    if case.version != model_version():
        return case.results("failed", f"the worker has chipassay {model_version()}, the sweep {case.version}; install the same on both")
    try:
        return _solved(case)
    except NoPlanFits as error:
        needed = None if error.needed_bytes is None else round(error.needed_bytes)
        return [replace(row, memory_bytes=needed) for row in case.results("refused", str(error))]
    except ChipassayError as error:
        return case.results("refused", str(error))
    except Exception as error:  # one case must not end a sweep of thousands
        return case.results("failed", f"{type(error).__name__}: {error}")


def _solved(case: Case) -> list[Result]:
    if len(case.cluster.groups) == 1:
        return _single(case)
    if case.plan != BEST:
        raise NotModelled(f"plan {case.plan} splits the work over chips of one kind; for a mix of kinds write {BEST!r}")
    return _mixed(case)


def _single(case: Case) -> list[Result]:
    """Chips of one kind."""
    from chipassay.scaling.plan_text import write_plan
    from chipassay.scaling.predict import single_group

    group = single_group(case.cluster)
    found = _predicted(case, group)
    about: dict[str, Any] = {
        "memory_bytes": round(found.memory_total_bytes),
        "memory_limit_bytes": round(found.memory_limit_bytes),
        "plan_found": write_plan(found.plan),
        "batch_found": found.plan.global_batch,
        "dtype_found": found.dtype,
        "chips": found.chips,
    }
    if not found.fits:
        needs = f"does not fit: {found.memory_total_bytes / 1e9:.1f} GB of {found.memory_limit_bytes / 1e9:.1f} GB per chip"
        why = f"{needs}, most of it {found.largest_memory} ({found.memory_bytes[found.largest_memory] / 1e9:.1f} GB)"
        return [replace(row, **about) for row in case.results("refused", why)]
    about |= {"mfu": found.mfu, "hfu": found.hfu, **_figures(found)}
    return [
        replace(row, **about, **_money(found, [(group.profile.chip_id, found.chips)], offer), **_energy(found, group, offer))
        for row, offer in zip(case.results("ok"), case.offers, strict=True)
    ]


def _mixed(case: Case) -> list[Result]:
    """Chips of several kinds, which the best plan may leave out."""
    from chipassay.scaling.mixed.kinds import kinds_of
    from chipassay.scaling.mixed.records import MixedPrediction
    from chipassay.scaling.mixed.search import plan_mixed

    answer = plan_mixed(case.model, case.cluster, case.batch, dtype=case.dtype)
    found = answer.best.prediction
    if isinstance(found, MixedPrediction):
        fullest = max(found.stages, key=lambda stage: stage.memory_bytes / stage.limit_bytes)
        memory, limit, dtype = fullest.memory_bytes, fullest.limit_bytes, "+".join(found.dtypes)
        kinds, _ = kinds_of(case.cluster, case.dtype)
        working = [(kind.name, found.plan.chips(index)) for index, kind in enumerate(kinds)]
        notes: tuple[str, ...] = (*answer.notes, *found.notes)
    else:
        memory, limit, dtype = found.memory_total_bytes, found.memory_limit_bytes, found.dtype
        working = [(answer.best.kinds[0], found.chips)]
        notes = answer.notes
    about: dict[str, Any] = {
        "memory_bytes": round(memory),
        "memory_limit_bytes": round(limit),
        "plan_found": answer.best.text,
        "batch_found": found.plan.global_batch,
        "dtype_found": dtype,
        "chips": found.chips,
        "notes": printable("; ".join(dict.fromkeys(notes))),
        **_figures(found),
    }
    return [replace(row, **about, **_money(found, working, offer)) for row, offer in zip(case.results("ok"), case.offers, strict=True)]


def _predicted(case: Case, group: Group) -> Prediction:
    from chipassay.scaling.plan_text import parse_plan
    from chipassay.scaling.predict import predict
    from chipassay.scaling.search import best_plan, default_global_batch

    if case.plan == BEST:
        return best_plan(case.model, group, case.batch, dtype=case.dtype)
    plan = parse_plan(case.plan, case.batch or default_global_batch(case.model, group.count))
    return predict(case.model, group, replace(plan, dtype=plan.dtype or case.dtype))


def _figures(found: Prediction | MixedPrediction) -> dict[str, Any]:
    return {
        **{name: getattr(found, name) for name in ("step_time_s", "low_s", "high_s", "tokens_per_s")},
        "evidence": max((one.evidence.level for one in found.inputs), key=LEVELS.index, default=""),
    }


def _money(found: Prediction | MixedPrediction, working: Sequence[tuple[str, int]], offer: Offer) -> dict[str, Any]:
    """Days for the tokens, and what the chips that work cost at the median quote; empty where a price is unknown."""
    money: dict[str, Any] = {}
    if offer.tokens is not None:
        steps = offer.tokens / (found.tokens_per_s * found.step_time_s)
        days = {"days": found.step_time_s, "days_low": found.low_s, "days_high": found.high_s}
        money = {name: steps * step_s / DAY_S for name, step_s in days.items()}
    paid = [(count, offer.prices[chip_id]) for chip_id, count in working if count]
    known = [(count, price) for count, price in paid if price is not None]
    if len(known) == len(paid):
        usd_per_hour = sum(count * price.usd for count, price in known)
        money["usd_per_hour"] = usd_per_hour
        money["usd_per_million_tokens"] = usd_per_hour / 3600 / found.tokens_per_s * 1e6
        money["price_found"] = " + ".join(price.describe() for _, price in known)
        if "days" in money:
            money["usd"] = money["days"] * 24 * usd_per_hour
    return money


def _energy(found: Prediction, group: Group, offer: Offer) -> dict[str, Any]:
    from chipassay.scaling.energy import energy_of
    from chipassay.scaling.errors import MissingCell

    try:
        energy = energy_of(found, group.profile, tokens=offer.tokens)
    except MissingCell:  # no power is known of the chip
        return {}
    return {"joules_per_token": energy.joules_per_token, "kwh": energy.run_kwh}


def missing(cases: Sequence[Case], done: set[str]) -> list[Case]:
    """The cases with the offers that are not done yet; those without any are left out."""
    rest = (replace(case, offers=tuple(offer for offer in case.offers if offer.key not in done)) for case in cases)
    return [case for case in rest if case.offers]
