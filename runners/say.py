"""The one way to print words for people: what files and devices hold does not steer the terminal, and no encoding is too small."""

from __future__ import annotations

import sys
from typing import IO

from chipassay.results.safe_text import printable_lines


def say(*lines: object, to: IO[str] | None = None) -> None:
    """Print each of ``lines``, hidden characters spelled out, to standard output or ``to``, at once.

    >>> say("H100\\x1b[2J", "two")
    H100\\x1b[2J
    two
    """
    # Not a default argument: standard output may have been replaced since.
    stream = sys.stdout if to is None else to
    for line in lines:
        text = printable_lines(line)
        try:
            print(text, file=stream)
        except UnicodeEncodeError as error:
            print(text.encode(error.encoding, "backslashreplace").decode(error.encoding), file=stream)
    stream.flush()
