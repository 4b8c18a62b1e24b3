"""Numbers of the command line, refused in a sentence that names the flag and shows one that would do."""

from __future__ import annotations

import math

from chipassay.results.errors import InputError

MOST = 10**9
"""Products of two such numbers are still whole numbers of 64 bits."""


def number(flag: str, text: str | None, example: str, *, least: float | None = None) -> float | None:
    """The number of a flag: above 0, or at least ``least``; None where the flag was not given.

    >>> number("--tokens", "15e12", "300e9"), number("--restart", None, "600")
    (15000000000000.0, None)
    """
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{flag} {text!r} is not a number; write for example {flag} {example}") from None
    if not math.isfinite(value) or (value <= 0 if least is None else value < least):
        raise InputError(f"{flag} {text}: give a number {'above 0' if least is None else f'of at least {least:g}'}, for example {example}")
    return value


def whole(flag: str, text: str | None, example: str, *, most: int = MOST) -> int | None:
    """The whole number above 0 and up to ``most`` of a flag; None where it was not given.

    >>> whole("--batch", "2048", "512")
    2048
    """
    value = number(flag, text, example)
    if value is not None and not value.is_integer():
        raise InputError(f"{flag} {text}: give a whole number, for example {example}")
    if value is not None and value > most:
        raise InputError(f"{flag} {text}: give at most {most:,}, for example {example}")
    return None if value is None else int(value)


def counts(flag: str, text: str) -> tuple[int, ...]:
    """Whole numbers above 0, joined by commas, ascending.

    >>> counts("--curve", "128,64")
    (64, 128)
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"{flag} {text!r} names no number of chips; write for example {flag} 64,128,256")
    found = [whole(flag, part, "64,128,256") for part in parts]
    return tuple(sorted({count for count in found if count is not None}))
