"""One plan's pipeline played through: where its layers lie, and what the simulation makes of the closed form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.scaling.models import Transformer, load_model
from chipassay.scaling.pipeline.simulate import makespan_s
from chipassay.scaling.pipelined import played, stage_layers, stages_of
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import predict_ready
from chipassay.scaling.step import Step, step

from .random_plans import group_of_64, random_plans
from .toy_models import DENSE
from .toys import only_products, plain, step_of, toy_fabric, toy_group

EQUAL = replace(DENSE, vocab=1, layers=16)
"""Sixteen layers and no logits to speak of."""
SCHEDULES = ("gpipe", "1f1b", "zero-bubble", "dualpipe")


def busy_s(plan: Plan, result: Step) -> float:
    return plan.microbatches * float(np.asarray(result.passes.slowest_s).item())


def closed_s(plan: Plan, result: Step) -> float:
    """The pipeline by the closed form: the slowest stage's work, its bubble, and the sends."""
    return busy_s(plan, result) + result.parts_s["pipeline_bubble"].item() + result.parts_s["pipeline_send"].item()


@settings(derandomize=True, deadline=None, max_examples=80)
@given(layers=st.integers(1, 130), pp=st.integers(1, 64))
def test_every_layer_lies_on_one_stage_and_no_stage_has_two_more_than_another(layers: int, pp: int) -> None:
    found = stage_layers(replace(EQUAL, layers=max(layers, pp)), Plan(global_batch=8, pp=pp))
    assert len(found) == pp
    assert sum(found) == max(layers, pp)
    assert max(found) - min(found) <= 1
    assert found[-1] == min(found)  # the last stage has the logits


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("overlap", [True, False])
def test_equal_stages_play_as_the_closed_form_has_them(schedule: Any, overlap: bool) -> None:
    plan = plain(pp=4, global_batch=32, schedule=schedule, overlap_pp=overlap)
    result = step_of(EQUAL, plan, only_products(4))
    assert closed_s(plan, result) == pytest.approx(makespan_s(stages_of(EQUAL, plan, result)), rel=0.01)


@pytest.mark.parametrize("interleave", [2, 4])
def test_interleaved_stages_play_as_the_closed_form_has_them(interleave: int) -> None:
    plan = plain(pp=4, global_batch=32, interleave=interleave)
    result = step_of(EQUAL, plan, only_products(4))
    assert closed_s(plan, result) == pytest.approx(makespan_s(stages_of(EQUAL, plan, result)), rel=0.01)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    layers=st.integers(8, 40),
    pp=st.sampled_from([2, 4, 8]),
    more=st.integers(0, 24),
    vocab=st.sampled_from([1, 32_000, 256_000, 1_000_000]),
    schedule=st.sampled_from(SCHEDULES),
    host=st.sampled_from(["eager", "graph"]),
    rate=st.sampled_from([1e12, 1e14, 1e16]),
)
def test_uneven_stages_play_within_a_tenth_of_the_closed_form(
    layers: int, pp: int, more: int, vocab: int, schedule: Any, host: Any, rate: float
) -> None:
    """Logits on the last stage, layers that do not divide, hosts that are waited for."""
    model = replace(DENSE, layers=layers, vocab=vocab)
    plan = Plan(global_batch=2 * pp + 2 * more, pp=pp, schedule=schedule, host=host)
    result = step_of(model, plan, toy_group(pp, rate=rate))
    assert closed_s(plan, result) == pytest.approx(makespan_s(stages_of(model, plan, result)), rel=0.1)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("model", [DENSE, EQUAL, replace(DENSE, layers=10)], ids=["logits", "equal", "uneven"])
