"""Text from files and devices made fit to be shown: what would steer a terminal, turn the text around or hide is spelled out."""

from __future__ import annotations

from unicodedata import category

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode that show nothing themselves: control characters (C0, C1, DEL, so ESC, too), format characters (marks and
overrides of the direction of writing, UAX 9; what has no width), lone surrogates, separators of lines and paragraphs."""


def escaped(char: str) -> str:
    r"""The code of a character, as Python spells it: ``\x1b``, ``\u202e``, ``\U000e0041``."""
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable(text: object, limit: int | None = None) -> str:
    r"""``text`` on one line, each hidden character as its code; cut to ``limit`` characters, the last of them then an ellipsis.

    >>> print(printable("H100\x1b[2J\u202eh001"), printable("a\nb"), printable("abcdef", 4), printable("Größe"))
    H100\x1b[2J\u202eh001 a\x0ab abc… Größe
    """
    text = str(text)
    if limit is not None:
        # A long text is cut first, so that a cell of ten megabytes costs nothing; an escape only makes it longer.
        text = text[: limit + 1]
    if not text.isprintable():
        text = "".join(escaped(char) if category(char) in HIDDEN else char for char in text)
    return text if limit is None or len(text) <= limit else text[: max(limit - 1, 0)] + "…"


def printable_lines(text: object) -> str:
    r"""As ``printable``, but line breaks stay: for text of our own over several lines that quotes what is not.

    >>> print(printable_lines("one\ntwo\x07"))
    one
    two\x07
    """
    return "\n".join(printable(line) for line in str(text).split("\n"))
