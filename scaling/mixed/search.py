"""The best plan for a cluster of several kinds of chips, beside what its parts would do alone and what an even split does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chipassay.results.profile import Profile

from ..cluster import Cluster, parse_cluster
from ..errors import IllegalPlan, MissingCell, NoPlanFits
from ..grid import tensor_axis
from ..models import Transformer, load_model
from ..plan import Plan
from ..predict import Prediction
from ..search import default_global_batch, search
from .enumerate import Candidate, Enumeration
from .evaluate import predict_mixed
from .even import even_split
from .kinds import Kind, kinds_of
from .polish import Solved, polished
from .pools import Pool, Solver
from .records import MixedPrediction
from .tables import Tables

MOST_SOLVED = 160
"""Plans on one choice of kinds whose splits are solved, the best by estimate."""
MOST_SOLVED_SMALL, SMALL_CHIPS = 640, 16
"""The same for clusters of up to so many chips, whose plans are quick to solve."""
MOST_POLISHED = 120
"""Small changes to the best of them that are solved, too."""
PLAYED = 6
"""Of these, those played through pass by pass."""
EVERY_COUNT = 16
"""Up to so many chips of a kind each smaller number of them is tried alone, too; beyond, those of three binary digits."""


@dataclass(frozen=True)
class MixedOption:
    """A plan on some of a cluster's kinds."""

    kinds: tuple[str, ...]
    """Those that work in it."""
    prediction: MixedPrediction | Prediction
    """A Prediction where one kind works by a plan of ``search``."""

    @property
    def step_time_s(self) -> float:
        return self.prediction.step_time_s

    @property
    def tokens_per_s(self) -> float:
        return self.prediction.tokens_per_s

    @property
    def text(self) -> str:
        """The plan in one line."""
        if isinstance(self.prediction, MixedPrediction):
            return self.prediction.text
        return f"{self.prediction.cluster}: {self.prediction.plan.describe()}"


