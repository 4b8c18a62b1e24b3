"""One cell of the table, both ways: a typed value to text and back, bit for bit."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable
from typing import Any
from unicodedata import category

from .safe_text import escaped
from .schema import NAMES, STATUSES, TYPES, Row

SHOWN = 60
"""Characters of a wrong cell that an error quotes."""
UNWRITABLE = ("Cc", "Cs")
"""Control characters and lone surrogates: the first end lines or steer terminals, the second have no UTF-8."""


def to_text(value: Any) -> str:
    r"""The text of one cell. Floats keep every digit (``repr``); text loses its line breaks so that a row is a line, and its control
    characters become their codes. What has become of a text once stays as it is.

    >>> to_text(0.1), to_text(None), to_text(True), to_text((1.0, 0.5)), to_text("no\nway")
    ('0.1', '', 'true', '1.0 0.5', 'no | way')
    >>> print(to_text("\x1b[2J"))
    \x1b[2J
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return protected(_one_line(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value))
    # numpy's, too
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return "" if math.isnan(value) else repr(float(value))
    if isinstance(value, tuple | list):
        return " ".join([repr(float(item)) for item in value])
    return protected(_one_line(str(value)))


def _one_line(text: str) -> str:
    if not text.isprintable():
        lines = [part for line in text.splitlines() if (part := line.strip())]
        # A tab inside a text is harmless and stays.
        return " | ".join(
            "".join(escaped(char) if char != "\t" and category(char) in UNWRITABLE else char for char in line) for line in lines
        )
    return text.strip()


FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection; the wide forms in Japanese ones)."""


def protected(text: str) -> str:
    """Text that a spreadsheet shows as text: one that begins like a formula gets a quote before it, and so does one that already has it.

    >>> protected("=cmd()"), protected("'=cmd()"), protected("it's"), unprotected(protected("=cmd()"))
    ("'=cmd()", "''=cmd()", "it's", '=cmd()')
    """
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def unprotected(text: str) -> str:
    """The text that ``protected`` was given."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


# Python's int() and float() read more than a table should: 1_0, " 5 ", digits of other scripts, nan. These are the characters of the rest.
_whole = re.compile(r"[-+]?[0-9]{1,19}").fullmatch
_digits = re.compile(r"[-+.eE0-9]+").fullmatch
_many_digits = re.compile(r"[-+.eE0-9 ]+").fullmatch

NEVER_BELOW_0 = frozenset(
    name for name, kind in TYPES.items() if kind.startswith("tuple") or (kind == "float" and name.startswith("time_"))
)
"""Times and clocks: below 0 or without end they would be the numbers of another column, or damaged."""


def _quoted(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def _words(text: str) -> str:
    return unprotected(text)


def _status(text: str) -> str:
    if text not in STATUSES:
        raise ValueError(f"{_quoted(text)} is not a status; one of {', '.join(STATUSES)}")
    return text


def _flag(text: str) -> bool:
    if text == "true" or text == "false":
        return text == "true"
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{_quoted(text)} is neither true nor false")
    return text.lower() == "true"


def _count(text: str) -> int:
    if _whole(text) is None:
        raise ValueError(f"{_quoted(text)} is not a whole number{_digits_hint(text)}")
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{_quoted(text)} is not a whole number of 64 bits")
    return value


def number_of(text: str) -> float:
    """A number as a table should hold it. Raises ValueError with what was expected."""
    try:
        if _digits(text) is not None and math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    # An error measure may be infinite (an output full of NaN).
    if text in ("inf", "-inf"):
        return float(text)
    raise ValueError(f"{_quoted(text)} is not a number{_digits_hint(text)}")


def _float(text: str) -> float | None:
    return None if text == "" else number_of(text)


def _time(text: str) -> float | None:
    value = _float(text)
    if value is not None and not 0.0 <= value < math.inf:
        raise ValueError(f"{_quoted(text)} is not a finite number of at least 0")
    return value


def _samples(text: str) -> tuple[float, ...] | None:
    if text == "":
        return None
    try:
        if _many_digits(text) is not None:
            values = tuple(map(float, text.split()))
            if values and min(values) >= 0.0 and max(values) < math.inf:
                return values
    except ValueError:
        pass
    raise ValueError(f"{_quoted(text)} is not a list of numbers separated by spaces, each at least 0")


def _digits_hint(text: str) -> str:
    if "," in text:
        return ": write it with a decimal point and without separators"
    return ": write it with the digits 0 to 9 alone" if re.search(r"[^\x21-\x7e]|_", text) else ""


class Remembered(dict[str, Any]):
    """The typed values of texts met before: most columns hold few different ones, and a look is ten times as fast as reading."""

    MOST, LONGEST = 4096, 256

    def __init__(self, read: Callable[[str], Any]) -> None:
        super().__init__()
        self.read = read

    def __missing__(self, text: str) -> Any:
        value = None if text == "" else self.read(text)
        if len(text) <= self.LONGEST:
            if len(self) >= self.MOST:
                self.clear()
            self[text] = value
        return value


def _reader(name: str) -> Callable[[str], Any]:
    kind = TYPES[name]
    if kind == "float":  # hardly one stands twice
        return _time if name in NEVER_BELOW_0 else _float
    if kind.startswith("tuple"):
        return _samples
    read: dict[str, Callable[[str], Any]] = {"str": _words, "int": _count, "bool": _flag}
    return Remembered(_status if name == "status" else read[kind]).__getitem__


READERS: dict[str, Callable[[str], Any]] = {name: _reader(name) for name in NAMES}
"""Column -> what makes its typed value of a cell, None of an empty one; raises ValueError as ``from_text`` does."""


def from_text(name: str, text: str) -> Any:
    """The typed value of column ``name``.

    Raises ValueError with what was expected when the text is not of the column's type.

    >>> from_text("m", "4096"), from_text("samples_s", "1e-3 2e-3"), from_text("causal", "")
    (4096, (0.001, 0.002), None)
    """
    return READERS[name](text)


def row_to_cells(row: Row) -> list[str]:
    """All cells of a row, in the order of the schema."""
    return [to_text(getattr(row, name)) for name in NAMES]
