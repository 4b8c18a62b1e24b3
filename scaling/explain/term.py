"""One term of a prediction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

FLOPS_PER_MULTIPLY = 2


@dataclass(frozen=True)
class Term:
    """One summand of a kind of the breakdown."""

    kind: str
    """A kind of the breakdown."""
    what: str
    formula: str
    """In symbols, as the docstring of the function behind it has it."""
    numbers: str
    """What was put in."""
    seconds: float
    """Of one step; negative where something is hidden beside something else; 0 for a remark on the terms of its kind."""
    source: str
    """Where the formula, or the number that rules it, comes from, with its evidence."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The citation of the formula, then the evidence of the number in it."""
        formula, semicolon, evidence = self.source.partition("; ")
        return (formula, evidence) if semicolon else (formula,)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


def one(value: Any) -> float:
    """The number of a formula that was run for one plan: an array of one, or a number that holds for all.

    >>> one(np.array([2.0])), one(3)
    (2.0, 3.0)
    """
    return float(np.asarray(value).reshape(-1)[0])


def whole(value: Any) -> str:
    """A count as people write it.

    >>> whole(4096.0), whole(2.5)
    ('4096', '2.5')
    """
    return f"{float(value):.15g}" if float(value).is_integer() else f"{float(value):.4g}"


def size_words(size_bytes: float) -> str:
    """Bytes as people write them.

    >>> size_words(17.64e9), size_words(134.2e6), size_words(1536)
    ('17.64 GB', '134.2 MB', '1.536 kB')
    """
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.4g} {unit}"
    return f"{size_bytes:.4g} B"
