"""A link as collectives see it: time by message size, in segments where the protocol changes, each with its own error."""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass

from .evidence import Evidence

TWO_WAY = ("all_reduce",)
"""Every byte goes out to be reduced and comes back: twice (n - 1) / n."""
WHOLE = ("broadcast", "reduce", "send_recv")
"""The busiest link carries the whole message once, however many ranks there are."""
NOTHING = ("barrier",)


def bus_factor(pattern: str, group_size: int) -> float:
    """Bus bandwidth over algorithm bandwidth, by the field's definition (NVIDIA/nccl-tests, doc/PERFORMANCE.md).

    >>> bus_factor("all_reduce", 8), bus_factor("reduce_scatter", 8), bus_factor("broadcast", 8), bus_factor("barrier", 8)
    (1.75, 0.875, 1.0, 0.0)
    """
    if pattern in NOTHING:
        return 0.0
    if pattern in WHOLE:
        return 1.0
    share = (group_size - 1) / group_size
    return 2 * share if pattern in TWO_WAY else share


BEYOND_SIGMA = 0.033
"""Standard deviation of log(true / extrapolated) that a doubling of the message size beyond the measured range adds: root mean square
over the published sweeps of results/data/published.csv, each fitted without its largest sizes, the last of which it then predicted."""

REACH_MOST = 1000.0
"""A line of one or two sizes has errors that leave the range of a float far from them; an interval of this factor says as little."""

