"""Which plans can run: one is refused in a sentence with the nearest value that could, many are told apart at once, by the same rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np

from .errors import IllegalPlan, NotModelled
from .models import Transformer
from .plan import ORDER, Plan
from .plans import Array, Plans
from .rules import COUNTS, rules

DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8")
CHOICES: dict[str, tuple[str, ...]] = {name: get_args(kind) for name, kind in get_type_hints(Plan).items() if get_origin(kind) is Literal}
"""Fields that hold one of a few words, as the Plan declares them."""
GRADIENT_BYTES = (0, 2, 4)
HOST_OPTIMIZERS = ("adam", "adam-bf16")
"""Optimizers whose step runs on the host's cores: DeepSpeed's CPUAdam is Adam; 8-bit Adam (bitsandbytes) is a GPU kernel."""


def check_plan(plan: Plan, model: Transformer, chips: int) -> None:
    """Raise IllegalPlan if the plan cannot run the model on that many chips, NotModelled if it could but is not modelled.

    >>> from chipassay.scaling.models import load_model
    >>> check_plan(Plan(global_batch=64, tp=6, dp=2), load_model("gpt3-13b"), 12)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
        ...
    IllegalPlan: tp 6 does not divide the 40 heads of gpt3-13b; the nearest that does is 5
    """
    check_settings(plan)
    for name in (*COUNTS, "expert_tp", "shard", "zero_stage"):
        value = getattr(plan, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise IllegalPlan(f"{name} is {value!r}; give a whole number")
    plans = Plans.of([plan])
    for kept, problem, refused_as in rules(plans, model, chips):
        if not kept.all():
            raise refused_as(problem(replace(plan, expert_tp=int(plans.expert_tp[0]), shard=int(plans.shard[0]))))


def legal(plans: Plans, model: Transformer, chips: int) -> Array:
    """Which of the plans ``check_plan`` would pass: bool, as long as the plans.

    Raises IllegalPlan or NotModelled for a setting that they all share and none could have.
    """
    check_settings(plans.settings)
    passed = np.ones(len(plans), bool)
    with np.errstate(divide="ignore"):  # a degree of 0 is refused by the first rules; that it divides nothing is no news
        for kept, _, _ in rules(plans, model, chips):
            passed &= kept
    return passed


def check_settings(plan: Plan) -> None:
    """Raise IllegalPlan or NotModelled for a field that is wrong whatever the model and the degrees are."""
    for name, valid in CHOICES.items():
        if getattr(plan, name) not in valid:
            raise IllegalPlan(f"{name} is {getattr(plan, name)!r}; give one of {', '.join(valid)}")
    if plan.dtype is not None and plan.dtype not in DTYPES:
        raise IllegalPlan(f"dtype is {plan.dtype!r}; give one of {', '.join(DTYPES)}")
    if not 0 < plan.recompute_share <= 1:
        raise IllegalPlan(f"recompute_share is {plan.recompute_share}; give a share above 0 and up to 1")
    if plan.gradient_bytes not in GRADIENT_BYTES:
        raise IllegalPlan(f"gradient_bytes is {plan.gradient_bytes}; give 2 or 4, or 0 for what is usual with the dtype")
    if sorted(plan.order.split("-")) != sorted(ORDER.split("-")):
        raise IllegalPlan(f"order is {plan.order!r}; name each of tp, cp, ep, dp and pp once, as in {ORDER}")
    if plan.offload != "none" and plan.optimizer not in HOST_OPTIMIZERS:
        known = " or ".join(HOST_OPTIMIZERS)
        raise NotModelled(f"a step of {plan.optimizer} on the host (offload {plan.offload}) is not modelled; use {known}, or offload none")
