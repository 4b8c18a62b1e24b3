"""Two profiles field by field, as a rebuild compares them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TOLERANCE = 0.01
"""Relative: fits on another processor or with another BLAS end a little elsewhere; a changed source moves much more."""


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of parsed JSON with the way to it.

    >>> list(flat({"a": [1, {"b": 2}]}))
    [('a.0', 1), ('a.1.b', 2)]
    """
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from flat(value[key], f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from flat(inner, f"{path}.{index}" if path else str(index))
    else:
        yield path, value


def differing(old: Any, new: Any, tolerance: float = TOLERANCE) -> list[str]:
    """One line a field that differs, numbers by more than the tolerance.

    >>> differing({"rate": 1.0, "name": "a"}, {"rate": 1.02, "name": "a", "launch": 2})
    ['launch: nothing, rebuilt 2', 'rate: 1.0, rebuilt 1.02']
    """
    olds, news = dict(flat(old)), dict(flat(new))
    lines = []
    for path in sorted({*olds, *news}):
        if path not in olds:
            lines.append(f"{path}: nothing, rebuilt {news[path]!r}")
        elif path not in news:
            lines.append(f"{path}: {olds[path]!r}, rebuilt nothing")
        elif not _alike(olds[path], news[path], tolerance):
            lines.append(f"{path}: {olds[path]!r}, rebuilt {news[path]!r}")
    return lines


def _alike(a: Any, b: Any, tolerance: float) -> bool:
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return math.isclose(a, b, rel_tol=tolerance) if numbers else a == b
