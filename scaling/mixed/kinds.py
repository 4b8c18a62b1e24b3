"""The kinds of chips of a cluster, each made ready in the dtype that it trains in, and what their numerics mean together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chipassay.results.errors import InputError

from .. import constants
from ..cluster import Cluster, Group
from ..errors import MissingCell
from ..machine import Machine
from ..ready import ready


@dataclass(frozen=True, eq=False)
class Kind:
    """Chips of one kind. Compared by identity."""

    group: Group
    machine: Machine
    host_s_per_kernel: float = constants.HOST_S_PER_KERNEL.value
    """What its host takes to launch a kernel from Python."""
    label: str = ""
    """What it is called, if not by its chip: see ``labels``."""

    @property
    def name(self) -> str:
        return self.label or self.group.profile.chip_id

    @property
    def count(self) -> int:
        return self.group.count

    def with_count(self, count: int) -> Kind:
        """Fewer or more of the same chips."""
        return replace(self, group=self.group.with_count(count))


def kinds_of(cluster: Cluster, dtype: str | None = None) -> tuple[tuple[Kind, ...], tuple[str, ...]]:
    """The kinds of a cluster, groups of the same chips in the same nodes joined, and notes on what they train in.

    ``dtype``: what all are to train in; a chip that cannot trains in its own best, and a note says so.
    """
    groups: list[Group] = []
    for group in cluster.groups:
        same = next((index for index, known in enumerate(groups) if _alike(known, group)), None)
        if same is None:
            groups.append(group)
        else:
            groups[same] = replace(groups[same], count=groups[same].count + group.count)
    if not groups:
        raise InputError("the cluster has no chip; give at least one group such as 16xa100-sxm-80gb")
    kinds, notes = [], []
    for group, label in zip(groups, labels(groups), strict=True):
        # Made ready as if in a full node, so that links in it are known however few of the chips a plan uses.
        full = group.with_count(max(group.count, group.chips_per_node))
        try:
            machine = ready(full, dtype)
        except MissingCell as error:
            machine = ready(full)
            notes.append(f"{label} trains in {machine.dtype}: {error}")
        kinds.append(Kind(group, machine, label=label))
    return tuple(kinds), (*notes, *numerics(kinds))


def labels(groups: Sequence[Group]) -> tuple[str, ...]:
    """A name for each group: its chip; of groups of the same chip also the fabric, the chips in a node, and at last a number, as far as
    it takes to tell them apart."""
    ways: tuple[Callable[[Group], str], ...] = (
        lambda group: group.profile.chip_id,
        lambda group: f"{group.profile.chip_id}@{group.fabric.name}",
        lambda group: f"{group.profile.chip_id}@{group.fabric.name} in nodes of {group.chips_per_node}",
    )
    names = [ways[0](group) for group in groups]
    for way in ways[1:]:
        names = [way(group) if names.count(name) > 1 else name for group, name in zip(groups, names, strict=True)]
    numbered = [f"{name} no. {names[: place + 1].count(name)}" if names.count(name) > 1 else name for place, name in enumerate(names)]
    return tuple(numbered)


def _alike(one: Group, other: Group) -> bool:
    same_chip = one.profile is other.profile or one.profile == other.profile
    return same_chip and one.chips_per_node == other.chips_per_node and one.fabric == other.fabric


def numerics(kinds: Sequence[Kind]) -> tuple[str, ...]:
    """What mixing the dtypes of these kinds means for the training itself."""
    by_dtype: dict[str, list[str]] = {}
    for kind in kinds:
        by_dtype.setdefault(kind.machine.dtype, []).append(kind.name)
    if len(by_dtype) < 2:
        return ()
    words = "; ".join(f"{dtype} on {', '.join(names)}" for dtype, names in sorted(by_dtype.items()))
    notes = [f"{words}: activations and gradients are converted where they pass from one to the other"]
    if "fp16" in by_dtype and len(by_dtype) > 1:
        notes.append(
            "fp16 holds values up to 65,504 and needs loss scaling: a gradient that overflows on one chip makes all of them skip the step, "
            "so the range of fp16 is what the whole job has"
        )
    return tuple(notes)


def gradient_bytes(kinds: Sequence[Kind], settings_bytes: int) -> float:
    """Bytes of one gradient on its way: the widest that any kind sums in (bf16 is summed in fp32)."""
    if settings_bytes:
        return float(settings_bytes)
    return max(4.0 if kind.machine.dtype in ("bf16", "fp8") else float(kind.machine.element_bytes) for kind in kinds)
