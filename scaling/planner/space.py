"""The plans among which the best is looked for: settings that vary beside the columns of the grid, and numbers of chips."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from chipassay.results.errors import InputError, UnknownName

from ..cluster import Group
from ..errors import IllegalPlan
from ..grid import WIDE_CONTEXT_TOKENS, WIDE_NODES, context_axis, grid, pipeline_axis, recompute_axis, tensor_axis
from ..legal import check_settings
from ..models import Transformer
from ..plan import ORDER, RECOMPUTES, Plan, Recompute, Schedule
from ..plan_text import SHORT, parse_plan
from ..plans import COLUMNS, Array, Plans
from ..rules import divisors, nearest, tensor_degrees
from ..spare import SPARE_SHARE, check_spare

ORDERS = (ORDER, "tp-cp-ep-pp-dp", "tp-ep-dp-cp-pp", "tp-ep-dp-pp-cp", "tp-pp-cp-ep-dp", "tp-pp-ep-dp-cp")
"""TP groups always lie closest together, since they talk within every layer; then come CP, DP and PP in every order. Experts are spread
over neighbours of those that hold the same layers."""
SCHEDULES: tuple[Schedule, ...] = ("1f1b", "zero-bubble", "dualpipe")
"""Interleaving is a column of 1F1B. GPipe is left out: 1F1B is as fast and needs less memory."""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the layers that may be recomputed."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """What may vary beside the columns of the grid, and which columns may not."""

    settings: Plan = field(default_factory=lambda: Plan(global_batch=1))
    """Fields that no axis varies: dtype, attention, optimizer, ..."""
    columns: Mapping[str, int] = field(default_factory=dict)
    """Columns that must have one value."""
    schedules: Sequence[Schedule] = SCHEDULES
    orders: Sequence[str] = ORDERS
    shares: Sequence[float] = SHARES
    overlap_tp: Sequence[bool] = (False,)
    full: bool = False
    """Every divisor and every combination."""
    spare: float = SPARE_SHARE
    """Share of the memory that every plan must leave free."""

    def recomputes(self) -> tuple[Recompute, ...]:
        """Kinds of recomputation to try, ``none`` first where it is allowed."""
        if "recompute" in self.columns:
            return (RECOMPUTES[self.columns["recompute"]],)
        return recompute_axis(self.settings.attention)

    def variants(self, kind: Recompute) -> Sequence[float]:
        """Shares to try for a kind of recomputation, the smallest first."""
        return (1.0,) if kind == "none" else sorted(self.shares)


def space_of(
    fixed: str = "", *, dtype: str | None = None, overlap_tp: bool = False, full: bool = False, spare: float = SPARE_SHARE
) -> Space:
    """The space in which what ``fixed`` says holds of all plans, such as ``tp=8,schedule=1f1b,optimizer=adam-8bit``.

    ``overlap_tp``: plans that cut TP traffic into pieces beside the products are tried, too.
    Raises UnknownName, InputError and IllegalPlan as ``parse_plan`` and ``check_plan`` do.

    >>> space_of("tp=8,schedule=1f1b").columns, space_of("schedule=1f1b").schedules
    ({'tp': 8}, ('1f1b',))
    """
    given = _parsed(fixed)
    if dtype is not None:
        if given.dtype not in (None, dtype):
            raise InputError(f"dtype is {dtype}, but the fixed fields say dtype={given.dtype}; give it once")
        given = replace(given, dtype=dtype)
    check_settings(given)
    names = {part.partition("=")[0].strip() for part in fixed.split(",")}
    names = {SHORT.get(name, name) for name in names if name}
    columns = {name: int(_code(given, name)) for name in COLUMNS if name in names}
    plain: dict[str, Any] = {field.name: field.default for field in fields(Plan) if field.name in COLUMNS and field.name != "global_batch"}
    return Space(
        settings=replace(given, **plain),
        columns=columns,
        schedules=(given.schedule,) if "schedule" in names else SCHEDULES,
        orders=(given.order,) if "order" in names else ORDERS,
        shares=(given.recompute_share,) if "recompute_share" in names else SHARES,
        overlap_tp=(given.overlap_tp,) if "overlap_tp" in names else (False, True) if overlap_tp else (False,),
        full=full,
        spare=check_spare(spare),
    )


def _parsed(fixed: str) -> Plan:
    """The plan that the fixed fields name. A field that there is not, and that is like none, is answered with all that can be fixed."""
    try:
        return parse_plan(fixed, 1)
    except UnknownName as error:
        if error.nearest:
            raise
        short = {name: abbreviation for abbreviation, name in SHORT.items()}
        able = sorted(short.get(one.name, one.name) for one in fields(Plan) if one.name != "global_batch")
        raise InputError(f"{str(error).partition(';')[0]}; these can be fixed: {', '.join(able)}") from error


def _code(plan: Plan, name: str) -> Any:
    value = getattr(plan, name)
    return RECOMPUTES.index(value) if name == "recompute" else value


def counts(model: Transformer, group: Group, global_batch: int, space: Space) -> list[int]:
    """Numbers of chips to try, ascending: within one node any, else whole nodes, and the cluster's own; each the product of degrees."""
    most, per_node = group.count, group.chips_per_node
    tensor, pipeline = tensor_axis(model, per_node, WIDE_NODES), pipeline_axis(model, uneven=True)
    context = context_axis(model, WIDE_CONTEXT_TOKENS)
    replicas = divisors(global_batch)
    if space.full:
        tensor, pipeline, context = tensor_degrees(model), tuple(range(1, model.layers + 1)), divisors(model.seq_len)
    axes = {"tp": tensor, "pp": pipeline, "cp": context, "dp": replicas}
    chosen = [(space.columns[name],) if name in space.columns else values for name, values in axes.items()]
    found = {1}
    for values in chosen:
        found = {chips * value for chips, value in itertools.product(found, values) if 0 < chips * value <= most}
    return sorted({chips for chips in found if chips <= per_node or chips % per_node == 0} | {most})


