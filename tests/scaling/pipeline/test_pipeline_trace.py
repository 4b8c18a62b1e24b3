"""A timeline as trace and as picture: what the format asks for, and nothing drawn that did not run."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from chipassay.scaling.pipeline.simulate import simulate
from chipassay.scaling.pipeline.stages import Stages
from chipassay.scaling.pipeline.trace import trace_json

PIPELINES = {
    "1f1b": Stages.of([1e-3, 1e-3, 1e-3, 1.4e-3], 2e-3, send_s=1.5e-3, microbatches=8),
    "interleaved": Stages.of(2e-3, 4e-3, send_s=1e-4, stages=4, interleave=2, microbatches=8, schedule="interleaved"),
    "zero-bubble": Stages.of(1e-3, 1e-3, 1e-3, stages=4, microbatches=8, schedule="zero-bubble"),
    "dualpipe": Stages.of(1e-3, 1e-3, 1e-3, 1e-4, stages=4, microbatches=8, schedule="dualpipe"),
    "times of no round number": Stages.of(1e-3 / 3, 2e-3 / 3, send_s=1e-4 / 7, stages=4, microbatches=8),
    "one stage": Stages.of(1e-3, 2e-3, microbatches=3),
}
"""The first has messages longer than passes, so that several are on the way from one stage."""


def slices(text: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(text)["traceEvents"] if event["ph"] == "X"]


@pytest.mark.parametrize("stages", PIPELINES.values(), ids=PIPELINES)
def test_a_trace_has_the_fields_that_the_trace_event_format_asks_for(stages: Stages) -> None:
    """Complete events: name, cat, ph, ts, dur, pid, tid. Metadata: name, ph, pid, args with name or sort_index."""
    document = json.loads(trace_json(simulate(stages)))
    assert document["displayTimeUnit"] in ("ms", "ns")
    kinds = {event["ph"] for event in document["traceEvents"]}
    assert kinds == {"X", "M"}
    for event in document["traceEvents"]:
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert {"name", "cat", "ts", "dur"} <= set(event)
            assert event["ts"] >= 0
            assert event["dur"] > 0
        else:
            field = "name" if event["name"] in ("process_name", "thread_name") else "sort_index"
            assert set(event["args"]) == {field}
    named = {event["args"]["name"] for event in document["traceEvents"] if event["name"] == "process_name"}
    assert named == {f"stage {stage}" for stage in range(stages.count)}


@pytest.mark.parametrize("stages", PIPELINES.values(), ids=PIPELINES)
def test_slices_of_one_thread_lie_beside_or_inside_each_other(stages: Stages) -> None:
    """The viewers draw nothing sensible for slices that overlap in part, be it by a nanosecond."""
    threads = defaultdict(list)
    operations = {"F": [("attention", 1.0), ("norm", 0.1), ("mlp", 2.0)]}
    for event in slices(trace_json(simulate(stages), operations)):
        start_ns, length_ns = round(event["ts"] * 1e3), round(event["dur"] * 1e3)
        threads[event["pid"], event["tid"]].append((start_ns, start_ns + length_ns))
    for spans in threads.values():
        open_until: list[int] = []
        for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_until and open_until[-1] <= start:
                open_until.pop()
            assert not open_until or end <= open_until[-1]
            open_until.append(end)


def test_passes_and_messages_bear_the_names_of_the_papers() -> None:
    """Two stages, one microbatch: F 1 ms, message 0.5 ms, F, B 2 ms, message, B."""
    events = slices(trace_json(simulate(Stages.of(1e-3, 2e-3, send_s=0.5e-3, stages=2, microbatches=1))))
    assert [(event["pid"], event["tid"], event["name"], event["ts"], event["dur"]) for event in events] == [
        (0, 0, "F0", 0, 1000),
        (0, 2, "F0 to stage 1", 1000, 500),
        (1, 0, "F0", 1500, 1000),
        (1, 0, "B0", 2500, 2000),
        (1, 2, "B0 to stage 0", 4500, 500),
        (0, 0, "B0", 5000, 2000),
    ]


def test_operations_fill_the_pass_that_they_are_inside_of() -> None:
    operations = {"F": [("qkv", 1.0), ("attention", 3.0)]}
    events = [
        event for event in slices(trace_json(simulate(Stages.of(2e-3, 2e-3, microbatches=1)), operations)) if event["cat"] == "operation"
    ]
    assert [(event["name"], event["ts"], event["dur"]) for event in events] == [("qkv", 0, 500), ("attention", 500, 1500)]


def test_a_dualpipe_trace_shows_the_backward_that_runs_beside_a_forward() -> None:
    events = slices(trace_json(simulate(PIPELINES["dualpipe"])))
    beside = [event for event in events if event["tid"] == 1]
    assert beside
    passes = {(event["pid"], event["ts"]) for event in events if event["tid"] == 0 and event["name"].startswith("F")}
    assert {(event["pid"], event["ts"]) for event in beside} <= passes
    assert all(event["name"].startswith("B") for event in beside)


@pytest.mark.parametrize("stages", PIPELINES.values(), ids=PIPELINES)
def test_the_picture_has_a_box_for_every_pass_and_names_what_it_shows(stages: Stages) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    from chipassay.scaling.pipeline.gantt import gantt

    timeline = simulate(stages)
    figure = gantt(timeline)
    (ax,) = figure.axes
    (boxes,) = ax.collections
    assert len(boxes.get_paths()) == len(timeline.stage)
    assert ax.get_xlim() == (0, pytest.approx(timeline.makespan_s * 1e3))
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"stage {stage}" for stage in range(stages.count)]
    assert f"{100 * timeline.bubble_share:.1f} % waiting" in figure.texts[0].get_text()
    numbers = {text.get_text() for text in ax.texts}
    assert numbers == {str(microbatch) for microbatch in range(stages.microbatches)}


def test_a_long_step_is_shown_by_its_beginning_and_its_end() -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    from chipassay.scaling.pipeline.gantt import gantt

    timeline = simulate(Stages.of(1e-3, 2e-3, stages=64, microbatches=512))
    first, last = gantt(timeline).axes
    assert first.get_xlim()[0] == 0
    assert last.get_xlim()[1] == pytest.approx(timeline.makespan_s)
    assert first.get_xlim()[1] < last.get_xlim()[0]
    fill_s = float(timeline.end_s[(timeline.stage == 0) & (timeline.kind == 1)].min())
    assert first.get_xlim()[1] > fill_s
    assert first.get_ylim()[0] > first.get_ylim()[1]  # the first stage on top
