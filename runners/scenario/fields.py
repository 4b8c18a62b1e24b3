"""What the fields of a scenario may hold, and how a mistake in one is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError, InputError, UnknownName


@dataclass(frozen=True)
class Field:
    """Text or a number above 0, one or a list of them."""

    kind: type[str] | type[int] | type[float]
    example: str
    """As TOML."""
    many: bool = False
    """A list; one value alone is a list of one."""
    choices: tuple[str, ...] = ()
    check: Callable[[Any], object] | None = None
    """Raises InputError for a value that cannot be."""
    any_number: bool = False
    """Numbers of 0 and below too."""


def value_of(path: Path, where: str, name: str, field: Field, value: Any) -> Any:
    """The value of a field, checked: a tuple where it may hold many. Raises FileError."""
    values = value if field.many and isinstance(value, list) else [value]
    mend = f"write for example {name} = {field.example}"
    if not values:
        raise FileError(path, f"{where}: {name} is an empty list", mend=f"leave the field out, or {mend}")
    for one in values:
        _check(path, where, name, field, one, mend)
    found = tuple(float(one) if field.kind is float else one for one in values)
    return found if field.many else found[0]


def _check(path: Path, where: str, name: str, field: Field, value: Any, mend: str) -> None:
    if field.kind is str:
        if not isinstance(value, str) or not value.strip():
            raise FileError(path, f"{where}: {name} holds {value!r}, which is no text", mend=mend)
        if field.choices and value not in field.choices:
            raise FileError(path, f"{where}: {UnknownName(name, value, field.choices)}")
    elif isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise FileError(path, f"{where}: {name} holds {value!r}, which is no number", mend=mend)
    elif value <= 0 and not field.any_number:
        raise FileError(path, f"{where}: {name} holds {value!r}, which is not above 0", mend=mend)
    elif field.kind is int and not isinstance(value, int):
        raise FileError(path, f"{where}: {name} holds {value!r}, which is no whole number", mend=mend)
    if field.check is not None:
        try:
            field.check(value)
        except InputError as error:
            raise FileError(path, f"{where}: {name}: {error}") from error


def fields_of(path: Path, where: str, table: Mapping[str, Any], known: Mapping[str, Field], needed: tuple[str, ...]) -> dict[str, Any]:
    """All fields of a table, checked. Raises FileError for one that there is not (with the nearest), and one that is missing."""
    for name in table:
        if name not in known:
            raise FileError(path, f"{where}: {UnknownName('field', name, known)}")
    for name in needed:
        if name not in table:
            raise FileError(path, f"{where}: {name} is missing", mend=f"add it, such as {name} = {known[name].example}")
    return {name: value_of(path, where, name, known[name], value) for name, value in table.items()}
