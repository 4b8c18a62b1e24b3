"""What a pass of the pipeline is made of, in order, for the trace of a step: operations of all layers of a stage together."""

from __future__ import annotations

from collections.abc import Iterable

from ..layer import core_times, pass_times, product_times
from ..operations import Pass, Product, layer_operations
from ..sides import Side
from .case import Case
from .term import one

Parts = list[tuple[str, float]]


def operations_of(case: Case) -> dict[str, Parts]:
    """Letter of a pass (F, B, W) -> (name, seconds) of its operations in a layer of the first kind, by kind of work, as they are run.

    With a backward pass in one piece (all schedules but ``zero-bubble`` and ``dualpipe``) B holds the gradients of the weights too.
    """
    operations = layer_operations(case.cut, case.model.blocks[0])
    products = _products(operations.products, case)
    memory = [(each.name, *_pass(each, case)) for each in operations.passes]
    core: list[tuple[str, float, float]]
    if operations.cores:
        forward_s, backward_s = core_times(operations.cores, case.machine, case.cut)
        core = [("attention", one(forward_s), one(backward_s))]
    else:
        core = [(name, times[0], times[1] + times[2]) for name, times in _products(operations.score_products, case)]
        core += [(each.name, *_pass(each, case)) for each in operations.scores]
    sides = case.sides
    ahead: Parts = [(name, times[0]) for name, times in products]
    ahead += [(name, time) for name, time, _ in (*core, *memory)]
    back: Parts = [(name, time) for name, _, time in (*memory, *core)]
    back += [(name, times[1]) for name, times in products]
    found = {
        "F": ahead + _said(sides[0]),
        "B": _said(sides[1]) + back,
        "W": [(f"{name} weights", times[2]) for name, times in products],
    }
    if case.plan.schedule not in ("zero-bubble", "dualpipe"):
        found["B"] += found.pop("W")
    return {letter: [(name, time) for name, time in parts if time > 0] for letter, parts in found.items()}


def _products(products: Iterable[Product], case: Case) -> list[tuple[str, list[float]]]:
    products = tuple(products)
    times = product_times(products, case.machine, case.cut)
    return [(product.name, [one(time[i]) for time in times]) for i, product in enumerate(products)]


def _pass(each: Pass, case: Case) -> tuple[float, float]:
    forward_s, backward_s, *_ = pass_times((each,), case.machine)
    return one(forward_s), one(backward_s)


def _said(side: Side) -> Parts:
    """Recomputation and exposed traffic of one direction."""
    return [
        ("recomputed", one(side.recompute_s)),
        ("tensor parallel", one(side.tp_s)),
        ("context parallel", one(side.cp_s)),
        ("expert parallel", one(side.ep_s)),
    ]
