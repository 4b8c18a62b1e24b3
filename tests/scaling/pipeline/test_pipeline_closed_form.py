"""The closed forms: the papers' numbers, and the simulation's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.errors import UnknownName
from chipassay.scaling.pipeline.closed_form import in_flight, pipeline_s
from chipassay.scaling.pipeline.simulate import makespan_s, simulate
from chipassay.scaling.pipeline.stages import Stages

SCHEDULES = ["gpipe", "1f1b", "interleaved", "zero-bubble", "dualpipe"]
times = st.floats(0.05, 2.0)


def closed_form(stages: Stages, send_s: float = 0.0) -> float:
    """The closed form for the same pipeline: its slowest stage, the last of those equally slow, and the sums."""
    each = (stages.forward_s + stages.backward_s).sum(axis=1)
    slowest = int(np.flatnonzero(each >= each.max() * (1 - 1e-9)).max())
    of_slowest = [values[slowest].sum() for values in (stages.forward_s, stages.backward_input_s, stages.backward_weight_s)]
    return float(
        pipeline_s(
            stages.schedule, *of_slowest, stages.forward_s.sum(), stages.backward_s.sum(), send_s, stages.count, stages.microbatches,
            stages.chunks, stages.overlap, stages.pair_saving_s, behind=stages.count - 1 - slowest,
        )
    )  # fmt: skip


def legal(schedule: str, p: int, v: int, m: int) -> tuple[int, int, int]:
    """The nearest numbers that the schedule can run."""
    v = v if schedule == "interleaved" else 1
    if schedule == "dualpipe":
        p += p % 2
        return p, v, 2 * max(m // 2, p)
    return p, v, (p * -(-m // p) if v > 1 else m)


@given(st.sampled_from(SCHEDULES), st.integers(1, 8), st.integers(1, 4), st.integers(1, 40), times, times, times)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_equal_stages_without_messages_take_what_the_simulation_takes(
    schedule: str, p: int, v: int, m: int, forward_s: float, input_s: float, weight_s: float
) -> None:
    p, v, m = legal(schedule, p, v, m)
    stages = Stages.of(forward_s, input_s, weight_s, stages=p, interleave=v, microbatches=m, schedule=schedule)
    assert closed_form(stages) == pytest.approx(simulate(stages).makespan_s, rel=1e-9)


@given(st.sampled_from(SCHEDULES[:4]), st.integers(1, 8), st.integers(2, 4), st.integers(1, 40), st.floats(0, 0.3), times)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_messages_between_equal_stages_add_what_the_simulation_adds(
    schedule: str, p: int, v: int, m: int, send_s: float, time_s: float
) -> None:
    p, v, m = legal(schedule, p, v, m)
    send_s *= time_s / v
    stages = Stages.of(time_s, time_s, time_s, send_s, stages=p, interleave=v, microbatches=m, schedule=schedule)
    assert closed_form(stages, send_s) == pytest.approx(simulate(stages).makespan_s, rel=1e-9)


@given(st.sampled_from(SCHEDULES), st.integers(2, 8), st.integers(2, 4), st.integers(4, 40), st.floats(0, 0.3))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_messages_that_the_sender_waits_for_add_nearly_what_the_simulation_adds(
    schedule: str, p: int, v: int, m: int, send_s: float
) -> None:
    p, v, m = legal(schedule, p, v, m)
    send_s /= v
    stages = Stages.of(1.0, 1.0, 1.0, send_s, stages=p, interleave=v, microbatches=m, schedule=schedule, overlap=False)
    assert closed_form(stages, send_s) == pytest.approx(makespan_s(stages), rel=0.01)


@given(st.integers(2, 12), st.integers(0, 60), st.integers(0, 11), st.floats(1.0, 1.5))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_one_slower_stage_anywhere_in_1f1b_takes_what_the_simulation_takes(p: int, more: int, where: int, slower: float) -> None:
    share = np.ones(p)
    share[where % p] = slower
    stages = Stages.of(share, 1.1 * share, 0.9 * share, microbatches=p + more)
    assert closed_form(stages) == pytest.approx(simulate(stages).makespan_s, rel=1e-9)


@pytest.mark.parametrize(
    ("schedule", "within"), [("gpipe", 1e-9), ("1f1b", 0.03), ("zero-bubble", 0.03), ("interleaved", 0.06), ("dualpipe", 0.06)]
)
def test_stages_that_differ_by_a_tenth_take_nearly_what_the_simulation_takes(schedule: str, within: float) -> None:
    random = np.random.default_rng(7)
    errors = []
    for _ in range(150):
        p, v, m = legal(schedule, int(random.choice([2, 4, 8])), int(random.integers(2, 4)), int(random.integers(8, 40)))
        share = 1 + 0.1 * (2 * random.random(p) - 1)
        stages = Stages.of(share, 1.15 * share, 0.85 * share, interleave=v, microbatches=m, schedule=schedule)
        if schedule == "dualpipe":  # a stage holds its own part of the model and its mirror's
            share = (share + share[::-1]) / 2
        held = Stages.of(share, 1.15 * share, 0.85 * share, interleave=v, microbatches=m, schedule=schedule)
        errors.append(closed_form(held) / makespan_s(stages) - 1)
    assert np.abs(errors).max() <= within
    assert np.abs(errors).mean() <= 0.01


@pytest.mark.parametrize(
    ("schedule", "within"), [("gpipe", 1e-9), ("1f1b", 1e-9), ("interleaved", 0.01), ("zero-bubble", 0.02), ("dualpipe", 0.05)]
)
@pytest.mark.parametrize("behind", [0, 3, 7])
def test_the_pipeline_of_one_slower_stage_takes_what_its_closed_form_says(schedule: str, within: float, behind: int) -> None:
    chunks = 3 if schedule == "interleaved" else 1
    slow = 2 if schedule == "dualpipe" else 1  # and its mirror
    sums = (1.3 * slow + 8 - slow, 2 * (1.3 * slow + 8 - slow))
    arguments = (schedule, 1.3, 1.3, 1.3, *sums, 0.0, 8, 32, chunks)
    stages = Stages.of_slowest(*arguments, behind=behind)
    assert stages.forward_s.sum() == pytest.approx(sums[0])
    assert stages.forward_s[7 - behind].sum() == pytest.approx(1.3)
    assert float(pipeline_s(*arguments, behind=behind)) == pytest.approx(makespan_s(stages), rel=within)


def test_bubbles_are_those_of_the_papers() -> None:
    """p = 8, m = 32, F = 1, B for the inputs 1, W 1. Over m (F + B + W) = 96: 1F1B (p - 1) / m, interleaved that over v (Narayanan 2021);
    ZB-H1 (p - 1)(F + B - W) = 7 (Qi 2024); DualPipe (p / 2 - 1)(F&B + B - 3W) = 3 (3 + 2 - 3) = 6 (DeepSeek-V3)."""
    arguments = (1.0, 1.0, 1.0, 8.0, 16.0, 0.0, 8, 32)
    waits = {name: float(pipeline_s(name, *arguments, 4 if name == "interleaved" else 1)) - 96 for name in SCHEDULES}
    assert waits == {"gpipe": 21, "1f1b": 21, "interleaved": 21 / 4, "zero-bubble": 7, "dualpipe": 6}


def test_many_plans_at_once_are_the_plans_one_by_one() -> None:
    p, m, v = np.array([1, 2, 4, 8]), np.array([8, 8, 16, 32]), np.array([1, 1, 2, 4])
    together = pipeline_s("1f1b", np.ones(4), np.ones(4), np.ones(4), 1.0 * p, 2.0 * p, np.full(4, 0.1), p, m, v)
    one_by_one = [pipeline_s("1f1b", 1.0, 1.0, 1.0, 1.0 * p[i], 2.0 * p[i], 0.1, p[i], m[i], v[i]) for i in range(4)]
    assert together.tolist() == [float(value) for value in one_by_one]
    assert together[0] == 24


@given(st.sampled_from(SCHEDULES), st.integers(1, 8), st.integers(1, 4), st.integers(1, 30))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_microbatches_in_flight_are_those_that_the_simulation_counts(schedule: str, p: int, v: int, m: int) -> None:
    p, v, m = legal(schedule, p, v, m)
    timeline = simulate(Stages.of(1.0, 1.0, 1.0, stages=p, interleave=v, microbatches=m, schedule=schedule))
    formula = in_flight(schedule, p, v, m, np.arange(p))
    assert np.broadcast_to(formula, (p,)) == pytest.approx(timeline.peak_in_flight)


def test_the_first_stage_of_an_interleaved_pipeline_holds_what_korthikanti_2022_says() -> None:
    """p (1 + (p - 1) / (p v)): 8 stages of 3 chunks hold 8 + 7 / 3 microbatches' activations."""
    assert float(in_flight("interleaved", 8, 3, 32, 0)) == pytest.approx(8 + 7 / 3)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(UnknownName, match="zero-bubble"):
        pipeline_s("zero-bubbles", 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 4, 8, 1)
    with pytest.raises(UnknownName, match="schedule"):
        in_flight("zb", 4, 1, 8, 0)
