"""The best plan for a cluster of several kinds of chips, beside what its parts would do alone and what an even split does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from chipassay.results.profile import Profile

from ..cluster import Cluster, parse_cluster
from ..errors import IllegalPlan, MissingCell, NoPlanFits
from ..grid import tensor_axis
from ..models import Transformer, load_model
from ..plan import Plan
from ..predict import Prediction
from ..search import default_global_batch, search
from .answer import MixedAnswer, MixedOption, Supply
from .choices import microbatch_axis
from .enumerate import Candidate, Enumeration
from .evaluate import predict_mixed
from .even import even_split
from .kinds import Kind, kinds_of
from .polish import Solved, polished
from .pools import Pool, Solver
from .records import MixedPrediction
from .tables import Tables

__all__ = ["MixedAnswer", "MixedOption", "Supply", "plan_mixed"]

MOST_SOLVED = 160
"""Plans on all kinds whose splits are solved, the best by estimate; on fewer kinds half as many."""
MOST_SOLVED_SMALL, SMALL_CHIPS = 400, 16
"""The same for clusters of up to so many chips, whose plans are quick to solve."""
TRIES, TRIES_SMALL = 2, 4
"""So many times as many may turn out not to fit, or to be slower than what is known, before a choice of kinds is given up."""
FIRST_SOLVED = 24
"""Of them, plans of pools side by side that are solved first: what is priced later has to beat them."""
MOST_POLISHED = 120
"""Small changes to the best of them that are solved, too; to each of the best of a small cluster."""
PLAYED = 6
"""Of these, those played through pass by pass."""
EVERY_COUNT = 16
"""Up to so many chips of a kind each smaller number of them is tried alone, too; beyond, those of three binary digits."""

Report = Callable[[int, int, str], None]
"""Called with (done, total, what is being done)."""
Kinds = frozenset[int]


def _silent(done: int, total: int, words: str) -> None:
    """Reports nothing."""


def plan_mixed(
    model: Transformer | str,
    cluster: Cluster | str,
    global_batch: int | None = None,
    *,
    dtype: str | None = None,
    settings: Plan | None = None,
    profiles: Mapping[str, Profile] | None = None,
    every: bool = False,
    report: Report = _silent,
    best_so_far: bool = False,
) -> MixedAnswer:
    """The fastest plan of a model on a cluster of one or more kinds of chips at a global batch (about four million tokens if None).

    ``settings``: what all plans share (attention, optimizer, overlap, ...). ``every``: every plan of pools that there is (see the README)
    with the least time of its pipelines; for a few chips alone. ``best_so_far``: an interrupt ends the search with what it has, marked as
    such, not the program. Raises NoPlanFits where nothing fits.

    >>> answer = plan_mixed("gpt3-1.3b", "8xa100-sxm-80gb+8xv100-sxm2-32gb", 64)
    >>> answer.best.step_time_s <= min(option.step_time_s for option in answer.without)
    True
    """
    transformer = load_model(model) if isinstance(model, str) else model
    if isinstance(cluster, str):
        cluster = parse_cluster(cluster, profiles)
    batch = global_batch or default_global_batch(transformer, cluster.count)
    kinds, notes = kinds_of(cluster, dtype)
    # In an order of their own, so that the order in which they were named changes nothing.
    kinds = tuple(sorted(kinds, key=lambda kind: (kind.name, kind.count)))
    shared = replace(settings or Plan(global_batch=batch, sequence_parallel=True), global_batch=batch, zero_stage=1)
    return _Search(transformer, kinds, shared, cluster.name, notes, every, report).answer(best_so_far)


@dataclass(eq=False)
class _Search:
    model: Transformer
    kinds: tuple[Kind, ...]
    settings: Plan
    cluster: str
    notes: tuple[str, ...]
    every: bool
    report: Report
    found: dict[Kinds, list[tuple[tuple[Pool, ...], Solved]]] = field(default_factory=dict)
    """The best plans of each choice of kinds by the common cost, the fastest first."""
    options: dict[Kinds, MixedOption] = field(default_factory=dict)
    even: MixedOption | None = None
    tried: int = 0
    solved: int = 0
    left_s: float = 0.0
    """What no plan takes less than; 0 as long as that is not known."""
    done: int = 0

    def __post_init__(self) -> None:
        self.tables = Tables(self.model, self.kinds, self.settings)
        self.batch = self.settings.global_batch
        self.solver = Solver(self.tables, self.batch)
        self.whole: Kinds = frozenset(range(len(self.kinds)))
        self.small = sum(kind.count for kind in self.kinds) <= SMALL_CHIPS
        self.names = tuple(kind.name for kind in self.kinds)
        self.total = len(self.kinds) + 1 + 2 * (2 ** len(self.kinds) - 1)
        self.total += Enumeration.parts(len(self.kinds), len(microbatch_axis(self.batch)))

    def answer(self, best_so_far: bool) -> MixedAnswer:
        interrupted = False
        try:
            self._run()
        except KeyboardInterrupt:
            if not best_so_far:
                raise
            interrupted = True
            for some in self.found:
                self._play(some, 1)
            if not self.options:
                raise
        if not self.options:
            # Mixed plans hold all experts on each chip's TP group: that they do not fit does not say that no plan would.
            whole = " that keeps the experts together (they are not spread over several kinds)" if self.model.experts is not None else ""
            raise NoPlanFits(
                f"{self.model.name} does not fit on {self.cluster}, by any split over its kinds of chips{whole}; use more chips"
                + (", or of one kind" if whole else ""),
                0.0,
            )
        return self._told(interrupted)

    def _next(self, words: str) -> None:
        self.report(self.done, self.total, words)
        self.done += 1

    def _run(self) -> None:
        for index, kind in enumerate(self.kinds):
            self._next(f"{kind.name} alone")
            alone = self._alone(index)
            if alone is not None:
                self._offer(frozenset({index}), MixedOption((kind.name,), alone))
        self._next("the even split")
        plan = even_split(self.tables)
        if plan is not None:
            self.even = MixedOption(tuple(self.names[kind] for kind in plan.kinds), predict_mixed(self.tables, plan, self.cluster))
            self._offer(frozenset(plan.kinds), self.even)
        enumeration = Enumeration(self.tables, self.batch, self.every, self._next)
        self.left_s = enumeration.ideal_s
        fastest = min((option.step_time_s for option in self.options.values()), default=2 * enumeration.ideal_s)
        plans = enumeration.side_by_side(fastest)
        self.tried = enumeration.seen
        for some, candidates in plans.items():
            self._next(f"side by side: {self._words(some)}")
            self._solve(some, candidates, FIRST_SOLVED)
        limits = {some: self._limit(some) for some in plans}
        for some, candidates in enumeration.nested(limits, min(fastest, limits[self.whole])).items():
            plans[some].extend(candidates)
        self.tried = enumeration.seen
        for some, candidates in plans.items():
            self._next(f"splits over {self._words(some)}")
            candidates.sort(key=lambda plan: plan.estimate_s)
            # On all kinds most, and on each smaller choice the less the more of them there are.
            part = 1 if some == self.whole else max(2, len(plans) // 4)
            self._solve(some, candidates, (MOST_SOLVED_SMALL if self.small else MOST_SOLVED) // part)
            self._polish(some, MOST_POLISHED if part <= 2 else MOST_POLISHED // part)
            self._play(some, PLAYED)
        self.left_s = self._best_s if self.every else min(enumeration.ideal_s, self._best_s)

    @property
    def _best_s(self) -> float:
        """The least common cost that was found."""
        solved = (pairs[0][1][1].step_time_s for pairs in self.found.values() if pairs)
        return min((*solved, *(option.step_time_s for option in self.options.values())), default=float("inf"))

    def _words(self, some: Kinds) -> str:
        return " and ".join(self.names[index] for index in sorted(some))

    def _offer(self, some: Kinds, option: MixedOption) -> None:
        """Keeps an option where it is the best on its kinds."""
        if some not in self.options or option.step_time_s < self.options[some].step_time_s:
            self.options[some] = option

    def _limit(self, some: Kinds) -> float:
        """What a plan on these kinds has to beat: the best on them, and, if not all kinds are to work, on fewer of them."""
        known = [pairs[0][1][1].step_time_s for kinds, pairs in self.found.items() if pairs and self._counts_for(kinds, some)]
        known += [option.step_time_s for kinds, option in self.options.items() if self._counts_for(kinds, some)]
        return min(known, default=float("inf"))

    def _counts_for(self, kinds: Kinds, some: Kinds) -> bool:
        return kinds == some or (kinds < some and some != self.whole)

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

    def _solve(self, some: Kinds, plans: Sequence[Candidate], most: int) -> None:
        """Adds the best of some plans to what was found on their kinds; ``most`` of them are solved."""
        found = self.found.setdefault(some, [])
        known = {pools for pools, _ in found}
        limit_s, solved, fitting = self._limit(some), 0, 0
        tries = TRIES_SMALL if self.small else TRIES
        for plan in plans:
            # What ties with a plan of ``search`` is kept: it may be played through faster.
            if plan.bound_s >= limit_s * (1 + 1e-9):
                continue
            if (fitting >= most or solved >= tries * most) and not self.every:
                break
            pools = plan.pools()
            if pools in known:
                continue
            worst_s = found[PLAYED - 1][1][1].step_time_s if len(found) >= PLAYED else float("inf")
            one = self.solver.plan(pools, worst_s)
            solved += 1
            fitting += one is not None
            if one is not None and one[1].step_time_s < worst_s:
                found.append((pools, one))
                found.sort(key=lambda pair: pair[1][1].step_time_s)
                del found[PLAYED:]
                limit_s = min(limit_s, one[1].step_time_s)
        self.solved += solved

    def _polish(self, some: Kinds, most: int) -> None:
        """Small changes to the best of what was found."""
        found = self.found.get(some)
        if not found or self.every:
            return
        degrees = [frozenset(tensor_axis(self.model, kind.group.chips_per_node)) for kind in self.kinds]
        for start in found[:] if self.small else found[:1]:
            better, count = polished(self.solver, start, degrees, most)
            self.solved += count
            known = {pools for pools, _ in found}
            found += [one for one in better if one[0] not in known]
        found.sort(key=lambda pair: pair[1][1].step_time_s)
        del found[PLAYED:]

    def _play(self, some: Kinds, most: int) -> None:
        for _, (plan, _) in self.found[some][:most]:
            self._offer(
                some, MixedOption(tuple(self.names[index] for index in sorted(some)), predict_mixed(self.tables, plan, self.cluster))
            )

    def _told(self, interrupted: bool) -> MixedAnswer:
        options = self.options
        best_kinds = min(options, key=lambda some: (options[some].step_time_s, len(some), sorted(some)))
        best, together = options[best_kinds], options.get(self.whole)
        notes = list(self.notes if len(best_kinds) > 1 else ())
        smaller = sorted((option for some, option in options.items() if some != self.whole), key=lambda option: option.step_time_s)
        if interrupted:
            notes.append("interrupted: plans that were not looked at may be better")
        # Before the end nobody knows whether the kinds that are not in the best plan so far help.
        advice = "" if interrupted else self._advice(best_kinds, best, together, smaller)
        notes += [advice] if advice else []
        if isinstance(best.prediction, MixedPrediction):
            idle = {
                kind.name: kind.count - best.prediction.plan.chips(index) for index, kind in enumerate(self.kinds) if index in best_kinds
            }
            if any(idle.values()):
                words = " and ".join(f"{count} {name}" for name, count in idle.items() if count)
                notes.append(f"the best plan found does without {words}")
        if self.model.experts is not None:
            notes.append("experts are not spread over chips of several kinds (ep 1) in mixed plans")
        separate = sum(options[frozenset({i})].tokens_per_s for i in self.whole if frozenset({i}) in options)
        supplies = tuple(Supply(kind.name, kind.group.profile.chip_id, kind.count, kind.machine.dtype) for kind in self.kinds)
        bound_s = min(self.left_s, best.step_time_s)
        return MixedAnswer(
            supplies, best, together, self.even, tuple(smaller), separate, self.tried, self.solved, bound_s, advice, tuple(notes),
            interrupted,
        )  # fmt: skip

    def _advice(self, best_kinds: Kinds, best: MixedOption, together: MixedOption | None, smaller: Sequence[MixedOption]) -> str:
        """Which kinds to use."""
        if best_kinds == self.whole:
            if not smaller:
                return ""
            gain = smaller[0].step_time_s / best.step_time_s - 1
            return f"use all kinds: {gain:.1%} faster than the best of fewer ({' and '.join(smaller[0].kinds)})"
        unused = ", ".join(self.names[index] for index in sorted(self.whole - best_kinds))
        if together is None:
            return f"leave out {unused}: no plan was found that fits and in which every kind works"
        slower = together.step_time_s / best.step_time_s - 1
        return f"leave out {unused}: with it the step takes {slower:.1%} longer, even by the best plan found"


def _counts(most: int) -> list[int]:
    """Numbers of chips that are tried, falling.

    >>> _counts(4), _counts(100)[:6]
    ([4, 3, 2, 1], [100, 96, 80, 64, 56, 48])
    """
    rounded = (digits << power for power in range(most.bit_length()) for digits in range(1, 8))
    return sorted({most, *range(1, min(most, EVERY_COUNT) + 1), *(count for count in rounded if count <= most)}, reverse=True)
