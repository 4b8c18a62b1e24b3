"""One side of an exchange: what can be had of it by the whole node, one kind of chip or several in fixed shares."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from chipassay.results.errors import InputError
from chipassay.results.profile import Profile

from ..cluster import Cluster, Group, make_group, resolve_profile
from ..what_if import NETWORK, Change, apply_to

SHARES = re.compile(r"(?P<kinds>.*?)(?P<shares>(?::\d+)*)")
MOST_SHARE = 1000


@dataclass(frozen=True)
class Kind:
    """Chips of one kind, and how many of them there are for each of the other kinds."""

    profile: Profile
    fabric: str | None = None
    share: int = 1
    changes: tuple[Change, ...] = ()
    """What is otherwise than the catalogue says."""

    def group(self, count: int) -> Group:
        """So many of them; the changes of the network are made where there is one."""
        group = make_group(count, self.profile, self.fabric)
        changes = [one for one in self.changes if group.nodes > 1 or one.field not in NETWORK]
        return apply_to(changes, group)

    @cached_property
    def chips_per_node(self) -> int:
        return make_group(1, self.profile, self.fabric).chips_per_node


@dataclass(frozen=True)
class Side:
    """One kind, or a mix of several in one job."""

    kinds: tuple[Kind, ...]

    @property
    def chip_ids(self) -> tuple[str, ...]:
        return tuple(kind.profile.chip_id for kind in self.kinds)

    @property
    def mixed(self) -> bool:
        return len(self.kinds) > 1

    @property
    def name(self) -> str:
        """As it is written on the command line, without fabrics.

        >>> parse_side("a800-sxm-80gb+v100-sxm2-32gb:3:1").name
        'a800-sxm-80gb+v100-sxm2-32gb:3:1'
        """
        shares = [kind.share for kind in self.kinds]
        told = "" if set(shares) == {1} else "".join(f":{share}" for share in shares)
        return "+".join(self.chip_ids) + told

    @cached_property
    def unit(self) -> tuple[int, ...]:
        """The fewest chips of each kind in whole nodes and in their shares; of one kind, a node.

        >>> parse_side("a800-sxm-80gb+v100-sxm2-32gb:3:1").unit
        (24, 8)
        """
        times = math.lcm(*(kind.chips_per_node // math.gcd(kind.chips_per_node, kind.share) for kind in self.kinds))
        return tuple(kind.share * times for kind in self.kinds)

    @property
    def unit_chips(self) -> int:
        return sum(self.unit)

    def groups(self, count: int) -> tuple[Group, ...]:
        """``count`` chips, a multiple of the unit where there are several kinds."""
        if not self.mixed:
            return (self.kinds[0].group(count),)
        units, rest = divmod(count, self.unit_chips)
        if rest or not units:
            raise InputError(f"{count} chips of {self.name} are no whole nodes in these shares; give a multiple of {self.unit_chips}")
        return tuple(kind.group(units * each) for kind, each in zip(self.kinds, self.unit, strict=True))

    def cluster(self, count: int) -> Cluster:
        """The same as a cluster."""
        return Cluster(self.groups(count))


def side_of(chip: Profile | str, fabric: str | None = None, changes: Iterable[Change] = ()) -> Side:
    """A side of one profile, or of what ``parse_side`` reads."""
    made = tuple(changes)
    if isinstance(chip, Profile):
        return Side((Kind(chip, fabric, 1, _of(made, chip)),))
    side = parse_side(chip, changes=made)
    if fabric is None:
        return side
    return Side(tuple(replace(kind, fabric=kind.fabric or fabric) for kind in side.kinds))


def _of(changes: Iterable[Change], profile: Profile) -> tuple[Change, ...]:
    return tuple(one for one in changes if one.chip_id == profile.chip_id.lower())


def parse_side(text: str, profiles: Mapping[str, Profile] | None = None, changes: Iterable[Change] = ()) -> Side:
    """``CHIP[@FABRIC]``, or a mix ``CHIP[@FABRIC]+CHIP[@FABRIC][:SHARE:SHARE]``; a profile's .json may stand in the place of a chip.

    Raises InputError where shares do not match the kinds, or a kind stands there twice; UnknownName for a chip that is none.
    """
    match = SHARES.fullmatch(text.strip())
    assert match is not None  # both parts may be empty
    written = [part.strip() for part in match["kinds"].split("+")]
    shares = [int(share) for share in match["shares"].split(":")[1:]]
    # The oversubscription of a fabric is written with a colon, too: b@ndr400x8/2:4
    while shares and "/" in written[-1].partition("@")[2] and ":" not in written[-1] and len(shares) in (1, len(written) + 1):
        written[-1] += f":{shares.pop(0)}"
    if not all(written):
        raise InputError(f"{text!r} names no chip in one place; write CHIP+CHIP, as in a800-sxm-80gb+v100-sxm2-32gb")
    if any(":-" in part.partition("@")[0] for part in written):
        raise InputError(f"{text!r}: a share is a whole number of chips from 1 to {MOST_SHARE}; leave a kind without chips out")
    if shares and len(written) == 1:
        raise InputError(f"{text!r} is one kind of chip, so it has no shares; leave :{':'.join(map(str, shares))} out, or add kinds by +")
    if shares and len(shares) != len(written):
        example = "+".join(written) + ":3" + ":1" * (len(written) - 1)
        told = f"{len(shares)} share{'s' if len(shares) > 1 else ''}"
        raise InputError(f"{text!r} has {told} for {len(written)} kinds of chips; give one for each, as in {example}")
    if any(not 1 <= share <= MOST_SHARE for share in shares):
        raise InputError(f"{text!r}: a share is a whole number of chips from 1 to {MOST_SHARE}; leave a kind without chips out")
    common = math.gcd(*shares) if shares else 1
    kinds = []
    for part, share in zip(written, shares or [1] * len(written), strict=True):
        chip, _, fabric = part.partition("@")
        profile = resolve_profile(chip.strip(), profiles)
        kinds.append(Kind(profile, fabric.strip() or None, share // common, _of(changes, profile)))
    ids = [kind.profile.chip_id for kind in kinds]
    twice = next((chip_id for chip_id in ids if ids.count(chip_id) > 1), None)
    if twice is not None:
        raise InputError(f"{text!r} names {twice} twice; name each kind once, and how many of it by a share")
    return Side(tuple(kinds))