@dataclass(frozen=True)
class MixedAnswer:
    """What a cluster of several kinds does best, and what else it could."""

    best: MixedOption
    all_kinds: MixedOption | None
    """The best plan in which every kind works; None: none fits."""
    even_split: MixedOption | None
    """The best plan that treats all chips alike; None: none fits."""
    without: tuple[MixedOption, ...]
    """The best plan of each smaller choice of kinds, the fastest first."""
    separate_tokens_per_s: float
    """What the kinds train together as whole separate jobs, each with the same batch. They make one model each."""
    tried: int
    """Plans that were priced."""
    solved: int
    """Of these, plans whose splits were solved."""
    bound_s: float
    """No plan of those that can be formed takes less by the common cost (of what was priced and not solved, the least)."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""

        def one(option: MixedOption | None) -> dict[str, Any] | None:
            return None if option is None else {"kinds": option.kinds, "text": option.text, **option.prediction.to_dict()}

        return {
            "best": one(self.best), "all_kinds": one(self.all_kinds), "even_split": one(self.even_split),
            "without": [one(option) for option in self.without], "separate_tokens_per_s": self.separate_tokens_per_s,
            "tried": self.tried, "solved": self.solved, "bound_s": self.bound_s, "notes": self.notes,
        }  # fmt: skip


def plan_mixed(
    model: Transformer | str,
    cluster: Cluster | str,
    global_batch: int | None = None,
    *,
    dtype: str | None = None,
    settings: Plan | None = None,
    profiles: Mapping[str, Profile] | None = None,
    every: bool = False,
) -> MixedAnswer:
    """The fastest plan of a model on a cluster of one or more kinds of chips at a global batch (about four million tokens if None).

    ``settings``: what all plans share (attention, optimizer, overlap, ...). ``every`` drops nothing by its estimate: exact, and for small
    clusters alone. Raises NoPlanFits where nothing fits.

    >>> answer = plan_mixed("gpt3-1.3b", "8xa100-sxm-80gb+8xv100-sxm2-32gb", 64)
    >>> answer.best.step_time_s <= min(option.step_time_s for option in answer.without)
    True
    """
    transformer = load_model(model) if isinstance(model, str) else model
    if isinstance(cluster, str):
        cluster = parse_cluster(cluster, profiles)
    batch = global_batch or default_global_batch(transformer, cluster.count)
    kinds, notes = kinds_of(cluster, dtype)
    shared = replace(settings or Plan(global_batch=batch, sequence_parallel=True), global_batch=batch, zero_stage=1)
    answer = _Search(transformer, kinds, shared, cluster.name, notes, every).answer()
    if every:
        return answer
    # Numbers that divide badly can be slower than fewer chips that divide well: those may stand idle.
    for counts in sorted({tuple(round_down(kind.count) for kind in kinds) for round_down in (_power_of_two, _few_factors)}):
        if counts != tuple(kind.count for kind in kinds):
            fewer = tuple(replace(kind, group=kind.group.with_count(count)) for kind, count in zip(kinds, counts, strict=True))
            answer = _the_faster(answer, _Search(transformer, fewer, shared, cluster.name, notes, every), kinds)
    return answer


def _power_of_two(count: int) -> int:
    return 1 << count.bit_length() - 1


def _few_factors(count: int) -> int:
    """The largest number up to ``count`` that is at most 7 times a power of two.

    >>> _few_factors(50), _few_factors(40)
    (48, 40)
    """
    return max(digits << power for power in range(count.bit_length()) for digits in range(1, 8) if digits << power <= count)


def _the_faster(answer: MixedAnswer, search: _Search, kinds: tuple[Kind, ...]) -> MixedAnswer:
    """The answer, or with the best of a search on fewer chips where that is faster."""
    try:
        other = search.answer()
    except NoPlanFits:
        return answer
    better = other.all_kinds is not None and (answer.all_kinds is None or other.all_kinds.step_time_s < answer.all_kinds.step_time_s)
    answer = replace(
        answer,
        all_kinds=other.all_kinds if better else answer.all_kinds,
        tried=answer.tried + other.tried,
        solved=answer.solved + other.solved,
    )
    if other.best.step_time_s >= answer.best.step_time_s:
        return answer
    used = " and ".join(f"{fewer.count} of {kind.count} {kind.name}" for fewer, kind in zip(search.kinds, kinds, strict=True))
    note = f"at most {used} work: the others would make numbers that divide the work worse"
    return replace(answer, best=other.best, bound_s=min(answer.bound_s, other.bound_s), notes=(*answer.notes, note))


@dataclass(eq=False)
class _Search:
    model: Transformer
    kinds: tuple[Kind, ...]
    settings: Plan
    cluster: str
    notes: tuple[str, ...]
    every: bool

    def answer(self) -> MixedAnswer:
        tables = Tables(self.model, self.kinds, self.settings)
        batch = self.settings.global_batch
        alone = {frozenset({index}): self._alone(index) for index in range(len(self.kinds))}
        enumeration = Enumeration(tables, batch, self.every)
        fastest = min((one.step_time_s for one in alone.values() if one is not None), default=float("inf"))
        candidates = enumeration.candidates(fastest if fastest < float("inf") else 1e9)
        solver = Solver(tables, batch)
        options: dict[frozenset[int], MixedOption] = {}
        solved, bounds = 0, []
        for some, plans in candidates.items():
            limit = min((option.step_time_s for kinds, option in options.items() if kinds <= some), default=float("inf"))
            found, count, bound = self._solve(solver, plans, alone.get(some), limit if len(some) < len(self.kinds) else float("inf"))
            solved += count
            bounds.append(bound)
            option = self._played(tables, some, found, alone.get(some))
            if option is not None:
                options[some] = option
        even = even_split(tables)
        names = tuple(kind.name for kind in self.kinds)
        evened = None if even is None else MixedOption(names, predict_mixed(tables, even, self.cluster))
        whole = frozenset(range(len(self.kinds)))
        if evened is not None and (whole not in options or evened.step_time_s < options[whole].step_time_s):
            options[whole] = evened
        if not options:
            raise NoPlanFits(f"{self.model.name} does not fit on {self.cluster}, by any split over its kinds of chips; use more chips", 0.0)
        return self._told(evened, options, enumeration.seen, solved, min(bounds))

    def _alone(self, kind: int) -> Prediction | None:
        """The best plan of one kind alone, of fewer of its chips too: a number that divides well may beat a larger one."""
        known = self.kinds[kind]
        settings = replace(self.settings, sequence_parallel=False, zero_stage=0)
        rate = max(known.machine.products.rate_flops_per_s, known.machine.linear_products.rate_flops_per_s)
        chip_s = self.settings.global_batch * self.model.seq_len * self.model.training_flops_per_token(causal=True) / rate
        best: Prediction | None = None
        for count in _counts(known.count):
            if best is not None and chip_s / count >= best.step_time_s:
                break
            try:
                ranked = search(self.model, known.group.with_count(count), known.machine, self.settings.global_batch, settings=settings)
            except (IllegalPlan, NoPlanFits, MissingCell):
                continue
            if best is None or ranked.best.step_time_s < best.step_time_s:
                best = ranked.best
        return best

    def _solve(self, solver: Solver, plans: list[Candidate], alone: Prediction | None, limit_s: float) -> tuple[list[Solved], int, float]:
        """The best plans of one choice of kinds by the common cost, how many were solved, and the least bound of the others."""
        best = min(limit_s, float("inf") if alone is None else alone.step_time_s * 1.02)
        found: list[tuple[tuple[Pool, ...], Solved]] = []
        solved, left = 0, float("inf")
        most = MOST_SOLVED_SMALL if sum(kind.count for kind in self.kinds) <= SMALL_CHIPS else MOST_SOLVED
        for plan in plans:
            if plan.bound_s >= best:
                continue
            if solved >= most and not self.every:
                left = min(left, plan.bound_s)
                continue
            pools = plan.pools()
            one = solver.plan(pools)
            solved += 1
            if one is not None:
                found.append((pools, one))
                best = min(best, one[1].step_time_s)
        found.sort(key=lambda pair: pair[1][1].step_time_s)
        plans_found = [one for _, one in found]
        if found and not self.every:
            degrees = [frozenset(tensor_axis(self.model, kind.group.chips_per_node)) for kind in self.kinds]
            better, count = polished(solver, found[0], degrees, MOST_POLISHED)
            plans_found, solved = better[::-1] + plans_found, solved + count
            best = min(best, plans_found[0][1].step_time_s)
        return plans_found[:PLAYED], solved, min(left, best)

    def _played(self, tables: Tables, some: frozenset[int], found: list[Solved], alone: Prediction | None) -> MixedOption | None:
        names = tuple(self.kinds[index].name for index in sorted(some))
        predictions: list[MixedPrediction | Prediction] = [predict_mixed(tables, plan, self.cluster) for plan, _ in found]
        predictions += [alone] if alone is not None else []
        return MixedOption(names, min(predictions, key=lambda one: one.step_time_s)) if predictions else None

    def _told(
        self, even: MixedOption | None, options: Mapping[frozenset[int], MixedOption], tried: int, solved: int, bound_s: float
    ) -> MixedAnswer:
        whole = frozenset(range(len(self.kinds)))
        best_kinds = min(options, key=lambda some: (options[some].step_time_s, len(some)))
        best, together = options[best_kinds], options.get(whole)
        notes = list(self.notes if len(best_kinds) > 1 else ())
        smaller = sorted((option for some, option in options.items() if some != whole), key=lambda option: option.step_time_s)
        if best_kinds != whole:
            unused = ", ".join(self.kinds[index].name for index in sorted(whole - best_kinds))
            if together is None:
                notes.append(f"leave out {unused}: no plan was found that fits and in which every kind works")
            else:
                slower = together.step_time_s / best.step_time_s - 1
                notes.append(f"leave out {unused}: with it the step takes {slower:.1%} longer, even by the best plan found")
        elif smaller:
            gain = smaller[0].step_time_s / best.step_time_s - 1
            notes.append(f"{gain:.1%} faster than the best of fewer kinds ({', '.join(smaller[0].kinds)})")
        if self.model.experts is not None:
            notes.append("experts are not spread over chips of several kinds (ep 1) in mixed plans")
        separate = sum(options[frozenset({i})].tokens_per_s for i in whole if frozenset({i}) in options)
        return MixedAnswer(best, together, even, tuple(smaller), separate, tried, solved, bound_s, tuple(notes))


def _counts(most: int) -> list[int]:
    """Numbers of chips that are tried, falling.

    >>> _counts(4), _counts(100)[:6]
    ([4, 3, 2, 1], [100, 96, 80, 64, 56, 48])
    """
    rounded = (digits << power for power in range(most.bit_length()) for digits in range(1, 8))
    return sorted({most, *range(1, min(most, EVERY_COUNT) + 1), *(count for count in rounded if count <= most)}, reverse=True)
