"""A plan as the command line writes it, and as results show it."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any, get_args, get_type_hints

import pytest

from chipassay.results.errors import InputError, UnknownName
from chipassay.scaling.plan import Plan
from chipassay.scaling.plan_text import parse_plan


@pytest.mark.parametrize("field", [field for field in fields(Plan) if field.name != "global_batch"], ids=lambda field: field.name)
def test_every_field_can_be_written(field: Field[Any]) -> None:
    words = get_args(get_type_hints(Plan)[field.name])
    text, value = {
        "bool": ("yes", True), "int": ("2", 2), "float": ("0.5", 0.5), "str": ("tp-cp-ep-pp-dp", "tp-cp-ep-pp-dp"),
        "str | None": ("fp8", "fp8"),
    }.get(str(field.type)) or (words[-1], words[-1])  # fmt: skip
    assert getattr(parse_plan(f"{field.name}={text}", 8), field.name) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("schedule=best", "plan field schedule: 'best' is not one of gpipe, 1f1b, interleaved, zero-bubble, dualpipe"),
        ("overlap_tp=2", "plan field overlap_tp: '2' is neither yes nor no"),
        ("recompute_share=half", "plan field recompute_share: 'half' is not a share such as 0.5"),
        ("cp=two", "plan field cp: 'two' is not a whole number of 0 or more"),
        ("tp=-8", "plan field tp: '-8' is not a whole number of 0 or more"),
        ("tp=²", "plan field tp: '²' is not a whole number of 0 or more"),
        ("tp=" + "9" * 20, "plan field tp: 99999999999999999999 is more than any plan has; write at most 1,000,000,000"),
        ("tp=8,dp=2,tp=4", "plan 'tp=8,dp=2,tp=4': tp is given twice; leave one of them out"),
        ("mbs=2,microbatch=4", "microbatch is given twice"),
    ],
)
def test_a_value_that_a_field_cannot_hold_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse_plan(text, 8)


def test_an_unknown_field_is_told_the_one_like_it() -> None:
    with pytest.raises(UnknownName, match="microbatch"):
        parse_plan("microbatches=2", 8)


def test_a_plan_in_one_line_names_all_that_sets_it_apart() -> None:
    plan = Plan(
        global_batch=64, tp=4, pp=2, dp=4, cp=2, ep=8, expert_tp=1, zero_stage=1, shard=4, schedule="dualpipe", recompute="full",
        recompute_share=0.5, optimizer="adam-8bit",
    )  # fmt: skip
    assert plan.describe() == (
        "tp4 pp2 dp4 cp2 ep8 (experts tp1), microbatch 1 of 64, ZeRO-1 over 4 chips, recompute full in 50% of the layers, "
        "dualpipe, adam-8bit"
    )
