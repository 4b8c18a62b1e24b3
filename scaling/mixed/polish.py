"""Small changes to a plan's pools: what a search by estimates may have passed over lies next to what it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .choices import microbatch_axis
from .evaluate import Costed
from .pools import Block, Pool, Solver
from .records import MixedPlan

Solved = tuple[MixedPlan, Costed]


def neighbours(pools: tuple[Pool, ...], counts: Sequence[int], global_batch: int, layers: int) -> Iterator[tuple[Pool, ...]]:
    """The pools with one thing changed: a microbatch, a block's number of stages or TP degree, the order of the blocks, the replicas; what
    that frees, or needs, is given to the replicas of the same pool. Chips are never more than there are."""
    for index, pool in enumerate(pools):
        others = pools[:index] + pools[index + 1 :]
        left = [count - sum(other.chips(kind) for other in others) for kind, count in enumerate(counts)]
        for changed in _changed(pool, microbatch_axis(global_batch)):
            if any(block.stages < 1 for block in changed.blocks) or sum(block.stages for block in changed.blocks) > layers:
                continue
            one = replace(changed, replicas=1)
            most = min(left[kind] // one.chips(kind) for kind in {block.kind for block in one.blocks})
            for replicas in sorted({most, most - 1, pool.replicas}, reverse=True):
                new = (*pools[:index], replace(changed, replicas=replicas), *pools[index + 1 :])
                if 1 <= replicas <= most and sum(p.replicas * p.microbatch for p in new) <= global_batch and new != pools:
                    yield new


def _changed(pool: Pool, sizes: Sequence[int]) -> Iterator[Pool]:
    yield pool
    if len(pool.blocks) > 1:
        yield replace(pool, blocks=pool.blocks[::-1])
    place = sizes.index(pool.microbatch) if pool.microbatch in sizes else 0
    for size in sizes[max(0, place - 1) : place + 2]:
        if size != pool.microbatch:
            yield replace(pool, microbatch=size)
    for at, block in enumerate(pool.blocks):
        stages = (block.stages - 1, block.stages + 1, block.stages // 2, block.stages * 2)
        for new in (*(replace(block, stages=count) for count in stages), *_other_tp(block)):
            yield replace(pool, blocks=(*pool.blocks[:at], new, *pool.blocks[at + 1 :]))


def _other_tp(block: Block) -> Iterator[Block]:
    """Twice or half the TP degree, of as many chips or of as many stages."""
    yield replace(block, tp=2 * block.tp)
    yield replace(block, tp=2 * block.tp, stages=block.stages // 2)
    if block.tp % 2 == 0:
        yield replace(block, tp=block.tp // 2)
        yield replace(block, tp=block.tp // 2, stages=2 * block.stages)


def polished(
    solver: Solver, start: tuple[tuple[Pool, ...], Solved], degrees: Sequence[frozenset[int]], most: int
) -> tuple[list[tuple[tuple[Pool, ...], Solved]], int]:
    """Better and better plans from a start, the best last, and how many were solved: at each step the first neighbour that is faster.

    ``degrees``: the TP degrees that each kind may have.
    """
    tables = solver.tables
    counts = [kind.count for kind in tables.kinds]
    pools, (_, costed) = start
    best_s, solved = costed.step_time_s, 0
    found: list[tuple[tuple[Pool, ...], Solved]] = []
    seen = {pools}
    better = True
    while better and solved < most:
        better = False
        for new in neighbours(pools, counts, solver.global_batch, tables.model.layers):
            if new in seen or any(block.tp not in degrees[block.kind] for pool in new for block in pool.blocks):
                continue
            seen.add(new)
            one = solver.plan(new, best_s)
            solved += 1
            if one is not None and one[1].step_time_s < best_s:
                pools, best_s, better = new, one[1].step_time_s, True
                found.append((new, one))
                break
            if solved >= most:
                break
    return found, solved
