"""Charts of bytes per second: the memory's, those of operations that wait for it, and the link's to the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chipassay.results.operations import LIMITED_BY, STREAM_OPS
from chipassay.results.profile import Curve, Profile
from chipassay.results.schema import Row
from chipassay.results.units import short, size

from .charting import BARS, Model, chips, curve_note, drawn, finished, grouped, label, of_op, usual
from .plot import Axis, Plot, Point, Series, per_time, positive

PLAIN_OPS = ("read", *STREAM_OPS)


def memory(rows: Sequence[Row], profile: Profile | None) -> Plot:
    """Bandwidth of plain reading and writing against bytes moved, with the profile's curve."""
    chosen = [row for row in of_op(rows, *PLAIN_OPS) if row.launch != "graph"]
    several_caches = len({row.cache for row in chosen if row.status == "ok"}) > 1
    series = _bandwidths(chosen, lambda row: (row.op or "") + (f", {row.cache or 'unknown'} cache" if several_caches else ""))
    curve = profile.memory if profile is not None else None
    if profile is not None and curve is not None:
        line = drawn([p for s in series if s.shape == profile.chip_id for p in s.points], _bandwidth(curve))
        if line:
            name = "profile's curve" if len(chips(rows)) < 2 else f"curve of {profile.chip_id}"
            series.append(Series(name, "model", profile.chip_id, (), line))
    plot = Plot(
        name="memory",
        title="Memory: bandwidth against size",
        description="Achieved memory bandwidth of copy, triad and their like against the bytes that one call moves.",
        x=Axis("bytes moved by one call", size, base=2),
        y=Axis("B/s", short, base=None),
        notes=(BARS, *curve_note(series, {"memory": curve} if curve else {})),
    )
    return finished(plot, series, chosen, "copy or triad", "measure them with: chipassay run --only copy,triad")


def waiting_for_memory(rows: Sequence[Row]) -> Plot:
    """The operations of a training step that do little more than read and write: how near they come to the memory's bandwidth."""
    ops = [op for op, limit in LIMITED_BY.items() if limit == "memory" and op not in PLAIN_OPS]
    chosen = usual(of_op(rows, *ops))
    plot = Plot(
        name="waiting",
        title="Operations that wait for memory: bandwidth against size",
        description="Bytes per second of norms, losses, activations, optimiser, lookup and decoding against the bytes that one call moves.",
        x=Axis("bytes moved by one call", size, base=2),
        y=Axis("B/s", short, base=None),
        notes=(BARS,),
    )
    series = _bandwidths(chosen, lambda row: (row.op or "") + (" backward" if row.direction == "backward" else ""))
    return finished(plot, series, chosen, "such operation", "measure them with: chipassay run --only rms_norm,softmax,adam")


def transfer(rows: Sequence[Row]) -> Plot:
    """Bandwidth between host and device against size."""
    chosen = usual(of_op(rows, "transfer"))
    plot = Plot(
        name="transfer",
        title="Host and device: bandwidth against size",
        description="Bytes per second from host to device and back, from pageable and pinned memory, against the size.",
        x=Axis("bytes moved by one call", size, base=2),
        y=Axis("B/s", short),
        notes=(BARS,),
    )
    series = _bandwidths(chosen, lambda row: " ".join(filter(None, ((row.path or "").replace("_", " "), row.host_memory))))
    return finished(plot, series, chosen, "transfer", "measure it with: chipassay run --only transfer")


def _bandwidths(chosen: Sequence[Row], name_of: Callable[[Row], str]) -> list[Series]:
    groups = grouped(chosen, lambda row: (name_of(row),))
    series = []
    for (chip, (name,)), members in groups.items():
        points = tuple(
            Point(row.bytes, row.bandwidth_bytes_per_s, *per_time(row, row.bytes))
            for row in members
            if row.bytes is not None
            and row.bandwidth_bytes_per_s is not None
            and positive(row.bytes)
            and positive(row.bandwidth_bytes_per_s)
        )
        series.append(Series(label(groups, chip, name), name, chip, points))
    return series


def _bandwidth(curve: Curve) -> Model:
    return lambda x: x / curve.time_s(x)