def base_plans(
    model: Transformer, group: Group, chips: int, global_batch: int, space: Space, schedule: Schedule, tolerance: float = 0.0
) -> Plans:
    """The grid on so many chips by one schedule, each plan once, without regard to recomputation (the first kind that may be)."""
    first: dict[str, Any] = {"order": space.orders[0], "overlap_tp": space.overlap_tp[0], "recompute_share": 1.0}
    settings = replace(space.settings, global_batch=global_batch, schedule=schedule, **first)
    plans = _grid(model, group, chips, global_batch, settings, space, tolerance, space.recomputes()[0])
    if schedule != space.schedules[0]:
        plans = plans.take(plans.pp > 1)  # without a pipeline all schedules are one
    return plans


def _grid(
    model: Transformer, group: Group, chips: int, batch: int, settings: Plan, space: Space, tolerance: float, kind: Recompute
) -> Plans:
    free = not space.columns or not set(space.columns) - {"recompute"}
    for full in (True,) if space.full else (False,) if free else (False, True):
        plans = grid(
            model, chips, group.chips_per_node, batch, settings, batch_tolerance=tolerance, full=full, wide=True, recomputes=(kind,)
        )
        for name, value in space.columns.items():
            column = getattr(plans, name)
            whole = {"expert_tp": plans.tp, "shard": plans.dp * plans.cp}.get(name, column)
            plans = plans.take(column == (value if value or name not in ("expert_tp", "shard") else whole))
        if full and "zero_stage" not in space.columns and settings.offload != "all":
            plans = plans.take((plans.zero_stage == 0) | (plans.dp * plans.cp > 1))  # there is nothing to shard over
        if len(plans):
            return plans
    return plans


def with_recompute(plans: Plans, kind: Recompute, share: float) -> Plans:
    """The same plans with a kind of recomputation in a share of the layers."""
    code = np.full(len(plans), RECOMPUTES.index(kind), np.int64)
    return replace(plans, settings=replace(plans.settings, recompute_share=share), recompute=code)


def joined(several: Sequence[Plans]) -> Plans:
    """Plans of equal settings, one after the other."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(plans, name) for plans in several]) for name in COLUMNS}
    return replace(several[0], **columns)


def arrangements(plans: Plans, space: Space, chips_per_node: int) -> Iterator[tuple[Plans, Array]]:
    """The plans with each order of ranks, and with TP traffic exposed or not, and for which of them that makes another plan.

    An order is another only for the dimensions that a plan has, and only beyond one node.
    """
    for place, overlap in enumerate(space.overlap_tp):
        for order, differing in zip(space.orders, _differing(plans, space.orders, chips_per_node), strict=True):
            settings = replace(plans.settings, order=order, overlap_tp=overlap)
            yield replace(plans, settings=settings), differing & (plans.tp > 1) if place else differing


def _differing(plans: Plans, orders: Sequence[str], chips_per_node: int) -> list[Array]:
    """For each order the plans that it arranges as none before it does."""
    beyond = plans.chips > chips_per_node
    present = {name: getattr(plans, name) > 1 for name in ("tp", "cp", "dp", "pp")}
    code = sum(mask.astype(np.int64) << bit for bit, mask in enumerate(present.values()))
    masks = []
    seen: dict[int, set[tuple[str, ...]]] = {value: set() for value in range(2 ** len(present))}
    for place, order in enumerate(orders):
        new = np.zeros(2 ** len(present), bool)
        for value, known in seen.items():
            there = {name for bit, name in enumerate(present) if value >> bit & 1}
            signature = tuple(name for name in order.split("-") if name in there)
            new[value] = signature not in known
            known.add(signature)
        masks.append(new[code] & beyond if place else np.ones(len(plans), bool))
    return masks


def nothing_to_try(model: Transformer, group: Group, global_batch: int, space: Space) -> IllegalPlan:
    """Why there is no plan at all: a fixed column that no plan of these chips has, with the nearest value that some have, or the batch."""
    from ..grid import nearest_batch

    free = replace(space, columns={}, full=True)
    tried = counts(model, group, global_batch, replace(space, columns={}))
    columns: dict[str, set[int]] = {name: set() for name in space.columns}
    for chips in tried[::-1][:8]:
        plans = base_plans(model, group, chips, global_batch, free, space.schedules[0])
        for name in columns:
            columns[name] |= set(np.unique(getattr(plans, name)).tolist())
    for name, value in space.columns.items():
        if name != "recompute" and columns[name] and value not in columns[name]:
            able = nearest(value, {found for found in columns[name] if found > 0} or {1})
            return IllegalPlan(
                f"no plan of {model.name} on up to {group.count} chips at a batch of {global_batch} has {name} {value}; "
                f"the nearest that some have is {able}"
            )
    if space.columns:
        words = ", ".join(f"{name} {RECOMPUTES[value] if name == 'recompute' else value}" for name, value in space.columns.items())
        return IllegalPlan(
            f"no plan of {model.name} on up to {group.count} chips at a batch of {global_batch} has {words} together; fix fewer fields"
        )
    nearby = nearest_batch(model, group.count, group.chips_per_node, global_batch)
    return IllegalPlan(
        f"no split of up to {group.count} chips divides a global batch of {global_batch}; the nearest that one does is {nearby}"
    )
