"""One cell of the table, both ways: a typed value to text and back, bit for bit."""

from __future__ import annotations

import math
from typing import Any

from .schema import NAMES, STATUSES, TYPES, Row


def to_text(value: Any) -> str:
    """The text of one cell. Floats keep every digit (``repr``), text loses its line breaks so that a row is a line.

    >>> to_text(0.1), to_text(None), to_text(True), to_text((1.0, 0.5))
    ('0.1', '', 'true', '1.0 0.5')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, tuple | list):
        return " ".join(repr(float(item)) for item in value)
    return protected(" | ".join(part for part in (line.strip() for line in str(value).splitlines()) if part))


FORMULA = tuple("=+-@\t\r")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection)."""


def protected(text: str) -> str:
    """Text that a spreadsheet shows as text: one that begins like a formula gets a quote before it, and so does one that already has it.

    >>> protected("=cmd()"), protected("'=cmd()"), protected("it's"), unprotected(protected("=cmd()"))
    ("'=cmd()", "''=cmd()", "it's", '=cmd()')
    """
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def unprotected(text: str) -> str:
    """The text that ``protected`` was given."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def from_text(name: str, text: str) -> Any:
    """The typed value of column ``name``.

    Raises ValueError with what was expected when the text is not of the column's type.
    """
    if text == "":
        return None
    kind = TYPES[name]
    if kind == "str":
        if name == "status" and text not in STATUSES:
            raise ValueError(f"{text!r} is not a status; one of {', '.join(STATUSES)}")
        return unprotected(text)
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() == "true"
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            return _finite(float(text))
        return tuple(_finite(float(part)) for part in text.split())
    except ValueError as error:
        expected = {"int": "a whole number", "float": "a number"}.get(kind, "numbers separated by spaces")
        raise ValueError(f"{text!r} is not {expected}") from error


def _finite(value: float) -> float:
    # An error measure may be infinite (an output full of NaN); a time may not, but the row's status says that already.
    if math.isnan(value):
        raise ValueError("nan")
    return value


def row_to_cells(row: Row) -> list[str]:
    """All cells of a row, in the order of the schema."""
    return [to_text(getattr(row, name)) for name in NAMES]
