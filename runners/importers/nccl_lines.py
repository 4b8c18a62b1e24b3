"""One line of what nccl-tests prints, or of what surrounds it: the grammar, without memory of other lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from .nccl_terms import DTYPES, ITEM_BYTES, OPS, Measurement, Printed
from .source import number

PREFIX = re.compile(
    r"\[[^\]\s]*\]<std(?:out|err)>:?|\[\d+\](?=\s)|\s*\d+:(?=\s)|\d{4}-\d\d-\d\dT[\d:.,+]+Z?(?=\s)|[\w.-]+:(?=\s+#|\s+\d+\s+\d+\s)|>(?=\s)"
)
"""What launchers put before a line: Open MPI's --tag-output, MPICH's -prepend-rank, srun --label, kubectl, pdsh; and quoting in mails."""

LOG = re.compile(r"(?:\[\d+\]\s*)?[\w.-]+:\d+:\d+ \[-?\d+\].*|(?:NCCL|RCCL) version .*")
"""NCCL's own lines; they may begin in the middle of one of the table's, which is printed in three pieces."""

RANK = re.compile(r"Rank\s+(\d+)(?:\s+Group\s+(\d+))?(?:\s+Pid\s+\d+)?\s+on\s+(\S+)\s+device\s+(\d+)\s+\[[^\]]*\][ \t]*(.*)")
NAMED = re.compile(r"(?<![a-z])(" + "|".join(sorted(OPS, key=len, reverse=True)) + r")_perf(?![a-z])")
VERSION = re.compile(r"(?:nccl|rccl)-tests(?:: Version| version) (\S+)")
LIBRARY = re.compile(r"(?:nccl|rccl)-library=(\d+)|(?:NCCL|RCCL) version\s*:?\s*(\d[\w.+-]*)")
STARTS = ("nThread ", "Collective test starting", "nccl-tests version", "rccl-tests version")
VALUE = re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)\*?|N/A")
"""A number; rccl-tests marks errors above its limit with an asterisk."""
TIMES = ("time", "cputime")
CHOSEN = ("algo", "proto", "nchannels")
"""What rccl-tests -A (or -M) adds at the end of a line: words, once for both ways of placing the buffers."""


def printed(text: str, power: int = 0) -> Printed | None:
    """The number times 10**power, to the last printed digit, and half a unit of that digit; None where it is no finite number.

    >>> printed("12.90", -6)
    Printed(value=1.29e-05, error=5e-09)
    """
    if number(text) is None:
        return None
    try:
        value = Decimal(text).scaleb(power)
        exponent = value.as_tuple().exponent
        return Printed(float(value), 0.5 * 10.0**exponent) if isinstance(exponent, int) else None
    except (InvalidOperation, OverflowError):
        return None


def without_prefix(line: str) -> str:
    """The line without what launchers put before it."""
    for _ in range(3):
        match = PREFIX.match(line)
        if match is None:
            break
        line = line[match.end() :]
    return line


def leading_values(words: Sequence[str]) -> list[str]:
    """The numbers, N/A and times of day (of timestamps) that the words begin with."""
    found = []
    for word in words:
        if not (VALUE.fullmatch(word) or re.fullmatch(r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d", word)):
            break
        found.append(word)
    return found


def in_name(path: Path) -> str | None:
    """The test that the file's name tells, the longest name first: all_reduce holds reduce."""
    name = path.name.lower().replace("-", "_")
    return next((test for test in sorted(OPS, key=len, reverse=True) if test in name), None)


def by_shape(measurements: Sequence[Measurement]) -> str | None:
    """The test, where the columns leave no other: the reduction, the root, and whether the count is the whole or one rank's part."""
    m = next((m for m in measurements if m.count and m.dtype in DTYPES), None)
    if m is None or m.count is None:
        return None
    whole = m.size_bytes == m.count * ITEM_BYTES[DTYPES[m.dtype]]
    reduces, rooted = m.redop not in (None, "", "none"), m.root is not None and m.root >= 0
    if rooted:
        return ("reduce" if reduces else "broadcast") if whole else None
    if reduces and not whole:
        return "reduce_scatter"
    # Send and receive prints a reduction too, but never another busbw than algbw; with one rank a reduce-scatter looks the same.
    differs = any(
        m.algbw and m.busbw and m.busbw.value and abs(m.algbw.value - m.busbw.value) > m.algbw.error + m.busbw.error for m in measurements
    )
    return "all_reduce" if reduces and differs else None