def test_what_is_played_fills_the_makespan(schedule: Any, model: Transformer) -> None:
    plan = Plan(global_batch=32, pp=4, schedule=schedule)
    result = step_of(model, plan, toy_group(4, rate=1e16))
    found = played(model, plan, result)
    assert set(found) == {"pipeline_bubble", "pipeline_send"}
    assert min(found.values()) >= 0
    whole = busy_s(plan, result) + sum(found.values())
    makespan = makespan_s(stages_of(model, plan, result))
    assert whole >= makespan * (1 - 1e-12)
    assert whole == pytest.approx(max(makespan, busy_s(plan, result)), rel=1e-12)


def test_the_stages_do_all_the_work_of_the_model() -> None:
    """All layers, one embedding and one head, whatever the cut."""
    model = replace(DENSE, layers=10)
    works = []
    for pp in (2, 4, 8):
        plan = plain(pp=pp, global_batch=16)
        result = step_of(model, plan, toy_group(pp))
        stages = stages_of(model, plan, result)
        works.append(stages.forward_s.sum() + stages.backward_input_s.sum() + stages.backward_weight_s.sum())
    assert works == pytest.approx([works[0]] * 3)


def test_only_the_first_stage_embeds_and_only_the_last_has_logits() -> None:
    plan = plain(pp=4, global_batch=16)
    result = step_of(DENSE, plan, toy_group(4))
    first, second, third, last = stages_of(DENSE, plan, result).forward_s.sum(axis=1)
    assert second == third
    assert first - second == pytest.approx(np.asarray(result.passes.embedding_s[0]).item())
    assert last - second == pytest.approx(np.asarray(result.passes.head_s[0]).item())


def test_a_layer_for_further_tokens_lies_on_the_last_stage_with_its_own_logits() -> None:
    model = replace(DENSE, mtp_depth=1)
    plan = plain(pp=4, global_batch=16)
    result = step_of(model, plan, toy_group(4))
    _, second, _, last = stages_of(model, plan, result).forward_s.sum(axis=1)
    head, layer = (np.asarray(seconds[0]).item() for seconds in (result.passes.head_s, result.passes.layer_s))
    assert last - second == pytest.approx(2 * head + layer)


def test_slower_sends_make_the_pipeline_longer_and_nothing_else() -> None:
    plan = plain(pp=4, global_batch=16)
    fast, slow = (step_of(EQUAL, plan, toy_group(4, per_node=1, fabric=toy_fabric(nics=1, nic=nic))) for nic in (1e12, 1e9))
    a, b = (played(EQUAL, plan, result) for result in (fast, slow))
    assert b["pipeline_bubble"] == pytest.approx(a["pipeline_bubble"], rel=1e-6)
    assert b["pipeline_send"] > 10 * a["pipeline_send"]


def test_a_host_that_is_waited_for_slows_every_stage() -> None:
    """A chip that takes no time: each stage's passes are its launches, the last one's a few more."""
    plan = Plan(global_batch=32, pp=4)
    result = step_of(EQUAL, plan, toy_group(4, rate=1e25, bandwidth=1e25, overhead_s=0.0, busbw=1e25))
    forward = stages_of(EQUAL, plan, result).forward_s.sum(axis=1)
    assert forward.min() > 0.5 * forward.max() > 0


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["gpt3-125m", "opt-125m", "bert-large", "llama3-8b", "mixtral-8x7b", "deepseek-v2-lite", "gpt3-175b"])
def test_shipped_models_play_within_a_tenth_of_the_closed_form(name: str, schedule: Any) -> None:
    """Small models whose hosts are waited for and large ones, stages of two layers beside stages of one, logits, experts."""
    model = load_model(name)
    group, machine = group_of_64()
    plans = random_plans(model, Plan(global_batch=64, schedule=schedule), 12, seed=41)
    with np.errstate(all="raise", under="ignore"):
        batch = step(model, plans, machine, group).step_time_s
        for index in range(len(plans)):
            plan = plans.plan(index)
            assert predict_ready(model, plan, machine, group).step_time_s == pytest.approx(batch[index], rel=0.1), plan
