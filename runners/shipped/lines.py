"""JSON with small records and rows of numbers on a line each: as diffable as a number a line, in two thirds of the bytes."""

from __future__ import annotations

import re

LONGEST = 140
_INNERMOST = re.compile(r"[\[{][^\[\]{}]*[\]}]")
_BREAK = re.compile(r"\n *")


def short_lines(text: str) -> str:
    """The same JSON. Line breaks are removed only between tokens: within its strings JSON has none.

    >>> print(short_lines('{\\n  "tile": {\\n    "rows": 128,\\n    "share": 0.5\\n  }\\n}'))
    {
      "tile": {"rows": 128, "share": 0.5}
    }
    """
    return _INNERMOST.sub(_on_one_line, text)


def _on_one_line(match: re.Match[str]) -> str:
    found = match.group()
    line = found[0] + _BREAK.sub(" ", found[1:-1]).strip() + found[-1]
    return line if len(line) <= LONGEST else found
