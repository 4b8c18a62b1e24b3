"""What a search over several kinds of chips answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..predict import Prediction
from .records import MixedPrediction


@dataclass(frozen=True)
class Supply:
    """Chips of one kind that there are."""

    name: str
    """As the options name it: the chip, and what tells it from the same chip in other nodes."""
    chip_id: str
    count: int
    dtype: str
    """What it trains in."""


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
    def chips(self) -> tuple[int, ...]:
        """Chips that work in it, of each of ``kinds``."""
        if isinstance(self.prediction, MixedPrediction):
            return tuple(self.prediction.plan.chips(kind) for kind in self.prediction.plan.kinds)
        return (self.prediction.chips,)

    @property
    def text(self) -> str:
        """The plan in one line."""
        if isinstance(self.prediction, MixedPrediction):
            return self.prediction.text
        return f"{self.prediction.cluster}: {self.prediction.plan.describe()}"


@dataclass(frozen=True)
class MixedAnswer:
    """What a cluster of several kinds does best, and what else it could."""

    kinds: tuple[Supply, ...]
    """Of the cluster, in the order in which ``MixedStage.kind`` counts them."""
    best: MixedOption
    all_kinds: MixedOption | None
    """The best plan in which every kind works; None: none fits."""
    even_split: MixedOption | None
    """The best plan that treats all chips alike, on as many as divide where not all do; None: none fits."""
    without: tuple[MixedOption, ...]
    """The best plan of each smaller choice of kinds, the fastest first."""
    separate_tokens_per_s: float
    """What the kinds train together as whole separate jobs, each with the same batch. They make one model each."""
    tried: int
    """Plans that were priced."""
    solved: int
    """Of these, plans whose splits were solved."""
    bound_s: float
    """No plan with the TP degrees and microbatches that are tried takes less by the common cost. After a search of every plan: the best
    of them; else a step with every chip at its best layer all the time. 0: interrupted before it was known."""
    advice: str
    """Which kinds to use, and what that gains; empty where there is no choice, and where the search was interrupted."""
    notes: tuple[str, ...]
    """With the advice."""
    interrupted: bool = False
    """The search was ended before it was through: another plan may be better."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""

        def one(option: MixedOption | None) -> dict[str, Any] | None:
            return (
                None
                if option is None
                else {"kinds": option.kinds, "chips": option.chips, "text": option.text, **option.prediction.to_dict()}
            )

        return {
            "kinds": [asdict(kind) for kind in self.kinds], "advice": self.advice,
            "best": one(self.best), "all_kinds": one(self.all_kinds), "even_split": one(self.even_split),
            "without": [one(option) for option in self.without], "separate_tokens_per_s": self.separate_tokens_per_s,
            "tried": self.tried, "solved": self.solved, "bound_s": self.bound_s, "notes": self.notes,
            "interrupted": self.interrupted,
        }  # fmt: skip
