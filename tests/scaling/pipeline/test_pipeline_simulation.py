"""The simulated pipeline: orders of passes as the papers draw them, and a timeline that is legal, tight and as long as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.errors import InputError, UnknownName
from chipassay.scaling.errors import IllegalPlan
from chipassay.scaling.pipeline.passes import Kind, Pass, in_waiting_order
from chipassay.scaling.pipeline.simulate import makespan_s, simulate
from chipassay.scaling.pipeline.stages import Stages
from chipassay.scaling.pipeline.timeline import Timeline

times = st.floats(0.05, 3.0).map(lambda value: round(value, 3))


@st.composite
def pipelines(draw: st.DrawFn, most_microbatches: int = 24) -> Stages:
    """Any schedule with any stage times."""
    schedule = draw(st.sampled_from(["gpipe", "1f1b", "interleaved", "zero-bubble", "dualpipe"]))
    stages = draw(st.integers(1, 6))
    chunks = draw(st.integers(1, 3)) if schedule == "interleaved" else 1
    microbatches = draw(st.integers(1, most_microbatches))
    if chunks > 1:
        microbatches = stages * -(-microbatches // stages)
    if schedule == "dualpipe" and stages > 1:
        stages += stages % 2
        microbatches = 2 * max(microbatches // 2, stages)
    equal = draw(st.booleans())

    def durations() -> np.ndarray:
        if equal:
            return np.full((stages, chunks), draw(times))
        return np.array(draw(st.lists(times, min_size=stages * chunks, max_size=stages * chunks))).reshape(stages, chunks)

    send_s = draw(st.sampled_from([0.0, 0.1, 0.7]))
    overlap = draw(st.booleans())
    return Stages.of(
        durations(), durations(), durations(), send_s, microbatches=microbatches, stages=stages, interleave=chunks,
        schedule=schedule, overlap=overlap,
    )  # fmt: skip


def words(timeline: Timeline, stage: int) -> str:
    """The passes of one stage in order, as F0 F1 B0; with the chunk behind a point where a stage has several."""
    here = np.flatnonzero(timeline.stage == stage)
    chunk = (lambda index: f".{timeline.chunk[index]}") if timeline.chunk_count > 1 else (lambda index: "")
    return " ".join(f"{Kind(timeline.kind[index]).letter}{timeline.microbatch[index]}{chunk(index)}" for index in here)


def test_1f1b_runs_the_passes_that_figure_4_of_narayanan_2021_draws() -> None:
    timeline = simulate(Stages.of(1.0, 2.0, stages=4, microbatches=8))
    assert words(timeline, 0) == "F0 F1 F2 F3 B0 F4 B1 F5 B2 F6 B3 F7 B4 B5 B6 B7"
    assert words(timeline, 3) == "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7"


def test_interleaved_runs_groups_of_p_microbatches_through_chunk_after_chunk() -> None:
    """Two stages of two chunks, worked by hand from section 2.2.2 of Narayanan 2021: the first stage is 2 (p - 1) + p (v - 1) = 4 ahead."""
    timeline = simulate(Stages.of(1.0, 2.0, stages=2, interleave=2, microbatches=4, schedule="interleaved"))
    assert words(timeline, 0) == (
        "F0.0 F1.0 F0.1 F1.1 F2.0 B0.1 F3.0 B1.1 F2.1 B0.0 F3.1 B1.0 B2.1 B3.1 B2.0 B3.0"
    )  # fmt: skip
    assert words(timeline, 1).startswith("F0.0 F1.0 F0.1 B0.1 F1.1 B1.1 F2.0 B0.0")


def test_zero_bubble_puts_off_one_weight_pass_more_on_each_later_stage() -> None:
    """Figure 2 of Qi 2024 (ZB-H1), four stages: the first runs W right after B, the last ends with three W more."""
    timeline = simulate(Stages.of(1.0, 1.0, 1.0, stages=4, microbatches=8, schedule="zero-bubble"))
    assert words(timeline, 0).startswith("F0 F1 F2 F3 B0 W0 F4 B1 W1")
    assert words(timeline, 3).startswith("F0 B0 F1 B1 F2 B2 F3 B3 W0 F4 B4 W1")
    assert words(timeline, 3).endswith("B7 W4 W5 W6 W7")


def test_two_stages_and_two_microbatches_take_what_a_drawing_by_hand_says() -> None:
    timeline = simulate(Stages.of(1.0, 2.0, send_s=0.5, stages=2, microbatches=2))
    when = {
        (stage, kind, microbatch): (start, end)
        for stage, kind, microbatch, start, end in zip(
            timeline.stage, timeline.kind, timeline.microbatch, timeline.start_s, timeline.end_s, strict=True
        )
    }
    f, b = Kind.FORWARD, Kind.BACKWARD
    assert when == {
        (0, f, 0): (0, 1), (0, f, 1): (1, 2), (1, f, 0): (1.5, 2.5), (1, b, 0): (2.5, 4.5), (1, f, 1): (4.5, 5.5), (1, b, 1): (5.5, 7.5),
        (0, b, 0): (5, 7), (0, b, 1): (8, 10),
    }  # fmt: skip
    assert timeline.makespan_s == 10
    assert timeline.idle_s.tolist() == [4, 4]
    assert timeline.bubble_share == pytest.approx(0.4)


def test_a_sender_that_waits_for_its_message_starts_its_next_pass_later() -> None:
    """Stage 0 sends F0 until 1.5, so F1 ends at 2.5 and leaves at 3; B1 ends at 8 (B0 holds stage 1 until 5), and B1 of stage 0 at 10.5."""
    assert simulate(Stages.of(1.0, 2.0, send_s=0.5, stages=2, microbatches=2, overlap=False)).makespan_s == 10.5


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 8), (4, 16), (8, 20), (16, 40)])
def test_dualpipe_waits_as_long_as_table_2_of_the_deepseek_v3_report_says(stages: int, microbatches: int) -> None:
    """(PP/2 - 1)(F&B + B - 3W) with F = 1, B = 2, W = 1 and F&B = 3 is PP - 2."""
    timeline = simulate(Stages.of(1.0, 1.0, 1.0, stages=stages, microbatches=microbatches, schedule="dualpipe"))
    assert timeline.makespan_s == pytest.approx(3 * microbatches + stages - 2)
    assert timeline.idle_s == pytest.approx(np.full(stages, stages - 2.0))
    assert set(timeline.peak_in_flight.tolist()) == {stages + 1.0 if stages > 2 else 3.0}


def test_dualpipe_is_the_same_from_both_ends() -> None:
    timeline = simulate(Stages.of(1.0, 1.2, 0.7, 0.1, stages=6, microbatches=16, schedule="dualpipe"))
    for stage in range(3):
        mine, mirrored = timeline.stage == stage, timeline.stage == 5 - stage
        assert timeline.start_s[mine] == pytest.approx(timeline.start_s[mirrored])
        assert timeline.kind[mine].tolist() == timeline.kind[mirrored].tolist()


def test_a_pair_that_saves_time_shortens_dualpipe_by_that_for_every_pair_of_its_busiest_stretch() -> None:
    pair = {
        save: makespan_s(Stages.of(1.0, 1.0, 1.0, stages=4, microbatches=16, schedule="dualpipe", pair_saving_s=save)) for save in (0, 0.4)
    }
    assert pair[0] - pair[0.4] == pytest.approx((16 - 4 / 2 - 2) * 0.4)


@given(pipelines())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_pass_runs_once_in_time_and_none_waits_without_a_reason(stages: Stages) -> None:
    timeline = simulate(stages)
    p, last, m = stages.count, stages.count * stages.chunks - 1, stages.microbatches
    ends = {}
    for kind, position, microbatch, end in zip(timeline.kind, timeline.position, timeline.microbatch, timeline.end_s, strict=True):
        assert (kind, position, microbatch) not in ends
        ends[int(kind), int(position), int(microbatch)] = float(end)
    forwards = sum(kind == Kind.FORWARD for kind, _, _ in ends)
    whole, inputs, weights = (sum(kind == one for kind, _, _ in ends) for one in list(Kind)[1:])
    assert forwards == whole + inputs == (last + 1) * m
    assert inputs == weights

    def backward_end(position: int, microbatch: int) -> float:
        return next(ends[kind, position, microbatch] for kind in (1, 2) if (kind, position, microbatch) in ends)

    send_s = float(stages.send_forward_s.max()) if p > 1 else 0.0
    free = dict.fromkeys(range(p), 0.0)
    for index, (kind, position, microbatch) in enumerate(zip(timeline.kind, timeline.position, timeline.microbatch, strict=True)):
        stage, start = int(timeline.stage[index]), float(timeline.start_s[index])
        if kind == Kind.FORWARD:
            arrived = ends[0, position - 1, microbatch] + send_s if position else 0.0
        elif kind == Kind.BACKWARD_WEIGHT:
            arrived = ends[2, position, microbatch]
        else:
            arrived = backward_end(position + 1, microbatch) + send_s if position < last else ends[0, position, microbatch]
        assert start >= arrived - 1e-9
        beside = timeline.paired[index] and kind != Kind.FORWARD
        if not beside:
            assert start >= free[stage] - 1e-9
            if not timeline.paired[index]:
                assert start == pytest.approx(max(free[stage], arrived))
        held = send_s if not stages.overlap and timeline.sent_to[index] >= 0 else 0.0
        free[stage] = max(free[stage] if beside else 0.0, float(timeline.end_s[index]) + held)


@given(pipelines(most_microbatches=120))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_makespan_from_fewer_microbatches_is_that_of_all(stages: Stages) -> None:
    assert makespan_s(stages) == pytest.approx(simulate(stages).makespan_s, rel=1e-9)


@given(pipelines(), st.integers(0, 5), st.floats(0, 1))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_slower_stage_or_message_never_shortens_the_step(stages: Stages, which: int, more_s: float) -> None:
    before = makespan_s(stages)
    slower = stages.forward_s.copy()
    slower[which % stages.count] += more_s

    def changed(forward_s: np.ndarray, send_s: float) -> float:
        return makespan_s(
            Stages.of(
                forward_s, stages.backward_input_s, stages.backward_weight_s, send_s, microbatches=stages.microbatches,
                stages=stages.count, interleave=stages.chunks, schedule=stages.schedule, overlap=stages.overlap,
            )
        )  # fmt: skip

    send_s = float(stages.send_forward_s.max())
    assert changed(slower, send_s) >= before * (1 - 1e-12)
    assert changed(stages.forward_s, send_s + more_s) >= before * (1 - 1e-12)


@given(pipelines())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_step_is_shorter_than_a_stage_or_than_the_way_of_one_microbatch(stages: Stages) -> None:
    timeline = simulate(stages)
    assert timeline.makespan_s >= timeline.busy_s.max() * (1 - 1e-12)
    way_s = (
        stages.forward_s.sum()
        + stages.backward_input_s.sum()
        + 2 * stages.send_forward_s.max() * (stages.count * stages.chunks - 1) * (stages.count > 1)
    )
    assert timeline.makespan_s >= way_s * (1 - 1e-12)
    work_s = (stages.forward_s + stages.backward_s).sum() * stages.microbatches
    assert timeline.busy_s.sum() == pytest.approx(work_s)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"interleave": 2, "schedule": "interleaved", "microbatches": 6}, "multiple of pp 4; make it 8"),
        ({"interleave": 2, "schedule": "zero-bubble"}, "does not go with the schedule zero-bubble"),
        ({"stages": 3, "schedule": "dualpipe"}, "even number of stages, and pp is 3; make it 4"),
        ({"schedule": "dualpipe", "microbatches": 6}, "at least twice pp 4, and got 6; make it 8"),
        ({"microbatches": 0}, "microbatches is 0; give at least 1"),
    ],
)
def test_numbers_that_a_schedule_cannot_run_are_refused_with_the_nearest_that_it_can(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(IllegalPlan, match=sentence):
        Stages.of(1.0, 2.0, **{"stages": 4, "microbatches": 8, **given})


def test_an_unknown_schedule_and_times_that_are_none_are_refused() -> None:
    with pytest.raises(UnknownName, match="1f1b"):
        Stages.of(1.0, 2.0, stages=4, microbatches=8, schedule="1f1")
    with pytest.raises(InputError, match="forward_s of the pipeline holds a time that is negative"):
        Stages.of(-1.0, 2.0, stages=4, microbatches=8)
    with pytest.raises(InputError, match=r"backward_input_s of the pipeline has shape \(3,\), but there are 4 stages"):
        Stages.of(1.0, [1.0, 2.0, 3.0], stages=4, microbatches=8)
    with pytest.raises(InputError, match="pair_saving_s is 2"):
        Stages.of(1.0, 2.0, stages=4, microbatches=8, schedule="dualpipe", pair_saving_s=2.0)


def test_orders_that_wait_for_each_other_are_found_out() -> None:
    f = Kind.FORWARD
    with pytest.raises(ValueError, match="wait for each other"):
        in_waiting_order([[(Pass(f, 1, 0),), (Pass(f, 0, 0),)]])
