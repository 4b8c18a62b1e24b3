"""The stage costs of every kind, each option tabulated when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chipassay.results.fabrics import Fabric

from ..models import Transformer
from ..plan import Plan
from ..spare import usable_bytes
from .kinds import Kind, gradient_bytes
from .records import MixedPipeline, MixedStage
from .stage_costs import FIRST, LAST, Option, StageCosts, stage_costs


@dataclass(eq=False)
class Tables:
    """What stages cost on each kind, for one model and what its plans share."""

    model: Transformer
    kinds: tuple[Kind, ...]
    settings: Plan
    between: Fabric | None = None
    """The network between nodes of different kinds, where it is slower than that of either; None: the slower of theirs."""
    known_sends: dict[tuple[int, float, int, bool, bool], float] = field(default_factory=dict, repr=False)
    """Messages timed before, by kind, size, chips that send at once, whether they cross nodes, and whether to another kind."""
    _known: dict[tuple[int, Option], StageCosts] = field(default_factory=dict, repr=False)

    def usable_bytes(self, kind: int) -> float:
        """Memory of a chip that a plan found by a search may need; one that someone names may need all of it."""
        return usable_bytes(self.kinds[kind].machine.memory_bytes)

    def prepare(self, kind: int, options: Sequence[Option]) -> StageCosts:
        """All options of a kind in one table."""
        costs = stage_costs(self.model, self.kinds[kind], self.settings, options)
        self._known.update({(kind, option): costs for option in options})
        return costs

    def all_of(self, kind: int, options: tuple[Option, ...]) -> StageCosts:
        """The same, made once."""
        found = self._known.get((kind, options[0]))
        if found is None or any(option not in found.row for option in options):
            found = self.prepare(kind, options)
        return found

    def of(self, kind: int, option: Option) -> tuple[StageCosts, int]:
        """The table that has an option, and its row there."""
        found = self._known.get((kind, option))
        if found is None:
            found = self.prepare(kind, [option])
        return found, found.row[option]

    def of_stage(self, stage: MixedStage, microbatch: int) -> tuple[StageCosts, int]:
        return self.of(stage.kind, (stage.tp, microbatch, stage.recompute))

    def gradient_bytes(self, kinds: Iterable[int]) -> float:
        """Bytes of one gradient that passes between these kinds."""
        return gradient_bytes([self.kinds[kind] for kind in kinds], self.settings.gradient_bytes)


def ends_of(pipeline: MixedPipeline, index: int) -> int:
    """Which ends a stage holds."""
    return FIRST * (index == 0) + LAST * (index == len(pipeline.stages) - 1)
