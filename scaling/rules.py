"""What a plan must keep to run: one rule after the other, each for many plans at once, with the sentence for one that breaks it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial

from chipassay.results.errors import InputError

from .errors import IllegalPlan, NotModelled
from .models import Transformer
from .plan import Plan
from .plans import Array, Plans

COUNTS = ("global_batch", "dp", "tp", "pp", "cp", "ep", "microbatch", "interleave")
"""Fields that count something: whole numbers of at least 1."""

Problem = Callable[[Plan], str]
Rule = tuple[Array, Problem, type[InputError]]
"""Which of the plans keep it; what to say to one that does not; as what it is refused."""


def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending.

    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))


def nearest(value: float, valid: Iterable[int]) -> int:
    """The valid value nearest to another by ratio, the smaller of two equally near.

    >>> nearest(6, (1, 2, 4, 8)), nearest(12, divisors(96))
    (8, 12)
    """
    return min(sorted(valid), key=lambda found: abs(math.log(found / max(value, 1))))


def _cut_by_tensor_parallelism(model: Transformer) -> list[tuple[int, str]]:
    """Numbers that each rank takes an equal part of, with their names."""
    experts = model.experts
    parts = [(model.heads, "heads")]
    if experts is None or experts.first_dense > 0 or experts.every > 1:
        parts.append((model.ffn_hidden, "MLP columns"))
    if experts is not None and experts.shared_ffn_hidden:
        parts.append((experts.shared_ffn_hidden, "columns of the shared experts"))
    return parts


@lru_cache(maxsize=256)
def _tensor_cut(model: Transformer) -> int:
    return math.gcd(*(count for count, _ in _cut_by_tensor_parallelism(model)))


@lru_cache(maxsize=256)
def tensor_degrees(model: Transformer) -> tuple[int, ...]:
    """Degrees of tensor parallelism that cut a model evenly, ascending.

    Key and value heads are split like the others, or, where there are fewer of them than ranks, repeated on as many ranks each.
    """
    kv = model.kv_heads
    return tuple(tp for tp in divisors(_tensor_cut(model)) if model.latent is not None or kv % tp == 0 or tp % kv == 0)


def rules(p: Plans, model: Transformer, chips: int) -> Iterator[Rule]:
    """The rules in the order in which a plan is told of them; later ones may take earlier ones for kept."""
    for name in COUNTS:
        yield getattr(p, name) >= 1, partial(_too_few, name, 1), IllegalPlan
    for name in ("expert_tp", "shard"):
        yield getattr(p, name) >= 1, partial(_too_few, name, 0), IllegalPlan
    yield (
        (p.zero_stage >= 0) & (p.zero_stage <= 3),
        lambda plan: f"zero_stage is {plan.zero_stage}; give 0, 1, 2 or 3",
        IllegalPlan,
    )
    yield from _tensor_rules(p, model)
    yield p.chips == chips, partial(_wrong_chips, chips), IllegalPlan
    yield from _sequence_rules(p, model)
    yield from _expert_rules(p, model)
    yield (
        p.global_batch % (p.dp * p.microbatch) == 0,
        lambda plan: (
            f"a global batch of {plan.global_batch} does not divide into dp {plan.dp} x microbatch {plan.microbatch}; "
            f"the nearest that does is {_multiple(plan.global_batch, plan.dp * plan.microbatch)}"
        ),
        IllegalPlan,
    )
    yield from _pipeline_rules(p, model)
    yield from _sharding_rules(p)


def _too_few(name: str, least: int, plan: Plan) -> str:
    return f"{name} is {getattr(plan, name)}; give at least {least}"


def _multiple(number: int, of: int) -> int:
    """The multiple nearest to a number, at least one time."""
    return max(1, round(number / of)) * of


def _wrong_chips(chips: int, plan: Plan) -> str:
    model_parallel = plan.tp * plan.pp * plan.cp
    factors = f"tp {plan.tp} x pp {plan.pp} x dp {plan.dp}" + (f" x cp {plan.cp}" if plan.cp > 1 else "")
    mend = (
        f"dp {chips // model_parallel} would use them all"
        if chips % model_parallel == 0
        else f"with those tp, pp and cp the nearest number is {_multiple(chips, model_parallel)}"
    )
    return f"{factors} = {plan.chips} chips, but the cluster has {chips}; {mend}"


def _tensor_rules(p: Plans, model: Transformer) -> Iterator[Rule]:
    def uneven(plan: Plan) -> str:
        parts = [*_cut_by_tensor_parallelism(model), (model.kv_heads, "key and value heads")]
        count, what = next((count, what) for count, what in parts if count % plan.tp)
        able = nearest(plan.tp, tensor_degrees(model))
        return f"tp {plan.tp} does not divide the {count} {what} of {model.name}; the nearest that does is {able}"

    kept = _tensor_cut(model) % p.tp == 0
    if model.latent is None:
        kept &= (model.kv_heads % p.tp == 0) | (p.tp % model.kv_heads == 0)
    yield kept, uneven, IllegalPlan


def _sequence_rules(p: Plans, model: Transformer) -> Iterator[Rule]:
    """A causal mask is balanced by giving each rank an early and a late part: 2 cp parts (Megatron-LM and Llama 3, arXiv 2407.21783)."""
    parts = 2 if model.causal else 1
    yield (
        (p.cp == 1) | (model.seq_len % (parts * p.cp) == 0),
        lambda plan: (
            f"cp {plan.cp} does not cut sequences of {model.seq_len} into {parts * plan.cp} equal parts; the nearest that does is "
            f"{nearest(plan.cp, (cp for cp in divisors(model.seq_len) if cp == 1 or model.seq_len % (parts * cp) == 0))}"
        ),
        IllegalPlan,
    )
    yield (
        (p.sequence_parallel == 0) | (model.seq_len % (p.tp * p.cp) == 0),
        lambda plan: (
            f"sequence_parallel needs a length ({model.seq_len}) that tp {plan.tp} x cp {plan.cp} divides; "
            f"the nearest is {_multiple(model.seq_len, plan.tp * plan.cp)}"
        ),
        IllegalPlan,
    )


def _expert_rules(p: Plans, model: Transformer) -> Iterator[Rule]:
    experts = model.experts
    if experts is None:
        yield p.ep == 1, lambda plan: f"ep is {plan.ep}, but {model.name} has no experts; give 1", IllegalPlan
        yield (
            p.expert_tp == p.tp,
            lambda plan: f"expert_tp is {plan.expert_tp}, but {model.name} has no experts; leave it at 0",
            IllegalPlan,
        )
        return
    yield (
        experts.count % p.ep == 0,
        lambda plan: (
            f"ep {plan.ep} does not divide the {experts.count} experts; "
            f"the nearest that does is {nearest(plan.ep, divisors(experts.count))}"
        ),
        IllegalPlan,
    )
    yield (
        p.dp * p.cp % p.ep == 0,
        lambda plan: (
            f"ep {plan.ep} lies within dp x cp and does not divide their {plan.dp * plan.cp} chips; the nearest that divides them and the "
            f"{experts.count} experts is {nearest(plan.ep, divisors(math.gcd(plan.dp * plan.cp, experts.count)))}"
        ),
        IllegalPlan,
    )
    yield (
        (p.tp % p.expert_tp == 0) & (experts.ffn_hidden % p.expert_tp == 0),
        lambda plan: (
            f"expert_tp {plan.expert_tp} does not divide tp {plan.tp} and the {experts.ffn_hidden} columns of an expert; the nearest that "
            f"does is {nearest(plan.expert_tp, divisors(math.gcd(plan.tp, experts.ffn_hidden)))}"
        ),
        IllegalPlan,
    )


def _pipeline_rules(p: Plans, model: Transformer) -> Iterator[Rule]:
    schedule = p.settings.schedule
    yield (
        p.pp <= model.layers,
        lambda plan: f"pp {plan.pp} is more than the {model.layers} layers of {model.name}; give at most {model.layers}",
        IllegalPlan,
    )
    yield (
        (p.interleave == 1) | (p.pp > 1),
        lambda plan: f"interleave {plan.interleave} needs a pipeline; give pp of at least 2, or interleave 1",
        IllegalPlan,
    )
    if schedule in ("1f1b", "interleaved"):
        yield (
            (p.interleave == 1) | (p.interleave <= -(-model.layers // p.pp)),
            lambda plan: (
                f"interleave {plan.interleave} is more than the {-(-model.layers // plan.pp)} layers of a stage; the nearest is "
                f"{-(-model.layers // plan.pp)}"
            ),
            IllegalPlan,
        )
        yield (
            (p.interleave == 1) | (p.microbatches % p.pp == 0),
            lambda plan: (
                f"interleaving needs microbatches ({plan.microbatches}) that are a multiple of pp {plan.pp}; the nearest global batch is "
                f"{_multiple(plan.global_batch, plan.dp * plan.microbatch * plan.pp)}"
            ),
            IllegalPlan,
        )
    else:
        yield (
            p.interleave == 1,
            lambda plan: f"{schedule} with an interleave of {plan.interleave} is not modelled; give interleave 1, or schedule interleaved",
            NotModelled,
        )
    if schedule == "interleaved":
        yield (
            (p.pp == 1) | (p.interleave > 1),
            lambda plan: "schedule interleaved with an interleave of 1 is 1f1b; name that, or give an interleave of at least 2",
            IllegalPlan,
        )
    if schedule == "dualpipe":  # both directions start with half of the microbatches: deepseek-ai/DualPipe checks the same
        yield (
            (p.pp == 1) | (p.pp % 2 == 0),
            lambda plan: f"dualpipe needs an even pp, not {plan.pp}; the nearest is {plan.pp - 1}",
            IllegalPlan,
        )
        yield (
            (p.pp == 1) | ((p.microbatches >= 2 * p.pp) & (p.microbatches % 2 == 0)),
            lambda plan: (
                f"dualpipe needs an even number of microbatches, at least twice pp {plan.pp}, not {plan.microbatches}; the nearest global "
                f"batch is {max(2 * plan.pp, _multiple(plan.microbatches, 2)) * plan.dp * plan.microbatch}"
            ),
            IllegalPlan,
        )


def _sharding_rules(p: Plans) -> Iterator[Rule]:
    yield (
        p.dp * p.cp % p.shard == 0,
        lambda plan: (
            f"shard {plan.shard} does not divide the {plan.dp * plan.cp} chips of dp x cp; the nearest that does is "
            f"{nearest(plan.shard, divisors(plan.dp * plan.cp))}"
        ),
        IllegalPlan,
    )
    yield (
        (p.shard == p.dp * p.cp) | (p.zero_stage > 0),
        lambda plan: f"shard {plan.shard} needs something to shard; give zero_stage 1, 2 or 3, or shard 0",
        IllegalPlan,
    )
    if p.settings.offload == "all":
        yield (
            p.zero_stage == 3,
            lambda plan: (
                f"offload all with zero_stage {plan.zero_stage} is not modelled (weights come from the host as ZeRO-3 gathers them); "
                "the nearest is zero_stage 3, or offload optimizer"
            ),
            NotModelled,
        )
