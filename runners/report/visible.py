"""Text that shows what it is, for a page: as ``results.safe_text`` has it for a line, but tabs and line ends stay: HTML shows a space."""

from __future__ import annotations

import re

from chipassay.results.safe_text import printable

_SPACE = re.compile(r"([\t\r\n]+)")


def visible(text: str) -> str:
    r"""The text with each hidden character as its code. ``printable`` in format.js is its twin.

    >>> print(visible("a\u202eb\x00"))
    a\u202eb\x00
    """
    return text if text.isprintable() else "".join(part if _SPACE.match(part) else printable(part) for part in _SPACE.split(text))
