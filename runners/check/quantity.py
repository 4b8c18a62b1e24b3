"""What rules are about: a quantity is a number that code finds in a table, of each row or of the machine, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .table import Table

Scope = Literal["row", "machine"]
COMMON_FIELDS = ("value", "times", "percent", "less", "more", "chip")
"""Fields that the words of every rule may name: the value as a number, as ``2.3``, ``88 %``, ``12 %`` (below 1) and ``12 %`` (above 1)."""
ROW_FIELDS = ("op", "dtype", "what")
"""And those of every row: operation, dtype, and its figure with the unit."""


@dataclass(frozen=True)
class Seen:
    """One value of a quantity: of the row at ``index`` of the table, or of the chips called ``chip``."""

    value: float
    index: int | None = None
    chip: str = ""
    fields: Callable[[], Mapping[str, str]] = field(default=dict)
    """The texts of the quantity's own fields; asked for only where a rule trips."""


class Find(Protocol):
    """A function from a table to the values of a quantity."""

    __name__: str

    def __call__(self, table: Table, /) -> Iterable[Seen]: ...


@dataclass(frozen=True)
class Quantity:
    """``find`` gives a value for whatever it can tell something of, and none for the rest."""

    name: str
    scope: Scope
    doc: str
    find: Find
    fields: tuple[str, ...] = ()

    @property
    def all_fields(self) -> tuple[str, ...]:
        """Every field that words about it may name."""
        return (*COMMON_FIELDS, *(ROW_FIELDS if self.scope == "row" else ()), *self.fields)


def of_rows(find: Find, *fields: str) -> Quantity:
    """A quantity of rows, called and documented as the function that finds it."""
    return Quantity(find.__name__, "row", " ".join((find.__doc__ or "").split()), find, fields)


def of_machine(find: Find, *fields: str) -> Quantity:
    """A quantity of the machine, or of each chip of a fleet."""
    return Quantity(find.__name__, "machine", " ".join((find.__doc__ or "").split()), find, fields)


def by_name(*quantities: Quantity) -> Mapping[str, Quantity]:
    """The table of a module's quantities."""
    return {quantity.name: quantity for quantity in quantities}


def common(seen: Seen) -> dict[str, str]:
    """The texts of COMMON_FIELDS.

    >>> common(Seen(1.125, chip="x"))["more"], common(Seen(0.4))["less"], common(Seen(0.4))["percent"]
    ('12 %', '60 %', '40 %')
    """
    value = seen.value
    return {
        "value": f"{value:.3g}",
        "times": f"{value:.1f}" if value >= 0.95 else f"{value:.2f}",
        "percent": _percent(value),
        "less": _percent(1 - value),
        "more": _percent(value - 1),
        "chip": seen.chip,
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if abs(share) >= 0.095 else f"{100 * share:.1f} %"
