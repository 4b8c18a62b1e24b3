"""A timeline as a trace for chrome://tracing or ui.perfetto.dev: JSON of the Trace Event Format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .passes import Kind
from .timeline import Timeline

WORDS = {
    Kind.FORWARD: "forward",
    Kind.BACKWARD: "backward",
    Kind.BACKWARD_INPUT: "backward for the inputs",
    Kind.BACKWARD_WEIGHT: "backward for the weights",
}
COMPUTE, BESIDE, MESSAGES = 0, 1, 2
"""Threads of a stage: its passes, the backward that overlaps a forward (DualPipe), then its messages."""

Event = dict[str, Any]
Operations = Mapping[str, Sequence[tuple[str, float]]]


def trace_json(timeline: Timeline, operations: Operations | None = None) -> str:
    """The timeline as JSON: a process per stage, a thread each for its passes and its messages, times in microseconds.

    ``operations``: what a pass does inside, by its letter F, B or W, as (name, seconds) in order, for example of its layers one after the
    other. They are drawn inside every such pass, stretched to its length where their sum is another.

    Format: "Trace Event Format" (Google, the document behind chrome://tracing): complete events ``ph: X`` with ``ts`` and ``dur``, metadata
    events ``ph: M`` for names and order.
    """
    document = {"traceEvents": trace_events(timeline, operations or {}), "displayTimeUnit": "ms"}
    return json.dumps(document, separators=(",", ":"))


def trace_events(timeline: Timeline, operations: Operations) -> list[Event]:
    """The events of ``trace_json``: names first, then passes, what is inside them, and messages, in the order of their start."""
    events = [*_passes(timeline, operations), *_messages(timeline)]
    events.sort(key=lambda event: (event["ts"], -event["dur"]))  # a pass before what is inside it
    return [*_names(timeline, events), *events]


def _event(name: str, category: str, stage: int, thread: int, start_s: float, duration_s: float, **arguments: Any) -> Event:
    event = {"name": name, "cat": category, "ph": "X", "pid": stage, "tid": thread}
    # Start and end are rounded, not the length: what ends as the next begins must not reach a nanosecond into it (Perfetto drops that).
    start_ns, end_ns = round(start_s * 1e9), round((start_s + duration_s) * 1e9)
    event |= {"ts": start_ns / 1e3, "dur": (end_ns - start_ns) / 1e3}
    return event | ({"args": arguments} if arguments else {})


def _names(timeline: Timeline, events: list[Event]) -> Iterator[Event]:
    used = sorted({(event["pid"], event["tid"]) for event in events})
    for stage in range(timeline.stages.count):
        yield {"name": "process_name", "ph": "M", "pid": stage, "tid": COMPUTE, "args": {"name": f"stage {stage}"}}
        yield {"name": "process_sort_index", "ph": "M", "pid": stage, "tid": COMPUTE, "args": {"sort_index": stage}}
    for stage, thread in used:
        name = {COMPUTE: "passes", BESIDE: "passes beside", MESSAGES: "messages"}.get(thread, f"messages {thread - MESSAGES + 1}")
        yield {"name": "thread_name", "ph": "M", "pid": stage, "tid": thread, "args": {"name": name}}
        yield {"name": "thread_sort_index", "ph": "M", "pid": stage, "tid": thread, "args": {"sort_index": thread}}


def _passes(timeline: Timeline, operations: Operations) -> Iterator[Event]:
    columns = (timeline.stage, timeline.kind, timeline.microbatch, timeline.chunk, timeline.position, timeline.start_s, timeline.end_s)
    for index, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        stage, code, microbatch, chunk, part, start_s, end_s = row
        kind = Kind(code)
        thread = BESIDE if timeline.paired[index] and kind is not Kind.FORWARD else COMPUTE
        arguments = {"microbatch": microbatch, "part of the model": part} | ({"chunk": chunk} if timeline.chunk_count > 1 else {})
        yield _event(f"{kind.letter}{microbatch}", WORDS[kind], stage, thread, start_s, end_s - start_s, **arguments)
        inside = operations.get(kind.letter, ())
        total_s = sum(seconds for _, seconds in inside)
        stretch = (end_s - start_s) / total_s if total_s else 0.0
        at_s = start_s
        for name, seconds in inside:
            yield _event(name, "operation", stage, thread, at_s, seconds * stretch)
            at_s += seconds * stretch


def _messages(timeline: Timeline) -> Iterator[Event]:
    """Messages of a stage, in as many threads as travel at once: slices of one thread must not overlap."""
    free_s: dict[int, list[float]] = {}
    on_the_way = [index for index in timeline.end_s.argsort(kind="stable").tolist() if timeline.sent_s[index] > 0]
    for index in on_the_way:
        stage, start_s, travels_s = int(timeline.stage[index]), float(timeline.end_s[index]), float(timeline.sent_s[index])
        lanes = free_s.setdefault(stage, [])
        lane = next((number for number, until_s in enumerate(lanes) if until_s <= start_s), len(lanes))
        lanes[lane : lane + 1] = [start_s + travels_s]
        kind = Kind(int(timeline.kind[index]))
        name = f"{kind.letter}{timeline.microbatch[index]} to stage {timeline.sent_to[index]}"
        yield _event(name, "message", stage, MESSAGES + lane, start_s, travels_s)
