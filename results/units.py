"""Numbers for people: the one formatter of rates, bandwidths, times and sizes, for the terminal and the report alike."""

from __future__ import annotations

import math

_DECIMAL = ("", "k", "M", "G", "T", "P", "E", "Z")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TIME = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def _digits(value: float) -> str:
    """Two decimals below ten, one above: three to four digits that mean something in a measurement."""
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}"


def engineering(value: float, unit: str) -> str:
    """``value`` with the decimal prefix that leaves 1 to 1000 before the unit.

    >>> engineering(1.23e12, "FLOP/s"), engineering(999.96e9, "B/s"), engineering(0.0, "B/s")
    ('1.23 TFLOP/s', '1.00 TB/s', '0 B/s')
    """
    if value == 0.0 or not math.isfinite(value):
        return f"{value:.0f} {unit}"
    index = 0
    # 999.95 would print as 1000.0: it belongs to the next prefix.
    while abs(value) >= 999.95 and index < len(_DECIMAL) - 1:
        value /= 1000.0
        index += 1
    return f"{_digits(value)} {_DECIMAL[index]}{unit}"


def rate(flops_per_s: float) -> str:
    """A rate of arithmetic.

    >>> rate(197.31e9)
    '197.3 GFLOP/s'
    """
    return engineering(flops_per_s, "FLOP/s")


def bandwidth(bytes_per_s: float) -> str:
    """A rate of bytes, in decimal units as datasheets give it.

    >>> bandwidth(24.13e9)
    '24.1 GB/s'
    """
    return engineering(bytes_per_s, "B/s")


def seconds(s: float) -> str:
    """A time from nanoseconds up to seconds.

    >>> seconds(12.44e-6), seconds(0.9999999), seconds(90.0)
    ('12.4 us', '1.00 s', '90.0 s')
    """
    if s == 0.0 or not math.isfinite(s):
        return f"{s:.0f} s"
    scale, unit = next(((scale, unit) for scale, unit in _TIME if abs(s) >= scale * 0.99995), _TIME[-1])
    return f"{_digits(s / scale)} {unit}"


def size(size_bytes: float) -> str:
    """An amount of bytes, in binary units: message and array sizes are powers of two.

    >>> size(16 * 2**20), size(8), size(1536)
    ('16 MiB', '8 B', '1.5 KiB')
    """
    if not math.isfinite(size_bytes):
        return f"{size_bytes:.0f} B"
    index = 0
    while abs(size_bytes) >= 1023.95 and index < len(_BINARY) - 1:
        size_bytes /= 1024.0
        index += 1
    # Trailing zeros go: a size is exact, not measured.
    return f"{size_bytes:.1f}".removesuffix(".0") + f" {_BINARY[index]}"


def short(value: float) -> str:
    """A tick label: the number and its decimal prefix, no unit, no needless digits.

    >>> short(1e11), short(2.5e9), short(0.5), short(0.0)
    ('100 G', '2.5 G', '0.5', '0')
    """
    if value == 0.0 or not math.isfinite(value):
        return f"{value:.0f}"
    index = 0
    while abs(value) >= 999.5 and index < len(_DECIMAL) - 1:
        value /= 1000.0
        index += 1
    return f"{value:.3g} {_DECIMAL[index]}".rstrip()


def share(fraction: float) -> str:
    """A share of a whole.

    >>> share(0.6213), share(0.004)
    ('62.1 %', '0.4 %')
    """
    return f"{fraction * 100:.1f} %"
