"""Other tools' files as text and as JSON: whatever bytes they hold, what comes out is safe to look into."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError
from chipassay.results.safe_text import printable

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CLOSE = {"{": "}", "[": "]"}
SHOWN = 60
"""Characters of a foreign line that an error or a note quotes."""


def text_of(path: Path) -> str:
    """The file as text, without terminal colours and NUL bytes; what is not UTF-8 becomes a replacement character.

    Logs are pasted from terminals: a broken byte in one line is no reason to lose the others.
    Raises FileError when the file cannot be read or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of an existing file") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")  # what PowerShell's `>` writes
    else:
        text = content.decode("utf-8-sig", "replace")
    text = _ANSI.sub("", text).replace("\x00", "")
    if not text.strip():
        raise FileError(path, "is empty", mend="give the output of a run that printed something")
    return text


def plain_head(head: bytes) -> bytes:
    """The first bytes of a file as ASCII tests see them: without byte order marks and the NULs of UTF-16.

    >>> plain_head("# x".encode("utf-16")), plain_head(b"\\xef\\xbb\\xbf{")
    (b'# x', b'{')
    """
    return re.sub(rb"\A(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)", b"", head).replace(b"\x00", b"")


def quoted(text: str) -> str:
    """The beginning of a foreign line, fit to be shown: no control characters, not long."""
    return f"'{printable(text.strip(), SHOWN)}'"


@dataclass(frozen=True)
class Document:
    """A JSON value found in a file. ``cut_line``: the file ends in its middle, what was complete up to this line is here; None: whole."""

    value: Any
    cut_line: int | None = None


def json_of(path: Path, beginning: str = "{") -> Document:
    """The JSON that begins with the first ``beginning`` at the start of a line: tools print warnings before and after it.

    A file that was cut short is closed after its last complete object or list. Raises FileError naming the line of a mistake.
    """
    text = text_of(path)
    decoder = json.JSONDecoder()
    starts = [match.start(1) for match in re.finditer(rf"^[ \t]*({re.escape(beginning)})", text, re.MULTILINE)]
    if not starts:
        raise FileError(path, f"no JSON in there: no line begins with {beginning}", mend="give the tool's JSON output")
    failure: FileError | None = None
    for start in starts[:20]:  # garbage may hold braces, but not many before the document
        try:
            return Document(decoder.raw_decode(text, start)[0])
        except RecursionError as error:
            raise FileError(path, "JSON nested too deeply", mend="give the tool's JSON output as it wrote it") from error
        except ValueError as error:
            position = getattr(error, "pos", start)
            line = text.count("\n", 0, position) + 1
            failure = failure or FileError(path, f"broken JSON ({getattr(error, 'msg', error)})", line=line, mend="run the tool again")
            closed = _closed(text[start:])
            if closed is not None:
                return Document(closed, text.count("\n") + (not text.endswith("\n")))
    assert failure is not None
    raise failure


def _closed(text: str) -> Any | None:
    """The value of JSON text that ends too early, up to its last closing bracket; None where it is broken in another way."""
    open_brackets: list[str] = []
    in_string = escaped = False
    cut, closers = 0, ""
    for position, char in enumerate(text):
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in _CLOSE:
            open_brackets.append(char)
        elif char in "}]":
            if not open_brackets or _CLOSE[open_brackets.pop()] != char:
                return None
            cut, closers = position + 1, "".join(_CLOSE[bracket] for bracket in reversed(open_brackets))
    if not open_brackets or not cut:
        return None
    try:
        return json.loads(text[:cut] + closers)
    except (ValueError, RecursionError):
        return None


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """The value if it is a JSON list, else an empty one."""
    return value if isinstance(value, list) else []


def string(value: Any) -> str | None:
    """The value if it is text that says something."""
    return value if isinstance(value, str) and value.strip() else None


def number(value: Any) -> float | None:
    """The value as a finite float, from a JSON number or the text of one; None where it is neither.

    >>> number("12.5"), number(3), number("N/A"), number(float("inf")), number(True)
    (12.5, 3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def integer(value: Any) -> int | None:
    """The value as a whole number of reasonable size, None where it is none.

    >>> integer("8"), integer(8.0), integer(8.5), integer("eight")
    (8, 8, None, None)
    """
    found = number(value)
    return int(found) if found is not None and found == int(found) and abs(found) < 2**63 else None
