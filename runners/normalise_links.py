"""Rows of collectives to links, links under load, and what collectives and matrix products take from each other."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from chipassay.results.best import impossible
from chipassay.results.link import NORMAL_Z, NOTHING, Link, Load, Overlap, bus_factor
from chipassay.results.profile import Evidence
from chipassay.results.schema import Row
from chipassay.results.units import size

from .fit_links import fit_link

AT_ONCE = "|"
"""Stands between the groups in ``members`` that ran at the same time."""
USUAL_DTYPES = ("bf16", "fp16", "fp32")
"""Which dtype a link is of where several were measured at as many sizes."""

Kind = tuple[str, str, int, str, str]
"""Pattern, transport, group size, placement, launch."""


def placement(row: Row) -> str:
    """``inside`` a node or ``across`` nodes, by the hosts that took part."""
    return "across" if (row.node_count or 1) > 1 else "inside"


def is_collective(row: Row) -> bool:
    """Whether the row times a collective; a product beside one has a group, too, but no message."""
    return row.group_size is not None and row.size_bytes is not None


def plain(row: Row) -> bool:
    """A collective with nothing beside it: no product on its chips, no other group on the others'."""
    return is_collective(row) and row.beside is None and AT_ONCE not in (row.members or "")


def _kind(row: Row) -> Kind:
    return row.op or "", row.backend or "", row.group_size or 0, placement(row), row.launch or ""


def links(rows: Sequence[Row], evidence_of: Callable[[Sequence[Row]], Evidence]) -> Iterable[Link]:
    """One link for each pattern, transport, group size, placement and launch, through the plain cold rows of its usual dtype."""
    grouped: dict[Kind, list[Row]] = defaultdict(list)
    for row in rows:
        if plain(row) and (row.group_size or 0) > 1 and row.time_median_s and row.cache != "warm":
            grouped[_kind(row)].append(row)
    for kind, group in sorted(grouped.items()):
        # What no link can carry was measured wrong, and would bend all the others' line.
        believed = [row for row in group if not impossible(row)]
        if believed:
            yield _link(kind, usual_buffers(believed), evidence_of)


def usual_buffers(group: Sequence[Row]) -> list[Row]:
    """The rows of one dtype and one kind of buffers: of which there are most sizes; in place and a training dtype first."""
    sizes = {key: len({row.size_bytes for row in group if _buffers(row) == key}) for key in Counter(map(_buffers, group))}

    def worth(key: tuple[str, bool]) -> tuple[int, bool, int]:
        dtype, in_place = key
        return sizes[key], in_place, -USUAL_DTYPES.index(dtype) if dtype in USUAL_DTYPES else -len(USUAL_DTYPES)

    chosen = max(sizes, key=worth)
    return [row for row in group if _buffers(row) == chosen]


def _buffers(row: Row) -> tuple[str, bool]:
    return row.dtype or "", row.in_place is not False


def _link(kind: Kind, group: Sequence[Row], evidence_of: Callable[[Sequence[Row]], Evidence]) -> Link:
    pattern, transport, group_size, where, launch = kind
    times_s = [row.time_median_s or 0.0 for row in group]
    sizes = [float(row.size_bytes or 0) for row in group]
    link = Link(
        pattern=pattern,
        transport=transport,
        group_size=group_size,
        latency_s=statistics.median(times_s),
        busbw_bytes_per_s=0.0,
        evidence=evidence_of(group),
        points=len(group),
        placement=where,
        launch=launch or None,
    )
    if pattern in NOTHING or not all(sizes):
        return link
    counted, known = _counted(group[0]), bus_factor(pattern, group_size)
    own_factor = counted if counted and not math.isclose(counted, known, rel_tol=1e-3) else None
    fit = fit_link(sizes, times_s, own_factor or known, _median_sigma(group))
    return replace(
        link,
        own_factor=own_factor,
        latency_s=fit.segments[-1].latency_s,
        busbw_bytes_per_s=fit.segments[-1].busbw_bytes_per_s,
        spread=fit.spread,
        segments=fit.segments,
        first_bytes=min(sizes),
        last_bytes=max(sizes),
    )


