"""Columns as compact data inside the page: one value for all, codes into the few there are, or exact doubles. ``packed.js`` reads it.

A hundred thousand rows as HTML would be 100 MB and open in half a minute; as columns they are a fifth of their CSV.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from chipassay.results.cells import to_text, unprotected

EXACT_UP_TO = 2**53
"""Larger whole numbers are not exact as doubles and travel as text."""
CODE_TYPES = ((8, "B"), (16, "H"), (32, "I"))
"""(bits, type code of ``array``) of codes: the narrowest that holds them is taken."""

Packed = dict[str, Any]


def packed(values: Iterable[object]) -> Packed:
    """One column. None and NaN are missing; booleans become ``true`` and ``false``, as in the CSV; text loses its line breaks, as there.

    ``text`` or ``numbers`` holds the different values; ``at`` (of ``bits`` bits each) which of them each row has. Without ``at``
    there is one value for all rows, or one for each.

    >>> packed(["a", "b", "a", "a"])
    {'text': ['a', 'b'], 'bits': 8, 'at': 'AAEAAA=='}
    >>> packed([1.0, 1.0])
    {'numbers': 'AAAAAAAA8D8='}
    """
    column = list(values)
    if any(isinstance(value, str | bool) or (isinstance(value, int) and abs(value) >= EXACT_UP_TO) for value in column):
        return _coded(column, _text, lambda different: {"text": different})
    return _coded(column, _number, lambda different: {"numbers": _base64(array("d", different))})


def _coded(column: Sequence[object], plain: Any, told: Any) -> Packed:
    places: dict[object, int] = {}
    codes = [places.setdefault(value, len(places)) for value in column]
    different = [plain(value) for value in places]
    if len(different) <= 1:
        return dict(told(different or [plain(None)]))
    if len(different) > len(column) / 2:
        return dict(told([plain(value) for value in column]))  # codes would cost more than they save
    bits, code = next((bits, code) for bits, code in CODE_TYPES if len(different) <= 2**bits)
    return {**told(different), "bits": bits, "at": _base64(array(code, codes))}


def _text(value: object) -> str | None:
    return None if value is None else unprotected(to_text(value))


def _number(value: object) -> float:
    return math.nan if value is None else float(value)  # type: ignore[arg-type]  # numbers alone come here


def _base64(values: array[Any]) -> str:
    if sys.byteorder == "big":
        values.byteswap()  # browsers run on little-endian machines
    return base64.b64encode(values.tobytes()).decode("ascii")


def block(data: object) -> str:
    """Data as JSON for a ``<script type="application/json">``: nothing in it ends the element or opens a comment, and all is ASCII.

    >>> block({"name": "</script><!--"})
    '{"name":"\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
