"""Plans over several kinds of chips, and what is predicted of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from chipassay.results.errors import InputError

from ..machine import Input
from ..models import Transformer
from ..plan import Plan, Recompute


@dataclass(frozen=True)
class MixedStage:
    """One pipeline stage: a TP group of chips of one kind."""

    kind: int
    """Index of the group in the cluster."""
    tp: int
    layers: int
    """May be 0 on the first and the last stage, which also hold the embedding and the logits."""
    recompute: Recompute = "none"


@dataclass(frozen=True)
class MixedPipeline:
    """Pipelines of the same stages; each takes whole microbatches through all layers."""

    stages: tuple[MixedStage, ...]
    microbatch: int
    """Sequences that pass at once."""
    microbatches: int
    """Per step, of each of the pipelines."""
    replicas: int = 1

    @property
    def chips(self) -> int:
        """Of all replicas."""
        return self.replicas * sum(stage.tp for stage in self.stages)

    @property
    def sequences(self) -> int:
        """Per step, of all replicas."""
        return self.replicas * self.microbatches * self.microbatch


@dataclass(frozen=True)
class MixedPlan:
    """How a job runs on several kinds of chips: pipelines side by side, whose gradients are added up once a step.

    The chips of a kind are numbered stage by stage, and within a stage replica by replica, as Megatron-LM does (tp-dp-pp).
    """

    pipelines: tuple[MixedPipeline, ...]
    settings: Plan
    """What all share: zero_stage (0 or 1), sequence_parallel, optimizer, attention, overlap, ...; its degrees are not looked at."""
    tied_bytes: float = 0.0
    """Bytes of one gradient of a tied token table as the first and the last stage add it up; 0: as all others (DeepSpeed: those of the
    dtype, however wide the others are)."""
    mask_bytes: float = 0.0
    """What DeepSpeed's pipeline of GPT-2 sends ahead with the activations of each microbatch: the attention mask, whole from every chip of
    a TP group. Gradients then come back whole from each of them, too (``_exec_send_grads``). 0: activations and gradients alone, both cut.
    """

    @property
    def global_batch(self) -> int:
        return sum(pipeline.sequences for pipeline in self.pipelines)

    @property
    def replicas(self) -> int:
        """Copies of the model."""
        return sum(pipeline.replicas for pipeline in self.pipelines)

    @property
    def kinds(self) -> tuple[int, ...]:
        """The kinds that work in it."""
        return tuple(sorted({stage.kind for pipeline in self.pipelines for stage in pipeline.stages}))

    def chips(self, kind: int) -> int:
        """Chips of a kind that work in it."""
        return sum(pipeline.replicas * stage.tp for pipeline in self.pipelines for stage in pipeline.stages if stage.kind == kind)

    def describe(self, names: tuple[str, ...]) -> str:
        """The plan in one line, with the names of the kinds; pipelines that differ by the number of their microbatches alone together."""
        alike: dict[tuple[tuple[MixedStage, ...], int], list[MixedPipeline]] = {}
        for pipeline in self.pipelines:
            alike.setdefault((pipeline.stages, pipeline.microbatch), []).append(pipeline)
        parts = []
        for (_, microbatch), pipelines in alike.items():
            first, *others = pipelines
            text = f"{sum(one.replicas for one in pipelines)} x ({_stages_text(first, names)}) {first.microbatches} x {microbatch}"
            more = ", ".join(f"{one.replicas} of them {one.microbatches} x {microbatch}" for one in others)
            parts.append(f"{text} ({more})" if more else text)
        return "; ".join(parts) + f"; ZeRO-{self.settings.zero_stage}"


def _stages_text(pipeline: MixedPipeline, names: tuple[str, ...]) -> str:
    parts: list[str] = []
    runs: list[tuple[MixedStage, list[int]]] = []
    for stage in pipeline.stages:
        if runs and (runs[-1][0].kind, runs[-1][0].tp, runs[-1][0].recompute) == (stage.kind, stage.tp, stage.recompute):
            runs[-1][1].append(stage.layers)
        else:
            runs.append((stage, [stage.layers]))
    for stage, layers in runs:
        again = "" if stage.recompute == "none" else f" recompute {stage.recompute}"
        parts.append(f"{names[stage.kind]} tp{stage.tp} [{','.join(map(str, layers))}]{again}")
    return " -> ".join(parts)


def check_mixed(plan: MixedPlan, model: Transformer, counts: tuple[int, ...]) -> None:
    """Raise InputError where a plan cannot run: layers that do not add up, more chips than there are, nothing to do."""
    if not plan.pipelines:
        raise InputError("a mixed plan without a pipeline does nothing; give at least one")
    for pipeline in plan.pipelines:
        held = sum(stage.layers for stage in pipeline.stages)
        if held != model.layers:
            raise InputError(f"the stages of a pipeline hold {held} layers, but {model.name} has {model.layers}; make them add up")
        if pipeline.microbatches < 1 or pipeline.replicas < 1 or pipeline.microbatch < 1:
            raise InputError("a pipeline has no microbatch, no sequence in it, or no replica; give at least 1 of each, or leave it out")
        if any(stage.layers < 0 for stage in pipeline.stages) or any(stage.layers < 1 for stage in pipeline.stages[1:-1]):
            raise InputError("a stage between the first and the last holds no layer; give it at least 1, or leave it out")
    for kind in plan.kinds:
        if not 0 <= kind < len(counts):
            raise InputError(f"kind {kind} is not in the cluster, which has {len(counts)}; count them from 0")
        if plan.chips(kind) > counts[kind]:
            raise InputError(f"the plan uses {plan.chips(kind)} chips of kind {kind}, but the cluster has {counts[kind]}")
    if plan.settings.zero_stage > 1:
        raise InputError(f"ZeRO-{plan.settings.zero_stage} over several kinds of chips is not modelled; give zero_stage 0 or 1")


@dataclass(frozen=True)
class StageReport:
    """One stage of a plan as predicted."""

    pipeline: int
    index: int
    kind: int
    layers: int
    microbatch_s: float
    """Forward and backward of one microbatch."""
    send_s: float
    """One message to the next stage; 0 for the last."""
    reduction_s: float
    """Gradients summed over the pipelines, what is hidden included."""
    idle_share: float
    """Share of the step in which its chips run no pass."""
    memory_bytes: float
    limit_bytes: float

    @property
    def fits(self) -> bool:
        return self.memory_bytes <= self.limit_bytes


@dataclass(frozen=True)
class MixedPrediction:
    """One step of a model by a mixed plan."""

    model: str
    cluster: str
    plan: MixedPlan
    text: str
    """The plan in one line."""
    dtypes: tuple[str, ...]
    """Training dtype of each kind."""
    chips: int
    """That work."""
    step_time_s: float
    low_s: float
    high_s: float
    """80 % interval."""
    tokens_per_s: float
    breakdown_s: Mapping[str, float]
    """Seconds by kind (``step.KINDS``) of the stage that sets the pace; they sum to step_time_s."""
    common_cost_s: float
    """The same step by (m - 1) max t + sum t, reduction and update, which the search minimises; step_time_s is played through."""
    stages: tuple[StageReport, ...]
    notes: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = field(default=(), repr=False)

    @property
    def fits(self) -> bool:
        return all(stage.fits for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)
