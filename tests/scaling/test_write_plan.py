"""A plan as text and back: what a sweep writes is what `--plan` reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.scaling.legal import CHOICES
from chipassay.scaling.plan import Plan
from chipassay.scaling.plan_text import FLAGS, parse_plan, write_plan

COUNTS = ("dp", "tp", "pp", "cp", "ep", "expert_tp", "microbatch", "zero_stage", "shard", "interleave", "gradient_bytes")
plans = st.fixed_dictionaries(
    {
        **{name: st.integers(1, 4096) for name in COUNTS},
        **{name: st.sampled_from(words) for name, words in CHOICES.items()},
        **{name: st.booleans() for name in FLAGS},
        "recompute_share": st.floats(0.001, 1.0),
        "dtype": st.sampled_from([None, "bf16", "fp8"]),
    }
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(plans, st.integers(1, 10_000))
def test_a_plan_that_is_written_is_read_as_itself(fields: dict, batch: int) -> None:
    plan = Plan(global_batch=batch, **fields)
    assert parse_plan(write_plan(plan), batch) == plan


@pytest.mark.parametrize(("change", "text"), [({"cp": 2}, "cp=2"), ({"overlap_pp": False}, "overlap_pp=no"), ({"microbatch": 4}, "mbs=4")])
def test_only_what_differs_from_the_default_is_told(change: dict, text: str) -> None:
    assert write_plan(replace(Plan(global_batch=1), **change)) == f"dp=1,tp=1,pp=1,{text}"