def _counted(row: Row) -> float | None:
    """The bus factor that the row was measured with."""
    return row.busbw_bytes_per_s / row.algbw_bytes_per_s if row.busbw_bytes_per_s and row.algbw_bytes_per_s else None


def _median_sigma(group: Sequence[Row]) -> float:
    """Standard deviation of the log of a median time, of the typical row, by its 95 % interval."""
    known = [math.log(row.time_high_s / row.time_low_s) for row in group if row.time_low_s and row.time_high_s]
    return statistics.median(known) / (2 * NORMAL_Z) if known else 0.0


def loads(rows: Sequence[Row], plain_links: Sequence[Link], evidence_of: Callable[[Sequence[Row]], Evidence]) -> Iterable[Load]:
    """How much slower each kind of group is while its like run at the same time: against the first of them alone, or else the link's fit.

    The row of several groups counts the hosts of all of them: where one group lies is told by the row of that group alone.
    """
    alone = {(*_case(row), row.members): row for row in rows if plain(row) and row.time_median_s}
    grouped: dict[tuple[str, str, int, str, int], list[tuple[Row, float]]] = defaultdict(list)
    for row in rows:
        if not is_collective(row) or row.beside is not None or AT_ONCE not in (row.members or "") or not row.time_median_s:
            continue
        first, groups = (row.members or "").partition(AT_ONCE)[0], (row.members or "").count(AT_ONCE) + 1
        same = alone.get((*_case(row), first))
        if same is not None and same.time_median_s:
            where, time_s = placement(same), same.time_median_s
        else:
            fits = [link for link in plain_links if _fits(link, row) and link.busbw_bytes_per_s > 0]
            if len(fits) != 1:
                continue
            where, time_s = fits[0].placement, fits[0].time_s(row.size_bytes or 0)
        grouped[row.op or "", row.backend or "", row.group_size or 0, where, groups].append((row, row.time_median_s / time_s))
    for (pattern, transport, group_size, where, groups), found in sorted(grouped.items(), key=lambda item: item[0]):
        slowdowns = [slowdown for _, slowdown in found]
        yield Load(
            pattern=pattern,
            transport=transport,
            group_size=group_size,
            groups=groups,
            slowdown=statistics.median(slowdowns),
            evidence=evidence_of([row for row, _ in found]),
            placement=where,
            slowdown_low=min(slowdowns),
            slowdown_high=max(slowdowns),
            points=len(found),
        )


def _case(row: Row) -> tuple[object, ...]:
    return row.op, row.backend, row.group_size, row.launch, row.size_bytes, *_buffers(row), row.cache


def _fits(link: Link, row: Row) -> bool:
    """Whether the link is one that the row's groups could have alone."""
    return (link.pattern, link.transport, link.group_size, link.launch or "") == (row.op, row.backend, row.group_size, row.launch or "")


def overlaps(rows: Sequence[Row], evidence_of: Callable[[Sequence[Row]], Evidence]) -> Iterable[Overlap]:
    """Each collective that ran beside a product with the product that ran beside it, both against their own times alone."""
    collectives = [row for row in rows if row.beside and is_collective(row) and _slowdown(row)]
    products = {
        (row.group_size, row.members, row.beside, _product(row)): row
        for row in rows
        if row.beside and not is_collective(row) and _slowdown(row)
    }
    for row in sorted(collectives, key=lambda row: (row.op or "", row.backend or "", row.group_size or 0, row.size_bytes or 0)):
        words = f"{row.op} {size(row.size_bytes or 0)} {row.dtype} {row.backend}"
        product = (row.beside or "").removeprefix("matmul ")
        other = products.get((row.group_size, row.members, words, product))
        yield Overlap(
            pattern=row.op or "",
            transport=row.backend or "",
            group_size=row.group_size or 0,
            size_bytes=row.size_bytes or 0,
            product=product,
            evidence=evidence_of([row] if other is None else [row, other]),
            communication_slowdown=_slowdown(row),
            compute_slowdown=None if other is None else _slowdown(other),
        )


def _product(row: Row) -> str:
    return f"{row.m}x{row.n}x{row.k} {row.dtype}"


def _slowdown(row: Row) -> float | None:
    return row.time_median_s / row.alone_time_s if row.time_median_s and row.alone_time_s else None
