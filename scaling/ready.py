"""A group's chip prepared, with links between chips taken from the catalogue where its profile was measured on one chip alone."""

from __future__ import annotations

from types import MappingProxyType

from chipassay.results.catalogue import load_chips
from chipassay.results.profile import Evidence, Link
from chipassay.results.shipped import find_profile

from .cluster import Group
from .machine import Input, Machine, prepare, with_links


def ready(group: Group, dtype: str | None = None) -> Machine:
    """The machine of a group's profile, with links for its node."""
    machine = prepare(group.profile, dtype)
    if group.chips_per_node == 1 or group.count == 1:
        return machine
    inputs: tuple[Input, ...] = ()
    links = machine.links
    if not links and group.profile.chip_id in load_chips():
        found: dict[str, list[Link]] = {}
        for link in find_profile(group.profile.chip_id).links:
            found.setdefault(link.pattern, []).append(link)
        links = MappingProxyType({pattern: tuple(group_links) for pattern, group_links in found.items()})
    if links:
        best = max(
            (link for group_links in links.values() for link in group_links),
            key=lambda link: (link.pattern == "all_reduce", link.group_size),
        )
        evidence = Evidence(best.evidence.level, f"group of {best.group_size}: {best.evidence.source}")
        inputs = (Input("link in the node", f"{best.busbw_bytes_per_s / 1e9:.4g} GB/s + {best.latency_s * 1e6:.3g} us", evidence),)
    return with_links(machine, links, inputs)