NORMAL_Z = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def student_t(freedom: float) -> float:
    """Two-sided 95 % quantile of Student's t (Abramowitz and Stegun, 26.7.5); within 4 % from 2 degrees of freedom on.

    >>> round(student_t(5), 2), round(student_t(1e9), 2)
    (2.57, 1.96)
    """
    z, v = NORMAL_Z, freedom
    terms = (z**3 + z) / (4 * v), (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2), (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return z + sum(terms)


@dataclass(frozen=True)
class Segment:
    """One protocol's line: ``time_s = latency_s + size_bytes * bus_factor / busbw_bytes_per_s`` from ``first_bytes`` on.

    The errors are standard errors of the fit, and ``correlation`` is that between the two; None: nobody told them.
    """

    first_bytes: float
    """The message size where it takes over; the first segment holds for smaller ones too."""
    latency_s: float
    busbw_bytes_per_s: float
    latency_error_s: float | None = None
    s_per_byte_error: float | None = None
    """Of 1 / busbw."""
    correlation: float = 0.0
    points: int = 0
    freedom: float = 2.0
    """Degrees of freedom behind the errors."""

    def time_s(self, bus_bytes: float) -> float:
        """Seconds for so many bytes on the bus, wherever the line holds."""
        return self.latency_s + (bus_bytes / self.busbw_bytes_per_s if bus_bytes else 0.0)

    @property
    def latency_interval_s(self) -> tuple[float, float] | None:
        """95 % interval of the latency."""
        if self.latency_error_s is None:
            return None
        reach_s = student_t(self.freedom) * self.latency_error_s
        return max(0.0, self.latency_s - reach_s), self.latency_s + reach_s

    @property
    def busbw_interval(self) -> tuple[float, float] | None:
        """95 % interval of the bus bandwidth in bytes/s; its end is infinite where the bytes' share of the time is lost in the noise."""
        if self.s_per_byte_error is None or not self.busbw_bytes_per_s:
            return None
        middle, reach = 1 / self.busbw_bytes_per_s, student_t(self.freedom) * self.s_per_byte_error
        return 1 / (middle + reach), 1 / (middle - reach) if middle > reach else math.inf

    def error_s(self, bus_bytes: float) -> float | None:
        """Standard error of the line at so many bytes on the bus."""
        if self.latency_error_s is None or self.s_per_byte_error is None:
            return None
        a, b = self.latency_error_s, bus_bytes * self.s_per_byte_error
        return math.sqrt(max(0.0, a * a + 2 * self.correlation * a * b + b * b))


@dataclass(frozen=True)
class Link:
    """A collective over a group of chips: time by message size.

    busbw follows the field's definition (all-reduce bus factor 2(n-1)/n), so it is comparable between group sizes. ``latency_s`` and
    ``busbw_bytes_per_s`` are those of large messages, the last segment's; a link without segments is that one line.
    """

    pattern: str
    transport: str
    group_size: int
    latency_s: float
    busbw_bytes_per_s: float
    evidence: Evidence
    points: int = 0
    spread: float | None = None
    """Standard deviation of the log residuals."""
    placement: str = "inside"
    """``inside`` one node or ``across`` nodes."""
    launch: str | None = None
    """``stream``, ``graph``, ``call``; None: nobody told."""
    segments: tuple[Segment, ...] = ()
    first_bytes: float | None = None
    last_bytes: float | None = None
    """The sizes that were measured; beyond them the link extrapolates."""
    own_factor: float | None = None
    """The bus factor of a pattern that ``bus_factor`` does not know, as its rows counted it."""

    @property
    def bus_factor(self) -> float:
        """Bytes on the bus for each byte of the message."""
        return bus_factor(self.pattern, self.group_size) if self.own_factor is None else self.own_factor

    @property
    def small_latency_s(self) -> float:
        """What a message of no size takes."""
        return self.segments[0].latency_s if self.segments else self.latency_s

    @property
    def changes_bytes(self) -> tuple[float, ...]:
        """The message sizes where the protocol changes."""
        return tuple(segment.first_bytes for segment in self.segments[1:])

    def segment(self, size_bytes: float) -> Segment:
        """The line that holds at a message size."""
        if not self.segments:
            return Segment(0.0, self.latency_s, self.busbw_bytes_per_s)
        return self.segments[max(0, bisect.bisect_right([segment.first_bytes for segment in self.segments], size_bytes) - 1)]

    def time_s(self, size_bytes: float) -> float:
        """Seconds for a message of ``size_bytes``, by the field's definition of size (the total for all-gather and reduce-scatter).

        A larger message never takes less: where the next line begins lower than the one before it ended, the time stays until the line
        has caught up with it.

        >>> link = Link("all_reduce", "nccl", 2, 1e-5, 1e9, Evidence("assumed", "example"))
        >>> link.time_s(1e6)
        0.00101
        """
        factor = self.bus_factor
        time_s = self.segment(size_bytes).time_s(size_bytes * factor)
        for line, following in itertools.pairwise(self.segments):
            if following.first_bytes > size_bytes:
                break
            time_s = max(time_s, line.time_s(following.first_bytes * factor))
        return time_s

    def doublings_beyond(self, size_bytes: float) -> float:
        """How many doublings of the size lie between it and the measured range; 0 inside."""
        if not self.first_bytes or not self.last_bytes or size_bytes <= 0:
            return 0.0
        return max(0.0, math.log2(self.first_bytes / size_bytes), math.log2(size_bytes / self.last_bytes))

    def sigma(self, size_bytes: float) -> float | None:
        """Standard deviation of log(true / ``time_s``) at a message size; None where the link does not know its error.

        Three independent parts: the standard error of the line there, the spread of single sizes around it, and BEYOND_SIGMA for each
        doubling outside of the measured range, where another protocol may take over.
        """
        line, carried = self.segment(size_bytes), size_bytes * self.bus_factor
        error_s = line.error_s(carried)
        if error_s is None:
            return None
        time_s = self.time_s(size_bytes)
        return math.hypot(error_s / time_s, self.spread or 0.0, BEYOND_SIGMA * self.doublings_beyond(size_bytes))

    def interval_s(self, size_bytes: float) -> tuple[float, float] | None:
        """95 % interval of the time of one more size, at most a factor of REACH_MOST either way."""
        sigma = self.sigma(size_bytes)
        if sigma is None:
            return None
        reach = math.exp(min(student_t(self.segment(size_bytes).freedom) * sigma, math.log(REACH_MOST)))
        return self.time_s(size_bytes) / reach, self.time_s(size_bytes) * reach


@dataclass(frozen=True)
class Load:
    """A link under load: how much longer a collective takes while like groups run it at the same time on other chips."""

    pattern: str
    transport: str
    group_size: int
    groups: int
    """How many groups at once."""
    slowdown: float
    """Time beside the others over time alone: the median over sizes."""
    evidence: Evidence
    placement: str = "inside"
    slowdown_low: float | None = None
    slowdown_high: float | None = None
    points: int = 0


@dataclass(frozen=True)
class Overlap:
    """A collective and a matrix product at the same time on the same chips: what each takes from the other."""

    pattern: str
    transport: str
    group_size: int
    size_bytes: int
    product: str
    """``4096x4096x4096 bf16``."""
    evidence: Evidence
    communication_slowdown: float | None = None
    """Time of the collective beside the product over its time alone."""
    compute_slowdown: float | None = None
    """Time of the product beside the collective over its time alone."""

    @property
    def hidden_share(self) -> float | None:
        """The share of the collective's time alone that costs nothing if it is run beside compute.

        While it runs, for c times its time alone, the product advances as in c / p times that alone: c (1 - 1 / p) of it is lost.

        >>> Overlap("all_reduce", "nccl", 8, 1, "", Evidence("assumed", "x"), 1.2, 1.25).hidden_share
        0.76
        """
        c, p = self.communication_slowdown, self.compute_slowdown
        return None if c is None or p is None else round(1 - c * (1 - 1 / p), 12)
