"""A link that nobody measured, by rule from one that somebody did, with an error as large as the rule's where both are known.

``python -m chipassay.runners.shipped.link_accuracy`` applies each rule to chips that were measured and prints how far off it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from chipassay.results.evidence import Evidence, Level
from chipassay.results.link import Link, Segment


@dataclass(frozen=True)
class Sigma:
    """How far off a rule is: standard deviations of the log of the latency, and of the bandwidth."""

    latency: float
    bandwidth: float


SAME = Sigma(0.10, 0.04)
"""The same silicon and as many links (root mean squares of small and of large messages): H200 from H100 0.12 and 0.03, B300 from B200
0.08 and 0.03, GB200 from B200 0.07 and 0.02, GB300 from GB200 0.07 and 0.03."""
CUT = Sigma(0.10, 0.16)
"""The same silicon with fewer links: latencies as between the same silicon, bandwidths as between generations, for no cut chip has a
table. The rule's A800 is 2 % from the one figure published of it, its H800 7 %."""
OTHER = Sigma(0.45, 0.16)
"""Another generation of the same maker: H100 from A100 0.45 and 0.14, B200 from H100 0.44 and 0.19, B200 from A100 0.14 and
0.14. Messages between small and large are as far off as small ones, down to half."""
OVER_PCIE = Sigma(0.30, 0.35)
"""Another machine of chips on PCIe: machines differ more than chips do, by their switches and processors (``link_relatives.MACHINES``)."""
UNDER_A_BRIDGE = Sigma(0.45, 0.40)
"""Two cards under a bridge, by two chips under a switch: published A100 PCIe 1.1 of the rule's, H100 PCIe 0.56."""
FOREIGN = Sigma(0.70, 0.50)
"""Another maker's links, or another shape of the node: assumed."""
OF_PATTERN = Sigma(0.18, 0.16)
"""Another collective of the same chip, by what the two are to each other on another chip: H100 as on A100 0.18 and 0.12, B200 as on H100
0.13 and 0.16, B200 as on A100 0.19 and 0.14."""
SENDS = Sigma(0.10, 0.25)
"""A send and receive by the all-to-all of two: assumed, for no table has both. Published copies from chip to chip, without NCCL, are 1.3
(H100, H200, H800) to 2.2 times as fast (GB200); NCCL's own send and receive of two H100 reached 0.7 of theirs (nccl-tests issue 268)."""
ONE_FIGURE = Sigma(0.45, 0.05)
"""A link of which one large message is published: its latency is another chip's or a guess."""


def scaled(link: Link, slower: float, faster: float, sigma: Sigma, level: Level, rule: str) -> Link:
    """The link with every latency ``slower`` times as long and every bandwidth ``faster`` times as high.

    Its protocols change where they are worth the same again, at ``slower * faster`` times the size: the new time of a message is ``slower``
    times the old time of one ``slower * faster`` times smaller, so a time that never falls with the size still never falls, and a slower
    link is slower at all sizes. A link made from an assumed one is assumed.
    """
    stretch = slower * faster
    lines = link.segments or (Segment(0.0, link.latency_s, link.busbw_bytes_per_s, 0.0, 0.0),)
    return replace(
        link,
        latency_s=link.latency_s * slower,
        busbw_bytes_per_s=link.busbw_bytes_per_s * faster,
        segments=tuple(_line(line, slower, faster, sigma) for line in lines),
        first_bytes=link.first_bytes * stretch if link.first_bytes else None,
        last_bytes=link.last_bytes * stretch if link.last_bytes else None,
        points=0,
        evidence=Evidence("assumed" if link.evidence.level == "assumed" else level, f"{rule}: {link.evidence.source}", link.evidence.date),
    )


def _line(line: Segment, slower: float, faster: float, sigma: Sigma) -> Segment:
    latency_s, busbw = line.latency_s * slower, line.busbw_bytes_per_s * faster
    return replace(
        line,
        first_bytes=line.first_bytes * slower * faster,
        latency_s=latency_s,
        busbw_bytes_per_s=busbw,
        latency_error_s=math.hypot((line.latency_error_s or 0.0) * slower, sigma.latency * latency_s),
        s_per_byte_error=math.hypot((line.s_per_byte_error or 0.0) / faster, sigma.bandwidth / busbw),
    )


def by_link(parent: Link, of: str, ratio: float, why: str, transport: str, sigma: Sigma, level: Level = "derived") -> Link:
    """The parent's link on a wire ``ratio`` times as wide, ``why`` says why: bandwidths by the ratio, latencies as they are."""
    rule = f"latencies of {of}, bandwidths {ratio:.3g} of its ({why})"
    return replace(scaled(parent, 1.0, ratio, sigma, level, rule), transport=transport)


def by_pattern(own: Link, pattern: Link, reference: Link, of: str, sigma: Sigma = OF_PATTERN) -> Link:
    """Another pattern of the chip of ``own``: what ``pattern`` is to ``reference`` on the chip ``of``, it is to ``own`` here."""
    slower = own.small_latency_s / reference.small_latency_s
    faster = own.busbw_bytes_per_s / reference.busbw_bytes_per_s
    rule = f"{pattern.pattern} is to {own.pattern} as on {of} ({own.pattern} here: {own.evidence.source})"
    first, last = own.segments[0], own.segments[-1]
    latency_sigma = (first.latency_error_s or 0.0) / own.small_latency_s
    bandwidth_sigma = (last.s_per_byte_error or 0.0) * last.busbw_bytes_per_s
    both = Sigma(math.hypot(sigma.latency, latency_sigma), math.hypot(sigma.bandwidth, bandwidth_sigma))
    made = scaled(pattern, slower, faster, both, "derived", rule)
    if own.evidence.level == "assumed":
        made = replace(made, evidence=replace(made.evidence, level="assumed"))
    return replace(made, transport=own.transport, spread=math.hypot(pattern.spread or 0.0, own.spread or 0.0))


def send_recv(pair: Link) -> Link:
    """One message from a chip to another, of the all-to-all of two: NCCL's is sends and receives, and half of each buffer crosses."""
    source = f"NCCL's all-to-all of two chips is one send and one receive of half the buffer each: {pair.evidence.source}"
    return replace(
        pair,
        pattern="send_recv",
        segments=tuple(replace(_line(line, 1.0, 1.0, SENDS), first_bytes=line.first_bytes / 2) for line in pair.segments),
        first_bytes=pair.first_bytes / 2 if pair.first_bytes else None,
        last_bytes=pair.last_bytes / 2 if pair.last_bytes else None,
        evidence=Evidence("assumed" if pair.evidence.level == "assumed" else "derived", source, pair.evidence.date),
    )
