"""How far off links are: ``python -m chipassay.runners.shipped.link_accuracy``.

Sizes left out of NVIDIA's tables, groups left out, and each rule of ``link_rules`` between chips that both have a table.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from chipassay.results.catalogue import find_chip
from chipassay.results.evidence import Evidence
from chipassay.results.link import Link, bus_factor
from chipassay.results.links import link_for

from ..fit_links import fit_link
from .link_rules import SAME as ANY_SIGMA
from .link_rules import by_link, by_pattern
from .link_tables import SUSPECT, TABLES, points_of, table_links

PATTERNS = ("all_reduce", "all_gather", "reduce_scatter")
"""Those that the goal names; all-to-all is printed, too."""
LARGE_BYTES = 2.0**26
SMALL_BYTES = 2.0**18

Points = Sequence[tuple[float, float]]
"""(message size, seconds)."""


def fitted(pattern: str, group_size: int, points: Points) -> Link:
    """The link through the points, as ``normalise_links`` makes it."""
    sizes, times_s = zip(*sorted(points), strict=True)
    fit = fit_link(sizes, times_s, bus_factor(pattern, group_size))
    last = fit.segments[-1]
    return Link(
        pattern, "nccl", group_size, last.latency_s, last.busbw_bytes_per_s, Evidence("published", "held out"), len(sizes), fit.spread,
        segments=fit.segments, first_bytes=sizes[0], last_bytes=sizes[-1],
    )  # fmt: skip


@lru_cache(maxsize=128)
def sizes_left_out(chip_id: str, pattern: str, group_size: int) -> tuple[float, ...]:
    """log(modelled / measured) of each size of a table but the smallest and the largest, by a fit that has not seen it."""
    points = points_of(chip_id)[pattern, group_size]
    errors = []
    for left_out in sorted({size for size, _ in points})[1:-1]:
        link = fitted(pattern, group_size, [point for point in points if point[0] != left_out])
        errors.append(math.log(link.time_s(left_out) / statistics.geometric_mean(time for size, time in points if size == left_out)))
    return tuple(errors)


def group_left_out(chip_id: str, pattern: str, group_size: int) -> tuple[float, ...]:
    """log(derived / measured) over the sizes of a table's group, by ``link_for`` from the table's other groups."""
    others = [link for link in table_links(chip_id) if link.pattern == pattern and link.group_size != group_size]
    link = link_for(others, pattern, group_size)
    return tuple(math.log(link.time_s(size) / time) for size, time in points_of(chip_id)[pattern, group_size]) if link else ()


def by_rule(of: str, chip_id: str) -> Mapping[str, tuple[float, ...]]:
    """log(by the rule from another chip / measured) over the sizes of a chip's tables: ``small``, ``middle`` and ``large`` messages."""
    own, other = find_chip(chip_id), find_chip(of)
    over = "pcie_bytes_per_s" if (own.link_domain_size or 1) <= 2 else "link_bytes_per_s_one_way"
    ratio = getattr(own, over) / getattr(other, over)
    made = {(link.pattern, link.group_size): by_link(link, of, ratio, "test", "", ANY_SIGMA) for link in table_links(of)}
    return _classes(_errors(made, chip_id))


def patterns_by_rule(of: str, chip_id: str) -> Mapping[str, tuple[float, ...]]:
    """The same of the other patterns by the chip's own all-reduce and what they are to it on another chip."""
    links, others = ({(link.pattern, link.group_size): link for link in table_links(chip)} for chip in (chip_id, of))
    made = {
        key: by_pattern(links["all_reduce", key[1]], link, others["all_reduce", key[1]], of)
        for key, link in others.items()
        if key[0] != "all_reduce" and key in links
    }
    return _classes(_errors(made, chip_id))


def begun_large(chip_id: str, begin_bytes: float = 2.0**20) -> tuple[float, ...]:
    """log(modelled / measured) of the smallest message of each table, by a fit of its messages from ``begin_bytes`` on."""
    errors = []
    for (pattern, group_size), points in points_of(chip_id).items():
        link = fitted(pattern, group_size, [point for point in points if point[0] >= begin_bytes])
        size, time = min(points)
        errors.append(math.log(link.time_s(size) / time))
    return tuple(errors)


def _errors(made: Mapping[tuple[str, int], Link], chip_id: str) -> Iterable[tuple[float, float]]:
    for key, points in points_of(chip_id).items():
        if key in made and (chip_id, key[1]) not in SUSPECT:
            yield from ((size, math.log(made[key].time_s(size) / time)) for size, time in points)


def _classes(errors: Iterable[tuple[float, float]]) -> dict[str, tuple[float, ...]]:
    found: dict[str, list[float]] = defaultdict(list)
    for size, error in errors:
        found["small" if size <= SMALL_BYTES else "large" if size >= LARGE_BYTES else "middle"].append(error)
    return {name: tuple(found[name]) for name in ("small", "middle", "large")}


def median_off(errors: Iterable[float]) -> float:
    """Median of |log error|."""
    return statistics.median(map(abs, errors))


def root_mean_square(errors: Sequence[float]) -> float:
    """Of log errors, bias included."""
    return math.sqrt(statistics.fmean(error * error for error in errors))


SAME_PAIRS = (("h100-sxm-80gb", "h200-sxm-141gb"), ("b200-sxm-180gb", "b300-sxm-288gb"), ("b200-sxm-180gb", "gb200"), ("gb200", "gb300"))
OTHER_PAIRS = (("a100-sxm-80gb", "h100-sxm-80gb"), ("h100-sxm-80gb", "b200-sxm-180gb"), ("a100-sxm-80gb", "b200-sxm-180gb"))
PCIE_PAIRS = (("rtx-pro-6000-blackwell-server", "l40s-pcie-48gb"),)


def _print(title: str, errors: Mapping[str, Sequence[float]]) -> None:
    told = ", ".join(f"{name} {statistics.median(part):+.2f} rms {root_mean_square(part):.2f}" for name, part in errors.items() if part)
    sys.stdout.write(f"{title}: {told}\n")


def main() -> None:
    """Print all of it."""
    sys.stdout.write("one size left out: median and 90th percentile of |log error|; the whole group left out: median\n")
    every: list[float] = []
    for chip_id in TABLES:
        for pattern, group_size in sorted(points_of(chip_id)):
            off = sorted(map(abs, sizes_left_out(chip_id, pattern, group_size)))
            group = group_left_out(chip_id, pattern, group_size)
            beyond = f"{median_off(group):.3f}" if group else "-"
            suspect = " (suspect)" if (chip_id, group_size) in SUSPECT else ""
            text = f"{statistics.median(off):.3f} {off[int(0.9 * len(off))]:.3f}, group {beyond}{suspect}"
            sys.stdout.write(f"{chip_id:30} {pattern:15} {group_size}: {text}\n")
            every += off if pattern in PATTERNS and not suspect else []
    every.sort()
    sys.stdout.write(f"all of {', '.join(PATTERNS)}: {statistics.median(every):.3f} {every[int(0.9 * len(every))]:.3f}\n")
    for of, chip_id in (*SAME_PAIRS, *OTHER_PAIRS, *PCIE_PAIRS):
        _print(f"{chip_id} by rule from {of}", by_rule(of, chip_id))
        _print(f"other patterns of {chip_id} by its all-reduce, as on {of}", patterns_by_rule(of, chip_id))
    _print("smallest message by a fit from 1 MiB on", {chip_id: begun_large(chip_id) for chip_id in TABLES})


if __name__ == "__main__":
    main()
