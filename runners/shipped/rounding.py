"""Numbers of a shipped profile: as many digits as every machine agrees on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

from chipassay.results.shape_models.correction import Correction

DIGITS = 6
"""Significant digits: more than any figure is known to, fewer than where the sums of two processors part."""

CORRECTION_DECIMALS = 4
"""Of logs: a hundredth of a percent of a time."""

Value = TypeVar("Value")


def rounded(value: Value, digits: int = DIGITS) -> Value:
    """The same record, mapping, tuple or number, with every float inside it rounded.

    >>> rounded({"a": (1.23456789, 1e-7 / 3, 5)})
    {'a': (1.23457, 3.33333e-08, 5)}
    """
    return _rounded(value, digits)  # type: ignore[return-value]


def _decimals(table: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(x, CORRECTION_DECIMALS) for x in row) for row in table)


def _rounded(value: object, digits: int) -> object:
    if isinstance(value, Correction):
        return replace(value, mn=_decimals(value.mn), mk=_decimals(value.mk), nk=_decimals(value.nk))
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(inner, digits) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(_rounded(inner, digits) for inner in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _rounded(getattr(value, field.name), digits) for field in fields(value) if field.init})
    return value
