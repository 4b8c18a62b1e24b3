"""So many reference chips against how many of another side: the question put, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from chipassay.results.errors import InputError
from chipassay.results.prices import Price
from chipassay.results.profile import Profile

from ..as_of import check_released, settings_as_of
from ..models import Transformer, load_model
from ..plan import Plan
from ..search import BATCH_TOLERANCE, default_global_batch
from ..what_if import Change
from .fleet import MOST_CHIPS, Fleet
from .record import Exchange, Same
from .side import Side, side_of
from .trade import Trade

MOST_REFERENCE = MOST_CHIPS // 8
"""Chips of a reference: the other side may need eight times as many."""


def set_up(
    model: Transformer | str,
    reference: Profile | str | Side,
    reference_count: int,
    other: Profile | str | Side,
    *,
    global_batch: int | None = None,
    reference_fabric: str | None = None,
    other_fabric: str | None = None,
    as_of: str | None = None,
    settings: Plan | None = None,
    changes: Iterable[Change] = (),
    prices: Mapping[str, Price] | None = None,
    watch: Callable[[str], None] = lambda words: None,
) -> Trade:
    """Both sides of an exchange, the reference's best plan on at most ``reference_count`` chips searched.

    The batch is the one given, or about four million tokens, which the reference may move by 5 % so that its chips divide it; the other
    side may, too. ``as_of`` (YYYY-MM) refuses chips that came later and takes the software and the quotes of that month. Raises InputError
    for what cannot be asked, NoPlanFits or IllegalPlan where the reference cannot run the model.
    """
    if reference_count < 1:
        raise InputError(f"{reference_count} reference chips cannot be exchanged; give at least 1")
    if reference_count > MOST_REFERENCE:
        raise InputError(f"{reference_count:,} reference chips are more than any job has; give at most {MOST_REFERENCE:,}")
    transformer = load_model(model) if isinstance(model, str) else model
    made = tuple(changes)
    sides = [
        chip if isinstance(chip, Side) else side_of(chip, fabric, made)
        for chip, fabric in ((reference, reference_fabric), (other, other_fabric))
    ]
    if sides[0].mixed:
        raise InputError(f"the reference {sides[0].name} is a mix; name one kind of chip, and put the mix on the other side")
    if as_of is not None:
        check_released((*sides[0].chip_ids, *sides[1].chip_ids), as_of)
        settings = settings_as_of(as_of, settings)
    batch = global_batch or default_global_batch(transformer, reference_count)
    asked = Fleet(
        transformer, sides[0], batch, own=reference_count,
        tolerance=0.0 if global_batch else BATCH_TOLERANCE, settings=settings, prices=prices, as_of=as_of, watch=watch,
    )  # fmt: skip
    aim = asked.up_to(reference_count)
    fleet = asked.of(sides[0], aim.prediction.plan.global_batch)
    return Trade(fleet, aim, fleet.of(sides[1]))


def exchange_rate(
    model: Transformer | str,
    reference: Profile | str | Side,
    reference_count: int,
    other: Profile | str | Side,
    *,
    same: Same = "time",
    limits: bool = False,
    global_batch: int | None = None,
    reference_fabric: str | None = None,
    other_fabric: str | None = None,
    as_of: str | None = None,
    settings: Plan | None = None,
    changes: Iterable[Change] = (),
    prices: Mapping[str, Price] | None = None,
) -> Exchange:
    """How many ``other`` chips (or a mix, ``a+b:3:1``) stand for ``reference_count`` reference chips on the same model and batch.

    Each side runs its best plan. Strong scaling: the batch stays (within 5 %, so that odd numbers divide it), so more chips each do less,
    and a number may not exist. ``same``: what is to be equal; see ``WHAT``. The interval is of the ratio (see ``spread``), carried through
    the other side's own scaling. ``limits``: also where it stops being possible at all. See ``set_up`` for the rest.

    >>> exchange_rate("llama3-8b", "h100-sxm-80gb", 64, "h100-sxm-80gb").count
    64
    """
    trade = set_up(
        model, reference, reference_count, other, global_batch=global_batch, reference_fabric=reference_fabric, other_fabric=other_fabric,
        as_of=as_of, settings=settings, changes=changes, prices=prices,
    )  # fmt: skip
    return trade.exchange(same, limits)
